"""Windows of clips: pure functions of (seed, position), and pixels against slicing by hand."""

import itertools

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxpaint.data.clip_sources import ArrayClips, FolderClips, TfdsClips
from jaxpaint.data.clips import Windows, clip_stream, frame_numbers
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


def take(source, windows, steps, start=0, **options):
    stream = clip_stream(source, windows, **{"batch": 4, "seed": 5, **options}, start_step=start)
    try:
        return list(itertools.islice(stream, steps))
    finally:
        stream.close()


def test_windows_are_slices(clips):
    windows = Windows(frames=3, stride=(1, 4), size=(8, 10), flip=True, backward=True)
    seen = set()
    for batch in take(ArrayClips({"clips": clips, "masks": masks_of(clips)}), windows, 12):
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
    batches = take(ArrayClips({"clips": clips}), Windows(frames=2, size=(8, 8)), 6, batch=3)
    orders = [tuple((batch["image"][:, 0, 0, 0, 0] // 50).tolist()) for batch in batches]
    assert all(sorted(order) == [0, 1, 2] for order in orders) and len(set(orders)) > 1


def test_restarts_and_processes_make_the_same_examples(clips):
    source = ArrayClips({"clips": clips, "masks": masks_of(clips)})
    windows = Windows(frames=3, stride=(1, 2), size=(8, 8), flip=True, masks="other")
    whole = take(source, windows, 4)
    again = take(source, windows, 2, start=2)
    halves = [take(source, windows, 4, process=process, processes=2) for process in (0, 1)]
    for name in ("image", "mask", "position"):
        for step in (2, 3):
            np.testing.assert_array_equal(whole[step][name], again[step - 2][name])
        for step in range(4):
            parts = np.concatenate([half[step][name] for half in halves])
            np.testing.assert_array_equal(whole[step][name], parts)
    assert whole[3]["position"].tolist() == [12, 13, 14, 15]
    other_seed = take(source, windows, 1, seed=6)[0]
    assert (other_seed["image"] != whole[0]["image"]).any()


def test_every_start_comes_as_often(clips):
    """5 frames at stride 1 or 2 of 12: strides evenly, and within each the starts 0..7 or 0..3."""
    windows = Windows(frames=5, stride=(1, 2))
    drawn = [frame_numbers(windows, 0, position, 12) for position in range(4000)]
    count = {1: np.zeros(8), 2: np.zeros(4)}
    for numbers in drawn:
        assert numbers[0] >= 0 and numbers[-1] < 12
        count[int(numbers[1] - numbers[0])][numbers[0]] += 1
    for starts in count.values():
        expected = 2000 / len(starts)
        assert (np.abs(starts - expected) < 5 * np.sqrt(expected)).all()
    assert frame_numbers(Windows(frames=1, stride=(1, 3)), 0, 9, 1).tolist() == [0]
    assert frame_numbers(Windows(frames=4, stride=(1, 9)), 0, 9, 4).tolist() == [0, 1, 2, 3]


def test_masks_of_other_clips(clips):
    """A clip's masks say its number; resized to the window, of consecutive frames."""
    masks = [np.zeros((*clip.shape[:3], 1), np.uint8) for clip in clips]
    for number, mask in enumerate(masks):
        mask[:, :, : 13 * number] = 1  # nothing, the left half, all
    windows = Windows(frames=3, size=(10, 8), masks="other")
    pairs = set()
    for batch in take(ArrayClips({"clips": clips, "masks": masks}), windows, 10):
        for image, mask in zip(batch["image"], batch["mask"], strict=True):
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
    windows = Windows(frames=4, stride=(1, 3), size=(8, 8), flip=True)
    source = FolderClips(folders / "frames", folders / "masks")
    assert [source.length(index) for index in range(3)] == list(LENGTHS) and source.label(1) == "clip1"
    ours, theirs = take(source, windows, 3), take(ArrayClips({"clips": clips, "masks": masks_of(clips)}), windows, 3)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("image", "mask", "position"):
            np.testing.assert_array_equal(a[name], b[name])
    before = source.hash
    Image.new("RGB", (26, 20)).save(folders / "frames" / "clip0" / "3.png")
    assert FolderClips(folders / "frames").hash != before


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
    source = TfdsClips("tiny_clips", directory=str(tmp_path))
    order = [int(source.frame(index, 0)[0, 0, 0]) // 50 for index in range(3)]  # TFDS shuffles
    windows = Windows(frames=3, stride=(1, 3), size=(8, 8), flip=True)
    same = ArrayClips({"clips": [clips[number] for number in order]})
    for a, b in zip(take(source, windows, 3), take(same, windows, 3), strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])
    with pytest.raises(InputError, match="a clip of 7 frames: an example of 8 at stride 1 spans 8"):
        take(source, Windows(frames=8, size=(8, 8)), 1, batch=3)
    with pytest.raises(InputError, match="has no feature 'frames'"):
        TfdsClips("tiny_clips", directory=str(tmp_path), feature="frames")
    with pytest.raises(InputError, match="'number' is int64"):
        TfdsClips("tiny_clips", directory=str(tmp_path), feature="number").length(0)


def test_errors(folders, clips):
    source = ArrayClips({"clips": clips})
    for windows, words in (
        (
            Windows(frames=4, stride=(3, 4)),
            r"2 of 3 clips have fewer than the 10 frames .*: clips\[0\] \(7\)",
        ),
        (Windows(frames=0), "windows.frames is 0"),
        (Windows(stride=(2, 1)), r"windows.stride \(2, 1\)"),
        (Windows(fit="cover"), "windows.fit is 'cover'"),
        (Windows(size=(0, 8)), r"windows.size is \(0, 8\)"),
    ):
        with pytest.raises(InputError, match=words):
            clip_stream(source, windows, batch=1, seed=0)
    with pytest.raises(InputError, match="cannot be divided among 2 processes"):
        clip_stream(source, Windows(), batch=3, seed=0, processes=2)
    lone = ArrayClips({"clips": clips[:1], "masks": masks_of(clips[:1])})
    with pytest.raises(InputError, match="has a single clip"):
        clip_stream(lone, Windows(masks="other"), batch=1, seed=0)
    for arrays, words in (
        ({}, "no 'clips'"),
        ({"clips": [np.zeros((3, 8, 8, 3))]}, r"clips\[0\] is float64"),
        ({"clips": clips, "masks": masks_of(clips[:2])}, "2 masks for 3 clips"),
        ({"clips": clips[:1], "masks": [clips[0][..., :1]]}, r"masks\[0\] is .* with values 0 and 1"),
    ):
        with pytest.raises(InputError, match=words):
            ArrayClips(arrays)
    (folders / "masks" / "clip2" / "0.png").unlink()
    with pytest.raises(InputError, match=r"clip clip2 of .* has 9 frames and 8 masks"):
        FolderClips(folders / "frames", folders / "masks")
    with pytest.raises(InputError, match="there is no such folder"):
        FolderClips(folders / "nowhere")
    with pytest.raises(InputError, match="holds no folder: each clip is a folder"):
        FolderClips(folders / "frames" / "clip0")
    Image.new("RGB", (8, 8)).save(folders / "frames" / "clip0" / "3.png")
    with pytest.raises(InputError, match=r"clip clip0: frame 3 is 8x8, and frame \d is 20x26"):
        take(FolderClips(folders / "frames"), Windows(frames=7, size=(8, 8)), 3, batch=3)
