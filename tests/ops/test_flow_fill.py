"""Fills against dense least squares, with gradients and edges; what a fill is not allowed to depend on; refusals."""

import functools

import jax
import numpy as np
import pytest

from jaxpaint.ops.flow_fill import laplace_fill, poisson_fill
from jaxpaint.types import InputError

quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
laplace, poisson = quickly(laplace_fill), quickly(poisson_fill)


def a_field(seed=0, b=2, h=9, w=11, c=2):
    """Values, a mask with a hole inside and one at the corner, and gradients; other holes in the second picture."""
    rng = np.random.default_rng(seed)
    values, across, down = rng.normal(0, 3, (3, b, h, w, c)).astype(np.float32)
    mask = np.zeros((b, h, w, 1), np.float32)
    mask[:, 2:6, 3:8] = 1
    mask[:1, 7:, :3] = mask[1:, :2, -4:] = 1
    return values, mask, (across, down)


def least_squares(values, hole, across, down, edge):
    """One channel: an equation for every pixel of the hole and every neighbour, solved as it is written."""
    h, w = values.shape
    number = {tuple(place): i for i, place in enumerate(np.argwhere(hole))}
    rows, right = [], []
    for (y, x), i in number.items():
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            q = (y + dy, x + dx)
            if not (0 <= q[0] < h and 0 <= q[1] < w) or edge[y, x] or edge[q]:
                continue
            # The value at the neighbour minus the own one.
            difference = {(0, 1): across[y, x], (1, 0): down[y, x], (0, -1): -across[q], (-1, 0): -down[q]}[dy, dx]
            row = np.zeros(len(number))
            row[i] = -1
            if hole[q]:
                row[number[q]] = 1
            rows.append(row)
            right.append(difference - (0 if hole[q] else values[q]))
    solution = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    filled = np.where(hole, 0, values).astype(float)
    filled[tuple(np.array(list(number)).T)] = solution
    return filled


def test_a_poisson_fill_is_the_least_squares_of_its_equations():
    values, mask, gradients = a_field()
    found = poisson(values, mask, gradients)
    for n, c in np.ndindex(2, 2):
        hole = mask[n, ..., 0] > 0
        expected = least_squares(
            values[n, ..., c], hole, gradients[0][n, ..., c], gradients[1][n, ..., c], np.zeros_like(hole)
        )
        np.testing.assert_allclose(found[n, ..., c], expected, atol=2e-4)
    known = np.broadcast_to(mask == 0, values.shape)
    np.testing.assert_array_equal(np.asarray(found)[known], values[known])


def test_edges_hold_two_sides_apart():
    """A hole across a step: with an edge in it both sides keep their own value, and without they run together."""
    values = np.zeros((1, 7, 9, 1), np.float32)
    values[:, :, 5:] = 4
    mask, edges = np.zeros_like(values), np.zeros_like(values)
    mask[:, 2:5, 2:7] = 1
    edges[:, :, 4] = 1
    found = np.asarray(poisson(values, mask, None, edges))
    np.testing.assert_allclose(found, values, atol=1e-5)  # an edge pixel takes the value at its left
    assert np.abs(np.asarray(poisson(values, mask)) - values).max() > 0.5

    # Cut off from everything known: what has the given differences (none) and is least, zeros.
    values, mask, edges = np.full((1, 9, 9, 1), 2.0, np.float32), np.zeros((1, 9, 9, 1)), np.zeros((1, 9, 9, 1))
    mask[:, 1:8, 1:8] = 1
    edges[:, 2:7, 2:7] = 1
    edges[:, 3:6, 3:6] = 0
    edges[:, 1, 1:4] = 1  # and here the edge is two pixels wide
    found = np.asarray(poisson(values, mask, None, edges))[0, ..., 0]
    np.testing.assert_allclose(found[3:6, 3:6], 0, atol=1e-6)
    assert found[1, 2] == found[0, 2] == 2 and found[2, 4] == pytest.approx(found[1, 4])
    assert found[2, 2] == pytest.approx(found[2, 1], abs=1e-6) and found[2, 1] == pytest.approx(2, abs=1e-4)


def test_edges_with_gradients_are_the_least_squares_too():
    values, mask, gradients = a_field(1, b=1)
    edges = np.zeros_like(mask)
    edges[:, 1:5, 5] = 1
    found = np.asarray(poisson(values, mask, gradients, edges))
    hole, edge = mask[0, ..., 0] > 0, edges[0, ..., 0] > 0
    for c in range(2):
        parts = (values, *gradients)
        value, across, down = (x[0, ..., c] for x in parts)
        expected = least_squares(value, hole, across, down, edge)
        np.testing.assert_allclose(found[0, ..., c][~(hole & edge)], expected[~(hole & edge)], atol=2e-4)


def test_a_laplace_fill_is_a_mean_and_keeps_a_plane():
    values, mask, _ = a_field()
    found = np.asarray(laplace(values, mask))
    wide = np.pad(found, ((0, 0), (1, 1), (1, 1), (0, 0)))
    ones = np.pad(np.ones_like(found), ((0, 0), (1, 1), (1, 1), (0, 0)))
    total, count = (x[:, :-2, 1:-1] + x[:, 2:, 1:-1] + x[:, 1:-1, :-2] + x[:, 1:-1, 2:] for x in (wide, ones))
    inside = np.broadcast_to(mask > 0, values.shape)
    np.testing.assert_allclose(found[inside], (total / count)[inside], atol=1e-4)
    y, x = np.mgrid[:40, :60].astype(np.float32)
    plane = np.stack([0.1 * x - 0.2 * y + 5, 0 * x + 3], -1)[None]
    large = np.zeros((1, 40, 60, 1), np.float32)
    large[:, 5:35, 4:56] = 1
    np.testing.assert_allclose(laplace(np.where(large > 0, np.nan, plane), large), plane, atol=1e-3)


def test_a_picture_s_fill_does_not_depend_on_its_company_nor_on_what_the_hole_held():
    values, mask, gradients = a_field()
    filled = np.asarray(poisson(values, mask, gradients))
    alone = poisson(values[1:], mask[1:], tuple(x[1:] for x in gradients))
    np.testing.assert_allclose(alone[0], filled[1], atol=1e-5)
    with_nan = np.where(mask > 0, np.nan, values)
    np.testing.assert_array_equal(poisson(with_nan, mask, gradients), filled)
    np.testing.assert_array_equal(poisson(values, 0 * mask), values)


def test_what_cannot_be_filled_is_refused():
    values, mask, gradients = a_field()
    mask[1] = 1
    for fill in (laplace_fill, poisson_fill):
        with pytest.raises(InputError, match=r"picture 1 is a hole altogether \(9x11\)"):
            fill(values, mask)
        with pytest.raises(InputError, match="expected b h w c and b h w 1"):
            fill(values, mask[:, :4])
    with pytest.raises(InputError, match=r"gradients \(2, 8, 11, 2\): expected \(2, 9, 11, 2\)"):
        poisson_fill(values, mask * 0, (gradients[0], gradients[1][:, 1:]))
