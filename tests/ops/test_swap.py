"""Patch-swap against a plain NumPy swap, and the properties that the method promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.ops.swap import TIE, check_known, patch_swap
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}  # compiling is nearly all of the time
swap = jax.jit(patch_swap, static_argnames=("size", "restore", "chunk"), compiler_options=QUICKLY)


def plainly(features, mask, source=None, source_mask=None, size=3, restore=True):
    """The swap of one picture (h w c, h w) in float64, patch by patch."""
    source_mask = (mask if source is None else np.zeros(source.shape[:2])) if source_mask is None else source_mask
    source = features if source is None else source
    features, source = np.float64(features), np.float64(source)
    corners = [(y, x) for y in range(len(source) - size + 1) for x in range(source.shape[1] - size + 1)]
    corners = [(y, x) for y, x in corners if not source_mask[y : y + size, x : x + size].any()]
    patches = np.stack([source[y : y + size, x : x + size] for y, x in corners])
    flat = patches.reshape(len(patches), -1)
    norms = np.linalg.norm(flat, axis=1)
    index = np.full((len(features) - size + 1, features.shape[1] - size + 1), -1)
    total, count = np.zeros_like(features), np.zeros(features.shape[:2])
    for y, x in np.ndindex(index.shape):
        here = slice(y, y + size), slice(x, x + size)
        if mask[here].any():
            query = features[here].ravel()
            alike = flat @ query / np.where(norms > 0, norms, 1) / max(np.linalg.norm(query), 1e-300)
            best = np.flatnonzero(alike >= alike.max() - TIE)[0]
            index[y, x] = corners[best][0] * source.shape[1] + corners[best][1]
            total[here] += patches[best]
            count[here] += 1
    averaged = total / np.maximum(count, 1)[..., None]
    return np.where(((mask > 0) if restore else (count > 0))[..., None], averaged, features), index


def example(height=12, width=11, channels=5, batch=1, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(batch, height, width, channels)).astype(np.float32)


def holes(*parts, height=12, width=11):
    """A mask 1 h w 1 with rectangles (top, bottom, left, right)."""
    mask = np.zeros((1, height, width, 1), np.float32)
    for top, bottom, left, right in parts:
        mask[:, top:bottom, left:right] = 1
    return mask


MASKS = {
    "middle": holes((4, 8, 3, 7)),
    "one cell": holes((5, 6, 6, 7)),
    "corner": holes((0, 4, 0, 3)),
    "last corner": holes((9, 12, 8, 11)),
    "all rows": holes((0, 12, 4, 6)),
    "border and two more": holes((0, 2, 2, 5), (4, 5, 9, 11), (8, 10, 1, 3)),
    "no hole": holes(),
    "scattered": holes((1, 2, 8, 9), (3, 4, 3, 4), (10, 11, 7, 8)),
}


ALL = np.concatenate(list(MASKS.values()))  # one batch for most tests: compiling is what takes time


def assert_same(ours, theirs):
    """Indices are equal, values within the rounding of a mean of nine numbers of size 4 in float32."""
    np.testing.assert_array_equal(ours.index, np.stack([index for _, index in theirs]))
    np.testing.assert_allclose(ours.features, np.stack([out for out, _ in theirs]), rtol=0, atol=9 * 4 * 2**-24)


def each_plainly(features, masks, **options):
    return [plainly(f, m[..., 0], **options) for f, m in zip(features, masks, strict=True)]


@pytest.mark.parametrize("restore", [True, False])
def test_equals_numpy(restore):
    """Every picture with its mask; vmap is in `test_vmap`."""
    features = example(batch=len(ALL))
    assert_same(swap(features, ALL, restore=restore), each_plainly(features, ALL, restore=restore))


@pytest.mark.parametrize("size", [1, 4])
def test_other_patches_equal_numpy(size):
    features = example(batch=len(ALL))
    assert_same(swap(features, ALL, size=size), each_plainly(features, ALL, size=size))


def test_rectified_features_equal_numpy():
    """Cells, and whole patches, of zeros on both sides, as after a ReLU; a query of zeros takes the first candidate."""
    features = np.maximum(example(batch=len(ALL)), 0)
    features[:, :4, :5] = features[:, 3:7, 3:7] = 0
    assert_same(swap(features, ALL), each_plainly(features, ALL))


def test_identity():
    """Every patch of the hole occurs in the known region: all comes back bit for bit, and of the copies the first."""
    features = np.tile(example(4, 5, batch=len(ALL)), (1, 3, 3, 1))[:, :, :11]
    mask = holes((6, 10, 3, 8)).repeat(len(ALL), 0)
    out = swap(features, mask, restore=False)
    np.testing.assert_array_equal(out.features, features)
    i, y, x = np.nonzero(out.index >= 0)
    assert len(i) == len(ALL) * 6 * 7
    # Patches that begin in rows 0 to 3 are known; the hole's begin in rows 4 to 9, and in columns 1 to 7.
    np.testing.assert_array_equal(out.index[i, y, x], y % 4 * 11 + x % 5)


def test_scale_changes_no_index():
    features = example(batch=len(ALL))
    index = swap(features, ALL).index
    for factor in (1e-6, 0.37, 1e4):
        np.testing.assert_array_equal(swap(np.float32(factor) * features, ALL).index, index)


def test_chunks_change_nothing():
    features = example(batch=len(ALL))
    whole = swap(features, ALL)  # a chunk holds a map of this size
    for chunk in (1, 50):
        parts = swap(features, ALL, chunk=chunk)
        np.testing.assert_array_equal(parts.index, whole.index)
        np.testing.assert_array_equal(parts.features, whole.features)


def test_candidates_are_known():
    """Also where the best match by far lies half in the hole."""
    features, mask = example(batch=len(ALL)), ALL
    features[:, 2:11] = features[:, 3:4]  # rows alike, so that every patch's neighbours are its best matches
    index = np.asarray(swap(features, mask).index)
    for i, y, x in np.argwhere(index >= 0):
        row, column = divmod(index[i, y, x], 11)
        assert not mask[i, row : row + 3, column : column + 3].any()
        assert row <= 12 - 3 and column <= 11 - 3
    asked = np.lib.stride_tricks.sliding_window_view(mask[..., 0], (3, 3), axis=(1, 2)).any((3, 4))
    np.testing.assert_array_equal(index >= 0, asked)


def test_known_cells_come_back():
    features, mask = example(batch=len(ALL)), ALL
    out = np.asarray(swap(features, mask).features)
    np.testing.assert_array_equal(out[mask[..., 0] == 0], features[mask[..., 0] == 0])
    rim = np.asarray(swap(features, mask, restore=False).features)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(mask[..., 0], ((0, 0), (2, 2), (2, 2))), (5, 5), axis=(1, 2))
    far = ~near.any((3, 4))
    np.testing.assert_array_equal(rim[far], features[far])
    assert (rim[0] != features[0])[mask[0, ..., 0] == 0].any()


def test_vmap():
    features = example(batch=len(ALL))
    mapped = jax.jit(jax.vmap(functools.partial(patch_swap, chunk=16)), compiler_options=QUICKLY)
    mapped = mapped(features[:, None], ALL[:, None])
    assert_same(jax.tree.map(lambda x: x[:, 0], mapped), each_plainly(features, ALL))


def test_another_source():
    """The whole content is swapped for a style of another size, of which a part may be left out; both are shared."""
    content, style = example(7, 8, batch=2), example(9, 13, seed=1)
    everything, left_out = np.ones((1, 7, 8, 1), np.float32), holes((0, 4, 5, 9), height=9, width=13)
    ours = swap(content, everything, source=style)
    assert_same(ours, [plainly(one, everything[0, ..., 0], style[0]) for one in content])
    ours = swap(content, everything, source=style, source_mask=left_out)
    assert_same(ours, [plainly(one, everything[0, ..., 0], style[0], left_out[0, ..., 0]) for one in content])


def test_gradient_flows_through_the_copies():
    """With the choice fixed the swap is linear: its gradient is the transposed swap, found by unit steps in NumPy."""
    features, mask = example(8, 7, 2), holes((2, 5, 2, 4), height=8, width=7)
    weights = example(8, 7, 2, seed=1)
    grad = jax.jit(jax.grad(lambda x: jnp.sum(weights * patch_swap(x, mask).features)), compiler_options=QUICKLY)
    grad = np.asarray(grad(features))
    assert not grad[0, 2:5, 2:4].any()  # what was in the hole has gone
    step = 1e-4
    for y, x, c in ((0, 0, 0), (1, 5, 1), (6, 3, 0), (7, 6, 1)):
        moved = np.repeat(features.astype(np.float64), 2, axis=0)
        moved[:, y, x, c] += (step, -step)
        up, down = (plainly(one, mask[0, ..., 0]) for one in moved)
        np.testing.assert_array_equal(up[1], down[1])
        slope = np.sum(weights[0] * (up[0] - down[0])) / (2 * step)
        np.testing.assert_allclose(grad[0, y, x, c], slope, atol=1e-5)


def test_bfloat16():
    """Scores are those of the rounded features in float32, so the choice is NumPy's; copies are rounded once more."""
    features, mask = jnp.asarray(example(), jnp.bfloat16), MASKS["middle"]
    ours = swap(features, mask)
    expected, index = plainly(np.float32(features[0]), mask[0, ..., 0])
    assert ours.features.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours.index[0], index)
    np.testing.assert_allclose(np.float32(ours.features[0]), expected, rtol=2**-8, atol=1e-5)


def test_over_a_mesh():
    features = example(batch=len(ALL))
    alone = swap(features, ALL)
    with jax.set_mesh(make_mesh(Layout(data=2, fsdp=2, spatial=2), jax.devices()[:8])):
        compiled = jax.jit(patch_swap, compiler_options=QUICKLY).lower(features, ALL).compile()
        shared = compiled(features, ALL)
    np.testing.assert_array_equal(shared.index, alone.index)
    np.testing.assert_array_equal(shared.features, alone.features)
    assert "all-gather" not in compiled.as_text()


def test_memory_is_bounded():
    """The scores of a 128x128 map are 1 GiB a copy. In chunks everything fits in 2 GiB; nothing is run here."""
    features = jax.ShapeDtypeStruct((1, 128, 128, 256), jnp.float32)
    mask = jax.ShapeDtypeStruct((1, 128, 128, 1), jnp.float32)
    memory = swap.lower(features, mask).compile().memory_analysis()
    total = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    assert total < 2**31


def test_empty_known_region():
    features, mask = example(batch=len(ALL)), ALL.copy()
    mask[1] = 1
    mask[1, :2] = 0  # two known rows hold no patch of three
    expected = "the known region of picture 1 is empty: none of its 3x3 patches lies outside the hole, which covers 83%"
    with pytest.raises(InputError, match=expected):
        patch_swap(features, mask)
    with pytest.raises(InputError, match=expected):
        check_known(mask)
    check_known(mask, size=2)

    out = swap(features, mask)  # traced: the numbers say so
    assert jnp.all(out.index[1] == -1)
    assert jnp.all(jnp.isnan(out.features[1]) == (mask[1] > 0))
    assert jnp.isfinite(out.features[np.arange(len(mask)) != 1]).all()


def test_bad_shapes():
    features, mask = example(), MASKS["middle"]
    with pytest.raises(InputError, match=r"the mask of features is \(1, 24, 22, 1\) but features are \(1, 12, 11, 5\)"):
        patch_swap(features, np.zeros((1, 24, 22, 1)))
    with pytest.raises(InputError, match=r"source are \(1, 12, 11, 4\), expected b h w c as the features'"):
        patch_swap(features, mask, source=features[..., :4])
    with pytest.raises(InputError, match="features of 2x11 cells hold no 3x3 patch"):
        patch_swap(features[:, :2], mask[:, :2])
