"""Peak memory of filling a clip by how long it is: the same for 50 and for 500 frames.

    python tests/benchmarks/clip_memory.py iivi 50 96x160 --model coarse_steps=20
    python tests/benchmarks/clip_memory.py iivi 5 2160x3840
    python tests/benchmarks/clip_memory.py vinet 500 64x64

One clip, made frame by frame while it is read (a picture that the camera pans over), with a moving box as its hole,
through `Inpainter.stream`; for systems that need weights, drawn ones, whose results mean nothing. Prints seconds and
the highest resident memory of the process, to be compared between runs.
"""

import argparse
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.io.frames import RATE, Clip
from jaxpaint.run.config import override
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.systems import SYSTEMS


def made(count: int, height: int, width: int) -> tuple[Clip, Clip]:
    """(clip, its masks), neither of which is ever in memory as a whole."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 34, 3))

    def frames(start: int, stop: int):
        for number in range(start, stop):
            shift = number % 256
            rows = np.arange(height) // 8
            columns = (np.arange(width) + shift) // 8
            yield coarse[rows[:, None], columns[None, :]].astype(np.uint8)

    def masks(start: int, stop: int):
        for number in range(start, stop):
            mask = np.zeros((height, width, 1), np.uint8)
            top, left = height // 3, (width // 4 + 2 * number) % (width // 2)
            mask[top : top + height // 4, left : left + width // 5] = 1
            yield mask

    return Clip("made", count, height, width, RATE, frames), Clip("masks", count, height, width, RATE, masks)


def inpainter(name: str, options: dict) -> Inpainter:
    page = SYSTEMS[name]
    if page.internal:
        return Inpainter.from_method(name, options=options)
    config = override(page.config(), options)
    picture = (1, 5, 64, 64) if page.video else (1, 64, 64)
    batch = {"image": jnp.zeros((*picture, 3)), "mask": jnp.zeros((*picture, 1)), "position": jnp.zeros(1, jnp.uint32)}
    weights = jax.jit(lambda key: page.build(config).init(key, batch).weights)(jax.random.key(0))
    return Inpainter(name, config, weights)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("system")
    parser.add_argument("frames", type=int)
    parser.add_argument("size", help="HxW")
    parser.add_argument("--model", nargs="*", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    clip, masks = made(arguments.frames, height, width)
    filler = inpainter(arguments.system, dict(pair.split("=") for pair in arguments.model))
    started, count = time.perf_counter(), 0
    for frame, given, mask in zip(filler.stream(clip, masks, say=print), clip, masks, strict=True):
        if not np.array_equal(frame[mask[..., 0] == 0], given[mask[..., 0] == 0]):
            raise SystemExit(f"frame {count}: known pixels changed")
        count += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{arguments.system} {arguments.size}: {count} frames, {time.perf_counter() - started:.1f} s, "
        f"peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
