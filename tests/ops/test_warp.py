"""Warps against the definition, pixel by pixel, and against torch; consistency of flows; over a mesh."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxpaint.ops import warp as warping
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}
warp = jax.jit(warping.warp, static_argnames=("outside", "align_corners", "nearest"))
contradicts = jax.jit(warping.contradicts, static_argnames="outside")
motion_boundary, occluded = jax.jit(warping.motion_boundary), jax.jit(warping.occluded)


def a_picture_and_a_flow(b=2, h=6, w=7, c=3, far=4.0):
    """Some positions lie outside, some far outside."""
    keys = jax.random.split(jax.random.key(0))
    flow = far * jax.random.normal(keys[1], (b, h, w, 2))
    return np.asarray(jax.random.normal(keys[0], (b, h, w, c))), np.asarray(flow.at[0, 0, 0].set(1000.0))


def by_hand(image, flow, outside, align_corners=True):
    """Every corner by itself: a weight, and zero or the nearest pixel where it is outside."""
    b, h, w, _ = image.shape
    out = np.zeros(image.shape)
    for n, row, column in np.ndindex(b, h, w):
        x, y = column + float(flow[n, row, column, 0]), row + float(flow[n, row, column, 1])
        if not align_corners:
            x, y = x * w / (w - 1) - 0.5, y * h / (h - 1) - 0.5
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                weight = (1 - abs(x - j)) * (1 - abs(y - i))
                if outside == "border":
                    out[n, row, column] += weight * image[n, min(max(i, 0), h - 1), min(max(j, 0), w - 1)]
                elif 0 <= i < h and 0 <= j < w:
                    out[n, row, column] += weight * image[n, i, j]
    return out


@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_every_corner_by_itself(outside, align_corners):
    image, flow = a_picture_and_a_flow()
    found = warp(image, flow, outside=outside, align_corners=align_corners)
    np.testing.assert_allclose(found, by_hand(image, flow, outside, align_corners), atol=1e-5)


def test_whole_pixels_are_moved_bit_for_bit():
    image, _ = a_picture_and_a_flow()
    for outside in ("zeros", "border"):
        np.testing.assert_array_equal(warp(image, np.zeros((2, 6, 7, 2), np.float32), outside=outside), image)
    flow = np.broadcast_to(np.float32([2, -1]), (2, 6, 7, 2))
    moved = np.asarray(warp(image, flow))
    np.testing.assert_array_equal(moved[:, 1:, :-2], image[:, :-1, 2:])
    assert not moved[:, 0].any()
    assert not moved[:, :, -2:].any()
    edge = np.asarray(warp(image, flow, outside="border"))
    np.testing.assert_array_equal(edge[:, 0, :-2], image[:, 0, 2:])
    np.testing.assert_array_equal(edge[:, 1:, -1], image[:, :-1, -1])


def test_nearest_takes_one_pixel_and_at_halves_the_even_one():
    image = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5, 1)
    across = np.float32([0.5, 0.5, 0.49, 0.51, 0.6])
    flow = np.stack([across, np.zeros(5, np.float32)], -1)[None, None]
    np.testing.assert_array_equal(
        warp(image, flow, nearest=True)[0, 0, :, 0], [1, 3, 3, 5, 0]
    )  # 0.5, 1.5, 2.49, 3.51, 4.6


def test_the_type_of_the_image_stays_and_positions_are_exact():
    image = jnp.arange(300, dtype=jnp.bfloat16).reshape(1, 1, 300, 1) % 4
    flow = jnp.zeros((1, 1, 300, 2), jnp.bfloat16).at[..., 0].set(-1)
    found = warp(image, flow)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(found[0, 0, 1:]), np.float32(image[0, 0, :-1]))  # 299 has no bfloat16


@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("align_corners", [True, False])
def test_values_and_gradients_are_those_of_grid_sample(outside, align_corners):
    torch = pytest.importorskip("torch")
    image, flow = a_picture_and_a_flow()
    _, h, w, _ = image.shape

    def ours(image, flow):
        return jnp.sum(jnp.sin(warp(image, flow, outside=outside, align_corners=align_corners)))

    found = jax.jit(jax.grad(ours, (0, 1)))(image, flow)
    x, u = (torch.from_numpy(a.copy()).requires_grad_() for a in (image, flow))
    base = torch.stack(torch.meshgrid(torch.linspace(-1, 1, w), torch.linspace(-1, 1, h), indexing="xy"), -1)
    grid = base + u / torch.tensor([(w - 1) / 2, (h - 1) / 2])
    read = torch.nn.functional.grid_sample(
        x.permute(0, 3, 1, 2), grid, padding_mode=outside, align_corners=align_corners
    )
    read.sin().sum().backward()
    value = warp(image, flow, outside=outside, align_corners=align_corners)
    np.testing.assert_allclose(value, read.detach().permute(0, 2, 3, 1), atol=1e-5)
    for a, b in zip(found, (x.grad, u.grad), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("outside", ["zeros", "border"])
def test_a_picture_of_more_pixels_than_float32_counts(outside):
    side = 4100
    image = jnp.zeros((1, side, side, 1)).at[0, -1, :, 0].set(jnp.arange(side))
    last = jnp.zeros((1, 1, side, 2)).at[..., 1].set(side - 1)  # from the first row to the last
    np.testing.assert_array_equal(warp(image, last, outside=outside)[0, 0, :, 0], np.arange(side))


def test_flows_that_are_not_numbers_do_not_reach_other_pixels():
    image, flow = a_picture_and_a_flow()
    broken = np.array(flow)
    broken[1, 2, 3] = np.nan
    found, whole = np.array(warp(image, broken)), np.asarray(warp(image, flow))
    assert np.isnan(found[1, 2, 3]).all()
    found[1, 2, 3] = whole[1, 2, 3]
    np.testing.assert_array_equal(found, whole)


def test_what_is_covered_is_found():
    """A square moves 3 to the right over a background at rest: it covers 3 columns, and leaves 3 behind."""
    forward, backward = (np.zeros((1, 12, 16, 2), np.float32) for _ in range(2))
    forward[0, 4:8, 4:8, 0], backward[0, 4:8, 7:11, 0] = 3, -3
    covered = np.asarray(contradicts(forward, backward))[0, ..., 0]
    expected = np.zeros((12, 16), bool)
    expected[4:8, 8:11] = True
    np.testing.assert_array_equal(covered, expected)
    edges = np.asarray(motion_boundary(forward))[0, ..., 0]
    expected = np.zeros((12, 16), bool)
    expected[[3, 7], 4:8] = True
    expected[4:8, [3, 7]] = True
    np.testing.assert_array_equal(edges, expected)
    np.testing.assert_array_equal(occluded(forward, backward)[0, ..., 0], covered | edges)


def test_thresholds_of_consistency():
    """|F + B|² against 0.01 (|F|² + |B|²) + 0.5: for F = (f, 0), B = (e - f, 0) at f = 10, e is 1.49 or so."""
    for error, expected in ((1.48, False), (1.5, True)):
        flow, back = (np.broadcast_to(np.float32([u, 0]), (1, 5, 40, 2)) for u in (10, error - 10))
        assert (error**2 > 0.01 * (10**2 + (error - 10) ** 2) + 0.5) == expected
        assert np.all(np.asarray(contradicts(flow, back)) == expected)
    # Outside there is no flow back: with zeros |F|² alone is left, with the border what is nearest.
    assert np.asarray(contradicts(flow, -flow, outside="zeros"))[:, :, 31:].all()
    assert not np.asarray(contradicts(flow, -flow)).any()


def test_over_a_mesh():
    """Divided batches send nothing; divided heights give the same values and gradients."""
    image, flow = a_picture_and_a_flow(b=4, h=8, w=6)

    def run(image, flow):
        moved = warp(image, flow)
        return jnp.sum(jnp.sin(moved)), moved

    gradient = jax.jit(jax.grad(run, (0, 1), has_aux=True))
    expected = gradient.lower(image, flow).compile(QUICKLY)(image, flow)
    for layout, spec in (
        (Layout(data=4), PartitionSpec(("data", "fsdp"))),
        (Layout(data=2, spatial=2), PartitionSpec(("data", "fsdp"), "spatial")),
    ):
        mesh = make_mesh(layout, jax.devices()[:4])
        sharding = jax.sharding.NamedSharding(mesh, spec)
        with jax.set_mesh(mesh):
            jitted = jax.jit(jax.grad(run, (0, 1), has_aux=True), in_shardings=sharding, out_shardings=sharding)
            compiled = jitted.lower(image, flow).compile(QUICKLY)
        if layout.spatial == 1:
            assert not any(f" {kind}(" in compiled.as_text() for kind in ("all-gather", "all-reduce", "all-to-all"))
        found = compiled(*jax.device_put((image, flow), sharding))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=1e-5)


@pytest.mark.parametrize(
    ("image", "flow", "outside", "message"),
    [
        ((2, 4, 4, 3), (2, 4, 4, 3), "zeros", r"b h w 2"),
        ((2, 4, 4, 3), (1, 4, 4, 2), "zeros", r"\(2, 4, 4, 3\) and a flow \(1, 4, 4, 2\)"),
        ((1, 4, 4, 3), (1, 4, 4, 2), "edge", "expected 'zeros' or 'border'"),
    ],
)
def test_bad_input(image, flow, outside, message):
    with pytest.raises(InputError, match=message):
        warp(jnp.zeros(image), jnp.zeros(flow), outside=outside)
