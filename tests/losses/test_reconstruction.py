"""Reconstruction losses against loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses.reconstruction import (
    border_distance,
    discounted_l1,
    hole_and_known,
    hole_and_known_by_area,
    l1,
    l2,
    multi_scale,
)
from jaxpaint.types import InputError

RNG = np.random.default_rng(1)
A, B = RNG.uniform(-1, 1, (2, 2, 6, 8, 3)).astype(np.float32)
MASK = (RNG.uniform(0, 1, (2, 6, 8, 1)) < 0.4).astype(np.float32)


def test_l2():
    np.testing.assert_allclose(l2(A, B), ((A - B) ** 2).mean(), rtol=1e-6)


@pytest.mark.parametrize(("difference", "power"), [(jnp.abs, 1), (jnp.square, 2)])
def test_hole_and_known(difference, power):
    each = np.abs(A - B).astype(np.float64) ** power
    inside = np.broadcast_to(MASK, A.shape) == 1
    over_all = each[inside].sum() / A.size, each[~inside].sum() / A.size
    np.testing.assert_allclose(hole_and_known(A, B, MASK, difference), over_all, rtol=1e-6)
    by_area = each[inside].mean(), each[~inside].mean()
    np.testing.assert_allclose(hole_and_known_by_area(A, B, MASK, difference), by_area, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_region_gives_zero(value):
    """And no gradient that is not finite."""
    empty = 0 if value == 0 else 1
    mask = np.full_like(MASK, value)
    terms = hole_and_known_by_area(A, B, mask)
    assert terms[empty] == 0
    np.testing.assert_allclose(terms[1 - empty], np.abs(A - B).mean(), rtol=1e-6)
    gradient = jax.grad(lambda a: sum(hole_and_known_by_area(a, B, mask)))(A)
    assert jnp.isfinite(gradient).all()


def by_search(mask):
    """City-block distance to the nearest known pixel, by looking at all of them."""
    distance = np.zeros(mask.shape)
    for b, y, x, _ in np.argwhere(mask == 1):
        known = np.argwhere(mask[b, ..., 0] == 0)
        distance[b, y, x] = np.abs(known - (y, x)).sum(1).min() if len(known) else sum(mask.shape[1:3])
    return distance


def test_border_distance():
    masks = np.stack([MASK[0], RNG.uniform(0, 1, (6, 8, 1)) < 0.95, np.ones((6, 8, 1)), np.zeros((6, 8, 1))])
    np.testing.assert_array_equal(border_distance(jnp.asarray(masks, jnp.float32)), by_search(masks))


def test_in_a_rectangle_it_is_the_distance_across_the_nearest_edge():
    mask = np.zeros((1, 9, 12, 1), np.float32)
    mask[:, 2:8, 3:10] = 1
    rows, columns = np.mgrid[1:7, 1:8]
    nearest = np.minimum(np.minimum(rows, 7 - rows), np.minimum(columns, 8 - columns))
    np.testing.assert_array_equal(border_distance(jnp.asarray(mask))[0, 2:8, 3:10, 0], nearest)


def test_discounted_l1():
    inside = np.broadcast_to(MASK, A.shape) == 1
    each = 0.9 ** by_search(MASK) * np.abs(A - B)
    np.testing.assert_allclose(discounted_l1(A, B, MASK, gamma=0.9), each[inside].mean(), rtol=1e-6)


def test_multi_scale():
    half, whole = RNG.uniform(-1, 1, (2, 3, 4, 3)).astype(np.float32), A
    target = (B[:, ::2, ::2] + B[:, 1::2, ::2] + B[:, ::2, 1::2] + B[:, 1::2, 1::2]) / 4
    expected = np.abs(half - target).mean() + np.abs(whole - B).mean()
    np.testing.assert_allclose(multi_scale(l1, [half, whole], B), expected, rtol=1e-6)
    resized = jax.image.resize(B, half.shape, "linear", antialias=False)
    np.testing.assert_allclose(multi_scale(l1, [half], B), l1(half, resized), rtol=1e-5)


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (2, 3, 8, 3), (2, 12, 16, 3)])
def test_a_scale_must_divide(shape):
    with pytest.raises(InputError, match=f"a prediction is {shape[1]}x{shape[2]}, the target 6x8"):
        multi_scale(l1, [np.zeros(shape, np.float32)], B)


def test_float32_whatever_comes_in():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in (A, B))
    exact = np.asarray(a, np.float64) - np.asarray(b, np.float64)  # the rounding of the input is not the loss's
    np.testing.assert_allclose(l2(a, b), (exact**2).mean(), rtol=1e-6)
    values = [l2(a, b), *hole_and_known(a, b, MASK), discounted_l1(a, b, MASK), multi_scale(l1, [a], b)]
    assert {value.dtype for value in values} == {jnp.dtype("float32")}
