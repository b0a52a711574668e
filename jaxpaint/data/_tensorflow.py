"""The one place where TensorFlow is imported: only when a source needs it, and never onto an accelerator."""

import os

from jaxpaint.types import InputError


def tensorflow():
    """The module, with its GPUs hidden: the accelerators belong to JAX.

    Raises:
      InputError: TensorFlow is not installed; says what to install, and what works without.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its greeting ignores every log level; input has no use for it
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            f"this source reads through tf.data, and TensorFlow cannot be imported ({error}): "
            "pip install tensorflow-cpu (or tensorflow, where there is no CPU build), "
            "or use the sources 'arrays' and 'demo', which do not need it"
        ) from error
    if tf.config.get_visible_devices("GPU"):
        tf.config.set_visible_devices([], "GPU")
    return tf


def tensorflow_datasets():
    """The module `tensorflow_datasets`; InputError where it is not installed."""
    tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            f"source 'tfds': tensorflow_datasets cannot be imported ({error}): pip install tensorflow-datasets"
        ) from error
    return tfds
