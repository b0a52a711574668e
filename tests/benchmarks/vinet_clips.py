"""VINet on short clips beside a network that fills each frame by itself, trained on the same frames for the same time.

    python tests/benchmarks/vinet_clips.py prepare DAVIS_CLIP [--out data/vinet_clips]     # prints what to run next
    python tests/benchmarks/vinet_clips.py measure --vinet runs/vinet_davis_3 --alone runs/vinet_alone \
        [--data data/vinet_clips] [--sheet sheet.png]

DAVIS_CLIP is the folder of bmx-trees' 80 frames. `prepare` makes frames of 64x112: the first 60 as nine overlapping
clips of 20, and twelve clips of synthetic motion (`jaxpaint.data.DemoClips`) for training; the last 20, which are not
seen in training, for measuring. DeepFillv2 takes the same frames as pictures.

`measure` fills the 20 held-out frames under moving boxes (four of them, one after another, seeds 0 to 3; 1 to 4 pixels
a frame along each axis), which hide what is known, and prints means over the four clips: hole PSNR (the mean over
frames), and E_warp (times 1000, with TV-L1 flow of the true frames: not the published metric's) in the hole and over
whole frames. Rows beside the two systems: the true frames; every hole in the mean colour of its frame.
"""

import argparse
import pathlib
import shutil

import jax
import numpy as np
from PIL import Image, ImageDraw

from jaxpaint.data import DemoClips
from jaxpaint.io.frames import array_clip, folder_clip
from jaxpaint.io.video_masks import open_masks
from jaxpaint.metrics.warping import pair_errors, video_error
from jaxpaint.ops.flow import flow_both_ways
from jaxpaint.ops.masks import Masks, sample_clips
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.run.inpainter import Inpainter

SIZE = (64, 112)
HELD_OUT, FRAMES, STRIDE, SYNTHETIC = 20, 20, 5, 12
SEEDS = range(4)
MASKS = Masks("box", {"side": (0.3, 0.4), "speed": (4, 16)})

COMMANDS = """
Next: the three stages, then DeepFillv2 for as long as they took together (set STEPS; its log says img/s).

for stage in 1 2 3; do
  python train.py --config=configs/vinet_davis.py:stage$stage --workdir=runs/vinet_davis_$stage \\
      --config.data.path={train} $([ $stage -gt 1 ] && echo --init-from=runs/vinet_davis_$((stage - 1)))
done
python train.py --config=configs/deepfillv2_bsds500.py --workdir=runs/vinet_alone --config.data.path={train} \\
    "--config.data.size=(64, 64)" --config.data.fit=crop --config.masks.family=box \\
    "--config.masks.options={{'side': (0.25, 0.5)}}" --config.validation.every=0 --config.train.sample_every=0 \\
    --config.train.steps=STEPS --config.optim.decay_steps=STEPS
python {script} measure --data {out} --vinet runs/vinet_davis_3 --alone runs/vinet_alone --sheet vinet_clips.png
"""


def prepare(arguments: argparse.Namespace) -> None:
    """Writes the clips, and prints the commands."""
    out = pathlib.Path(arguments.out)
    frames = [
        np.asarray(Image.fromarray(frame).resize(SIZE[::-1], Image.Resampling.BICUBIC))
        for frame in folder_clip(arguments.clip)
    ]
    if out.exists():
        shutil.rmtree(out)
    known = frames[:-HELD_OUT]
    for start in range(0, len(known) - FRAMES + 1, STRIDE):
        write(known[start : start + FRAMES], out / "train" / f"real_{start:02d}")
    demo = DemoClips(SIZE, FRAMES, SYNTHETIC)
    for index in range(SYNTHETIC):
        write([demo.frame(index, number) for number in range(FRAMES)], out / "train" / f"synthetic_{index:02d}")
    write(frames[-HELD_OUT:], out / "held_out")
    print(f"{out}: {len(list((out / 'train').iterdir()))} clips of {FRAMES} frames, and {HELD_OUT} held out")
    print(COMMANDS.format(out=out, train=out / "train", script=__file__))


def write(frames: list[np.ndarray], folder: pathlib.Path) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:05d}.png")


def measure(arguments: argparse.Namespace) -> None:
    """Prints the table and writes the sheet."""
    frames = np.stack(list(folder_clip(pathlib.Path(arguments.data) / "held_out")))
    holes = np.asarray(sample_clips(jax.random.key(1), np.array(SEEDS, np.uint32), *frames.shape[:3], MASKS), np.uint8)
    pictures = from_uint8(frames)
    flow, back = map(np.asarray, jax.jit(flow_both_ways)(pictures[:-1], pictures[1:]))
    systems = {"VINet": Inpainter.load(arguments.vinet), "frame by frame (DeepFillv2)": Inpainter.load(arguments.alone)}
    filled = {"the true frames": [frames] * len(holes), "mean colour": [coloured(frames, hole) for hole in holes]}
    clip = array_clip(frames)
    for name, system in systems.items():
        filled[name] = [np.stack(list(system.stream(clip, open_masks(hole, clip)))) for hole in holes]
    print(f"{len(holes)} clips of {len(frames)} frames of {SIZE[0]}x{SIZE[1]}; hole {holes.mean():.1%} of a frame")
    print(f"{'':28} {'hole PSNR':>10} {'E_warp hole':>12} {'E_warp whole':>13}   (E_warp x 1000, TV-L1)")
    for name, results in filled.items():
        rows = []
        for result, hole in zip(results, holes, strict=True):
            error = video_error(pair_errors(result, flow, back, hole))
            rows.append((psnr(result, frames, hole), 1000 * error["hole"], 1000 * error["whole"]))
        print("{:28} {:10.2f} {:12.3f} {:13.3f}".format(name, *np.mean(rows, axis=0)))
    if arguments.sheet:
        show(frames, holes[0], {name: results[0] for name, results in filled.items()}, arguments.sheet)


def coloured(frames: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Every hole in the mean colour of what is known of its frame."""
    known = (1 - holes).astype(float)
    colour = (frames * known).sum((1, 2), keepdims=True) / known.sum((1, 2), keepdims=True)
    return np.where(holes > 0, np.rint(colour).astype(np.uint8), frames)


def psnr(result: np.ndarray, truth: np.ndarray, holes: np.ndarray) -> float:
    """dB in the hole, the mean over frames; infinite for the truth."""
    squares = np.square(result.astype(float) - truth) * holes
    error = squares.sum((1, 2, 3)) / (3 * holes.sum((1, 2, 3)))
    with np.errstate(divide="ignore"):
        return float(np.mean(10 * np.log10(255**2 / error)))


def show(frames: np.ndarray, holes: np.ndarray, filled: dict[str, np.ndarray], path: str, every: int = 3) -> None:
    """A row for the holes and for each result, six frames across, twice as large."""
    rows = {"hole": np.where(holes > 0, np.uint8(128), frames), **filled}
    height, width = frames.shape[1:3]
    chosen = range(1, len(frames), every)
    page = Image.new("RGB", (2 * width * len(chosen), (2 * height + 14) * len(rows)), "white")
    for row, (name, clip) in enumerate(rows.items()):
        top = row * (2 * height + 14)
        ImageDraw.Draw(page).text((2, top + 1), name, fill="black")
        for column, number in enumerate(chosen):
            page.paste(Image.fromarray(clip[number]).resize((2 * width, 2 * height)), (2 * width * column, top + 14))
    page.save(path)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("clip")
    preparing.add_argument("--out", default="data/vinet_clips")
    preparing.set_defaults(run=prepare)
    measuring = commands.add_parser("measure")
    measuring.add_argument("--data", default="data/vinet_clips")
    measuring.add_argument("--vinet", required=True)
    measuring.add_argument("--alone", required=True)
    measuring.add_argument("--sheet")
    measuring.set_defaults(run=measure)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
