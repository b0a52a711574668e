"""Texture losses against loops in NumPy (float64), gradients against finite differences of those."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses import texture
from jaxpaint.losses.texture import contextual_loss, id_mrf, total_variation, total_variation_of_rim
from jaxpaint.types import InputError

RNG = np.random.default_rng(3)
X, Y = RNG.normal(0, 1, (2, 3, 4, 5)).astype(np.float32), RNG.normal(0.5, 1, (2, 4, 3, 5)).astype(np.float32)


def places(x, side):
    """All patches of one map, as vectors."""
    h, w, _ = x.shape
    return [x[i : i + side, j : j + side].ravel() for i in range(h - side + 1) for j in range(w - side + 1)]


def by_loops(x, y, bandwidth, epsilon, halved, side=1):
    """The mean over pictures of -log mean_j max_i CX_ij."""
    losses = []
    for one, other in zip(x.astype(np.float64), y.astype(np.float64), strict=True):
        mean = other.mean((0, 1))
        mine, theirs = places(one - mean, side), places(other - mean, side)
        best = np.zeros(len(theirs))
        for a in mine:
            distance = np.array([1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for b in theirs])
            distance = distance / 2 if halved else distance
            similar = np.exp((1 - distance / (distance.min() + epsilon)) / bandwidth)
            best = np.maximum(best, similar / similar.sum())
        losses.append(-np.log(best.mean()))
    return np.mean(losses)


CASES = {
    "contextual": (contextual_loss, {"bandwidth": 0.5, "epsilon": 1e-5}, False),
    "contextual_sharp": (contextual_loss, {"bandwidth": 0.1, "epsilon": 1e-2}, False),
    "id_mrf": (id_mrf, {"bandwidth": 0.5, "epsilon": 1e-2}, True),
    "id_mrf_patches": (id_mrf, {"bandwidth": 0.5, "epsilon": 1e-2, "patch": 2}, True),
}


@pytest.mark.parametrize("name", CASES)
def test_against_loops(name):
    loss, options, halved = CASES[name]
    plain = {"bandwidth": options["bandwidth"], "epsilon": options["epsilon"], "side": options.get("patch", 1)}
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss(x, Y, **options)))(X)
    np.testing.assert_allclose(value, by_loops(X, Y, halved=halved, **plain), rtol=1e-5)
    # float32 cosines are off by 1e-7; over the smallest distance (0.1) and the bandwidth that is 1e-5.
    slopes = np.zeros(X.shape)
    for index in np.ndindex(X.shape):
        step = np.zeros(X.shape)
        step[index] = 1e-6
        ahead, behind = (by_loops(X.astype(np.float64) + s * step, Y, halved=halved, **plain) for s in (1, -1))
        slopes[index] = (ahead - behind) / 2e-6
    np.testing.assert_allclose(gradient, slopes, rtol=0, atol=5e-5 * np.abs(slopes).max())


@pytest.mark.parametrize("most", [1, 12 * 5])
def test_in_parts_it_is_the_same(monkeypatch, most):
    """1 and 5 of the prediction's 12 places at a time: parts that do not divide, gradients too."""

    def run():
        return jax.jit(lambda x, y: jax.value_and_grad(contextual_loss, (0, 1))(x, y))(X, Y)

    together = run()
    monkeypatch.setattr(texture, "SIMILARITIES", most)
    apart = run()
    for a, b in zip(jax.tree.leaves(apart), jax.tree.leaves(together), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("loss", [contextual_loss, id_mrf])
def test_same_features_in_another_order_cost_nothing(loss):
    shuffled = RNG.permutation(Y.reshape(2, 12, 5), axis=1).reshape(2, 3, 4, 5)
    assert abs(loss(shuffled, Y)) < 1e-3 < loss(X, Y)
    assert jnp.isfinite(jax.jit(jax.grad(loss))(shuffled, Y)).all()


def test_features_that_are_all_alike_have_a_gradient():
    """All equal to the mean: vectors of zeros, which have no direction."""
    assert jnp.isfinite(jax.jit(jax.grad(contextual_loss))(jnp.ones((1, 3, 3, 2)), jnp.ones((1, 3, 3, 2)))).all()


def test_features_of_other_shapes_are_named():
    with pytest.raises(InputError, match=r"contextual loss: features \(2, 3, 4, 4\) of the prediction"):
        contextual_loss(X[..., :4], Y)
    with pytest.raises(InputError, match="hold no patch of 4x4"):
        id_mrf(X, Y, patch=4)


IMAGE = RNG.uniform(-1, 1, (2, 6, 7, 3)).astype(np.float32)


def test_total_variation():
    expected = np.abs(np.diff(IMAGE, axis=1)).mean() + np.abs(np.diff(IMAGE, axis=2)).mean()
    np.testing.assert_allclose(total_variation(IMAGE), expected, rtol=1e-6)


def test_total_variation_of_rim():
    mask = np.zeros((2, 6, 7, 1), np.float32)
    mask[0, 2:4, 3] = mask[1, 0, 0] = mask[1, 5, 4:] = 1
    region = {(b, y + i, x + j) for b, y, x, _ in np.argwhere(mask == 1) for i in (-1, 0, 1) for j in (-1, 0, 1)} & set(
        np.ndindex(2, 6, 7)
    )
    total = 0.0
    for b, y, x in region:
        for beside in ((b, y + 1, x), (b, y, x + 1)):
            if beside in region:
                total += np.abs(IMAGE[beside] - IMAGE[b, y, x]).sum()
    np.testing.assert_allclose(total_variation_of_rim(IMAGE, mask), total / IMAGE.size, rtol=1e-5)
    assert total_variation_of_rim(IMAGE, np.zeros_like(mask)) == 0
    np.testing.assert_allclose(
        total_variation_of_rim(IMAGE, np.ones_like(mask)),
        (np.abs(np.diff(IMAGE, axis=1)).sum() + np.abs(np.diff(IMAGE, axis=2)).sum()) / IMAGE.size,
        rtol=1e-5,
    )


def test_float32_whatever_comes_in():
    x, y, image = (jnp.asarray(value, jnp.bfloat16) for value in (X, Y, IMAGE))
    mask = jnp.ones((2, 6, 7, 1), jnp.bfloat16)
    for loss, arguments in (
        (contextual_loss, (x, y)),
        (id_mrf, (x, y)),
        (total_variation, (image,)),
        (total_variation_of_rim, (image, mask)),
    ):
        found = loss(*arguments)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, loss(*(jnp.asarray(a, jnp.float32) for a in arguments)), rtol=1e-6)
