"""Linen layers that two or more networks use."""

from jaxpaint.nn.conv import Conv, DoubledConv
from jaxpaint.nn.gated import GatedConv, GatedUpConv
from jaxpaint.nn.spectral import SpectralConv, TorchSpectralConv

__all__ = ["Conv", "DoubledConv", "GatedConv", "GatedUpConv", "SpectralConv", "TorchSpectralConv"]
