"""DeepFillv2 on CelebA-HQ, 256x256: the recipe of the released code.

As on Places2 (see deepfillv2_places2.py), but whole pictures resized to 256x256 instead of crops.

The paper shows pictures and no figure for CelebA-HQ. Not trained here; cost on your machine: the log prints img/s and
the time that remains.

    python train.py --config=configs/deepfillv2_celebahq.py --config.data.path=/data/celeba_hq/train
    python evaluate.py --checkpoint runs/deepfillv2_celebahq --data /data/celeba_hq/val --size 256
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
        data=Data(source="folder", path="data/celeba_hq/train", size=(256, 256), fit="resize"),
        masks=Masks(family="deepfillv2"),
        train=Train(steps=1_000_000, batch=16, log_every=100, sample_every=4000, checkpoint_every=4000),
    )
