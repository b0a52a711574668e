"""Reading torch and safetensors files: against files that torch wrote, and against hostile ones made by hand."""

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxpaint.io import torch_file
from jaxpaint.io.unpickle import Inert, Named
from jaxpaint.types import InputError

FIXTURES = Path(__file__).parents[1] / "fixtures"
LEGACY_HEAD = b"".join(pickle.dumps(part, protocol=2) for part in (torch_file.MAGIC, torch_file.PROTOCOL, {}))


# A small assembler of pickles: what may be hostile cannot be made by pickling something.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def storage(elements: int = 6, kind: str = "FloatStorage") -> bytes:
    return tuple_of(text("storage"), name("torch", kind), text("0"), text("cpu"), number(elements)) + b"Q"


def tensor(sizes=(6,), strides=(1,), offset=0, held: bytes | None = None) -> bytes:
    parts = (storage() if held is None else held, number(offset), number_tuple(sizes), number_tuple(strides))
    hooks = name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + tuple_of(*parts, b"\x89", hooks) + b"R"


def number_tuple(values) -> bytes:
    return tuple_of(*map(number, values))


def write_zip(path: Path, program: bytes, records=None, *, compression=zipfile.ZIP_STORED) -> Path:
    records = {"data/0": np.arange(6, dtype="<f4").tobytes()} if records is None else records
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program + b".")
        for record, data in records.items():
            archive.writestr(f"archive/{record}", data)
    return path


def write_legacy(path: Path, program: bytes) -> Path:
    data = np.arange(6, dtype="<f4").tobytes()
    path.write_bytes(
        LEGACY_HEAD + b"\x80\x02" + program + b"." + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 6) + data
    )
    return path


def refusal(path: Path, **options) -> str:
    """The message with which a file is refused; it names the file."""
    with pytest.raises(InputError) as caught:
        torch_file.read(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_reads_all_that_torch_wrote(kind):
    content = torch_file.read(FIXTURES / f"torch_{kind}.pth")
    state = content.pop("state_dict")
    with np.load(FIXTURES / "torch_expected.npz") as expected:
        assert set(state) == set(expected.files)
        for key in expected.files:
            want, have = expected[key], state[key]
            if key == "type_bfloat16":
                assert have.dtype == ml_dtypes.bfloat16
                have = have.astype(np.float32)
            assert have.dtype == want.dtype, key
            np.testing.assert_array_equal(have, want, strict=True, err_msg=key)
    module, numpy = content.pop("module"), content.pop("numpy")
    np.testing.assert_array_equal(module["weight"], np.float32([[1, 2], [3, 4]]), strict=True)
    np.testing.assert_array_equal(module["bias"], np.float32([-1, -2]), strict=True)
    np.testing.assert_array_equal(numpy, np.int16([[0, 2, 4], [1, 3, 5]]), strict=True)
    np.testing.assert_array_equal(content.pop("parameter"), np.float32([5, 6]), strict=True)
    assert content == {
        "size": (2, 3),
        "device": "cpu",
        "dtype": "torch.float32",
        "counts": {"a": 1},
        "plain": [1, -(2**40), 1.5, "text", b"bytes\xff", None, True, (1, (2,)), {3}],
        "numpy_scalar": np.float32(2.5),
    }
    assert np.shares_memory(state["whole"], state["transposed"])
    assert not np.shares_memory(state["whole"], state["channels_last"])


def test_reads_a_storage_without_a_type():
    unsigned = torch_file.read(FIXTURES / "torch_untyped.pth")["unsigned"]
    np.testing.assert_array_equal(unsigned, np.uint16([1, 65535]), strict=True)


def test_torch_is_not_imported():
    code = f"""
import sys
from jaxpaint.io import torch_file
torch_file.read({str(FIXTURES / "torch_zip.pth")!r})
assert not {{"torch", "tensorflow", "orbax"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_reads_a_big_endian_file(tmp_path):
    records = {"byteorder": b"big", "data/0": np.arange(6, dtype=">f4").tobytes()}
    array = torch_file.read(write_zip(tmp_path / "a.pth", tensor((2, 3), (3, 1)), records))
    np.testing.assert_array_equal(array, np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)
    records["data/0"] = np.arange(3).astype(">c8").tobytes()
    pairs = tensor((3,), (1,), held=storage(3, "ComplexFloatStorage"))
    array = torch_file.read(write_zip(tmp_path / "b.pth", pairs, records))
    np.testing.assert_array_equal(array, np.arange(3).astype(np.complex64), strict=True)


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (tensor((7,), (1,)), "storage has 6"),
        (tensor((2, 3), (4, 1)), "needs 7 elements"),
        (tensor((1,), (1,), offset=6), "storage has 6"),
        (tensor((2,), (-1,), offset=3), "do not fit"),
        (tensor((6,), (1,), offset=-1), "do not fit"),
        (tensor((2**61, 2**61), (1, 1)), "storage has 6"),
        (tensor((0, 2**61), (1, 1)), "damaged"),
        (tensor((1,) * 40, (1,) * 40), "do not fit"),
        (tensor((6,), (1, 1)), "do not fit"),
        (tensor((6,), (1,), held=storage(7)), "24 bytes|damaged|truncated"),
        (tensor((6,), (1,), held=storage(2**50)), "24 bytes|truncated"),
        (tensor((6,), (1,), held=storage(-6)), "whole number"),
        (tensor((6,), (1,), held=text("no storage")), "do not fit"),
    ],
)
def test_a_tensor_stays_inside_its_storage(tmp_path, write, program, message):
    path = write(tmp_path / "bad.pth", program)
    with pytest.raises(InputError, match=message):
        torch_file.read(path)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_a_truncated_file_is_refused(tmp_path, kind):
    whole = (FIXTURES / f"torch_{kind}.pth").read_bytes()
    path = tmp_path / "cut.pth"
    for length in [1, 2, 5, 20, *range(40, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        message = refusal(path)
        assert "truncated" in message or length < 5, (length, message)


@pytest.mark.parametrize("kind", ["zip", "legacy", "untyped"])
def test_a_flipped_bit_is_an_input_error_or_harmless(tmp_path, kind):
    """No other exception, no crash; what the zip format covers with a checksum is found."""
    whole = (FIXTURES / f"torch_{kind}.pth").read_bytes()
    path = tmp_path / "flipped.pth"
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(whole), 150):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            torch_file.read(path)
        except InputError:
            refused += 1
    assert refused > 30


def test_a_flipped_value_is_found_by_the_checksum(tmp_path):
    whole = bytearray((FIXTURES / "torch_zip.pth").read_bytes())
    value = np.arange(60, dtype="<f4").tobytes()
    whole[whole.index(value) + 50] ^= 1
    path = tmp_path / "flipped.pth"
    path.write_bytes(whole)
    assert "CRC" in refusal(path)


HOSTILE = (
    *("os.system", "posix.system", "eval", "python 2 eval", "inside a tensor", "inside a dict", "from the stack"),
    *("through the memo", "below an allowed name", "getattr", "instance", "object", "new object"),
    *("nested torch file", "numpy load", "a look-alike"),
)


def hostile(kind: str, marker: Path) -> tuple[bytes, str]:
    """A program that would create the marker, and the name that must be refused."""
    command = text(f"touch {marker}")
    evaluate = text(f"open({str(marker)!r}, 'w')")
    call = tuple_of(command) + b"R"
    return {
        "os.system": (name("os", "system") + call, "os.system"),
        "posix.system": (name("posix", "system") + call, "posix.system"),
        "eval": (name("builtins", "eval") + tuple_of(evaluate) + b"R", "builtins.eval"),
        "python 2 eval": (name("__builtin__", "eval") + tuple_of(evaluate) + b"R", "__builtin__.eval"),
        "inside a tensor": (tensor(held=name("os", "system") + call), "os.system"),
        "inside a dict": (b"}" + text("G") + name("os", "system") + call + b"s", "os.system"),
        "from the stack": (text("os") + text("system") + b"\x93" + call, "os.system"),
        "through the memo": (
            text("os") + b"q\x070" + text("system") + b"q\x080" + b"h\x07h\x08\x93" + call,
            "os.system",
        ),
        "below an allowed name": (
            text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93",
            "collections.OrderedDict.__init__.__globals__",
        ),
        "getattr": (name("builtins", "getattr") + call, "builtins.getattr"),
        "instance": (b"(" + command + b"ios\nsystem\n", "os.system"),
        "object": (b"(" + name("os", "system") + command + b"o", "os.system"),
        "new object": (name("subprocess", "Popen") + tuple_of(command) + b"\x81", "subprocess.Popen"),
        "nested torch file": (
            name("torch.storage", "_load_from_bytes") + tuple_of(text("x")) + b"R",
            "torch.storage._load_from_bytes",
        ),
        "numpy load": (name("numpy", "load") + call, "numpy.load"),
        "a look-alike": (name("collections ", "OrderedDict"), "collections. OrderedDict"),
    }[kind]


@pytest.mark.parametrize("write", [write_zip, write_legacy])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pickle_that_names_anything_else_is_refused(tmp_path, write, kind):
    marker = tmp_path / "marker"
    program, named = hostile(kind, marker)
    message = refusal(write(tmp_path / "hostile.pth", program))
    assert f"names {named}: refused" in message
    assert not marker.exists()


def test_the_hostile_pickle_would_have_run(tmp_path):
    """The control of the test above."""
    marker = tmp_path / "marker"
    program, _ = hostile("os.system", marker)
    pickle.loads(b"\x80\x02" + program + b".")
    assert marker.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (name("collections", "OrderedDict") + tuple_of(number(3)) + b"R", "calls collections.OrderedDict"),
        (name("collections", "OrderedDict") + tuple_of(b"]", b"]") + b"R", "calls collections.OrderedDict"),
        (name("torch", "Size") + tuple_of(text("ab")) + b"R", "calls torch.Size"),
        (name("torch", "device") + tuple_of(b"]") + b"R", "calls torch.device"),
        (name("torch.nn.parameter", "Parameter") + b")R", "calls torch.nn.parameter.Parameter"),
        (name("builtins", "int") + tuple_of(text("9" * 9)) + b"R", "calls builtins.int"),
        (name("_codecs", "encode") + tuple_of(text("a"), text("rot13")) + b"R", "calls _codecs.encode"),
        (name("numpy", "dtype") + tuple_of(text("O8")) + b"R", "calls numpy.dtype"),
        (name("torch._utils", "_rebuild_parameter") + tuple_of(text("a")) + b"R", "_rebuild_parameter"),
        # Attributes of what was named cannot be written.
        (name("collections", "OrderedDict") + b"}" + text("update") + text("x") + b"sb", "state for a Named"),
        (text("os") + b")R", "a call of something that is no name"),
        (b"\x82\x01", "instruction EXT1"),
        (b"Pstorage\n", "instruction PERSID"),
        (b"Q", "damaged"),
        (b"}]K\x01s", "damaged"),
        (b")" + b"\x85" * 100_000 + b"q\x00}h\x00K\x01s", "a key that is no plain value"),
        (b"h\x63", "damaged"),
        (b"t", "damaged"),
    ],
)
def test_a_malformed_call_is_refused(tmp_path, program, message):
    assert message in refusal(write_zip(tmp_path / "bad.pth", program))


def test_classes_may_be_replaced_by_inert_objects(tmp_path):
    callback = name("pytorch_lightning.callbacks", "Checkpoint")
    made = callback + tuple_of(number(1)) + b"R}" + text("best") + number(2) + b"sb"
    program = b"}(" + text("made") + made + callback + text("key") + text("w") + tensor() + b"u"
    path = write_zip(tmp_path / "lightning.ckpt", program)
    assert "names pytorch_lightning.callbacks.Checkpoint: refused" in refusal(path)
    assert "refused" in refusal(path, stub=("pytorch_lightning.callbacks.Other", "pytorch_lightning.call"))
    for stub in ("pytorch_lightning.", "pytorch_lightning.callbacks.Checkpoint"):
        content = torch_file.read(path, stub=(stub,))
        inert = content["made"]
        assert isinstance(inert, Inert)
        assert (inert.name, inert.contents) == ("pytorch_lightning.callbacks.Checkpoint", [1, {"best": 2}])
        assert content[Named(inert.name)] == "key"
        assert content["w"].shape == (6,)


def test_a_zip_bomb_is_refused(tmp_path):
    bomb = write_zip(
        tmp_path / "bomb.pth",
        tensor(held=storage(2**22)),
        {"data/0": bytes(2**24)},
        compression=zipfile.ZIP_DEFLATED,
    )
    assert bomb.stat().st_size < 2**18
    assert "compressed" in refusal(bomb)


def test_records_of_another_size_or_absent_are_refused(tmp_path):
    assert "28 bytes, its tensors need 24" in refusal(write_zip(tmp_path / "a.pth", tensor(), {"data/0": bytes(28)}))
    assert "data/0 is missing" in refusal(write_zip(tmp_path / "b.pth", tensor(), {}))
    assert "byte order" in refusal(write_zip(tmp_path / "c.pth", tensor(), {"byteorder": b"middle"}))


def test_other_formats_are_named(tmp_path):
    plain = io.BytesIO()
    np.savez(plain, a=np.zeros(3))
    tar = bytearray(512)
    tar[257:262] = b"ustar"
    for content, message in [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (bytes(tar), "tar file"),
        (plain.getvalue(), "without one NAME/data.pkl"),
        (pickle.dumps({"a": 1}, protocol=4), "plain Python pickle"),
        (b"\x89HDF\r\n", "HDF5"),
        (b"0123456789", "unknown format"),
    ]:
        path = tmp_path / "other.pth"
        path.write_bytes(content)
        assert message in refusal(path)
    assert "is a folder" in refusal(tmp_path)
    assert "does not exist" in refusal(tmp_path / "absent.pth")


def safetensors_file(header: dict, data: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def test_reads_safetensors(tmp_path):
    half = np.arange(4).astype(ml_dtypes.bfloat16)
    whole = np.arange(6, dtype="<i8")
    header = {
        "__metadata__": {"format": "pt"},
        "half": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "whole": {"dtype": "I64", "shape": [6], "data_offsets": [8, 56]},
        "scalar": {"dtype": "F32", "shape": [], "data_offsets": [56, 60]},
        "empty": {"dtype": "F32", "shape": [0, 3], "data_offsets": [60, 60]},
    }
    data = half.tobytes() + whole.tobytes() + np.float32(1.5).tobytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors_file(header, data))
    read = torch_file.read(path)
    assert set(read) == {"half", "whole", "scalar", "empty"}
    np.testing.assert_array_equal(read["half"], half.reshape(2, 2), strict=True)
    np.testing.assert_array_equal(read["whole"], whole, strict=True)
    np.testing.assert_array_equal(read["scalar"], np.array(1.5, np.float32), strict=True)
    assert read["empty"].shape == (0, 3)

    complete = path.read_bytes()
    for length in (9, 40, len(complete) - 1):
        path.write_bytes(complete[:length])
        assert "truncated" in refusal(path)
    for change, message in [
        ({"dtype": "F99"}, "type 'F99'"),
        ({"shape": [7]}, "damaged"),
        ({"shape": [-6]}, "damaged"),
        ({"shape": 6}, "damaged"),
        ({"data_offsets": [56, 8]}, "damaged"),
        ({"data_offsets": [8]}, "damaged"),
        ({"data_offsets": [48, 96]}, "truncated"),
    ]:
        path.write_bytes(safetensors_file(header | {"whole": header["whole"] | change}, data))
        assert message in refusal(path)
    path.write_bytes(struct.pack("<Q", 9) + b"{{{{{{{{{")
    assert "no JSON" in refusal(path)


def test_a_huge_expanded_tensor_costs_nothing(tmp_path):
    array = torch_file.read(write_zip(tmp_path / "a.pth", tensor((2**40,), (0,))))
    assert array.shape == (2**40,)
    assert os.path.getsize(tmp_path / "a.pth") < 2**12
