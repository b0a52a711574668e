"""How a run lies on the devices: the config group ``mesh``."""

import dataclasses
from typing import Literal


@dataclasses.dataclass
class Layout:
    """The mesh, and which part of the state lies where on it.

    data:    parts of the batch; 0 = as many as there are devices for
    fsdp:    more parts of the batch, which also divide the optimiser's state and the averaged weights among them
    spatial: parts of a picture's height: pictures too large for one device train and inpaint over several
    mode:    jit, or pmap (one process, the axis data alone)
    rules:   ((pattern, spec), …), looked at in order, before the default ones: the first pattern that is found
             (``re.search``) in the path of a leaf of the state, as in ``params/generator/conv1/conv/kernel``, decides.
             A spec is a tuple with an axis or None for every dimension, () for a leaf that is whole on every device;
             or the name of an axis alone, which divides the leaf's largest dimension that it can divide
    """

    data: int = 0
    fsdp: int = 1
    spatial: int = 1
    mode: Literal["jit", "pmap"] = "jit"
    rules: tuple[tuple[str, str | tuple[str | None, ...]], ...] = ()
