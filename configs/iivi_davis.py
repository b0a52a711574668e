"""IIVI's networks on the frames of many clips at once: a common start for fits to single clips (ours, not the paper's).

The paper learns every clip from nothing, and that is what ``jaxpaint inpaint-video --method iivi`` does: it needs no
run of this config. What this one gives is a checkpoint to begin with, so that a clip needs fewer steps:

    python train.py --config=configs/iivi_davis.py --config.data.path=data/DAVIS/JPEGImages/480p
    jaxpaint inpaint-video clip.mp4 --masks masks/ --checkpoint runs/iivi_davis --out filled.mp4

Frames are taken at the size at which fits begin (`model.base`); holes are boxes, in place of the clips' own. Not run.
"""

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems.iivi import Config
from jaxpaint.train import Optim


def get_config() -> Experiment:
    steps = 50_000
    return Experiment(
        system="iivi",
        model=Config(),
        optim=Optim(lr=1e-3, eps=1e-7, schedule="cosine", warmup_steps=100, decay_steps=steps),
        data=Data(source="folder", path="data/DAVIS/JPEGImages/480p", size=(96, 172), fit="resize", flip=True),
        masks=Masks(family="box"),
        train=Train(steps=steps, batch=16),
    )
