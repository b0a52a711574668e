"""What each part of Infer, Match, and Translate does to held-out photographs: inversion, and the paper's ablations.

    python tests/benchmarks/contextual_ablations.py --checkpoint runs/bsds --predictions runs/bsds_predictions \
        --data data/bsds500/val --size 96 [--limit 100] [--sheet PICTURES.npz --out stages.png]

Prints a table. Inversion: Feature2Image of the features of whole pictures, nothing swapped, PSNR over all pixels.
Ablations, on frozen box masks, in the hole: PSNR, L1, and the **gradient energy**, the mean over pictures of

    sum over hole pixels of |difference to the right neighbour| + |to the lower one|, of the result / of the truth,

which is 1 for texture as strong as the photograph's, and small for a blurred fill. With ``--sheet``, a picture of the
stages for each picture of the file (``images`` uint8, of any one size), with a box in the middle of it.
"""

import argparse
import functools

import jax
import numpy as np
from PIL import Image

from jaxpaint.io.weights import restore_weights
from jaxpaint.ops.pixels import from_uint8, to_uint8
from jaxpaint.run.config import model_of
from jaxpaint.run.inpainter import Inpainter
from jaxpaint.run.protocol import Pictures, frozen_masks, parse_size
from jaxpaint.run.sheet import sheet, with_grey_hole
from jaxpaint.systems.contextual import invert
from jaxpaint.train import Weights

BATCH = 4


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="trained on ground truth")
    parser.add_argument("--predictions", help="the same, trained on predictions")
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", default="96")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--mask-set", default="box")
    parser.add_argument("--sheet", help="an .npz file of pictures to show")
    parser.add_argument("--out", default="stages.png")
    arguments = parser.parse_args()

    trained = Inpainter.load(arguments.checkpoint)
    for note in trained.notes:
        print(note)
    if arguments.sheet:
        with np.load(arguments.sheet) as file:
            show(arguments, file["images"])
        return
    pictures = Pictures(arguments.data, parse_size(arguments.size), "center-crop", arguments.limit)
    masks = frozen_masks(arguments.mask_set, pictures, seed=0)
    truths, holes = list(pictures), [masks[number] for number in range(len(pictures))]
    inversion = [psnr(inverter(arguments.checkpoint)(truth), truth) for truth in truths]
    print(f"inversion of {len(truths)} pictures: {np.mean(inversion):.2f} dB")
    rows = {
        "guess of Image2Feature": {"stage": "image2feature"},
        "translated, no swap": {"swap": False},
        "translated, swap": {},
        "swap, two iterations": {"iterations": 2},
        "swap, rim cells averaged, too": {"restore": False},
    }
    print(f"{'in the hole':32} {'PSNR dB':>8} {'L1':>7} {'gradient energy':>16}")
    for name, options in rows.items():
        report(name, arguments.checkpoint, options, truths, holes)
    if arguments.predictions:
        report("trained on predictions, swap", arguments.predictions, {}, truths, holes)
        report("trained on predictions, no swap", arguments.predictions, {"swap": False}, truths, holes)


def report(name: str, checkpoint: str, options: dict, truths: list, holes: list) -> None:
    """One row: means over pictures."""
    results = Inpainter.load(checkpoint, options=options).inpaint(truths, holes, batch_size=BATCH)
    rows = []
    for result, truth, hole in zip(results, truths, holes, strict=True):
        inside = np.broadcast_to(hole > 0, truth.shape)
        a, b = result[inside].astype(float), truth[inside].astype(float)
        rows.append((psnr(a, b), np.abs(a - b).mean() / 255, energy(result, hole) / max(energy(truth, hole), 1e-9)))
    print("{:32} {:8.2f} {:7.4f} {:16.3f}".format(name, *np.mean(rows, axis=0)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB; no two of these are equal."""
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def energy(image: np.ndarray, hole: np.ndarray) -> float:
    """The sum of absolute differences to the right and lower neighbour, both pixels of a pair in the hole."""
    image, hole = image.astype(float), hole[..., 0] > 0
    down = np.abs(np.diff(image, axis=0))[hole[1:] & hole[:-1]].sum()
    return down + np.abs(np.diff(image, axis=1))[hole[:, 1:] & hole[:, :-1]].sum()


@functools.cache
def inverter(checkpoint: str):
    """uint8 h w 3 -> the same through VGG and Feature2Image; sides divisible by 4."""
    loaded = restore_weights(checkpoint)
    config = model_of(loaded.config, loaded.path)
    weights = Weights(**loaded.weights)
    run = jax.jit(lambda image: to_uint8(invert(config, weights, from_uint8(image)[None])[0]))
    return lambda image: np.asarray(run(image))


def show(arguments: argparse.Namespace, images: np.ndarray) -> None:
    """A row of stages for each picture, from the guess at half its size to its own."""
    height, width = images.shape[1:3]
    mask = np.zeros((height, width, 1), np.uint8)
    mask[height // 2 - height // 8 :][: height // 4, width // 2 - width // 8 :][:, : width // 4] = 1
    base = {"base": min(height, width) // 2}
    columns = {
        "guess, half size": base | {"stage": "image2feature"},
        "translated, no swap": base | {"swap": False},
        "translated, swap": base,
        "two iterations": base | {"iterations": 2},
    }
    fills = {
        name: Inpainter.load(arguments.checkpoint, options=options).inpaint(images, mask[None].repeat(len(images), 0))
        for name, options in columns.items()
    }
    rows = []
    for number, image in enumerate(images):
        made = [fills[name][number] for name in columns]
        rows.append((with_grey_hole(image, mask), *made, inverter(arguments.checkpoint)(image), image))
    titles = ("masked", *columns, "inverted, whole", "ground truth")
    Image.fromarray(sheet(rows, titles)).save(arguments.out)
    print(f"{arguments.out}: {', '.join(titles)}")


if __name__ == "__main__":
    main()
