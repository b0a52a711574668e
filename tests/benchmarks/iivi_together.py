"""Four clips fitted at once, and one after another: seconds a step of each.

    python tests/benchmarks/iivi_together.py [--clips 4] [--size 96x160] [--steps 10] [--phase coarse]

Clips of noise, as what they hold does not change the time; programs are compiled before the clock starts. On a GPU:
``--size 320x600 --phase both --precision bfloat16``, the size of the published setting; its 50,000 steps of 5 frames
take the authors about four hours a clip.
"""

import argparse
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.systems import _iivi_levels as levels
from jaxpaint.systems._iivi_fit import Footage, Phase, descend, whole_frames
from jaxpaint.systems.iivi import Config, parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--size", default="96x160")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--phase", choices=("coarse", "both"), default="coarse")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    config = dataclasses.replace(Config(), base=0, coarse_steps=arguments.steps)
    networks = parts(config, jnp.dtype(arguments.precision))
    rng = np.random.default_rng(0)
    footage = []
    for _ in range(arguments.clips):
        masks = np.zeros((20, height, width, 1), np.uint8)
        masks[:, height // 4 : height // 2, width // 4 : width // 2] = 1
        footage.append(Footage(rng.integers(0, 256, (20, height, width, 3), dtype=np.uint8), masks))
    keys = list(jax.random.split(jax.random.key(0), arguments.clips))
    begun = [levels._drawn(networks)(key)["generator"] for key in keys]
    if arguments.phase == "coarse":
        begun = [{"coarse_net": params["coarse_net"]} for params in begun]
    takes = [whole_frames(one, config, key) for one, key in zip(footage, keys, strict=True)]

    def seconds(count: int, steps: int, mapped: bool) -> float:
        started = time.perf_counter()
        for first in range(0, arguments.clips, count):
            some = slice(first, first + count)
            phase = Phase(arguments.phase, steps)
            fitted, _ = descend(config, networks, phase, begun[some], None, takes[some], keys[some], mapped=mapped)
            jax.block_until_ready(fitted)
        return time.perf_counter() - started

    device = jax.devices()[0].device_kind
    ways = {
        "one after another": (1, False),
        "at once, in turn": (arguments.clips, False),
        "mapped": (arguments.clips, True),
    }
    for how, (count, mapped) in ways.items():
        seconds(count, 1, mapped)
        took = seconds(count, arguments.steps, mapped)
        a_step = took / arguments.steps
        frames = arguments.clips * arguments.steps * config.batch / took
        minutes = 50_000 * a_step / arguments.clips / 60
        print(
            f"{device}, {arguments.size}, {arguments.phase}, {arguments.precision}: {arguments.clips} clips {how}: "
            f"{a_step:.3f} s for a step of each, {frames:.1f} frames/s, 50,000 steps {minutes:.1f} minutes a clip"
        )


if __name__ == "__main__":
    main()
