"""uint8 to floats and back, and pasting."""

import jax.numpy as jnp
import numpy as np

from jaxpaint.ops.pixels import composite, from_uint8, to_uint8


def test_every_level_survives():
    levels = np.arange(256, dtype=np.uint8)
    floats = from_uint8(jnp.asarray(levels))
    assert floats.dtype == jnp.float32
    assert (float(floats[0]), float(floats[255])) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(floats), levels)


def test_to_uint8_rounds_and_clips():
    values = jnp.array([-2.0, -1.0, 0.0, 0.0039, 1.0, 3.0])
    assert to_uint8(values).tolist() == [0, 0, 128, 128, 255, 255]


def test_a_bad_pixel_in_the_hole_stays_there():
    image = jnp.array([[[[0.1], [0.2]]]])
    mask = jnp.array([[[[1.0], [0.0]]]])
    pasted = composite(jnp.full_like(image, jnp.nan), image, mask)
    assert np.isnan(pasted[0, 0, 0, 0])
    assert pasted[0, 0, 1, 0] == image[0, 0, 1, 0]
