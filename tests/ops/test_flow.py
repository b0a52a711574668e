"""TV-L1: known motions of a texture, against scikit-image's estimator; both ways, one by one, and what is refused."""

import functools

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from jaxpaint.ops.flow import flow_both_ways, tvl1
from jaxpaint.ops.warp import contradicts, warp
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}
estimate = jax.jit(tvl1, compiler_options=QUICKLY)

SHIFT, QUARTER = np.zeros((2, 2)), np.array([[0.04, -0.05], [0.05, 0.03]])
MOTIONS = {"shift": (SHIFT, (3.3, -1.7)), "small": (SHIFT, (0.4, 0.3)), "far": (SHIFT, (9.0, -6.5))}
MOTIONS["affine"] = (QUARTER, (1.0, 2.0))


@functools.cache
def texture(side=256):
    rng = np.random.default_rng(0)
    fine, coarse = (gaussian_filter(rng.standard_normal((side, side, 3)), (size, size, 0)) for size in (1.5, 6))
    both = fine / fine.std() + coarse / coarse.std()
    return np.float32(np.clip(both / 4, -1, 1))


def a_pair(motion, height=64, width=96, corner=80):
    """Two pictures, the true flow between them, and where it stays inside; all without a batch."""
    linear, shift = MOTIONS[motion]
    y, x = np.mgrid[:height, :width].astype(float)
    centred = np.stack([x - width / 2, y - height / 2], -1)
    flow = centred @ linear.T + shift
    there_x, there_y = x + flow[..., 0], y + flow[..., 1]
    places = [corner + there_y, corner + there_x]
    first = np.stack([map_coordinates(texture()[..., c], places, order=3) for c in range(3)], -1)
    second = texture()[corner : corner + height, corner : corner + width]
    inside = (there_x >= 0) & (there_x <= width - 1) & (there_y >= 0) & (there_y <= height - 1)
    return np.float32(first), second, flow, inside


def error(flow, truth, inside):
    """The mean endpoint error, in pixels."""
    return float(np.linalg.norm(np.asarray(flow) - truth, axis=-1)[inside].mean())


@pytest.mark.parametrize("motion", MOTIONS)
def test_known_motions_are_found(motion):
    registration = pytest.importorskip("skimage.registration")
    first, second, truth, inside = a_pair(motion)
    found = error(estimate(first[None], second[None])[0], truth, inside)
    assert found < 0.15
    grey = [x @ np.float32([0.299, 0.587, 0.114]) / 2 + 0.5 for x in (first, second)]
    down, right = registration.optical_flow_tvl1(*grey)
    assert found < error(np.stack([right, down], -1), truth, inside) + 0.03


def test_an_object_moves_over_a_background_at_rest():
    """Inside the object and far from it the flow is right, and what it covers is found to be contradicted."""
    picture, patch = texture()[:64, :96], texture()[100:124, 100:124]
    first, second = picture.copy(), picture.copy()
    first[20:44, 30:54], second[20:44, 34:58] = patch, patch
    there, back = jax.jit(flow_both_ways, compiler_options=QUICKLY)(first[None], second[None])
    object_flow = np.asarray(there[0, 24:40, 34:50])
    assert np.abs(object_flow - [4, 0]).mean() < 0.2
    assert np.abs(there[0, :12]).max() < 0.2
    covered = np.zeros((64, 96), bool)
    covered[20:44, 54:58] = True
    occluded = np.asarray(contradicts(there, back))[0, ..., 0]
    assert occluded[covered].mean() > 0.7
    assert occluded[~covered].mean() < 0.1
    again = np.asarray(warp(second[None], there, outside="border"))[0]
    assert np.square(again - first)[~covered].mean() < 0.1 * np.square(second - first)[~covered].mean()


def test_a_pair_s_flow_does_not_depend_on_its_company_nor_on_the_transform():
    pairs = [a_pair(motion, 32, 48)[:2] for motion in ("shift", "affine")]
    first, second = (np.stack(x) for x in zip(*pairs, strict=True))
    few = {"warps": 2, "iterations": 3, "levels": 1}
    plain = functools.partial(tvl1, **few)
    quick = jax.jit(plain, compiler_options=QUICKLY)
    together = quick(first, second)
    for i in range(2):
        np.testing.assert_allclose(quick(first[i : i + 1], second[i : i + 1])[0], together[i], atol=1e-4)
    mapped = jax.jit(jax.vmap(plain), compiler_options=QUICKLY)(first[:, None], second[:, None])
    np.testing.assert_allclose(mapped[:, 0], together, atol=1e-4)
    there, back = jax.jit(functools.partial(flow_both_ways, **few), compiler_options=QUICKLY)(first[:1], second[:1])
    np.testing.assert_allclose(there[0], together[0], atol=1e-4)
    np.testing.assert_allclose(back, quick(second[:1], first[:1]), atol=1e-4)


def test_flat_pictures_equal_pictures_and_small_ones_give_no_flow():
    flat = np.zeros((1, 33, 50, 3), np.float32)
    assert np.abs(estimate(flat, flat + 0.5)).max() < 1e-4
    same = texture()[None, :33, :50]
    assert np.abs(estimate(same, same)).max() < 1e-5
    assert np.isfinite(estimate(texture()[None, :1, :2], texture()[None, 1:2, :2])).all()


def test_no_gradient_flows_through():
    first, second = (x[None] for x in a_pair("shift", 16, 16)[:2])
    grad = jax.jit(jax.grad(lambda x: tvl1(x, second, warps=1, iterations=2, levels=1).sum()))(first)
    np.testing.assert_array_equal(grad, np.zeros_like(first))


def test_what_is_no_pair_of_pictures_is_refused():
    picture = np.zeros((1, 16, 16, 3), np.float32)
    for first, second in ((picture[0], picture[0]), (picture, picture[:, :8]), (picture[..., :1], picture[..., :1])):
        with pytest.raises(InputError, match="expected two of b h w 3"):
            tvl1(first, second)
    with pytest.raises(InputError, match="warps=0: expected 1 at least"):
        tvl1(picture, picture, warps=0)
