"""What FID, KID, the inception score, P-IDS and U-IDS are measured on: features of pictures, by FID's InceptionV3."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.metrics.metric import check_pair
from jaxpaint.models.inception import InceptionV3, resize_half_pixel, resize_tf1
from jaxpaint.ops.pixels import from_uint8
from jaxpaint.types import InputError, PyTree

RESIZES = {"half_pixel": resize_half_pixel, "tf1": resize_tf1}

BATCH = 8
"""Pictures that the network sees at once, always: another number would change last bits."""


def extractor(variables: PyTree, resize: str) -> Callable[[Sequence, Sequence, Sequence], dict[str, np.ndarray]]:
    """A function that measures pictures for the metrics of whole sets.

    Metrics made around one such function share its result, so the network sees a picture once for all of them.

    Args:
      variables: of `jaxpaint.models.inception.InceptionV3`
      resize: "half_pixel" (pytorch-fid, LaMa) or "tf1" (torch-fidelity, TorchMetrics, StyleGAN, CoModGAN, MAT); see
        `jaxpaint.models.inception`

    Returns:
      ``measure(predictions, targets, masks)`` of uint8 pictures, n of any sizes, to NumPy arrays, float32:
      "prediction" and "target", pool3, n 2048; "logits" and "logits_unbiased" (without the classifier's biases) of
      the predictions, n 1008. A picture's row is the same to the last bit whatever other pictures are measured
      with it, on one machine.
    """
    if resize not in RESIZES:
        raise InputError(f"there is no resize {resize!r} to the network's 299 x 299: there are {', '.join(RESIZES)}")
    network = InceptionV3()
    variables = jax.device_put(variables)

    @jax.jit
    def prepare(picture):  # compiled for each size of pictures
        return RESIZES[resize](from_uint8(picture[None]))[0]

    @jax.jit
    def run(variables, pictures):
        pool3, out = network.apply(variables, pictures)
        return pool3, out["logits"], out["logits_unbiased"]

    def features(pictures):
        pending = []
        # Accelerators round the factors of products to fewer bits by default: published figures are float32.
        with jax.default_matmul_precision("highest"):
            for start in range(0, len(pictures), BATCH):
                ready = [prepare(picture) for picture in pictures[start : start + BATCH]]
                ready += [jnp.zeros_like(ready[0])] * (BATCH - len(ready))
                pending.append(run(variables, jnp.stack(ready)))
        return [np.concatenate(arrays)[: len(pictures)] for arrays in zip(*jax.device_get(pending), strict=True)]

    last: dict[tuple, np.ndarray] = {}  # the targets of the last call, for they come again with another mask

    def measure(predictions, targets, masks):
        for prediction, target, mask in zip(predictions, targets, masks, strict=True):
            check_pair(prediction, target, mask)
        if not len(predictions):
            pool3, logits = (np.zeros((0, width), np.float32) for width in (2048, 1008))
            return {"prediction": pool3, "target": pool3, "logits": logits, "logits_unbiased": logits}
        keys = [(target.shape, target.tobytes()) for target in targets]
        new = {key: target for key, target in zip(keys, targets, strict=True) if key not in last}
        pool3, logits, unbiased = features([*predictions, *new.values()])
        n = len(predictions)
        known = {key: last[key] for key in keys if key in last}
        last.clear()
        last.update(known | dict(zip(new, pool3[n:], strict=True)))
        target = np.stack([last[key] for key in keys])
        return {"prediction": pool3[:n], "target": target, "logits": logits[:n], "logits_unbiased": unbiased[:n]}

    return measure
