"""VINet's page, beyond what the battery asks of every system: windows, terms, recurrence, and both protocols of clips.

Most of it on a network of three small layers in VINet's place: what is tested is what the page does around it.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxpaint.io.frames import array_clip
from jaxpaint.losses.reconstruction import l1
from jaxpaint.losses.video import consistency, flow_terms, ssim
from jaxpaint.models.vinet import CENTRE, OFFSETS, State, window
from jaxpaint.models.vinet_parts import Pyramid
from jaxpaint.nn import Memory
from jaxpaint.ops.pixels import from_uint8, to_uint8, without_hole
from jaxpaint.parallel.compile import compile_step
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.systems import _vinet_clip
from jaxpaint.systems import vinet as page
from jaxpaint.train import Optim, Weights
from jaxpaint.types import InputError

KEY = jax.random.key(5)
QUICK = {"xla_backend_optimization_level": 0}
OTHERS = np.delete(np.arange(len(OFFSETS)), CENTRE)
TINY = page.PAGE.tiny
LAST = dataclasses.replace(TINY, stage=3, outputs=3)


class Stub(nn.Module):
    """Looks at all that VINet looks at, and is linear in it."""

    width: int = 4
    align_corners: bool = True
    gain: float = 1.0
    dtype: jnp.dtype = jnp.float32
    multiple = 8

    def setup(self):
        self.paint, self.move = nn.Dense(3), nn.Dense(2)

    def begin(self, batch, height, width):
        still = jnp.zeros((batch, height, width, 3)), jnp.zeros((batch, height, width, 1))
        return State(*still, Memory.empty(batch, 1, 1, 1), jnp.zeros(batch, bool))

    def __call__(self, state, frames, masks):
        return self.step(state, frames[:, CENTRE], masks[:, CENTRE], self.encode(frames[:, OTHERS], masks[:, OTHERS]))

    def encode(self, frames, masks):
        return Pyramid(None, *[without_hole(frames, masks)] * 3)

    def step(self, state, frame, mask, near):
        memory = Memory(state.memory.hidden + 0.25, state.memory.cell)
        told = jnp.broadcast_to(memory.hidden, mask.shape)
        seen = [without_hole(frame, mask), mask, *jnp.unstack(near.half, axis=1), state.picture, told]
        seen = jnp.concatenate(seen, axis=-1)
        decoded = self.paint(seen)
        picture = decoded + 0.3 * state.picture
        out = {"picture": picture, "decoded": decoded, "flow": self.move(seen)}
        return State(picture, mask, memory, jnp.ones_like(state.begun)), out


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setitem(page.TYPES, 256, Stub)


def differences(first, second):
    """A flow that costs nothing and tells its two pictures apart."""
    return 3 * (second - first)[..., :2]


def moving(count: int, frames: int, height: int = 32, width: int = 32) -> np.ndarray:
    """Smooth colours that move by a pixel a frame, uint8 b t h w 3."""
    rng = np.random.default_rng(1)
    time, rows, columns = np.ogrid[:frames, :height, :width]
    clips = []
    for _ in range(count):
        waves, phases = rng.uniform(0.2, 0.5, (3, 2)), rng.uniform(0, 6, 3)
        parts = (down * (rows + time) + right * columns for down, right in waves)
        clips.append(np.stack([np.sin(part + phase) for part, phase in zip(parts, phases, strict=True)], axis=-1))
    return np.rint(127.5 * (1 + 0.8 * np.array(clips))).astype(np.uint8)


def batch(count: int = 2, frames: int = 3, side: int = 32):
    masks = np.zeros((count, frames, side, side, 1), np.float32)
    for t in range(frames):
        masks[:, t, 8:20, 6 + t : 16 + t] = 1
    image = from_uint8(moving(count, frames, side, side))
    return {"image": image, "mask": masks, "position": np.arange(count, dtype=np.uint32)}


def begun(config, given):
    """(system, a first state). Weights are drawn here, as the page's are but for uniform ones, which takes no compiler:
    half a minute for this network."""
    system = page.build(config, Optim(lr=2e-3))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[0].name != "params":
            return jax.random.key(0) if leaf.dtype == KEY.dtype else jnp.zeros(leaf.shape, leaf.dtype)
        name = path[2].key
        if path[-1].key == "bias":
            return rng.uniform(0, 1, leaf.shape).astype(np.float32) * name.startswith("flownet")
        taps, (inputs, outputs) = np.prod(leaf.shape[:-2]), leaf.shape[-2:]
        if name.startswith(("flownet", "masknet", "convlstm", "paint", "move")):
            scale = np.sqrt(2 / (taps * (inputs + outputs)))
        else:
            scale = (1 if path[3].key == "dc6" else config.gain) * np.sqrt(2 / (taps * outputs))
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    return system, jax.tree_util.tree_map_with_path(draw, jax.eval_shape(system.init, KEY, given))


def traced(config, given):
    """The shapes of an update."""
    system = page.build(config)
    return jax.eval_shape(system.update, jax.eval_shape(system.init, KEY, given), given)


def stepped(system, state, given):
    return jax.jit(system.update, compiler_options=QUICK)(state, given)


def test_painted_frames_are_in_the_middle_and_followed_by_their_windows():
    config, key = page.Config(), jax.random.key(0)
    for frames, stage, expected in ((16, 3, [6, 7, 8, 9]), (13, 2, [6]), (3, 3, [0, 1, 2]), (2, 2, [0])):
        example = {"image": np.zeros((2, frames, 8, 8, 3)), "position": np.arange(2, dtype=np.uint32)}
        painted, windows = page._windows(dataclasses.replace(config, stage=stage), key, example)
        assert list(painted) == expected
        for number, time in enumerate(expected):
            np.testing.assert_array_equal(windows[number], np.tile(window(time, frames), (2, 1)))


def test_stage_1_sees_one_neighbour_drawn_by_position():
    config, key = page.Config(stage=1), jax.random.key(0)

    def drawn(positions):
        example = {"image": np.zeros((len(positions), 13, 8, 8, 3)), "position": np.asarray(positions, np.uint32)}
        painted, windows = page._windows(config, key, example)
        assert list(painted) == [6] and windows.shape == (1, len(positions), 5)
        assert np.all(windows[0, :, CENTRE] == 6)
        others = np.asarray(windows[0][:, OTHERS])
        assert np.all(others == others[:, :1])
        return others[:, 0]

    chosen = drawn(range(64))
    assert set(chosen) == {0, 3, 9, 12}
    np.testing.assert_array_equal(drawn([40, 7]), chosen[[40, 7]])


def by_hand(params, given, config):
    """The loss of three painted frames, written out."""

    def compared(picture):
        return picture if config.consistency == "output" else None

    module, frames, masks = Stub(), given["image"], given["mask"]
    state, outs = module.begin(len(frames), *frames.shape[2:4]), []
    for time in range(3):
        seen = window(time, 3)
        state, out = module.apply({"params": params}, state, frames[:, seen], masks[:, seen])
        state = jax.lax.stop_gradient(state)
        outs.append(out)
    total, terms = 0.0, dict.fromkeys(("short", "long", "flow"), 0.0)
    for time, out in enumerate(outs):
        for picture in (out["picture"], out["decoded"])[: 1 + (time > 0)]:
            truth, mask = frames[:, time], masks[:, time]
            total += l1(picture, truth) + 1 - ssim(picture, truth) + 5 * l1(picture * mask, truth * mask)
        if time:
            here, before, earlier = frames[:, time], frames[:, time - 1], outs[time - 1]["picture"]
            wanted = differences(here, before)
            terms["short"] += consistency(out["picture"], here, before, wanted, compared(earlier))
            moved = sum(flow_terms(out["flow"], wanted, out["picture"], earlier, here, before).values())
            terms["flow"] = moved + (0 if config.last_flow_only else terms["flow"])
    here, first = frames[:, 2], frames[:, 0]
    other = compared(outs[0]["picture"])
    terms["long"] = consistency(outs[2]["picture"], here, first, differences(here, first), other)
    total += terms["short"] + terms["long"] + 10 * terms["flow"]
    return total / 3, terms


class StubFlow(nn.Module):
    """Takes pictures of the size that RAFT's would be padded to, and gives `differences`."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, first, second):
        assert first.shape == second.shape and first.shape[1] % 7 == first.shape[2] % 7 == 0
        return differences(first, second) * self.param("bias", nn.initializers.ones, ()), {}


@pytest.mark.parametrize(
    "changes", [{}, {"last_flow_only": True}, {"consistency": "output"}, {"flow": "raft"}], ids=str
)
def test_the_loss_is_that_of_the_reference_file(stub, monkeypatch, changes):
    """Values, weights, and gradients, which stop at what one step hands to the next."""
    monkeypatch.setattr(page, "tvl1", differences)
    for name, value in {"RAFT": StubFlow, "MULTIPLE": 7, "SMALLEST": 28}.items():
        monkeypatch.setattr(page.raft, name, value)
    config, given = dataclasses.replace(LAST, **changes), batch()
    system, state = begun(config, given)
    if config.flow == "raft":
        state = state.replace(params={**state.params, "raft": {"bias": jnp.ones(())}})
    after, metrics = stepped(system, state, given)
    assert jax.tree.all(jax.tree.map(np.array_equal, after.params.get("raft"), state.params.get("raft")))
    value = jax.value_and_grad(functools.partial(by_hand, given=given, config=config), has_aux=True)
    (total, terms), slope = jax.jit(value, compiler_options=QUICK)(state.params["vinet"])
    np.testing.assert_allclose(metrics["vinet/loss"], total, rtol=1e-4)
    for name in ("short", "long"):
        np.testing.assert_allclose(metrics[f"vinet/{name}"], terms[name] / 3, rtol=1e-4)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(slope)))
    np.testing.assert_allclose(metrics["vinet/grad_norm"], norm, rtol=1e-3)


def test_stages_have_the_terms_that_they_train(stub):
    whole, given = {"loss", "grad_norm", "l1", "dissimilarity", "hole"}, batch()
    raw, flow = {"l1_raw", "dissimilarity_raw", "hole_raw"}, {"flow", "flow_colour", "flow_output"}
    for changes, expected in (
        ({"stage": 1}, whole),
        ({"stage": 2}, whole),
        ({"outputs": 2}, whole | raw | flow | {"short"}),
        ({"raw": False}, whole | flow | {"short", "long"}),
        ({"short_weight": 0, "long_weight": 0, "flow_weight": 0}, whole | raw),
    ):
        _, metrics = traced(dataclasses.replace(LAST, **changes), given)
        assert set(metrics) == {f"vinet/{name}" for name in expected} | {"skipped"}, changes


def test_stage_3_over_a_mesh_gives_what_one_device_gives(stub):
    """The battery has the network over every mesh, in stage 2."""
    given = batch(4)
    system = page.build(LAST, Optim(lr=2e-3, eps=1e-3))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)
    found = []
    for layout in (Layout(data=1), Layout(data=4)):
        program = compile_step(system.init, system.update, shapes, make_mesh(layout), layout.mode, options=QUICK)
        _, metrics = program.step(program.begin(KEY), program.place(given))
        found.append(jax.device_get(metrics))
    for other in ("all-gather", "all-to-all", "collective-permute"):
        assert other not in program.compiled.as_text()
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4, err_msg=name)


def test_raft_is_a_frozen_network_of_stage_3_alone():
    for changes, published in (({}, {"raft": "raft_things"}), ({"stage": 2}, {}), ({"flow": "tvl1"}, {})):
        networks = page.build(page.Config(**changes)).networks
        assert {name: network.published for name, network in networks.items() if name != "vinet"} == published


def test_terms_fall_on_one_batch():
    """Of the network itself, in stage 3."""
    config, given = dataclasses.replace(LAST, outputs=2, remat=False), batch(1, 2)
    system, state = begun(config, given)
    step, history = jax.jit(system.update, donate_argnums=0, compiler_options=QUICK), []
    for _ in range(16):
        state, metrics = step(state, given)
        history.append(jax.device_get(metrics))
    for name in ("l1", "hole", "l1_raw", "hole_raw", "short", "flow", "flow_colour", "flow_output", "loss"):
        values = [metrics[f"vinet/{name}"] for metrics in history]
        assert np.mean(values[-4:]) < 0.8 * values[0], (name, values)


@functools.cache
def narrow():
    """(system, weights, clip, masks) with the network itself, of a size that is no multiple."""
    system, state = begun(TINY, batch(1, 2))
    frames = moving(1, 9, 33, 47)[0]
    masks = np.zeros((9, 33, 47, 1), np.uint8)
    for t in range(9):
        masks[t, 10:22, 8 + t : 24 + t] = 1
    return system, state.weights, frames, masks


def streamed(system, weights, frames, masks, said=None):
    clip = array_clip(frames)
    holes = dataclasses.replace(clip, reader=lambda start, stop: iter(masks[start:stop]))
    return list(system.stream(weights, clip, holes, KEY, (said if said is not None else []).append))


def test_a_stream_gives_what_inpaint_gives_for_the_whole_clip():
    system, weights, frames, masks = narrow()
    given = {"image": from_uint8(frames)[None], "mask": masks[None].astype(np.float32)}
    whole = jax.jit(system.inpaint, compiler_options=QUICK)(weights, given, KEY)
    assert np.array_equal(np.where(masks, 0, whole[0]), np.where(masks, 0, given["image"][0]))
    got = np.stack(streamed(system, weights, frames, masks))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(np.where(masks, 0, got), np.where(masks, 0, frames))
    inside = np.broadcast_to(masks > 0, got.shape)
    # The same sums in programs that are put together otherwise; a value near a half is rounded either way.
    apart = np.abs(got[inside].astype(int) - np.asarray(to_uint8(whole[0]))[inside])
    assert apart.max() <= 1 and apart.mean() < 0.02
    assert np.abs(got[inside].astype(int) - frames[inside]).mean() > 5


def stub_stream(protocol, side=32):
    """(module, weights, ``stream``) of the stub."""
    module = Stub()
    seen = batch(1, 5)
    params = module.init(KEY, module.begin(1, 32, 32), seen["image"], seen["mask"])["params"]
    return module, Weights(params={"vinet": params}), _vinet_clip.streamer(module, side, protocol)


def clips(count, height=32, width=40):
    """(clip, its masks, what was asked of them: how many frames were read, and open)."""
    frames = moving(1, count, height, width)[0]
    holes = np.zeros((count, height, width, 1), np.uint8)
    holes[:, 8:16, 10:20] = 1
    read = []

    def reader(start, stop):
        for number in range(start, stop):
            read.append(number)
            yield frames[number]

    clip = dataclasses.replace(array_clip(frames), reader=reader)
    return clip, dataclasses.replace(clip, reader=lambda start, stop: iter(holes[start:stop])), frames, holes, read


def test_memory_does_not_grow_with_the_clip():
    """Of 60 frames each is read once, 6 ahead of the one that comes out; arrays on the device stay as many."""
    _, weights, stream = stub_stream("sound")
    clip, masks, _, _, read = clips(60)
    alive = []
    for number, _ in enumerate(stream(weights, clip, masks, KEY, print)):
        assert read == list(range(min(number + 7, 60)))
        alive.append(sum(x.nbytes for x in jax.live_arrays()))
    assert len(alive) == 60
    assert len(set(alive[6:53])) == 1
    assert max(alive) == alive[20]


def test_the_sound_protocol_carries_the_memory():
    module, weights, stream = stub_stream("sound")
    clip, masks, frames, holes, _ = clips(8)
    state = module.begin(1, 32, 40)
    for time, got in enumerate(stream(weights, clip, masks, KEY, print)):
        seen = window(time, 8)
        frame, mask = from_uint8(frames[seen])[None], holes[seen].astype(np.float32)[None]
        state, out = module.apply({"params": weights.params["vinet"]}, state, frame, mask)
        expected = np.where(holes[time], to_uint8(out["picture"][0]), frames[time])
        assert np.abs(got.astype(int) - expected).max() <= 1
        assert np.array_equal(got[holes[time, ..., 0] == 0], frames[time][holes[time, ..., 0] == 0])
    assert float(state.memory.hidden[0, 0, 0, 0]) == 2


def test_the_released_protocol_is_the_demos():
    """30 frames in reverse before, the memory emptied, frame 0 not written, squares, nothing composited, cut off."""
    module, weights, stream = stub_stream("released", side=24)
    clip, masks, frames, holes, _ = clips(31)
    said = []
    got = list(stream(weights, clip, masks, KEY, said.append))
    assert len(got) == 30 and "warm-up" in said[0]
    order = [*range(29, -1, -1), *range(31)]
    small = np.stack([_vinet_clip.resized(frames[number], 24, 24) for number in order])
    grown = np.stack([_vinet_clip.grown(_vinet_clip.resized(255 * holes[number], 24, 24)) for number in order])
    empty = state = module.begin(1, 24, 24)
    for time in range(61):
        seen = window(time, 61)
        frame, mask = 2 * (small[seen] / np.float32(255))[None] - 1, grown[seen].astype(np.float32)[None]
        state, out = module.apply({"params": weights.params["vinet"]}, state._replace(memory=empty.memory), frame, mask)
        if time > 30:
            expected = (np.clip((np.asarray(out["picture"][0]) + 1) / 2, 0, 1) * 255).astype(np.uint8)
            picture = got[time - 31]
            assert picture.shape == (24, 24, 3) and picture.dtype == np.uint8
            assert np.abs(picture.astype(int) - expected).max() <= 1
            assert np.mean(picture != expected) < 0.01  # rounded they would differ in half of the values
    system = page.build(dataclasses.replace(TINY, protocol="released"))
    assert system.extent(clip) == (1, 256, 256) and "frame 0 not written" in system.sees
    assert page.build(TINY).extent is None
    assert page.build(TINY).notes == ()


def test_the_demos_resizing_and_dilation():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 47, 3), np.uint8)
    expected = jax.image.resize(image.astype(np.float32), (24, 24, 3), "linear", antialias=False)
    assert np.abs(_vinet_clip.resized(image, 24, 24) - expected).max() <= 0.502
    assert np.array_equal(_vinet_clip.resized(image, 30, 47), image)
    mask = np.zeros((20, 15, 1), np.uint8)
    mask[9, 7] = 1
    expected = np.zeros_like(mask)
    expected[5:15, 5:11] = 1  # 4 up, 5 down, 2 left, 3 right
    assert np.array_equal(_vinet_clip.grown(mask), expected)
    mask[0, 0] = 1
    assert _vinet_clip.grown(mask)[:7, :5, 0].sum() == 6 * 4


def test_errors():
    system = page.build(TINY)
    one = batch(1, 1)
    with pytest.raises(InputError, match="two frames or more"):
        jax.eval_shape(system.init, KEY, one)
    with pytest.raises(InputError, match="expected clips"):
        jax.eval_shape(system.inpaint, None, {**one, "image": one["image"][0]}, KEY)
    _, weights, stream = stub_stream("sound")
    clip, masks, *_ = clips(1)
    with pytest.raises(InputError, match="one frame"):
        stream(weights, clip, masks, KEY, print)
    clip, masks, *_ = clips(12)
    with pytest.raises(InputError, match="5 masks"):
        stream(weights, clip, dataclasses.replace(masks, count=5), KEY, print)
    _, _, released = stub_stream("released")
    with pytest.raises(InputError, match="the first 30"):
        released(weights, clip, masks, KEY, print)
    broken = jax.tree.map(lambda x: x * jnp.nan, weights)
    with pytest.raises(InputError, match=r"step 0 .* not finite"):
        list(stream(broken, clip, masks, KEY, print))
    small = batch(1, 3)
    small = {**small, "image": small["image"][:, :, :20], "mask": small["mask"][:, :, :20]}
    with pytest.raises(InputError, match="20x32: height and width must be divisible by 8"):
        jax.eval_shape(system.init, KEY, small)
    with pytest.raises(InputError, match="32x32, and RAFT takes 128x128 at least"):
        traced(dataclasses.replace(LAST, flow="raft"), batch())
    wrong = ({"type": 128}, {"stage": 4}, {"outputs": 1}, {"flow": "RAFT"}, {"protocol": "demo"}, {"consistency": "x"})
    for changes in wrong:
        with pytest.raises(InputError, match=f"{next(iter(changes))} is"):
            page.build(dataclasses.replace(TINY, **changes))
