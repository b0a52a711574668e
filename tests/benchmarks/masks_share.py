"""What drawing masks costs beside a training step: ``python tests/benchmarks/masks_share.py``.

In one process: the median time of drawing 64 free-form masks at 256x256, and of one full-width DeepFillv2 training step
at 256x256 on a batch of `--batch` (given masks, so that the two do not overlap). The step's cost grows with its batch,
so the share at a batch of 64 is smaller than the one printed.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from jaxpaint.ops.masks import Masks, sample
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import compute_dtype


def seconds(call, repeats: int) -> float:
    jax.block_until_ready(call())
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    size, key = arguments.size, jax.random.key(0)

    draw = jax.jit(lambda positions: sample(key, positions, size, size, Masks("deepfillv2")))
    masks = seconds(lambda: draw(jnp.arange(64, dtype=jnp.uint32)), 10 * arguments.repeats)

    page = SYSTEMS["deepfillv2"]
    system = page.build(page.config(), dtype=compute_dtype("auto"))
    image = jax.random.uniform(key, (arguments.batch, size, size, 3), minval=-1)
    batch = {"image": image, "mask": draw(jnp.arange(arguments.batch, dtype=jnp.uint32))}
    # Compiled without optimising: it runs once, and a hundred random draws take XLA half a minute.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    state = jax.jit(system.init, compiler_options=options)(key, batch)
    update = jax.jit(system.update)
    step = seconds(lambda: update(state, batch)[0].step, arguments.repeats)
    print(f"{jax.devices()[0].device_kind}: 64 free-form masks {size}x{size}: {1e3 * masks:.1f} ms")
    print(f"DeepFillv2 step, batch {arguments.batch}, {size}x{size}: {1e3 * step:.0f} ms")
    print(f"share: {100 * masks / step:.2f} %")


if __name__ == "__main__":
    main()
