"""Linen layers that two or more networks use."""

from jaxpaint.nn.conv import Conv, DoubledConv, UpConv
from jaxpaint.nn.gated import GatedConv, GatedUpConv
from jaxpaint.nn.norm import BatchNorm
from jaxpaint.nn.spectral import SpectralConv, TorchSpectralConv

__all__ = [
    "BatchNorm",
    "Conv",
    "DoubledConv",
    "GatedConv",
    "GatedUpConv",
    "SpectralConv",
    "TorchSpectralConv",
    "UpConv",
]
