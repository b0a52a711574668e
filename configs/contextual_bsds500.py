"""Infer, match, and translate at a quarter of its width on the 200 training photographs of BSDS500, 96x96, and a VGG-19
with random weights: a run for two CPU cores.

What it shows: that each network learns what it is for, that the whole path runs, and in which direction the paper's
ablations go. It reproduces no published figure: features of random weights are not those of ImageNet, the data set is
small, the runs short, and an L1 loss helps. The measured figures, the machine and the pictures are in
docs/systems/contextual.md.

    python train.py --config=configs/contextual_bsds500.py:image2feature --workdir=runs/bsds_guess
    python train.py --config=configs/contextual_bsds500.py:feature2image --workdir=runs/bsds --init-from=runs/bsds_guess
    python train.py --config=configs/contextual_bsds500.py:predictions --workdir=runs/bsds_predictions \
        --init-from=runs/bsds_guess
    python evaluate.py --checkpoint runs/bsds --data data/bsds500/val --size 96 --mask-set box
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train, Validation
from jaxpaint.systems.contextual import Config
from jaxpaint.train import Optim
from jaxpaint.types import InputError

VARIANTS = {"image2feature": 0.0, "feature2image": 0.0, "predictions": 1.0}
"""variant -> the share of predictions among what Feature2Image is trained on"""


def get_config(variant: str = "image2feature") -> Experiment:
    if variant not in VARIANTS:
        raise InputError(f"there is no variant {variant!r} of this config: there are {', '.join(VARIANTS)}")
    stage = "image2feature" if variant == "image2feature" else "feature2image"
    steps = 1000
    return Experiment(
        system="contextual",
        model=Config(
            stage=stage,
            width=16,
            inverter_width=16,
            discriminator_width=16,
            features="random",
            adversarial_weight=0.1,
            pixel_weight=10.0,
            predictions=VARIANTS[variant],
            base=96,
        ),
        optim=Optim(
            lr=2e-3,
            b1=0.5,
            schedule="cosine",
            warmup_steps=50,
            decay_steps=steps,
            lr_scale={f"{stage}_discriminator": 0.1},
        ),
        data=Data(source="folder", path="data/bsds500/train", size=(96, 96), fit="shorter", flip=True),
        masks=Masks(family="box", options={"side": [0.25, 0.5]}),
        train=Train(steps=steps, batch=8, log_every=50, sample_every=200, checkpoint_every=200),
        validation=Validation(every=200, data="data/bsds500/val", count=32, mask_set="box"),
    )
