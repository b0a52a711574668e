"""Infer, match, and translate on ImageNet (CLS-LOC, 1,281,167 pictures), after the paper: each network by itself.

The recipe is that of contextual_coco.py. No frozen mask set has the paper's fixed hole, 224x224 in the middle of
512x512 (`centre` is 256x256 there): draw it once as a 512x512 mask, white on black, and evaluate with the folder that
holds this one file.

Published, 200 test pictures of 512x512 with that hole: mean L1 15.61 %, SSIM 0.56, inception score 11.36 (Table 1;
recalled). An inception score of 200 pictures is badly biased. Not trained here; cost on your machine: the log prints
img/s and the time that remains. VGG-19's published weights are needed (see docs/systems/contextual.md).

    python train.py --config=configs/contextual_imagenet.py:image2feature --workdir=runs/imagenet_image2feature
    python train.py --config=configs/contextual_imagenet.py:feature2image --workdir=runs/imagenet_256 \
        --init-from=runs/imagenet_image2feature
    python train.py --config=configs/contextual_imagenet.py:feature2image_512 --workdir=runs/imagenet_512 \
        --init-from=runs/imagenet_256
    python evaluate.py --checkpoint runs/imagenet_512 --data DIR --size 512 --masks FOLDER --mask-pairing seed
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
        data=Data(source="tfds", path="imagenet2012", size=(side, side), fit="shorter", flip=True),
        masks=Masks(family="box", options={"side": [0.125, 0.5]}),
        train=Train(steps=200_000, batch=16, sample_every=2000, checkpoint_every=2000),
    )
