"""DeepFillv2 at a third of its width on the 200 training photographs of BSDS500, 96x96: a run for two CPU cores.

What it shows: that the whole path learns to fill photographs. It reproduces no published figure: the data set is
small, the run short, and the loss is nearly all L1, so what it paints is smooth. The measured figures, the machine
and the pictures are in docs/systems/deepfillv2.md.

    python train.py --config=configs/deepfillv2_bsds500.py --config.data.path=data/bsds500/train \
        --config.validation.data=data/bsds500/val
    python evaluate.py --checkpoint runs/deepfillv2_bsds500 --data data/bsds500/val --size 96
    python evaluate.py --baseline mean --data data/bsds500/val --size 96
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train, Validation
from jaxpaint.systems.deepfillv2 import Config
from jaxpaint.train import Optim


def get_config() -> Experiment:
    steps = 3000
    return Experiment(
        system="deepfillv2",
        model=Config(width=16, discriminator_width=16, gain=3.0, adversarial_weight=0.001),
        optim=Optim(lr=1e-3, b1=0.5, schedule="cosine", warmup_steps=100, decay_steps=steps),
        data=Data(source="folder", path="data/bsds500/train", size=(96, 96), fit="shorter", flip=True),
        masks=Masks(family="deepfillv2"),
        train=Train(steps=steps, batch=8, log_every=50, sample_every=500, checkpoint_every=250),
        validation=Validation(every=500, data="data/bsds500/val", count=32),
    )
