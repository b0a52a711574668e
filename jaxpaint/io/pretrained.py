"""Published weights of the fixed feature networks: one folder, one table, nothing downloaded behind anybody's back.

The folder is ``JAXPAINT_WEIGHTS``, by default ``~/.cache/jaxpaint/weights``. Files keep the names under which they are
published (`FILES`); those of LPIPS, which are called ``vgg.pth`` and the like, are in ``lpips/v0.1/`` below it. Fetch
what a run asks for once:

    curl --create-dirs -o "$JAXPAINT_WEIGHTS/vgg19-dcbb9e9d.pth" https://download.pytorch.org/models/vgg19-dcbb9e9d.pth

A file that is missing, and a file with other content than the published one, are errors that say which, where from and
where to.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxpaint.io import torch_file
from jaxpaint.types import InputError, did_you_mean

VARIABLE = "JAXPAINT_WEIGHTS"
DEFAULT = Path("~/.cache/jaxpaint/weights")


class WeightFile(NamedTuple):
    """A file that its authors put online.

    file:   its path below the folder
    url:    where it is published
    sha256: all 64 digits where they are public. Where only the eight in the file's name are (torchvision names files
            so), those; None where nothing is known, and then nothing is compared
    note:   what it holds
    """

    file: str
    url: str
    sha256: str | None
    note: str


_TORCHVISION = "https://download.pytorch.org/models/"
_LPIPS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"

FILES: Mapping[str, WeightFile] = {
    "vgg16": WeightFile(
        "vgg16-397923af.pth",
        _TORCHVISION + "vgg16-397923af.pth",
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        "torchvision's VGG-16, ImageNet, 528 MiB",
    ),
    "vgg19": WeightFile(
        "vgg19-dcbb9e9d.pth",
        _TORCHVISION + "vgg19-dcbb9e9d.pth",
        "dcbb9e9d",
        "torchvision's VGG-19, ImageNet, 548 MiB",
    ),
    "alexnet": WeightFile(
        "alexnet-owt-7be5be79.pth",
        _TORCHVISION + "alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        "torchvision's AlexNet ('one weird trick'), ImageNet, 233 MiB",
    ),
    "squeezenet1_1": WeightFile(
        "squeezenet1_1-b8a52dc0.pth",
        _TORCHVISION + "squeezenet1_1-b8a52dc0.pth",
        "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
        "torchvision's SqueezeNet 1.1, ImageNet, 5 MiB",
    ),
    "inception_fid": WeightFile(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "FID's InceptionV3, converted from the TensorFlow graph of 2015, 91 MiB",
    ),
    "lpips_vgg": WeightFile(
        "lpips/v0.1/vgg.pth",
        _LPIPS + "vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        "LPIPS 0.1, linear weights for VGG-16, 7 KiB",
    ),
    "lpips_alex": WeightFile(
        "lpips/v0.1/alex.pth",
        _LPIPS + "alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "LPIPS 0.1, linear weights for AlexNet, 6 KiB",
    ),
    "lpips_squeeze": WeightFile(
        "lpips/v0.1/squeeze.pth",
        _LPIPS + "squeeze.pth",
        "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
        "LPIPS 0.1, linear weights for SqueezeNet 1.1, 11 KiB",
    ),
    "raft_things": WeightFile(
        "raft-things.pth",
        "https://github.com/sczhou/ProPainter/releases/download/v0.1.0/raft-things.pth",
        "fcfa4125d6418f4de95d84aec20a3c5f4e205101715a79f193243c186ac9a7e1",
        "RAFT (optical flow), trained on FlyingChairs and FlyingThings3D, as released with ProPainter, 20 MiB",
    ),
    "i3d_rgb_imagenet": WeightFile(
        "i3d_rgb_imagenet.pt",
        "https://github.com/sczhou/ProPainter/releases/download/v0.1.0/i3d_rgb_imagenet.pt",
        "2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        "I3D (RGB, ImageNet and Kinetics-400), pytorch-i3d's rgb_imagenet.pt, as released with ProPainter, 49 MiB",
    ),
}


def folder() -> Path:
    """Where weights are looked up."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).expanduser()


def find(name: str) -> Path:
    """The path of a published file, which is there and is the published one.

    Args:
      name: a key of `FILES`

    Raises:
      InputError: if there is no such file in the folder, or if it has another sha256.
    """
    if name not in FILES:
        raise InputError(
            f"no published weights are called {name!r}: expected {', '.join(FILES)}{did_you_mean(name, FILES)}"
        )
    entry = FILES[name]
    path = folder() / entry.file
    if not path.is_file():
        raise InputError(
            f"the weights of {name} are missing: expected {entry.file} in {folder()} ({_whose()}). "
            f"Download {entry.url} to {path}"
        )
    if entry.sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(entry.sha256):
            raise InputError(
                f"{path} is not the published file of {name}: its sha256 is {found}, expected {entry.sha256}"
                f"{'' if len(entry.sha256) == 64 else '…'}: a download that broke off, or another file. "
                f"Download {entry.url} again"
            )
    return path


def read(name: str) -> dict[str, np.ndarray]:
    """The tensors of a published file by published name; see `find`.

    Raises:
      InputError: as `find`, or if the file holds anything but tensors by name.
    """
    path = find(name)
    state = torch_file.read(path)
    if not isinstance(state, dict) or not all(isinstance(array, np.ndarray) for array in state.values()):
        raise InputError(f"{path}: expected tensors by name, as {FILES[name].url} holds them")
    return state


def _whose() -> str:
    return f"the environment variable {VARIABLE}" if os.environ.get(VARIABLE) else f"{VARIABLE} is not set"
