"""IIVI's networks: sizes, what they look at, and the prior; numbers are in the golden test."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.models.iivi import Generator
from jaxpaint.models.iivi_segmentation import UNet
from jaxpaint.types import InputError

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
NETWORK = Generator(width=4, gain=2.5)
RNG = np.random.default_rng(2)
IMAGE = RNG.uniform(-1, 1, (2, 12, 20, 3)).astype(np.float32)
MASK = np.zeros((2, 12, 20, 1), np.float32)
MASK[:, 3:7, 5:12] = 1


@functools.cache
def variables():
    return jit(NETWORK.init)(jax.random.key(0), IMAGE, MASK)


def count(network, *inputs, **options):
    shapes = jax.eval_shape(functools.partial(network.init, **options), jax.random.key(0), *inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def test_parameters_as_published():
    image, mask = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 16, 16, 1))
    assert count(Generator(), image, mask) == 4_051_278
    # The coarse network alone is the released code's BaseModel; with a prior it is what is missing.
    assert count(Generator(), image, mask, refine=False) == 1_629_951
    assert count(Generator(), image, mask, image) == 4_051_278 - 1_629_951
    assert count(UNet(), image) == 31_032_837


def test_hole_is_not_looked_at():
    apply = jit(NETWORK.apply)
    stage2, out = apply(variables(), IMAGE, MASK)
    assert stage2.shape == out["stage1"].shape == IMAGE.shape
    assert out["branch1"].shape == out["branch2"].shape == (2, 3, 5, 8)
    assert np.std(stage2) > 1e-3 and np.max(np.abs(stage2)) <= 1
    other = np.where(MASK > 0, np.nan, IMAGE)
    again, _ = apply(variables(), other, MASK)
    np.testing.assert_array_equal(again, stage2)


def test_prior_takes_the_place_of_the_coarse_stage():
    apply = jit(NETWORK.apply)
    stage2, out = apply(variables(), IMAGE, MASK)
    same, _ = apply(variables(), IMAGE, MASK, out["stage1"])
    np.testing.assert_allclose(same, stage2, atol=1e-6)
    other, _ = apply(variables(), IMAGE, MASK, IMAGE[::-1])
    assert np.max(np.abs(other - stage2)) > 1e-3


def test_sizes_that_do_not_divide():
    with pytest.raises(InputError, match="divisible by 4"):
        NETWORK.init(jax.random.key(0), IMAGE[:, :10], MASK[:, :10])
    with pytest.raises(InputError, match="divisible by 16"):
        UNet(width=2).init(jax.random.key(0), IMAGE)
