"""Infer, match, and translate on COCO (118,287 pictures), after the paper: each network by itself.

Holes are boxes of 32 to 128 pixels a side, anywhere (the paper's random holes); Adam with b1 0.5, learning rates 2e-3
for Image2Feature and 2e-4 for the others. Batch, number of steps and how pictures get their size are ours: the paper
stopped when the held-out loss had converged, after about a day a model on one GTX 1080 Ti.

Published, 200 ImageNet pictures of 512x512 with a hole of 224x224: mean L1 15.61 %, SSIM 0.56, inception score 11.36
(Table 1; recalled). On COCO the paper has a user study and no figure. Not trained here; cost on your machine: the log
prints img/s and the time that remains. VGG-19's published weights are needed (see docs/systems/contextual.md).

    python train.py --config=configs/contextual_coco.py:image2feature --workdir=runs/coco_image2feature
    python train.py --config=configs/contextual_coco.py:feature2image --workdir=runs/coco_256 \
        --init-from=runs/coco_image2feature
    python train.py --config=configs/contextual_coco.py:feature2image_512 --workdir=runs/coco_512 \
        --init-from=runs/coco_256
    python evaluate.py --checkpoint runs/coco_512 --data /data/coco/val2017 --size 512 --mask-set box
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems.contextual import Config
from jaxpaint.train import Optim
from jaxpaint.types import InputError

VARIANTS = {
    "image2feature": ("image2feature", 256, 2e-3, {"image2feature_discriminator": 0.1}),
    "feature2image": ("feature2image", 256, 2e-4, {}),
    "feature2image_512": ("feature2image", 512, 2e-4, {}),
}
"""variant -> (stage, side of the pictures, learning rate, of other players in relation to it)"""


def get_config(variant: str = "image2feature") -> Experiment:
    if variant not in VARIANTS:
        raise InputError(f"there is no variant {variant!r} of this config: there are {', '.join(VARIANTS)}")
    stage, side, rate, scales = VARIANTS[variant]
    return Experiment(
        system="contextual",
        model=Config(stage=stage),
        optim=Optim(lr=rate, b1=0.5, lr_scale=scales),
        data=Data(source="tfds", path="coco/2017", size=(side, side), fit="shorter", flip=True),
        masks=Masks(family="box", options={"side": [0.125, 0.5]}),
        train=Train(steps=200_000, batch=16, sample_every=2000, checkpoint_every=2000),
    )
