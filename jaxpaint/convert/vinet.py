"""VINet's published files (mcahny/Deep-Video-Inpainting): torch files of PyTorch 0.4's, in its older format.

Two exist, one network with two sets of numbers: names and shapes do not tell them apart, so which type a file is for is
the reader's to say, where it is used: ``type`` of `jaxpaint.systems.vinet.Config` is 256, and for the 512 file
``--model.type=512``. The tensors lie under ``state_dict``, each name behind
``module.``; what else is in the dict is the training's.

The authors read and write frames with OpenCV and never convert them: the stored weights know **BGR**. Networks here
are RGB: a conversion reverses the colour channels of the two layers that see a picture and of the one that makes it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxpaint.convert.table import Conversion, PublishedFile, reverse_colours
from jaxpaint.io import torch_file
from jaxpaint.types import InputError

NETWORK = "vinet"

SEES_A_PICTURE = tuple(f"{NETWORK}.encoder{tower}.ec0.conv.weight" for tower in (1, 2))
MAKES_A_PICTURE = f"{NETWORK}.decoder.dc6.weight"


def canonical(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Published names, with or without ``module.`` -> canonical names and layout.

    The decoder's kernels are 1x3x3, over a time axis of length 1: the axis is dropped.
    """
    tensors = {}
    for name, array in state.items():
        name = name.removeprefix("module.")
        if name.startswith("decoder.") and array.ndim == 5 and array.shape[2] == 1:
            array = array[:, :, 0]
        tensors[f"{NETWORK}.{name}"] = array
    return tensors


def read(path: str) -> tuple[dict[str, np.ndarray], str]:
    """A published file -> (tensors by canonical name, "torch")."""
    content = torch_file.read(path)
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        held = sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path} holds {held}: a VINet file is a dict with tensors under 'state_dict': a checkpoint of another "
            "system?"
        )
    flawed = [name for name, value in state.items() if not isinstance(value, np.ndarray)]
    if flawed:
        raise InputError(f"{path}: expected tensors, got something else under {', '.join(map(str, flawed))}")
    return canonical(state), "torch"


def config(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The width, read off the first layer's shape."""
    first = state.get(SEES_A_PICTURE[0])
    width = first.shape[0] // 2 if first is not None and first.ndim == 4 else 32
    return {} if width == 32 else {"width": width}


def batch(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """A batch to initialise with."""
    return {"image": (1, 5, 32, 32, 3), "mask": (1, 5, 32, 32, 1)}


def reorder(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reverses the three colour channels wherever a layer sees or makes a picture."""
    return reverse_colours(state, SEES_A_PICTURE, (MAKES_A_PICTURE,))


CONVERSION = Conversion(
    files=(
        PublishedFile("save_agg_rec_512.pth", "the authors' model for 512x512: use it with --model.type=512"),
        PublishedFile("save_agg_rec.pth", "the authors' model for 256x256"),
    ),
    networks={NETWORK: NETWORK},
    required=(NETWORK,),
    read=read,
    config=config,
    batch=batch,
    channels={"torch": "bgr"},
    reorder=reorder,
)
