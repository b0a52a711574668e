"""Deep image and video inpainting in JAX/Flax.

``jaxpaint.load(path).inpaint(images, masks)`` fills pictures with the weights of a checkpoint.
"""

__version__ = "0.1.0"


def load(path, step: int | None = None, *, options=None, precision: str = "auto", devices: int = 0, spatial: int = 1):
    """The `jaxpaint.run.inpainter.Inpainter` of a checkpoint: a run's folder, or what ``jaxpaint convert`` wrote.

    Args:
      path: of the checkpoint.
      step: of a run; None for the newest.
      options: fields of the system's config with other values than in training, {"iterations": 2}; None for none.
      precision: of activations: auto (bfloat16 on TPU and GPU), float32, bfloat16.
      devices: over how many of this machine's devices batches are spread; 0 = all.
      spatial: how many of them share a picture, each a part of its height: for pictures too large for one.
    """
    from jaxpaint.run.inpainter import Inpainter  # here, so that `import jaxpaint` stays light

    return Inpainter.load(path, step, options=options, precision=precision, devices=devices, spatial=spatial)
