"""Linen layers that two or more networks use."""

from jaxpaint.nn.gated import GatedConv, GatedUpConv
from jaxpaint.nn.spectral import SpectralConv

__all__ = ["GatedConv", "GatedUpConv", "SpectralConv"]
