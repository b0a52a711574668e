"""The main job on a bare machine: a narrow DeepFillv2 learns to fill procedural pictures, nothing to download.

What it shows: training, checkpoints, resuming, evaluation and inpainting, in a few minutes on two CPU cores. It
reproduces no published figure; docs/demo.png shows what it fills in.

    python train.py --config=configs/demo.py
    python evaluate.py --checkpoint runs/demo --data demo --size 64
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train, Validation
from jaxpaint.systems.deepfillv2 import Config
from jaxpaint.train import Optim


def get_config() -> Experiment:
    size = (64, 64)
    return Experiment(
        system="deepfillv2",
        model=Config(width=16, discriminator_width=16, gain=3.0, adversarial_weight=0.001),
        optim=Optim(lr=1e-3, b1=0.5),
        data=Data(source="demo", size=size),
        masks=Masks(family="deepfillv2"),
        train=Train(steps=600, batch=8, log_every=50, sample_every=200, checkpoint_every=200),
        validation=Validation(every=200, data="demo", count=16),
    )
