"""Our side of `beside_original.py`: runs in a process of its own, which knows nothing of torch."""

import functools
from multiprocessing.connection import Connection

import jax
import jax.numpy as jnp
import numpy as np
from beside_original_cases import Case, Prepared, seconds, serve

from jaxpaint.convert.deepfillv2 import CONVERSION
from jaxpaint.convert.table import assign
from jaxpaint.ops.attend import contextual_attention
from jaxpaint.ops.conv import convolve
from jaxpaint.ops.masks import Masks
from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.run.step import training_step
from jaxpaint.systems import deepfillv2
from jaxpaint.train import Optim, Weights

MATMUL = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "default"}

LAYERS = (
    ("192 -> 192 filters, allconv11", 3, 1, 1, 192, 192, 64),
    ("96 -> 192 filters, most of the bottleneck", 3, 1, 1, 96, 192, 64),
    ("96 -> 192 filters, dilation 16", 3, 1, 16, 96, 192, 64),
    ("48 -> 96 filters at 128", 3, 1, 1, 48, 96, 128),
    ("128 -> 256, stride 2, discriminator", 5, 2, 1, 128, 256, 64),
)
"""(name, kernel, stride, dilation, channels in, filters, side) at 256x256 and width 48; the widest comes first."""


def main(connection: Connection) -> None:
    serve(connection, prepare, {"peak": peak, "layers": layers, "check": check})


def prepare(case: Case, variant: str) -> Prepared:
    del variant  # there is one way to run ours
    with jax.default_matmul_precision(MATMUL[case.precision]):
        if case.kind == "train":
            return _train(case)
        if case.kind == "inpaint":
            return _inpaint(case)
        return _attention(case)


def _system(case: Case):
    # The discriminator's 64 go with the generator's 48.
    config = deepfillv2.Config(width=case.width, discriminator_width=case.width * 4 // 3)
    dtype = jnp.bfloat16 if case.precision == "bf16" else jnp.float32
    return deepfillv2.build(config, Optim(lr=1e-4, b1=0.5, b2=0.999), dtype)


def _train(case: Case) -> Prepared:
    """The step as `train.py` runs it: uint8 pictures on the device, masks drawn in the step, the state donated."""
    init, step = training_step(_system(case), Masks("deepfillv2"))
    shape = (case.batch, case.size, case.size, 3)
    data = {
        "image": np.random.default_rng(0).integers(0, 256, shape, np.uint8),
        "position": np.arange(case.batch, dtype=np.uint32),
    }
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in data.items()}
    program = compile_step(init, step, shapes, make_mesh(Layout(data=1), jax.devices()[:1]))
    state, batch = program.begin(jax.random.key(0)), program.place(data)

    def run(times: int) -> None:
        nonlocal state
        for _ in range(times):
            state, metrics = program.step(state, batch)
        jax.block_until_ready((state, metrics))

    return _prepared(run, program.compiled)


def _inpaint(case: Case) -> Prepared:
    system = _system(case)
    generator = np.random.default_rng(0)
    shape = (case.batch, case.size, case.size)
    batch = {
        "image": jnp.asarray(generator.uniform(-1, 1, (*shape, 3)), jnp.float32),
        "mask": jnp.asarray(_hole(case.size), jnp.float32)[None, ..., None] * jnp.ones((*shape, 1)),
    }
    module, inputs = system.networks["generator"]
    wanted = jax.eval_shape(module.init, jax.random.key(0), *inputs(batch))
    # Any weights do for timing: these keep a signal's size without a half-minute compilation of the draws.
    drawn = jax.tree.map(lambda s: jnp.asarray(generator.normal(0, 0.03, s.shape), s.dtype), wanted)
    weights = Weights(params={"generator": drawn["params"]})
    compiled = jax.jit(lambda weights, batch: system.inpaint(weights, batch, None)).lower(weights, batch).compile()
    return _repeated(compiled, weights, batch)


def _attention(case: Case) -> Prepared:
    dtype = jnp.bfloat16 if case.precision == "bf16" else jnp.float32
    side, generator = case.size // 4, np.random.default_rng(0)
    shape = (case.batch, side, side, 2 * case.width)
    features, cotangent = (jnp.asarray(generator.standard_normal(shape), dtype) for _ in range(2))
    mask = jnp.asarray(_hole(side), jnp.float32)[None, ..., None]

    def forward(features, cotangent):
        del cotangent
        return contextual_attention(features, features, mask)

    def both(features, cotangent):
        output, pull = jax.vjp(lambda x: contextual_attention(x, x, mask), features)
        return output, pull(cotangent)

    chosen = both if case.kind == "attention_grad" else forward
    return _repeated(jax.jit(chosen).lower(features, cotangent).compile(), features, cotangent)


def _hole(size: int) -> np.ndarray:
    """A quarter of the picture, in its middle."""
    mask = np.zeros((size, size), np.float32)
    mask[size // 4 : size // 4 * 3, size // 4 : size // 4 * 3] = 1
    return mask


def _repeated(compiled, *arguments) -> Prepared:
    def run(times: int) -> None:
        for _ in range(times):
            result = compiled(*arguments)
        jax.block_until_ready(result)

    return _prepared(run, compiled)


def _prepared(run, compiled) -> Prepared:
    def memory() -> float:
        used = compiled.memory_analysis()
        total = used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes
        return (total - used.alias_size_in_bytes) / 2**20

    # On a GPU the products are library calls, whose operations XLA does not count.
    flops = compiled.cost_analysis().get("flops", 0.0) if jax.default_backend() == "cpu" else 0.0
    return Prepared(run, memory, flops / 1e9)


def peak(size: int, precision: str) -> float:
    """TFLOP/s of a square matrix product: what the hardware gives when nothing is in the way."""
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    with jax.default_matmul_precision(MATMUL[precision]):
        a, b = (jnp.asarray(np.random.default_rng(i).standard_normal((size, size)), dtype) for i in range(2))
        return _rate(jax.jit(jnp.matmul).lower(a, b).compile(), (a, b), 2 * size**3)


def layers(batch: int, precision: str, count: int) -> list[dict]:
    """TFLOP/s of the generator's widest convolutions, forward, gradient of the input and of the kernel."""
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    found = []
    for name, size, stride, dilation, channels, filters, side in LAYERS[:count]:
        generator = np.random.default_rng(0)
        x = jnp.asarray(generator.standard_normal((batch, side, side, channels)), dtype)
        kernel = jnp.asarray(generator.standard_normal((size, size, channels, filters)) * 0.03, jnp.float32)
        y = jnp.asarray(generator.standard_normal((batch, side // stride, side // stride, filters)), dtype)
        conv = functools.partial(convolve, bias=jnp.zeros(filters), stride=stride, dilation=dilation)

        def of_input(x, kernel, y, conv=conv):
            return jax.vjp(lambda x: conv(x, kernel), x)[1](y)

        def of_kernel(x, kernel, y, conv=conv):
            return jax.vjp(lambda kernel: conv(x, kernel), kernel)[1](y)

        flops = 2 * y.size * size**2 * channels
        with jax.default_matmul_precision(MATMUL[precision]):
            rates = {
                "forward": _rate(jax.jit(conv).lower(x, kernel).compile(), (x, kernel), flops),
                "input_gradient": _rate(jax.jit(of_input).lower(x, kernel, y).compile(), (x, kernel, y), flops),
                "kernel_gradient": _rate(jax.jit(of_kernel).lower(x, kernel, y).compile(), (x, kernel, y), flops),
            }
        found.append({"layer": name, "gflop": flops / 1e9, **rates})
    return found


def _rate(compiled, arguments, flops: float) -> float:
    """TFLOP/s, the median of five. Calls are sent off one after the other and waited for once."""
    prepared = _repeated(compiled, *arguments)
    prepared.run(3)
    times = max(1, min(100, int(0.2 / seconds(prepared.run, 1))))
    return flops / np.median([seconds(prepared.run, times) for _ in range(5)]) / 1e12


def check(path: str, width: int) -> dict[str, float]:
    """The generator on the port's weights: the largest difference of an output as a share of the largest output."""
    with np.load(path) as file:
        saved = dict(file)
    state = {name.removeprefix("state/"): x for name, x in saved.items() if name.startswith("state/")}
    differences = {}
    for fuse in (False, True):
        config = deepfillv2.Config(width=width, discriminator_width=width * 4 // 3, fuse=fuse)
        module = deepfillv2.build(config).networks["generator"].module
        template = jax.eval_shape(module.init, jax.random.key(0), saved["image"], saved["mask"])
        variables = assign("deepfillv2", CONVERSION, state, {"generator": template})["generator"]
        with jax.default_matmul_precision("highest"):
            refined, out = jax.jit(module.apply)(variables, saved["image"], saved["mask"])
        name = "fused" if fuse else "unfused"
        for stage, output in (("stage1", out["stage1"]), ("stage2", refined)):
            theirs = saved[f"{stage}/{name}"]
            differences[f"{stage} {name}"] = float(np.abs(output - theirs).max() / np.abs(theirs).max())
    return differences
