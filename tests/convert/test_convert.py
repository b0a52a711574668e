"""Published checkpoints to weights: where every tensor goes, and what is said when one does not fit."""

import json
import struct
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.convert import CONVERSIONS, PublishedFile, convert, template, to_flax
from jaxpaint.convert.table import Conversion, assign
from jaxpaint.models.deepfillv2 import Generator
from jaxpaint.types import InputError

MANIFEST = json.loads((Path(__file__).parents[1] / "goldens" / "deepfillv2" / "manifest.json").read_text())


def published(width: int = 8, guides: int = 0) -> dict[str, np.ndarray]:
    """A checkpoint's tensors by canonical name, the generator narrower than published."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape, _ in MANIFEST["state"]:
        if name.startswith("G."):
            shape = [size if size in (3, 5) else size * width // 48 for size in shape[:2]] + shape[2:]
            if name == "G.conv1.conv.weight":
                shape[1] = 5 + guides
        elif name == "D.conv1.conv_sn.weight":
            shape[1] = 4 + guides
        state[name] = (0.1 * rng.standard_normal(shape)).astype(np.float32)
    return state


def only(state: dict, prefix: str) -> dict:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def write_torch(path: Path, content) -> Path:
    """A zip file as torch.save writes it, of nested dicts, arrays (float32) and whole numbers."""
    records: list[bytes] = []

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def whole(value):
        return b"J" + struct.pack("<i", value)

    def program(value):
        if isinstance(value, dict):
            return b"}(" + b"".join(text(key) + program(inner) for key, inner in value.items()) + b"u"
        if isinstance(value, int):
            return whole(value)
        records.append(value.tobytes())
        kind = b"ctorch\nLongStorage\n" if value.dtype == np.int64 else b"ctorch\nFloatStorage\n"
        storage = b"(" + text("storage") + kind + text(str(len(records) - 1)) + text("cpu") + whole(value.size) + b"tQ"
        strides = [stride // value.itemsize for stride in value.strides]
        tuples = b"".join(b"(" + b"".join(map(whole, numbers)) + b"t" for numbers in (value.shape, strides))
        hooks = b"ccollections\nOrderedDict\n)R"
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + whole(0) + tuples + b"\x89" + hooks + b"tR"

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program(content) + b".")
        for number, data in enumerate(records):
            archive.writestr(f"archive/data/{number}", data)
    return path


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def test_a_generator_file(tmp_path):
    state = published()
    path = write_torch(tmp_path / "states.pth", {"G": only(state, "G.")})
    weights, config, report = convert("deepfillv2", path)
    assert config == {"width": 8}
    assert (report.source, report.channels, report.absent) == ("torch", "rgb", ("discriminator",))
    assert len(report.sha256) == 64
    assert report.networks == {"generator": sum(value.size for value in only(state, "G.").values())}
    assert "not in the file: discriminator" in str(report)
    assert (set(weights["params"]), weights["extra"], weights["ema"]) == ({"generator"}, {}, {})

    generator = weights["params"]["generator"]
    assert shapes(generator) == shapes(template("deepfillv2", config)["generator"]["params"])
    for layer, ours in (
        ("conv1.conv", generator["conv1"]["conv"]),
        ("pmconv9.conv", generator["pmconv9"]["conv"]),
        ("allconv13_upsample.conv.conv", generator["allconv13_upsample"]["conv"]["conv"]),
    ):
        np.testing.assert_array_equal(ours["kernel"], np.einsum("oihw->hwio", state[f"G.{layer}.weight"]), strict=True)
        np.testing.assert_array_equal(ours["bias"], state[f"G.{layer}.bias"], strict=True)


def test_a_training_snapshot_with_a_guide(tmp_path):
    state = published(width=16, guides=1)
    content = {"G": only(state, "G."), "D": only(state, "D."), "G_optim": {"state": {}}, "D_optim": {}, "n_iter": 7}
    weights, config, report = convert("deepfillv2", write_torch(tmp_path / "snapshot.pth", content))
    assert config == {"width": 16, "guide_channels": 1}
    assert report.absent == ()
    judge = weights["params"]["discriminator"]["conv1"]["conv_sn"]
    assert judge["kernel"].shape == (5, 5, 5, 64)
    u = weights["extra"]["discriminator"]["spectral"]["conv6"]["conv_sn"]["u"]
    np.testing.assert_array_equal(u, state["D.conv6.conv_sn.weight_u"].T, strict=True)


def test_bgr_weights_see_and_make_reversed_pictures():
    state = only(published(), "G.")
    state = {f"G.{name}": value for name, value in state.items()}
    shape = {"generator": template("deepfillv2", {"width": 8})["generator"]}
    rgb, bgr = (to_flax("deepfillv2", state, shape, channels=order)["generator"] for order in ("rgb", "bgr"))
    rng = np.random.default_rng(1)
    image = rng.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    mask = np.zeros((1, 32, 32, 1), np.float32)
    mask[:, 8:20, 10:24] = 1
    run = jax.jit(lambda variables, image: Generator(width=8).apply(variables, image, mask)[0])
    straight, reversed_ = run(rgb, image), run(bgr, image[..., ::-1])[..., ::-1]
    # The sums over three channels run in another order.
    np.testing.assert_allclose(straight, reversed_, atol=1e-5)
    assert float(np.abs(straight - run(rgb, image[..., ::-1])[..., ::-1]).max()) > 1e-3


def test_the_whole_discriminator_is_reversed_where_it_sees_the_picture():
    state = published()
    rgb, bgr = (
        to_flax("deepfillv2", state, template("deepfillv2", {"width": 8}), channels=order)["discriminator"]["params"]
        for order in ("rgb", "bgr")
    )
    first = [params["conv1"]["conv_sn"]["kernel"] for params in (rgb, bgr)]
    np.testing.assert_array_equal(first[0][:, :, [2, 1, 0, 3]], first[1])
    np.testing.assert_array_equal(rgb["conv2"]["conv_sn"]["kernel"], bgr["conv2"]["conv_sn"]["kernel"])


def test_one_error_lists_all_that_does_not_fit(tmp_path):
    state = published()
    state["G.conv99.conv.weight"] = state.pop("G.conv3.conv.weight")
    del state["D.conv2.conv_sn.weight_u"]
    state["G.conv4_downsample.conv.bias"] = np.zeros(7, np.float32)
    state["G.xconv5.conv.weight"] = state["G.xconv5.conv.weight"][:, :, :1].copy()
    state["G.conv5.conv.bias"] = np.full_like(state["G.conv5.conv.bias"], np.nan)
    state["G.conv6.conv.bias"] = np.zeros(32, np.int64)
    path = write_torch(tmp_path / "odd.pth", {"G": only(state, "G."), "D": only(state, "D.")})
    with pytest.raises(InputError) as caught:
        convert("deepfillv2", path)
    message = str(caught.value)
    for part in (
        str(path),
        "1 no place for, 2 no tensor for, 4 cannot be used",
        "G.conv99.conv.weight (16, 8, 3, 3)",
        "generator/params/conv3/conv/kernel (3, 3, 8, 16)",
        "discriminator/spectral/conv2/conv_sn/u (1, 128)",
        "G.conv4_downsample.conv.bias: shape (7,) is (7,) as",
        "generator/params/conv4_downsample/conv/bias, expected (32,)",
        "G.xconv5.conv.weight: shape (32, 8, 1, 3) is (1, 3, 8, 32)",
        "G.conv5.conv.bias: holds values that are not finite",
        "G.conv6.conv.bias: int64 numbers",
    ):
        assert part in message, part


def test_files_of_another_system(tmp_path):
    kernel = np.zeros((8, 3, 3, 3), np.float32)
    for content, message in [
        ({"state_dict": {"generator.model.1.weight": kernel}}, "a checkpoint of another system"),
        ({"encoder.0.weight": kernel}, "a checkpoint of another system"),
        (
            {"G": {"encoder.0.weight": kernel, "encoder.1.weight": kernel}},
            r"(?s)none of the 2 tensors.*G.encoder.0.weight",
        ),
        ({"G": {"conv1": 3}}, "G.conv1"),
        ({"G": {}, "EMA": {}}, "EMA"),
        (kernel, "ndarray"),
        ({"G": {}, "D": only(published(), "D.")}, "but not its generator"),
    ]:
        with pytest.raises(InputError, match=message):
            convert("deepfillv2", write_torch(tmp_path / "other.pth", content))


def test_a_tensorflow_checkpoint_of_another_system(tmp_path):
    import tensorflow as tf

    names = ["resnet/conv1/kernel", "global_step"]
    tensors = [np.zeros((3, 3, 3, 8), np.float32), np.int64(3)]
    tf.raw_ops.SaveV2(prefix=str(tmp_path / "model"), tensor_names=names, shape_and_slices=["", ""], tensors=tensors)
    with pytest.raises(InputError, match=r"(?s)none of the 1 tensors.*resnet/conv1/kernel"):
        convert("deepfillv2", tmp_path)


def test_bad_arguments(tmp_path):
    path = tmp_path / "hostile.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    with pytest.raises(InputError, match=r"hostile\.pth names os\.system: refused"):
        convert("deepfillv2", path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="truncated"):
        convert("deepfillv2", path)
    with pytest.raises(InputError, match="no conversion for 'deepfill'"):
        convert("deepfill", path)
    with pytest.raises(InputError, match="does not exist"):
        convert("deepfillv2", tmp_path / "absent.pth")
    with pytest.raises(InputError, match="channels is 'grb'"):
        convert("deepfillv2", write_torch(tmp_path / "g.pth", {"G": only(published(), "G.")}), channels="grb")


@pytest.mark.parametrize("system", sorted(CONVERSIONS))
def test_records_are_complete(system):
    record = CONVERSIONS[system]
    assert record.files
    assert all(isinstance(file, PublishedFile) and file.name and file.note for file in record.files)
    assert set(record.required) <= set(record.networks.values())
    assert set(record.networks.values()) <= set(template(system))


def test_the_general_rule_exceptions_and_counters():
    """Linear, normalisation and three-dimensional layers; a tensor that lives elsewhere; two for one place."""
    record = CONVERSIONS["deepfillv2"]._replace(
        networks={"N": "net"},
        exceptions={"N.odd.gamma": ("net", "params", "norm", "bias")},
        ignore=(r".*num_batches_tracked",),
    )
    assert isinstance(record, Conversion)
    rng = np.random.default_rng(0)
    state = {
        "N.linear.weight": rng.standard_normal((4, 3)),
        "N.volume.weight": rng.standard_normal((6, 2, 3, 4, 5)),
        "N.norm.weight": rng.standard_normal(4),
        "N.norm.running_mean": rng.standard_normal(4),
        "N.norm.running_var": rng.standard_normal(4),
        "N.norm.num_batches_tracked": np.int64(3),
        "N.odd.gamma": rng.standard_normal(4),
        "N.words.weight": rng.standard_normal((9, 2)),
    }
    slots = {
        "params": {
            "linear": {"kernel": np.zeros((3, 4))},
            "volume": {"kernel": np.zeros((3, 4, 5, 2, 6))},
            "norm": {"scale": np.zeros(4), "bias": np.zeros(4)},
            "words": {"embedding": np.zeros((9, 2))},
        },
        "batch_stats": {"norm": {"mean": np.zeros(4), "var": np.zeros(4)}},
    }
    filled = assign("net", record, state, {"net": slots})["net"]
    assert shapes(filled) == shapes(slots)
    np.testing.assert_array_equal(filled["params"]["linear"]["kernel"], state["N.linear.weight"].T.astype(np.float32))
    volume = np.einsum("oitxy->txyio", state["N.volume.weight"]).astype(np.float32)
    np.testing.assert_array_equal(filled["params"]["volume"]["kernel"], volume)
    np.testing.assert_array_equal(filled["params"]["norm"]["bias"], state["N.odd.gamma"].astype(np.float32))
    np.testing.assert_array_equal(filled["params"]["words"]["embedding"], state["N.words.weight"].astype(np.float32))
    np.testing.assert_array_equal(filled["batch_stats"]["norm"]["var"], state["N.norm.running_var"].astype(np.float32))
    with pytest.raises(InputError, match="net/params/norm/bias has a tensor already"):
        assign("net", record, {**state, "N.norm.bias": np.zeros(4)}, {"net": slots})
