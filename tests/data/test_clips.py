"""Examples from clips: pure functions of (seed, position), and pixels against slicing by hand."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxpaint.data import ArrayClips, Data, DemoClips, FolderClips, TfdsClips, open_source, specification, stream
from jaxpaint.data.clips import frame_numbers
from jaxpaint.types import InputError

LENGTHS = (7, 12, 9)


@pytest.fixture
def clips():
    """Every pixel says where it is: red is its frame and clip, green its row, blue its column. Masks: blue is even."""
    made = []
    for number, length in enumerate(LENGTHS):
        t, y, x = np.mgrid[:length, :20, :26]
        made.append(np.stack([t + 50 * number, y, x], -1).astype(np.uint8))
    return made


def masks_of(clips):
    return [1 - clip[..., 2:] % 2 for clip in clips]


def take(source, data, steps, start=0, **options):
    """The first batches; `source` None opens that of `data`."""
    batches = stream(data, **{"batch": 4, "seed": 5, **options}, start_step=start, source=source)
    try:
        return list(itertools.islice(batches, steps))
    finally:
        batches.close()


def test_windows_are_slices(clips):
    data = Data(frames=3, stride=(1, 4), size=(8, 10), flip=True, backward=True)
    seen = set()
    for batch in take(ArrayClips({"clips": clips, "masks": masks_of(clips)}), data, 12):
        assert batch["image"].shape == (4, 3, 8, 10, 3) and batch["mask"].shape == (4, 3, 8, 10, 1)
        assert {value.dtype.name for value in batch.values()} == {"uint8", "uint32"}
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
            clip, first = divmod(int(image[0, 0, 0, 0]), 50)
            stride = int(image[1, 0, 0, 0]) - int(image[0, 0, 0, 0])
            top, left = image[0, 0, 0, 1], min(image[0, 0, 0, 2], image[0, 0, -1, 2])
            flip = image[0, 0, 0, 2] > left
            frames = [clips[clip][first + stride * t][top : top + 8, left : left + 10] for t in range(3)]
            expected = np.stack(frames)[:, :, ::-1] if flip else np.stack(frames)
            np.testing.assert_array_equal(image, expected)
            np.testing.assert_array_equal(mask, 1 - image[..., 2:] % 2)
            assert 1 <= abs(stride) <= min(4, (LENGTHS[clip] - 1) // 2)
            seen |= {("stride", stride), ("flip", bool(flip)), ("clip", clip), ("top", int(top))}
    assert {("stride", sign * size) for sign in (1, -1) for size in (1, 2, 3, 4)} <= seen
    assert {("flip", True), ("flip", False), ("clip", 0), ("clip", 1), ("clip", 2)} <= seen and len(seen) > 20


def test_an_epoch_takes_every_clip_once(clips):
    batches = take(ArrayClips({"clips": clips}), Data(frames=2, size=(8, 8)), 6, batch=3)
    orders = [tuple((batch["image"][:, 0, 0, 0, 0] // 50).tolist()) for batch in batches]
    assert all(sorted(order) == [0, 1, 2] for order in orders) and len(set(orders)) > 1


def test_restarts_and_processes_make_the_same_examples(clips):
    source = ArrayClips({"clips": clips, "masks": masks_of(clips)})
    data = Data(frames=3, stride=(1, 2), size=(8, 8), flip=True, mask_pairing="seed")
    whole = take(source, data, 4)
    again = take(source, data, 2, start=2)
    halves = [take(source, data, 4, process=process, processes=2) for process in (0, 1)]
    assert {name: (x.shape, x.dtype) for name, x in whole[0].items()} == specification(data, source, 4)
    for name in ("image", "objects", "position"):
        for step in (2, 3):
            np.testing.assert_array_equal(whole[step][name], again[step - 2][name])
        for step in range(4):
            parts = np.concatenate([half[step][name] for half in halves])
            np.testing.assert_array_equal(whole[step][name], parts)
    assert whole[3]["position"].tolist() == [12, 13, 14, 15]
    other_seed = take(source, data, 1, seed=6)[0]
    assert (other_seed["image"] != whole[0]["image"]).any()


def test_every_start_comes_as_often(clips):
    """5 frames at stride 1 or 2 of 12: strides evenly, and within each the starts 0..7 or 0..3."""
    data = Data(frames=5, stride=(1, 2))
    drawn = [frame_numbers(data, 0, position, 12) for position in range(4000)]
    count = {1: np.zeros(8), 2: np.zeros(4)}
    for numbers in drawn:
        assert numbers[0] >= 0 and numbers[-1] < 12
        count[int(numbers[1] - numbers[0])][numbers[0]] += 1
    for starts in count.values():
        expected = 2000 / len(starts)
        assert (np.abs(starts - expected) < 5 * np.sqrt(expected)).all()
    assert frame_numbers(Data(frames=1, stride=(1, 3)), 0, 9, 1).tolist() == [0]
    assert frame_numbers(Data(frames=4, stride=(1, 9)), 0, 9, 4).tolist() == [0, 1, 2, 3]


def test_masks_of_other_clips(clips):
    """A clip's masks say its number; resized to the window, of consecutive frames."""
    masks = [np.zeros((*clip.shape[:3], 1), np.uint8) for clip in clips]
    for number, mask in enumerate(masks):
        mask[:, :, : 13 * number] = 1  # nothing, the left half, all
    data = Data(frames=3, size=(10, 8), mask_pairing="seed")
    pairs = set()
    for batch in take(ArrayClips({"clips": clips, "masks": masks}), data, 10):
        for image, mask in zip(batch["image"], batch["objects"], strict=True):
            own, other = int(image[0, 0, 0, 0]) // 50, round(2 * mask.mean())
            np.testing.assert_array_equal(mask[..., 0], np.broadcast_to(np.arange(8) < 4 * other, (3, 10, 8)))
            pairs.add((own, other))
    assert pairs == {(a, b) for a in range(3) for b in range(3) if a != b}


@pytest.fixture
def folders(tmp_path, clips):
    """The clips as DAVIS lies on a disk; masks as a palette, object 1 red and object 2 green."""
    for number, clip in enumerate(clips):
        for kind in ("frames", "masks"):
            (tmp_path / kind / f"clip{number}").mkdir(parents=True)
        for t, frame in enumerate(clip):
            Image.fromarray(frame).save(tmp_path / "frames" / f"clip{number}" / f"{t}.png")
            mask = Image.fromarray((frame[..., 2] % 2 == 0) * (1 + frame[..., 1] % 2).astype(np.uint8), "P")
            mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
            mask.save(tmp_path / "masks" / f"clip{number}" / f"{t}.png")
    return tmp_path


def test_folders_are_arrays(folders, clips):
    """Frame 10 is behind frame 9, and everything else as in memory."""
    paths = {"path": str(folders / "frames"), "masks": str(folders / "masks"), "mask_convention": "nonzero"}
    data = Data("folder", frames=4, stride=(1, 3), size=(8, 8), flip=True, **paths)
    source = open_source(data)
    assert [source.length(index) for index in range(3)] == list(LENGTHS) and source.label(1) == "clip1"
    arrays = ArrayClips({"clips": clips, "masks": masks_of(clips)})
    ours, theirs = take(None, data, 3), take(arrays, dataclasses.replace(data, masks=""), 3)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("image", "mask", "position"):
            np.testing.assert_array_equal(a[name], b[name])
    before = source.hash
    Image.new("RGB", (26, 20)).save(folders / "frames" / "clip0" / "3.png")
    assert FolderClips(folders / "frames").hash != before


def test_masks_of_another_folder_are_drawn(folders):
    """Of any names and lengths, for clips of any source; never the clip's own."""
    data = Data(frames=5, size=(16, 16), masks=str(folders / "masks"), mask_convention="nonzero", mask_pairing="seed")
    batch = take(None, data, 1)[0]
    assert batch["objects"].shape == (4, 5, 16, 16, 1) and set(np.unique(batch["objects"])) == {0, 1}
    shutil.rmtree(folders / "masks" / "clip1")
    shutil.rmtree(folders / "masks" / "clip2")
    assert take(None, data, 1)[0]["objects"].any()
    with pytest.raises(InputError, match=r"demo clips train has no file names: set data.mask_pairing = 'seed'"):
        take(None, dataclasses.replace(data, mask_pairing="name"), 1)
    folder = dataclasses.replace(data, source="folder", path=str(folders / "frames"))
    with pytest.raises(InputError, match=r"is 'seed', and .* has a single clip: there is no other one"):
        take(None, folder, 1)
    with pytest.raises(InputError, match=r"2 of 3 clips have no folder of their name in .*: clip1, clip2; or set data"):
        take(None, dataclasses.replace(folder, mask_pairing="name"), 1)
    with pytest.raises(InputError, match="fewer masks than the 8 frames of an example: clip0"):
        take(None, dataclasses.replace(data, frames=8), 1)


def test_a_broken_frame_costs_the_examples_that_have_it(folders):
    """The next clip takes its place, after a restart too; and above the share it is an error."""
    data = Data("folder", str(folders / "frames"), frames=6, size=(8, 8), max_broken=0.4)
    whole = take(None, data, 6)
    (folders / "frames" / "clip0" / "0.png").write_bytes(b"no picture")
    batches = stream(data, batch=4, seed=5)
    got = list(itertools.islice(batches, 6))
    batches.close()
    for before, after in zip(whole, got, strict=True):
        for image, other in zip(before["image"], after["image"], strict=True):
            if image[0, 0, 0, 0] == 0:  # clip 0 from frame 0 on
                assert other[0, 0, 0, 0] // 50 == 1
            else:
                np.testing.assert_array_equal(image, other)
    assert list(batches.broken) == ["clip0"] and "0.png" in batches.broken["clip0"]
    np.testing.assert_array_equal(take(None, data, 1, start=5)[0]["image"], got[5]["image"])
    (folders / "frames" / "clip1" / "5.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"2 of 3 clips \(66.67%\) are broken, more than data.max_broken = 40.00%"):
        take(None, data, 20)


def test_demo_clips():
    """Pure functions of their number; smooth motion: a frame is more like the next one than like the tenth."""
    source = DemoClips((48, 64), frames=20, length=5)
    frames = np.stack([source.frame(3, number) for number in range(20)]).astype(np.float32)
    assert frames.shape == (20, 48, 64, 3)
    again = DemoClips((48, 64), frames=20, length=5)
    np.testing.assert_array_equal(again.frame(3, 7), frames[7])
    assert again.hash == source.hash != DemoClips((48, 64), frames=20, length=5, split="test").hash
    assert (DemoClips((48, 64), split="test").frame(3, 7) != frames[7]).mean() > 0.5
    near, far = (np.abs(frames[gap:] - frames[:-gap]).mean() for gap in (1, 10))
    assert 0 < near < 0.6 * far
    assert open_source(Data(frames=9, stride=(1, 6), size=(48, 64))).length(0) == 49


class TinyClips(tfds.core.GeneratorBasedBuilder):
    """The clips of this file."""

    VERSION = tfds.core.Version("1.0.0")
    clips = ()

    def _info(self):
        features = {"video": tfds.features.Video(shape=(None, 20, 26, 3)), "number": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, clip in enumerate(self.clips):
            yield number, {"video": clip, "number": number}


def test_tfds(tmp_path, clips, monkeypatch):
    monkeypatch.setattr(TinyClips, "clips", clips)
    TinyClips(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    data = Data("tfds", "tiny_clips", directory=str(tmp_path), frames=3, stride=(1, 3), size=(8, 8), flip=True)
    source = open_source(data)
    order = [int(source.frame(index, 0)[0, 0, 0]) // 50 for index in range(3)]  # TFDS shuffles
    same = ArrayClips({"clips": [clips[number] for number in order]})
    for a, b in zip(take(source, data, 3), take(same, data, 3), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    with pytest.raises(
        InputError, match=r"1 of 3 clips .*\[\d\] has 7 frames, and an example of 8 at stride 1 spans 8"
    ):
        take(source, Data(frames=8, size=(8, 8), max_broken=0), 1, batch=3)
    with pytest.raises(InputError, match="has no feature 'frames'"):
        TfdsClips("tiny_clips", directory=str(tmp_path), feature="frames")
    with pytest.raises(InputError, match="'number' is int64"):
        TfdsClips("tiny_clips", directory=str(tmp_path), feature="number")


def test_errors(folders, clips):
    source = ArrayClips({"clips": clips})
    for data, words in (
        (
            Data(frames=4, stride=(3, 4)),
            r"2 of 3 clips have fewer than the 10 frames .*: clips\[0\] \(7\)",
        ),
        (Data(frames=-1), "data.frames is -1"),
        (Data(frames=2, stride=(2, 1)), r"data.stride \(2, 1\)"),
    ):
        with pytest.raises(InputError, match=words):
            take(source, data, 1)
    for arrays, words in (
        ({}, "no 'clips'"),
        ({"clips": [np.zeros((3, 8, 8, 3))]}, r"clips\[0\] is float64"),
        ({"clips": clips, "masks": masks_of(clips[:2])}, "2 masks for 3 clips"),
        ({"clips": clips[:1], "masks": [clips[0][..., :1]]}, r"masks\[0\] is .* with values 0 and 1"),
    ):
        with pytest.raises(InputError, match=words):
            ArrayClips(arrays)
    frames, masks = str(folders / "frames"), str(folders / "masks")
    (folders / "masks" / "clip2" / "0.png").unlink()
    with pytest.raises(InputError, match=r"clip clip2 of .* has 9 frames and 8 masks"):
        take(None, Data("folder", frames, frames=2, masks=masks), 1)
    with pytest.raises(InputError, match="there is no such folder"):
        FolderClips(folders / "nowhere")
    with pytest.raises(InputError, match="holds no folder: each clip is a folder"):
        FolderClips(folders / "frames" / "clip0")
    Image.new("RGB", (8, 8)).save(folders / "frames" / "clip0" / "3.png")
    with pytest.raises(InputError, match=r"clip clip0: frame 3 is 8x8, and frame \d is 20x26"):
        take(None, Data("folder", frames, frames=7, size=(8, 8), max_broken=0), 3, batch=3)


def test_arrays_of_a_file(tmp_path, clips):
    np.savez(tmp_path / "clips.npz", clips=np.stack([clip[:7] for clip in clips]))
    data = Data("arrays", str(tmp_path / "clips.npz"), frames=7, size=(20, 26), shuffle=False)
    (batch,) = take(None, data, 1, batch=3)
    np.testing.assert_array_equal(batch["image"], [clip[:7] for clip in clips])
