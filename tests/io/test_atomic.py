"""Writing whole or not at all: names and targets that are out of the ordinary."""

import os
import stat

import pytest

from jaxpaint.io.atomic import replacing, write_text
from jaxpaint.types import InputError


def test_a_name_of_all_the_bytes_that_a_name_may_have(tmp_path):
    for name in ("a" * 255, "ä" * 127):
        write_text(tmp_path / name, "1")
        write_text(tmp_path / name, "2")
        assert (tmp_path / name).read_text() == "2"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with replacing(pipe) as path:
            path.write_text("some words")
        assert os.read(reader, 100) == b"some words"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_file_in_the_place_of_its_folder_is_an_input_error(tmp_path):
    (tmp_path / "folder").write_text("in the way")
    with pytest.raises(InputError, match=r"folder/a\.json cannot be written: .*; give another file"):
        write_text(tmp_path / "folder/a.json", "1")
