"""One set of properties for every system in `SYSTEMS`, on its tiny config.

Adding a system adds nothing here. All runs share one compiled step per mode, so that a system costs seconds.
"""

import concurrent.futures
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxpaint.data import Data, DemoClips, DemoSource
from jaxpaint.io.checkpoint import Checkpoints
from jaxpaint.io.frames import array_clip
from jaxpaint.ops.masks import Masks
from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.run.step import ready, training_step
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Optim, State, Weights

SIZE, STEPS = 32, 5
FRAMES = 3  # of a clip
ODD = (33, 47)
KEY = jax.random.key(7)
MASKS = Masks("box")  # of pictures and of clips
# With Adam's usual eps of 1e-8 the first update is the gradient's sign, and a gradient of rounding errors moves a
# parameter as far as any other: runs that add in another order part. With 1e-3 the update is smooth in the gradient.
OPTIM = Optim(lr=4e-3, b1=0.5, eps=1e-3)
# Compiling takes most of the battery's time; without the backend's optimisation it takes half as long.
QUICK = {"xla_backend_optimization_level": 0}


def size_of_batch(name: str) -> int:
    """Examples of a step; a clip costs as much as several pictures."""
    return 4 if SYSTEMS[name].video else 8


def pictures(name: str, first: int, count: int, height: int, width: int) -> np.ndarray:
    """Examples of a system: uint8 b h w 3, or of one of clips b t h w 3."""
    if SYSTEMS[name].video:
        clips = DemoClips((height, width), FRAMES, first + count, split="battery")
        return np.stack([[clips.frame(i, t) for t in range(FRAMES)] for i in range(first, first + count)])
    source = DemoSource((height, width), first + count, split="battery")
    return np.stack([source.picture(i) for i in range(first, first + count)])


@functools.cache
def host_batch(name: str, number: int = 0) -> dict[str, np.ndarray]:
    batch = size_of_batch(name)
    positions = np.arange(number * batch, (number + 1) * batch, dtype=np.uint32)
    return {"image": pictures(name, number * batch, batch, SIZE, SIZE), "position": positions}


@functools.cache
def built(name: str, dtype: str = "float32"):
    page = SYSTEMS[name]
    return page.build(page.tiny, OPTIM, jnp.dtype(dtype))


LAYOUTS = {
    "one": Layout(data=1),
    "data": Layout(data=8),
    "fsdp, spatial": Layout(data=1, fsdp=2, spatial=4),
    "pmap": Layout(data=8, mode="pmap"),
}
# A network for clips is compiled for minutes. What pmap does with clips, `tests/run/test_train_clips.py` looks at.
CLIP_LAYOUTS = {"one": Layout(data=1), "data": Layout(data=4), "fsdp, spatial": Layout(data=1, fsdp=2, spatial=4)}


def layouts_of(name: str) -> dict[str, Layout]:
    return CLIP_LAYOUTS if SYSTEMS[name].video else LAYOUTS


def options_of(name: str) -> dict:
    """Compiler options of steps and of inpainting. Without optimisation a step of VINet takes eight times as long."""
    return {"xla_backend_optimization_level": 1} if SYSTEMS[name].video else QUICK


@functools.cache
def programs(name: str) -> dict:
    """The step by layout. Compiled side by side: much of compiling keeps one core busy, not two."""
    shapes = {k: jax.ShapeDtypeStruct(x.shape, x.dtype) for k, x in host_batch(name).items()}
    init, step = training_step(built(name), MASKS)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        tasks = {
            key: pool.submit(compile_step, init, step, shapes, make_mesh(layout), layout.mode, options=options_of(name))
            for key, layout in layouts_of(name).items()
        }
    return {key: task.result() for key, task in tasks.items()}


def compiled(name: str, layout: str = "one"):
    return programs(name)[layout]


@functools.cache
def inpainted(name: str, height: int, width: int, dtype: str = "float32"):
    """(batch, result of the system's inpaint with its first weights)."""
    batch = drawn({"image": pictures(name, 0, 2, height, width), "position": np.arange(2, dtype=np.uint32)})
    return batch, filler(name, dtype)(first_state(name).weights, batch, KEY)


@functools.cache
def filler(name: str, dtype: str = "float32"):
    return jax.jit(built(name, dtype).inpaint, compiler_options=options_of(name))


@functools.partial(jax.jit, compiler_options=QUICK)
def drawn(batch):
    """A host batch as a system takes it, with masks."""
    return ready(batch, MASKS, KEY)


def fresh(name: str, layout: str = "one"):
    """(program, a copy of the first state for it to donate)."""
    program = compiled(name, layout)
    shardings = jax.tree.map(lambda x: x.sharding, program.abstract)
    return program, jax.device_put(jax.tree.map(jnp.copy, first_state(name)), shardings)


@functools.cache
def first_state(name: str) -> State:
    """One that is never donated."""
    return compiled(name).begin(KEY)


@functools.cache
def ran(name: str, layout: str = "one", repeat: int = 0):
    """(the first state and that after each step, metrics of every step) of `STEPS` steps of different batches. `repeat`
    tells runs apart."""
    del repeat
    program, state = fresh(name, layout)
    states, history = [jax.tree.map(jnp.copy, state)], []
    for number in range(STEPS):
        state, metrics = program.step(state, program.place(host_batch(name, number)))
        history.append(jax.device_get(metrics))
        states.append(jax.tree.map(jnp.copy, state))
    return states, history


def leaves(tree) -> list[np.ndarray]:
    """Leaves as plain arrays: keys as the words that they hold."""
    return [
        np.asarray(jax.random.key_data(x)) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x)
        for x in jax.tree.leaves(tree)
    ]


def identical(a, b) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(leaves(a), leaves(b), strict=True))


systems = pytest.mark.parametrize("name", sorted(SYSTEMS))


@systems
def test_steps_are_finite_and_move_every_player(name):
    (*_, state), history = ran(name)
    for metrics in history:
        assert all(np.isfinite(v) for v in metrics.values()), metrics
        assert metrics["skipped"] == 0
    assert int(state.step) == STEPS
    before = first_state(name)
    for player in state.opt:
        assert not identical(before.params[player], state.params[player]), f"{player} did not move"


@systems
def test_loss_falls_on_one_batch(name):
    program, state = fresh(name)
    watch, values = SYSTEMS[name].watch, []
    for _ in range(20):
        # The same positions, so the same masks too.
        state, metrics = program.step(state, program.place(host_batch(name)))
        values.append(float(metrics[watch]))
    assert np.mean(values[-5:]) < 0.9 * values[0], values


@systems
def test_two_runs_are_bit_equal(name):
    first, second = ran(name), ran(name, repeat=1)
    assert identical(first[0], second[0])
    assert first[1] == second[1]


@systems
def test_traced_once(name):
    """The state that comes out has the types of the one that goes in: no second compilation."""
    init, step = training_step(built(name), MASKS)
    state = jax.eval_shape(init, KEY, host_batch(name))
    after, _ = jax.eval_shape(step, state, host_batch(name))
    kinds = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(s)] for s in (state, after)]
    assert kinds[0] == kinds[1]
    assert jax.tree.structure(state) == jax.tree.structure(after)


@systems
def test_state_is_donated(name):
    program, state = fresh(name)
    size = sum(x.nbytes for x in leaves(state))
    assert program.compiled.memory_analysis().alias_size_in_bytes >= 0.99 * size
    program.step(state, program.place(host_batch(name)))
    assert all(x.is_deleted() for x in jax.tree.leaves(state.params))


layouts = pytest.mark.parametrize(
    ("name", "layout"), [(name, key) for name in sorted(SYSTEMS) for key in layouts_of(name) if key != "one"]
)


@layouts
def test_each_step_of_eight_devices_equals_one(name, layout):
    """From the state that one device has before each of five steps: losses and gradient norms, and what the step makes
    of the parameters. Sums are taken in another order: float32 rounding, 1e-7 relative, of sums whose terms are up to a
    hundred times larger than they; where a ReLU or a pool is tied, rounding decides, for single elements. A parameter
    moves by lr at most, and less smoothly the closer its gradient is to Adam's eps of 1e-3, where rounding of terms
    of order 1 is 1e-3 of it."""
    program, _ = fresh(name, layout)
    shardings = jax.tree.map(lambda x: x.sharding, program.abstract)
    states, history = ran(name)
    for number in range(STEPS):
        state = jax.device_put(jax.tree.map(jnp.copy, states[number]), shardings)
        state, metrics = program.step(state, program.place(host_batch(name, number)))
        for term, value in history[number].items():
            np.testing.assert_allclose(metrics[term], value, rtol=1e-4, atol=1e-6, err_msg=f"{term}, step {number}")
        for a, b in zip(leaves(states[number + 1].params), leaves(state.params), strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=5e-3 * OPTIM.lr, err_msg=f"step {number}")


@layouts
def test_five_steps_of_eight_devices_equal_one(name, layout):
    """Losses and gradient norms of five steps, and the parameters after them, each run by itself. Rounding grows by
    what a step amplifies (about lr / eps = 4), so five steps stay well within 1e-4 of the losses, and the parameters
    within 1e-4 of what five steps can move them (lr each)."""
    (*_, state), one = ran(name)
    if SYSTEMS[name].video:
        pytest.skip("of clips each step by itself is compared, which takes long enough")
    if any("batch_stats" in collections for collections in state.extra.values()):
        pytest.skip("batch norm of eight examples' maps of a few cells multiplies rounding by a hundred a step")
    (*_, other), eight = ran(name, layout)
    for number, (a, b) in enumerate(zip(one, eight, strict=True)):
        for term in a:
            np.testing.assert_allclose(b[term], a[term], rtol=1e-4, atol=1e-6, err_msg=f"{term}, step {number}")
    for a, b in zip(leaves(state.params), leaves(other.params), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * STEPS * OPTIM.lr)


@systems
def test_devices_exchange_sums_alone(name):
    """Over a mesh the parts of a batch stay where they are: nothing but gradients and metrics travels."""
    text = compiled(name, "data").compiled.as_text()
    assert "all-reduce" in text
    for other in ("all-gather", "all-to-all", "collective-permute"):
        assert other not in text


@systems
def test_checkpoint_round_trip(name, tmp_path):
    program = compiled(name)
    (*_, state), _ = ran(name)
    placed = jax.tree.map(jnp.copy, state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(STEPS, placed.items(), {"system": name})
        checkpoints.wait()
        restored = checkpoints.restore(program.abstract.items())
    assert restored.step == STEPS
    again = State.from_items(restored.items)
    assert identical(again, state)
    batch = program.place(host_batch(name, STEPS))
    _, metrics = program.step(placed, batch)
    _, metrics_again = program.step(again, batch)
    assert jax.device_get(metrics) == jax.device_get(metrics_again)


@systems
@pytest.mark.parametrize("size", [ODD, (100, 32)])
def test_known_pixels_are_untouched_at_any_size(name, size):
    batch, result = inpainted(name, *size)
    assert result.shape == batch["image"].shape
    assert result.dtype == jnp.float32
    assert bool(jnp.isfinite(result).all())
    known = np.broadcast_to(np.asarray(batch["mask"]) == 0, result.shape)
    assert 0 < known.mean() < 1
    assert np.array_equal(np.asarray(result)[known], np.asarray(batch["image"])[known])
    assert not np.array_equal(np.asarray(result)[~known], np.asarray(batch["image"])[~known])


@systems
def test_hole_content_is_not_looked_at(name):
    batch, result = inpainted(name, *ODD)
    garbage = jnp.where(batch["mask"] > 0, jnp.nan, batch["image"])
    again = filler(name)(first_state(name).weights, {**batch, "image": garbage}, KEY)
    assert np.array_equal(np.asarray(again), np.asarray(result))


@systems
def test_a_stream_fills_every_frame(name):
    """From its weights, or from the clip alone: as many frames as the clip has, known pixels bit for bit."""
    system, page = built(name), SYSTEMS[name]
    if system.stream is None:
        pytest.skip("it fills frame by frame")
    clips = DemoClips(ODD, 2 * FRAMES, 1, split="battery")
    frames = np.stack([clips.frame(0, t) for t in range(2 * FRAMES)])
    holes = np.zeros((*frames.shape[:-1], 1), np.uint8)
    for t in range(len(holes)):
        holes[t, 8:20, 5 + 3 * t : 17 + 3 * t] = 1
    masks = dataclasses.replace(array_clip(frames), name="masks", reader=lambda start, stop: iter(holes[start:stop]))
    weights = Weights(params={}) if page.internal else first_state(name).weights
    filled = np.stack(list(system.stream(weights, array_clip(frames), masks, KEY, lambda text: None)))
    assert filled.dtype == np.uint8 and filled.shape == frames.shape
    known = np.broadcast_to(holes == 0, frames.shape)
    assert np.array_equal(filled[known], frames[known])
    assert all((filled[t] != frames[t]).any() for t in range(len(frames)))


@systems
def test_bfloat16_is_close(name):
    """bfloat16 keeps 8 bits: 2**-8 relative a layer. Over the tens of layers of a network the errors add as their
    square root, and a picture in [-1, 1] stays within 0.05 on average."""
    _, full = inpainted(name, *ODD)
    _, half = inpainted(name, *ODD, "bfloat16")
    assert half.dtype == jnp.float32
    difference = np.abs(np.asarray(full) - np.asarray(half))
    assert 0 < difference.mean() < 0.05


@systems
def test_networks_run_as_nnx(name):
    """Every network gives the same numbers wrapped for Flax's newer interface."""
    batch = drawn({key: x[:1] for key, x in host_batch(name).items()})
    weights = first_state(name).weights
    for network, (module, inputs, _) in built(name).networks.items():
        arguments = inputs(batch)
        variables = weights.variables(network)
        expected, _ = jax.jit(module.apply, compiler_options=QUICK)(variables, *arguments)
        blank = nnx.eval_shape(
            lambda m=module, a=arguments: nnx.bridge.lazy_init(nnx.bridge.ToNNX(m, rngs=nnx.Rngs(0)), *a)
        )
        filled = nnx.to_flat_state(nnx.state(blank))
        for path, variable in filled:
            if isinstance(variable, nnx.RngState):  # a key and a counter: not used by a forward pass
                variable.set_value(KEY if variable.dtype == KEY.dtype else jnp.zeros((), variable.dtype))
                continue
            collection = nnx.variable_name_from_type(type(variable))
            variable.set_value(functools.reduce(lambda tree, key: tree[key], path, variables[collection]))
        nnx.update(blank, nnx.from_flat_state(filled))
        graph, state = nnx.split(blank)
        result, _ = jax.jit(lambda s, *a, g=graph: nnx.merge(g, s)(*a), compiler_options=QUICK)(state, *arguments)
        for a, b in zip(leaves(result), leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_battery_has_systems():
    assert SYSTEMS
    assert all(page.watch and page.title for page in SYSTEMS.values())
    assert Data().source == "demo"
