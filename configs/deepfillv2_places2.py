"""DeepFillv2 on Places2 (Places365), 256x256: the recipe of the released code.

Random 256x256 crops of the full-resolution pictures, no flips, batch 16, Adam at 1e-4 with b1 0.5 for both players, no
schedule, no averaged weights; masks are a box of up to 128x128 or free-form strokes, both at once. The released run
went on "until stopped"; a million steps is where this one ends.

Published, on Places2 validation at 256x256: mean L1 9.1 %, mean L2 1.6 % for free-form masks; 8.6 %, 2.0 % for
rectangular ones (Table 1; recalled, not re-read). Not trained here; cost on your machine: the log prints
img/s and the time that remains.

    python train.py --config=configs/deepfillv2_places2.py --config.data.path=/data/places365/train
    python evaluate.py --checkpoint runs/deepfillv2_places2 --data /data/places365/val --size 256
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems.deepfillv2 import Config
from jaxpaint.train import Optim


def get_config() -> Experiment:
    return Experiment(
        system="deepfillv2",
        model=Config(),
        optim=Optim(lr=1e-4, b1=0.5, b2=0.999),
        data=Data(source="folder", path="data/places365/train", size=(256, 256), fit="crop"),
        masks=Masks(family="deepfillv2"),
        train=Train(steps=1_000_000, batch=16, log_every=100, sample_every=4000, checkpoint_every=4000),
    )
