"""IIVI on the box scenario: time, hole PSNR and hole SSIM by steps.

    python tests/benchmarks/iivi_box.py CLIP [--seed 0] [--steps 200] [--sheet OUT.png]

CLIP is the folder of DAVIS' bmx-trees frames. Its first 20 frames, at 96x160 by bilinear resizing without antialiasing,
batch 5; the hole is rows 120 to 239, columns 85 to 298 at 480x854, in every frame. The same task, frames and metrics as
for the authors' code: hole PSNR is the mean over frames of that over hole pixels; hole SSIM is scikit-image's map (7x7
windows, the mean over channels) over hole pixels. Seconds count compiling, and no evaluation.
"""

import argparse
import dataclasses
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
from skimage.metrics import structural_similarity

from jaxpaint.ops.internal import resize_without_antialiasing
from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.systems import _iivi_levels as levels
from jaxpaint.systems._iivi_fit import Footage, Phase, descend, whole_frames
from jaxpaint.systems.iivi import Config, parts


def footage(folder: str) -> Footage:
    """The clip, as TensorFlow reads it."""
    import tensorflow as tf

    paths = sorted(pathlib.Path(folder).glob("*.jpg"))[:20]
    frames = np.stack([tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3).numpy() for path in paths])
    masks = np.zeros((20, 480, 854, 1), np.uint8)
    masks[:, 120:240, 85:299] = 255
    frames, masks = (np.asarray(resize_without_antialiasing(jnp.asarray(x), 96, 160)) for x in (frames, masks))
    return Footage(np.asarray(frames / 127.5 - 1, np.float32), np.asarray(masks / 255, np.float32))


def scores(filled: np.ndarray, truth: np.ndarray, hole: np.ndarray) -> tuple[float, float]:
    """(hole PSNR, hole SSIM) of uint8 t h w 3."""
    psnr, ssim = [], []
    for result, frame, inside in zip(filled, truth, hole[..., 0], strict=True):
        error = np.mean((result.astype(float) - frame)[inside] ** 2)
        psnr.append(10 * np.log10(255**2 / error))
        _, places = structural_similarity(result, frame, channel_axis=2, data_range=255, full=True)
        ssim.append(places.mean(-1)[inside].mean())
    return float(np.mean(psnr)), float(np.mean(ssim))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("clip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--every", type=int, default=25, help="steps between evaluations")
    parser.add_argument("--sheet", help="a PNG of some frames: with the hole, filled, as they are")
    arguments = parser.parse_args()
    config = dataclasses.replace(Config(), base=0, coarse_steps=arguments.steps)
    clip, key = footage(arguments.clip), jax.random.key(arguments.seed)
    hole = clip.masks != 0
    truth = np.asarray(to_uint8(jnp.asarray(clip.frames)))
    print(f"{config}\nhole: {hole.mean():.4f} of the frame")
    started, aside = time.perf_counter(), 0.0
    networks = parts(config, jnp.dtype("float32"))

    def filled(params) -> np.ndarray:
        result, _ = apply({"params": params}, from_uint8(jnp.asarray(truth)), hole.astype(np.float32))
        return np.where(hole, np.asarray(to_uint8(result)), truth)

    apply = jax.jit(lambda variables, *inputs: networks.generator.apply(variables, *inputs, refine=False))

    def watch(number: int, params) -> None:
        nonlocal aside
        if number % arguments.every:
            return
        jax.block_until_ready(params)
        now = time.perf_counter()
        psnr, ssim = scores(filled(params), truth, hole)
        print(f"step {number:5}  {now - started - aside:6.1f} s  PSNR {psnr:.2f} dB  SSIM {ssim:.3f}", flush=True)
        aside += time.perf_counter() - now

    start = {"coarse_net": levels._drawn(networks)(key)["generator"]["coarse_net"]}
    take = whole_frames(clip, config, key)
    phase = Phase("coarse", arguments.steps)
    (params,), _ = descend(config, networks, phase, [start], None, [take], [key], watch=watch)
    print(f"{time.perf_counter() - started - aside:.1f} s in all")
    if arguments.sheet:
        shown, result = range(0, 20, 4), filled(params)
        rows = [np.where(hole, 128, truth), result, truth]
        sheet = np.concatenate([np.concatenate([row[number] for number in shown], 1) for row in rows])
        Image.fromarray(np.kron(sheet, np.ones((2, 2, 1))).astype(np.uint8)).save(arguments.sheet)


if __name__ == "__main__":
    main()
