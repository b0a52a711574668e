"""VINet, a quarter as wide, on 64x64 windows of short clips, DAVIS' bmx-trees and synthetic motion, for two CPU cores.

What it shows: that the three stages learn, that every term falls, and what recurrence and warping losses do for
steadiness beside a network that fills each frame by itself. It reproduces no published figure: there is one real clip,
and the run is short. `tests/benchmarks/vinet_clips.py` cuts the clips, prints these commands and measures; figures and
machine are in docs/systems/vinet.md.

    python train.py --config=configs/vinet_davis.py:stage1 --workdir=runs/vinet_davis_1
    python train.py --config=configs/vinet_davis.py:stage2 --workdir=runs/vinet_davis_2 --init-from=runs/vinet_davis_1
    python train.py --config=configs/vinet_davis.py:stage3 --workdir=runs/vinet_davis_3 --init-from=runs/vinet_davis_2

Pseudo-truth flow is TV-L1's: windows are too small for RAFT, and no weights are needed. Gated kernels start large
(`gain`), so that a few hundred steps learn. Decoder's output and blended output both count, as released. The flow
term's weight is 1: at the released 10 this run learnt to repeat its first frame (docs/systems/vinet.md).
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems.vinet import Config
from jaxpaint.train import Optim
from jaxpaint.types import InputError

VARIANTS = {"stage1": (1, 13, 2, 600), "stage2": (2, 13, 2, 3000), "stage3": (3, 15, 2, 400)}
"""variant -> (stage, frames of an example, examples a step, steps)"""


def get_config(variant: str = "stage1") -> Experiment:
    if variant not in VARIANTS:
        raise InputError(f"there is no variant {variant!r} of this config: there are {', '.join(VARIANTS)}")
    stage, frames, batch, steps = VARIANTS[variant]
    return Experiment(
        system="vinet",
        model=Config(width=8, gain=2.8, stage=stage, outputs=3, flow="tvl1", flow_weight=1.0, remat=False),
        optim=Optim(lr=1e-3, clip_norm=10.0, schedule="cosine", warmup_steps=20, decay_steps=steps),
        data=Data(source="folder", path="data/vinet_clips/train", frames=frames, size=(64, 64), flip=True),
        masks=Masks(family="box", options={"side": [0.25, 0.5], "speed": [4, 16]}),
        train=Train(steps=steps, batch=batch, log_every=50, sample_every=0, checkpoint_every=steps),
    )
