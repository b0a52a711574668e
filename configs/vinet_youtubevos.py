"""VINet on YouTube-VOS (3,471 training clips), 256x256, in the three stages of the authors' reference training file.

Adam, b1 0.9, b2 0.999, learning rate 1e-4 throughout (the paper, as recalled); examples of 13, 13 and 16 consecutive
frames, of which 1, 1 and 4 are painted; weights of the terms as in `jaxpaint.systems.vinet`. The authors add that easy
masks are needed at the start: boxes first here, brush strokes from the second stage on. Their four kinds of masks were
boxes at random places, boxes and irregular masks that move, and objects of other clips; for the last, give a folder of
annotations (below). Batch and numbers of steps are ours: the paper has about a day a stage on four GTX 1080 Ti.
Pseudo-truth flow is RAFT's in place of FlowNet2's: stage 3 needs its published weights (JAXPAINT_WEIGHTS, see
docs/systems/vinet.md).

Figures that others measured with the authors' weights, 432x240, on YouTube-VOS and DAVIS: docs/systems/vinet.md. Not
trained here; cost on your machine: the log prints clips/s and the time that remains.

    python train.py --config=configs/vinet_youtubevos.py:stage1 --workdir=runs/vinet_1
    python train.py --config=configs/vinet_youtubevos.py:stage2 --workdir=runs/vinet_2 --init-from=runs/vinet_1
    python train.py --config=configs/vinet_youtubevos.py:stage3 --workdir=runs/vinet_3 --init-from=runs/vinet_2
    python train.py --config=configs/vinet_youtubevos.py:stage3 --workdir=runs/vinet_objects --init-from=runs/vinet_3 \
        --config.data.masks=data/youtubevos/train/Annotations --config.data.mask_pairing=seed \
        --config.data.mask_convention=nonzero
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems.vinet import Config
from jaxpaint.train import Optim
from jaxpaint.types import InputError

VARIANTS = {"stage1": (1, 13, "box"), "stage2": (2, 13, "freeform"), "stage3": (3, 16, "freeform")}
"""variant -> (stage, frames of an example, masks)"""


def get_config(variant: str = "stage1") -> Experiment:
    if variant not in VARIANTS:
        raise InputError(f"there is no variant {variant!r} of this config: there are {', '.join(VARIANTS)}")
    stage, frames, family = VARIANTS[variant]
    path = "data/youtubevos/train/JPEGImages"
    return Experiment(
        system="vinet",
        model=Config(stage=stage),
        optim=Optim(lr=1e-4),
        data=Data(source="folder", path=path, frames=frames, size=(256, 256), fit="shorter", flip=True),
        masks=Masks(family=family),
        train=Train(steps=200_000, batch=8, sample_every=2000, checkpoint_every=2000),
    )
