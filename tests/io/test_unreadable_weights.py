"""A file of weights that may not be read is named, without a traceback."""

import builtins
import json

import pytest

from jaxpaint import convert
from jaxpaint.io import torch_file
from jaxpaint.types import InputError


@pytest.mark.parametrize("read", [torch_file.read, convert._sha256])
def test_a_file_without_permission(tmp_path, monkeypatch, read):
    """The refusal is a stand-in: the tests may run as a user who may read everything."""
    path = tmp_path / "net.pth"
    path.write_bytes(b"weights")

    def refuse(name, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(name))

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(InputError, match=r"net\.pth cannot be read: Permission denied"):
        read(str(path))


def test_a_disk_that_fails_in_the_middle_of_a_safetensors_file(tmp_path, monkeypatch):
    header = json.dumps({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert set(torch_file.read(path)) == {"x"}

    def fail(*arguments, **options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(torch_file.safetensors.np, "memmap", fail)
    with pytest.raises(InputError, match=r"net\.safetensors cannot be read: Input/output error"):
        torch_file.read(path)
