"""Deep image and video inpainting in JAX/Flax."""

__version__ = "0.1.0"
