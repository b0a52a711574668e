"""Linen layers that two or more networks use."""

from jaxpaint.nn.conv import Conv, DoubledConv, UpConv
from jaxpaint.nn.gated import GatedConv, GatedUpConv
from jaxpaint.nn.norm import BatchNorm, InstanceNorm
from jaxpaint.nn.recurrent import ConvLSTM, Memory
from jaxpaint.nn.spectral import SpectralConv, TorchSpectralConv

__all__ = [
    "BatchNorm",
    "Conv",
    "ConvLSTM",
    "DoubledConv",
    "GatedConv",
    "GatedUpConv",
    "InstanceNorm",
    "Memory",
    "SpectralConv",
    "TorchSpectralConv",
    "UpConv",
]
