"""Correlation and its look-up against loops over every pair and every position."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.correlation import correlate, look_up
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, split

QUICKLY = {"xla_backend_optimization_level": 0}
RADIUS = 2


def inputs(b=2, h=5, w=7, c=4):
    """Features and positions, some of them outside."""
    keys = jax.random.split(jax.random.key(0), 4)
    first, second = (np.asarray(jax.random.normal(key, (b, h, w, c))) for key in keys[:2])
    x, y = (np.asarray(8 * jax.random.uniform(key, (b, h, w)) - 1) for key in keys[2:])
    return first, second, x, y


def look(first, second, x, y, **options):
    return look_up(correlate(first, second, levels=3, **options), x, y, radius=RADIUS)


@functools.cache
def by_hand():
    """All products; means of blocks of them; one bilinear reading after the other."""
    first, second, x, y = inputs()
    b, h, w, c = first.shape
    level = np.einsum("bhwc,bijc->bhwij", first.astype(np.float64), second) / np.sqrt(c)
    found = []
    for power in range(3):
        n, m = level.shape[-2:]
        for across in range(-RADIUS, RADIUS + 1):
            for down in range(-RADIUS, RADIUS + 1):
                values = np.zeros((b, h, w))
                for at in np.ndindex(b, h, w):
                    column, row = x[at] / 2**power + across, y[at] / 2**power + down
                    for i in (int(np.floor(row)), int(np.floor(row)) + 1):
                        for j in (int(np.floor(column)), int(np.floor(column)) + 1):
                            if 0 <= i < n and 0 <= j < m:
                                values[at] += (1 - abs(row - i)) * (1 - abs(column - j)) * level[at][i, j]
                found.append(values)
        level = level[..., : n // 2 * 2, : m // 2 * 2].reshape(b, h, w, n // 2, 2, m // 2, 2).mean((4, 6))
    return np.stack(found, -1)


# A row of one picture has 2 * 7 * (35 + 6 + 1) = 588 products: all are kept, two rows or one are made at a time.
@pytest.mark.parametrize("limit", [2**28, 1200, 1])
def test_look_up(limit):
    given = inputs()
    correlation = correlate(*given[:2], levels=3, limit=limit)
    assert (len(correlation.levels), correlation.rows) == {2**28: (3, 2**28 // 588), 1200: (0, 2), 1: (0, 1)}[limit]
    found = jax.jit(look, static_argnames="limit")(*given, limit=limit)
    assert found.shape == (2, 5, 7, 3 * 25)
    np.testing.assert_allclose(found, by_hand(), atol=1e-5)


def test_parts_are_smaller_in_memory():
    given = inputs(1, 24, 32, 8)
    sizes = [
        jax.jit(look, static_argnames="limit").lower(*given, limit=limit).compile(QUICKLY).memory_analysis()
        for limit in (2**28, 2**17)
    ]
    kept, parts = (size.temp_size_in_bytes for size in sizes)
    assert parts < kept / 3


def test_over_a_mesh():
    """Divided batches send nothing; divided heights give the same."""
    given = inputs(b=4, h=8, w=6)
    expected = jax.jit(look).lower(*given).compile(QUICKLY)(*given)
    for layout in (Layout(data=4), Layout(data=2, spatial=2)):
        mesh = make_mesh(layout, jax.devices()[:4])
        shardings = tuple(split(mesh, array.shape) for array in given)
        with jax.set_mesh(mesh):
            compiled = jax.jit(look, in_shardings=shardings).lower(*given).compile(QUICKLY)
        if layout.spatial == 1:
            assert not any(f" {kind}(" in compiled.as_text() for kind in ("all-gather", "all-reduce", "all-to-all"))
        np.testing.assert_allclose(np.asarray(compiled(*jax.device_put(given, shardings))), expected, atol=1e-5)


def test_gradients_reach_the_positions():
    """Along a ramp of similarity the slope with x is the ramp's."""
    first = jnp.ones((1, 1, 1, 1))
    second = jnp.arange(8.0).reshape(1, 1, 8, 1)
    slope = jax.grad(lambda x: look_up(correlate(first, second, levels=1), x, jnp.zeros((1, 1, 1)), radius=0).sum())
    np.testing.assert_allclose(slope(jnp.full((1, 1, 1), 3.3)), 1, atol=1e-6)
