"""The folder of published weights: what is looked up, and what is said when it is not there."""

import re
from pathlib import Path

import numpy as np
import pytest

from jaxpaint.io import pretrained
from jaxpaint.types import InputError

NAME = "lpips_alex"
ENTRY = pretrained.FILES[NAME]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(pretrained.VARIABLE, str(tmp_path))
    return tmp_path


def known_as(monkeypatch, sha256: str | None):
    monkeypatch.setattr(pretrained, "FILES", {NAME: ENTRY._replace(sha256=sha256)})


@pytest.mark.parametrize("digits", [64, 8, 0])
def test_a_file_with_the_published_digits_is_read(folder, monkeypatch, digits, write_safetensors):
    state = {"lin0.model.1.weight": np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1)}
    sha256 = write_safetensors(folder / ENTRY.file, state)
    known_as(monkeypatch, sha256[:digits] or None)
    assert pretrained.find(NAME) == folder / ENTRY.file
    found = pretrained.read(NAME)
    assert list(found) == list(state)
    np.testing.assert_array_equal(found["lin0.model.1.weight"], state["lin0.model.1.weight"])


@pytest.mark.parametrize("digits", [64, 8])
def test_another_file_is_an_error(folder, monkeypatch, digits, write_safetensors):
    sha256 = write_safetensors(folder / ENTRY.file, {"x": np.zeros(3, np.float32)})
    expected = ("0" if sha256[0] != "0" else "1") + sha256[1:digits]
    known_as(monkeypatch, expected)
    with pytest.raises(InputError) as error:
        pretrained.read(NAME)
    for part in (str(folder / ENTRY.file), sha256, expected, ENTRY.url):
        assert part in str(error.value)


def test_a_missing_file_is_an_error_that_says_where_from_and_where_to(folder):
    for name, entry in pretrained.FILES.items():
        with pytest.raises(InputError) as error:
            pretrained.read(name)
        for part in (name, entry.file, str(folder / entry.file), entry.url, pretrained.VARIABLE):
            assert part in str(error.value)


def test_the_folder_is_the_home_s_where_none_is_set(monkeypatch):
    monkeypatch.delenv(pretrained.VARIABLE, raising=False)
    monkeypatch.setenv("HOME", "/nowhere")
    assert pretrained.folder() == Path("/nowhere/.cache/jaxpaint/weights")
    with pytest.raises(InputError, match=f"/nowhere/.cache/jaxpaint/weights.*{pretrained.VARIABLE} is not set"):
        pretrained.find("vgg19")


def test_a_mistyped_name_and_a_file_without_tensors(folder, monkeypatch):
    with pytest.raises(InputError, match=r"'vgg91'.*did you mean 'vgg19'"):
        pretrained.find("vgg91")
    known_as(monkeypatch, None)
    path = folder / ENTRY.file
    path.parent.mkdir(parents=True)
    path.write_text("<html>404")
    with pytest.raises(InputError, match="web page"):
        pretrained.read(NAME)


@pytest.mark.parametrize("entry", pretrained.FILES.values(), ids=list(pretrained.FILES))
def test_digits_are_those_of_the_file_s_name(entry):
    """torchvision and pytorch-fid put the first eight digits into the name; a typing error would show here."""
    assert re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}", entry.sha256)
    in_name = re.search(r"-([0-9a-f]{8})\.pth$", entry.file)
    assert in_name is None or entry.sha256.startswith(in_name.group(1))
    assert entry.url.endswith("/" + entry.file.rsplit("/", 1)[-1])
