"""VINet beside its numbers (`tests/goldens/test_vinet_golden.py`): the state, sizes, what is never looked at."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.models.vinet import CENTRE, VINet, vinet_256, vinet_512, window
from jaxpaint.models.vinet_parts import enlarge
from jaxpaint.train.state import count
from jaxpaint.types import InputError

KEY = jax.random.key(0)
QUICK = {"xla_backend_optimization_level": 0}
SIZE = (32, 16)
FRAMES = 3


def narrow(**options) -> VINet:
    return vinet_256(width=4, **options)


def shapes(network, height, width, batch=1):
    """(variables, (state, out)) for frames of this size, without computing."""
    clip = (jax.ShapeDtypeStruct((batch, 5, height, width, c), jnp.float32) for c in (3, 1))
    result, variables = jax.eval_shape(
        lambda *clip: network.init_with_output(KEY, network.begin(batch, height, width), *clip), *clip
    )
    return variables, result


@functools.cache
def started():
    """Variables of the narrow network, drawn here, which takes no compiler. Gated kernels are large: each of some
    twenty layers would otherwise give a third of what it gets, and no test would see anything at the end."""
    variables, _ = shapes(narrow(), *SIZE)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "bias":
            return 0.1 * rng.standard_normal(leaf.shape, np.float32)
        gain = 1.5 if path[1].key.startswith(("flownet", "masknet", "convlstm")) else 3.0
        return gain / np.sqrt(np.prod(leaf.shape[:-1])).astype(np.float32) * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(draw, variables)


@functools.cache
def clip():
    """(frames 2 t h w 3, masks 2 t h w 1): two clips."""
    frames = jax.random.uniform(KEY, (2, FRAMES, *SIZE, 3), minval=-1.0)
    masks = jnp.zeros((2, FRAMES, *SIZE, 1)).at[:, :, 8:20, 4:10].set(1.0)
    return frames, masks


@functools.cache
def compiled(method):
    return jax.jit(functools.partial(narrow().apply, started(), method=method), compiler_options=QUICK)


def step(state, frames, masks, time: int = 0):
    """A step with the features of every frame as a neighbour made beforehand."""
    others = np.delete(window(time, FRAMES), CENTRE)
    near = jax.tree.map(lambda x: x[:, others], compiled("encode")(frames, masks))
    return compiled("step")(state, frames[:, time], masks[:, time], near)


def painted(frames, masks):
    """The outputs b t h w 3, frame by frame, and the last state."""
    state, pictures = narrow().begin(len(frames), *SIZE), []
    for time in range(FRAMES):
        state, out = step(state, frames, masks, time)
        pictures.append(out["picture"])
    return jnp.stack(pictures, axis=1), state


@pytest.mark.parametrize("network", [vinet_256(), vinet_512()])
def test_the_published_size(network):
    variables, _ = shapes(network, 64, 64)
    assert count(variables["params"]) == 14_115_364
    assert len(jax.tree.leaves(variables)) == 166


@pytest.mark.parametrize(
    ("network", "height", "width"), [(narrow(), 24, 40), (vinet_512(width=4, dtype=jnp.bfloat16), 48, 80)]
)
def test_any_multiple_and_a_state_that_can_be_scanned(network, height, width):
    _, (state, out) = shapes(network, height, width, batch=2)
    before = jax.eval_shape(lambda: network.begin(2, height, width))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(lambda x: (x.shape, x.dtype), before)
    inner = (height // 2, width // 2) if network.double_size else (height, width)
    assert out["picture"].shape == (2, height, width, 3)
    assert out["flow"].shape == (2, height, width, 2)
    assert out["flow_refined"].shape == (2, *inner, 2)
    assert out["flows"].shape == (2, 5, inner[0] // 2, inner[1] // 2, 2)
    assert {out[name].dtype for name in ("picture", "flow", "flows", "blend")} == {jnp.dtype("float32")}


@pytest.mark.parametrize("count", [1, 2, 4, 7, 20])
def test_windows_are_reflected_at_both_ends(count):
    for time in range(count):
        seen = window(time, count)
        assert seen[CENTRE] == time
        assert np.all((seen >= 0) & (seen < count))
        if count >= 7:  # the demo's own formulas; they leave shorter clips
            before = [abs(time - 6), abs(time - 3)]
            after = [count - 1 - abs(count - 1 - time - steps) for steps in (3, 6)]
            np.testing.assert_array_equal(seen, [*before, time, *after])
    with pytest.raises(InputError, match=f"frame {count} of a clip of {count}"):
        window(count, count)


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarge(factor):
    x = jax.random.normal(KEY, (2, 3, 5, 4))
    want = jax.image.resize(x, (2, 3 * factor, 5 * factor, 4), "linear")
    np.testing.assert_allclose(enlarge(x, factor), want, atol=1e-6)


def test_a_scan_of_windows_gives_what_steps_with_kept_features_give():
    frames, masks = clip()
    want, last = painted(frames, masks)
    assert float(jnp.std(want)) > 0.05

    def one(state, windows):
        state, out = narrow().apply(started(), state, *windows)
        return state, out["picture"]

    seen = np.stack([window(time, FRAMES) for time in range(FRAMES)])
    windows = tuple(jnp.moveaxis(x[:, seen], 1, 0) for x in (frames, masks))
    begin = narrow().begin(len(frames), *SIZE)
    state, pictures = jax.jit(lambda windows: jax.lax.scan(one, begin, windows), compiler_options=QUICK)(windows)
    # The same sums in programs that are put together otherwise; flows are fed back.
    np.testing.assert_allclose(jnp.moveaxis(pictures, 0, 1), want, atol=1e-4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4), state, last)


def test_every_clip_of_a_batch_begins_by_itself():
    """One clip in its second frame, one in its first: each is as if it were alone, whatever the state held."""
    frames, masks = clip()
    both, first = step(narrow().begin(2, *SIZE), frames, masks)
    mixed = jax.tree.map(lambda old, new: jnp.stack([old[0], new[1]]), both, narrow().begin(2, *SIZE))
    mixed = mixed._replace(picture=mixed.picture.at[1].set(jnp.nan), mask=mixed.mask.at[1].set(1.0))
    after, out = step(mixed, frames, masks)
    np.testing.assert_allclose(out["picture"][1], first["picture"][1], atol=1e-5)
    np.testing.assert_array_equal(first["picture"], first["decoded"])
    assert np.all(after.begun)
    # The first clip is blended with its last output.
    assert float(jnp.abs(out["picture"][0] - out["decoded"][0]).max()) > 1e-2


def test_nothing_inside_a_hole_is_looked_at():
    frames, masks = clip()
    want, _ = painted(frames, masks)
    got, _ = painted(jnp.where(masks > 0.5, jnp.nan, frames), masks)
    np.testing.assert_array_equal(got, want)


def test_gradients_reach_every_parameter():
    """Of a second frame at single size, through warps and blend."""
    frames, masks = (x[:1] for x in clip())
    network, seen = narrow(), window(1, FRAMES)
    state = network.begin(1, *SIZE)._replace(picture=frames[:, 0], begun=jnp.array([True]))

    def loss(variables):
        _, out = network.apply(variables, state, frames[:, seen], masks[:, seen])
        return jnp.mean(jnp.square(out["picture"] - frames[:, 1]))

    gradients = jax.jit(jax.grad(loss), compiler_options=QUICK)(started())
    names = {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(gradients)}
    assert not [name for name, x in names.items() if not np.all(np.isfinite(x))]
    assert not [name for name, x in names.items() if not np.any(x != 0)]


def test_errors():
    network = narrow()
    state, frames, masks = network.begin(1, 32, 16), jnp.zeros((1, 5, 32, 16, 3)), jnp.zeros((1, 5, 32, 16, 1))

    def run(*given):
        return jax.eval_shape(lambda: network.init(KEY, *given))

    with pytest.raises(InputError, match="32x20: height and width must be divisible by 8, 16 at least"):
        network.begin(1, 32, 20)
    with pytest.raises(InputError, match="8x8"):
        network.begin(1, 8, 8)
    with pytest.raises(InputError, match="24x32: height and width must be divisible by 16"):
        vinet_512().begin(1, 24, 32)
    with pytest.raises(InputError, match="expected windows of 5 frames"):
        run(state, frames[:, :4], masks[:, :4])
    with pytest.raises(InputError, match="expected windows of 5 frames"):
        run(state, frames, masks[..., 0])
    with pytest.raises(InputError, match="the state is for frames"):
        run(state, jnp.zeros((1, 5, 32, 32, 3)), jnp.zeros((1, 5, 32, 32, 1)))
