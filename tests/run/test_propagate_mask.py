"""``jaxpaint propagate-mask``: masks come as files that ``inpaint-video`` takes."""

import dataclasses
import sys
import types

import numpy as np
import pytest
from PIL import Image

from jaxpaint.io.video import open_clip
from jaxpaint.io.video_masks import open_masks
from jaxpaint.run.cli import main


@dataclasses.dataclass
class MaskConfig:
    shift: int = 1


def propagate(clip, mask, config, key, say):
    """The first mask, moved to the right by some pixels a frame."""
    say("looking")
    for index in range(clip.count):
        yield np.roll(mask, config.shift * index, axis=1)


@pytest.fixture
def clip(monkeypatch, tmp_path):
    """A folder of frames and the first one's mask; a stand-in for the network."""
    module = types.SimpleNamespace(MaskConfig=MaskConfig, propagate=propagate)
    monkeypatch.setitem(sys.modules, "jaxpaint.systems._iivi_masks", module)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    for index in range(12):
        Image.fromarray(np.full((36, 48, 3), index, np.uint8)).save(f"clip/f{index}.jpg")
    mask = np.full((36, 48), 255, np.uint8)
    mask[4:10, 5:9] = 0
    Image.fromarray(mask).save("mask.png")
    return 1 - mask[..., None] // 255


def test_masks_of_all_frames(clip, capsys):
    flags = ["clip", "--mask=mask.png", "--mask-convention=hole-black", "--out=masks", "--model.shift=2"]
    assert main(["propagate-mask", *flags]) == 0
    assert capsys.readouterr().out.startswith("masks: 12 frames")
    found = list(open_masks("masks", open_clip("clip"), pairing="name"))
    for index, mask in enumerate(found):
        np.testing.assert_array_equal(mask, np.roll(clip, 2 * index, axis=1))


def test_a_seed_that_is_too_large(clip, capsys):
    with pytest.raises(SystemExit):
        main(["propagate-mask", "clip", "--mask=mask.png", "--out=masks", f"--seed={2**64}"])
    assert f"--seed: {2**64}: expected a whole number from 0 to 4294967295" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mask=clip/f1.jpg"], "f1.jpg has no hole"),
        (["--mask=nowhere.png"], "nowhere.png"),
        (["--mask=small.png"], "20x20"),
        (["--mask=mask.png", "--out=masks.mp4"], "has an ending"),
        (["--mask=mask.png", "--out=clip", "--overwrite"], "would replace an input"),
        (["--mask=mask.png", "--model.shfit=2"], "did you mean --model.shift"),
    ],
)
def test_what_is_refused(clip, capsys, flags, said):
    Image.fromarray(np.tri(20, dtype=np.uint8) * 255).save("small.png")
    assert main(["propagate-mask", "clip", "--out=masks", *flags]) == 2
    assert said in capsys.readouterr().err
