"""DeepFillv2's published files.

Two kinds exist, with the same numbers in them:

- the authors' TensorFlow checkpoints (JiahuiYu/generative_inpainting), folders with optimiser slots besides. They were
  trained on pictures read with OpenCV, so their first and last layers know **BGR**;
- torch files converted from them (nipponjo/deepfillv2-pytorch), a dict with the generator under ``G``, in snapshots of
  training also the discriminator under ``D``. The scripts there feed **RGB**.

Networks here are RGB: a conversion from BGR reverses the colour channels of the layers that see or make a picture.
Whether the torch files were reversed when they were made is not stated by their authors; where results have red and
blue swapped, convert with ``channels="bgr"``.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxpaint.convert.table import Conversion, PublishedFile, reverse_colours
from jaxpaint.io import tf_checkpoint, torch_file
from jaxpaint.types import InputError

TF_SCOPES = {"inpaint_net": "G", "discriminator/sn_patch_gan": "D"}

TF_IGNORED = (
    r"(.*/)?(Adam|Adam_1|Momentum|ExponentialMovingAverage)(_\d+)?$",
    r"(.*/)?(beta[12]_power|global_step|lr|learning_rate)(_\d+)?$",
)
"""Optimiser slots and counters: not weights."""

TORCH_IGNORED = ("G_optim", "D_optim", "n_iter")

SEES_A_PICTURE = ("G.conv1.conv.weight", "G.xconv1.conv.weight", "G.pmconv1.conv.weight", "D.conv1.conv_sn.weight")
MAKES_A_PICTURE = tuple(f"G.{layer}.conv.{leaf}" for layer in ("conv17", "allconv17") for leaf in ("weight", "bias"))


def from_tensorflow(variables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """TF1 variables by name -> canonical names and layout; what is neither a weight nor ignored keeps its name."""
    state = {}
    for name, array in variables.items():
        if any(re.match(pattern, name) for pattern in TF_IGNORED):
            continue
        scope = next((scope for scope in TF_SCOPES if name.startswith(scope + "/")), None)
        if scope is None:
            state[name] = array
            continue
        layer, *rest = name[len(scope) + 1 :].split("/")
        # An up-sampling layer is a scope with a convolution of its own in it.
        inner = "conv.conv" if rest and rest[0] == f"{layer}_conv" else "conv_sn" if TF_SCOPES[scope] == "D" else "conv"
        leaf = "/".join(rest[1:] if inner == "conv.conv" else rest)
        if leaf == "kernel" and array.ndim == 4:
            leaf, array = "weight", array.transpose(3, 2, 0, 1)
        elif leaf == "kernel_sn/u":
            leaf, array = "weight_u", array.reshape(-1, 1)
        state[f"{TF_SCOPES[scope]}.{layer}.{inner}.{leaf}"] = array
    return state


def from_torch(content: Any, path: str) -> dict[str, np.ndarray]:
    """What a torch file holds -> canonical names."""
    if not isinstance(content, dict) or not isinstance(content.get("G"), dict):
        held = sorted(map(str, content))[:8] if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path} holds {held}: a DeepFillv2 file is a dict with the generator's tensors under 'G': "
            "a checkpoint of another system?"
        )
    unknown = [key for key in content if key not in ("G", "D", *TORCH_IGNORED)]
    if unknown:
        raise InputError(f"{path} holds {unknown} besides G and D: not a DeepFillv2 file as published")
    parts = {part: content[part] for part in ("G", "D") if part in content}
    flawed = [f"{part}.{name}" for part, state in parts.items() for name in state if not _is_array(state[name])]
    if flawed:
        raise InputError(f"{path}: expected tensors, got something else under {', '.join(flawed)}")
    return {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def read(path: str) -> tuple[dict[str, np.ndarray], str]:
    """A published file or folder -> (tensors by canonical name, "tensorflow" or "torch")."""
    if tf_checkpoint.is_checkpoint(path):
        return from_tensorflow(tf_checkpoint.read(path)), "tensorflow"
    return from_torch(torch_file.read(path), os.fspath(path)), "torch"


def config(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Widths and guide channels, read off the first layers' shapes."""
    found = {}
    first = state.get("G.conv1.conv.weight")
    if first is not None and first.ndim == 4:
        found = {"width": first.shape[0], "guide_channels": max(0, first.shape[1] - 5)}
    first = state.get("D.conv1.conv_sn.weight")
    if first is not None and first.ndim == 4:
        found["discriminator_width"] = first.shape[0]
    published = {"width": 48, "guide_channels": 0, "discriminator_width": 64}
    return {field: value for field, value in found.items() if value != published[field]}


def batch(fields: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """A batch to initialise with."""
    shapes = {"image": (1, 64, 64, 3), "mask": (1, 64, 64, 1)}
    if fields.get("guide_channels"):
        shapes["guide"] = (1, 64, 64, fields["guide_channels"])
    return shapes


def reorder(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Reverses the three colour channels wherever a layer sees or makes a picture."""
    return reverse_colours(state, SEES_A_PICTURE, MAKES_A_PICTURE)


CONVERSION = Conversion(
    files=(
        PublishedFile(
            "release_places2_256", "TF1 checkpoint folder of the authors: Places2, generator and discriminator"
        ),
        PublishedFile("release_celeba_hq_256", "TF1 checkpoint folder of the authors: CelebA-HQ"),
        PublishedFile(
            "states_tf_places2.pth", "the same Places2 generator as a torch file (nipponjo/deepfillv2-pytorch)"
        ),
        PublishedFile("states_tf_celebahq.pth", "the same CelebA-HQ generator as a torch file"),
    ),
    networks={"G": "generator", "D": "discriminator"},
    required=("generator",),
    read=read,
    config=config,
    batch=batch,
    channels={"tensorflow": "bgr", "torch": "rgb"},
    reorder=reorder,
)
