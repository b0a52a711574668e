"""Batches: each example is a pure function of (seed, position, files), whatever the source."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from jaxpaint.data import ArraySource, Data, DemoSource, draws, open_source, stream
from jaxpaint.data.geometry import cut, cut_mask, window
from jaxpaint.types import InputError

COUNT, SIDE = 23, 24


def coded(count=COUNT, height=SIDE + 6, width=SIDE + 10):
    """Pictures whose pixels say where they are: red = column, green = row, blue = number of the picture."""
    images = np.zeros((count, height, width, 3), np.uint8)
    images[..., 0] = np.arange(width)
    images[..., 1] = np.arange(height)[:, None]
    images[..., 2] = np.arange(count)[:, None, None]
    return images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("coded")
    for number, image in enumerate(coded()):
        Image.fromarray(image).save(root / f"{number:02d}.png")
    return root


@pytest.fixture(params=["folder", "arrays", "demo"])
def data(request, root):
    if request.param == "demo":
        return Data(size=(SIDE, SIDE), length=COUNT, flip=True), None
    source = ArraySource({"images": coded()}) if request.param == "arrays" else None
    return Data(source=request.param, path=str(root), size=(SIDE, SIDE), flip=True), source


def take(data, count, **options):
    data, source = data
    batches = stream(data, seed=options.pop("seed", 5), source=source, **options)
    made = [next(batches) for _ in range(count)]
    batches.close()
    return made


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_resumed_run_continues(data):
    whole = take(data, 8, batch=4)
    for a, b in zip(whole[6:], take(data, 2, batch=4, start_step=6), strict=True):
        same(a, b)
    assert whole[0]["image"].shape == (4, SIDE, SIDE, 3) and whole[0]["image"].dtype == np.uint8
    assert whole[0]["position"].dtype == np.uint32
    np.testing.assert_array_equal(np.concatenate([b["position"] for b in whole]), np.arange(32))


def test_parts_of_processes_are_the_batch_of_one(data):
    """Also across the seam of an epoch (23 pictures, batches of 6)."""
    whole = take(data, 3, batch=6, start_step=2)
    parts = [take(data, 3, batch=6, start_step=2, process=k, processes=3) for k in range(3)]
    for step, batch in enumerate(whole):
        same({name: np.concatenate([p[step][name] for p in parts]) for name in batch}, batch)


def test_seed_matters_and_a_late_step_starts_at_once(data):
    first, other = take(data, 1, batch=4), take(data, 1, batch=4, seed=6)
    assert not np.array_equal(first[0]["image"], other[0]["image"])
    late = take(data, 1, batch=4, start_step=10**9 + 1)[0]
    np.testing.assert_array_equal(late["position"], (4 * (10**9 + 1) + np.arange(4)) % 2**32)


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_examples_are_windows_of_the_pictures(kind, root):
    """Epochs are permutations; every example is one contiguous window, mirrored or not; draws cover their range."""
    data = Data(source=kind, path=str(root), size=(SIDE, SIDE), flip=True)
    source = ArraySource({"images": coded()}) if kind == "arrays" else None
    images = np.concatenate([b["image"] for b in take((data, source), 3 * COUNT, batch=4)]).astype(int)
    number = images[:, 0, 0, 2].reshape(-1, COUNT)
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in number)
    assert len({tuple(epoch) for epoch in number}) == len(number)
    step = images[:, 0, 1, 0] - images[:, 0, 0, 0]
    assert set(step) == {-1, 1} and 0.3 < np.mean(step == 1) < 0.7
    images = np.where((step == 1)[:, None, None, None], images, images[:, :, ::-1])
    top, left = images[:, 0, 0, 1], images[:, 0, 0, 0]
    assert set(top) == set(range(7)) and set(left) == set(range(11))
    rows = np.arange(SIDE)
    np.testing.assert_array_equal(images[..., 1], np.broadcast_to((top[:, None] + rows)[:, :, None], images.shape[:3]))
    np.testing.assert_array_equal(images[..., 0], np.broadcast_to((left[:, None] + rows)[:, None], images.shape[:3]))
    assert (images[..., 2] == images[:, :1, :1, 2]).all()


def test_folder_and_arrays_make_the_same_examples(root):
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE), flip=True)
    for a, b in zip(
        take((data, None), 3, batch=5), take((data, ArraySource({"images": coded()})), 3, batch=5), strict=True
    ):
        same(a, b)


def test_without_shuffle_pictures_come_in_order(root):
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE), shuffle=False)
    batch = take((data, None), 2, batch=20)
    number = np.concatenate([b["image"][:, 0, 0, 2] for b in batch])
    np.testing.assert_array_equal(number, np.arange(40) % COUNT)


def test_draws():
    """The hash is SplitMix64: its published first outputs for seed 1234567; order is a permutation without trend."""
    state = np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * np.uint64(draws._GAMMA)
    np.testing.assert_array_equal(
        draws._mix(state), np.array([6457827717110365317, 3203168211198807973, 9817491932198370423], np.uint64)
    )
    count = 20000
    a, b = draws.order(0, 0, count), draws.order(0, 1, count)
    assert (np.sort(a) == np.arange(count)).all() and (a != b).any()
    limit = 5 / count**0.5  # five standard deviations of a correlation of independent draws
    for x, y in [(a[1:], a[:-1]), (a[256:], a[:-256]), (a, b), (a, np.arange(count)), (a, draws.order(256, 0, count))]:
        assert abs(np.corrcoef(x, y)[0, 1]) < limit
    down = draws.uniform(0, draws.DOWN, np.arange(count))
    right = draws.uniform(0, draws.RIGHT, np.arange(count))
    assert abs(down.mean() - 0.5) < limit and abs(np.corrcoef(down, right)[0, 1]) < limit
    assert down.min() >= 0 and down.max() < 1


@pytest.mark.parametrize("fit,height,width,expected", [
    ("crop", 40, 60, (40, 60)),
    ("crop", 16, 60, (24, 90)),  # too low: enlarged until it covers the window
    ("crop", 10, 12, (24, 29)),
    ("resize", 40, 60, (24, 24)),
    ("shorter", 48, 60, (24, 30)),
    ("shorter", 100, 24, (100, 24)),
])  # fmt: skip
def test_fits(fit, height, width, expected):
    for draw in (0.0, 0.5, 1 - 2**-53):
        where = window(height, width, (24, 24), fit, draw, draw)
        assert where[:2] == expected
        assert 0 <= where.top <= expected[0] - 24 and 0 <= where.left <= expected[1] - 24
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        whole = np.asarray(Image.fromarray(image).resize(expected[::-1], Image.Resampling.BILINEAR))
        got = cut(image, where, (24, 24))
        assert got.shape == (24, 24, 3)
        reference = whole[where.top : where.top + 24, where.left : where.left + 24]
        # The window alone is resized: coefficients may round to the other side.
        assert np.abs(got.astype(int) - reference).max() <= 1


def test_mask_geometry_is_the_pictures():
    """A mask of half the picture's size is stretched over it; nearest neighbour keeps it binary."""
    mask = np.random.default_rng(0).integers(0, 2, (20, 30, 1), dtype=np.uint8)
    stretched = mask.repeat(2, 0).repeat(2, 1)
    where = window(40, 60, (24, 24), "crop", 0.4, 0.7)
    expected = stretched[where.top : where.top + 24, where.left : where.left + 24]
    np.testing.assert_array_equal(cut_mask(mask, where, (24, 24)), expected)


def test_demo_pictures():
    source = DemoSource((64, 48), 7)
    images = np.stack([source.picture(i) for i in range(7)])
    assert images.shape == (7, 64, 48, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(images[3], DemoSource((64, 48), 7).picture(3))
    assert not np.array_equal(images[3], DemoSource((64, 48), 7, "validation").picture(3))
    assert all(image.std() > 10 for image in images)  # none is flat
    assert len({image.tobytes() for image in images}) == 7
    assert source.hash != DemoSource((64, 48), 7, "validation").hash


def test_arrays_with_masks(tmp_path):
    images = coded(4, SIDE, SIDE + 4)
    masks = (images[..., :1] % 3 == 0).astype(np.uint8)  # a function of the column, which red tells
    np.savez(tmp_path / "pictures.npz", images=images, masks=masks)
    data = Data(source="arrays", path=str(tmp_path / "pictures.npz"), size=(SIDE, SIDE), flip=True)
    for batch in take((data, None), 4, batch=4):
        np.testing.assert_array_equal(batch["mask"], batch["image"][..., :1] % 3 == 0)
        assert batch["mask"].dtype == np.uint8


def test_no_thread_is_left():
    data = Data(size=(16, 16), length=10)
    before = threading.active_count()
    closed, dropped = stream(data, batch=2, seed=0), stream(data, batch=2, seed=0)
    next(closed), next(dropped)
    assert threading.active_count() == before + 2
    closed.close()
    del dropped
    gc.collect()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(closed)


def test_a_dropped_stream_is_collected(root):
    """TensorFlow keeps the functions that a pipeline calls; they must not keep the source."""
    data = Data(source="folder", path=str(root), size=(SIDE, SIDE))
    source = open_source(data)
    batches = stream(data, batch=4, seed=0, source=source)
    next(batches)
    there = weakref.ref(source)
    del batches, source
    gc.collect()
    assert there() is None


def test_what_fails_in_the_thread_is_raised():
    class Failing(ArraySource):
        def picture(self, index):
            raise OSError("the disk is gone")

    batches = stream(Data(size=(8, 8)), batch=2, seed=0, source=Failing({"images": coded()}))
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


WITHOUT_TENSORFLOW = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ImportError("no " + name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from jaxpaint.data import Data, stream
from jaxpaint.types import InputError
for data in (Data(source="arrays", path=sys.argv[1], size=(8, 8)), Data(size=(8, 8))):
    assert next(stream(data, batch=2, seed=0))["image"].shape == (2, 8, 8, 3)
try:
    next(stream(Data(source="folder", path=sys.argv[2], size=(8, 8)), batch=2, seed=0))
except InputError as error:
    assert "pip install tensorflow" in str(error), error
else:
    raise SystemExit("TensorFlow was not missed")
print("done")
"""


def test_arrays_and_demo_need_no_tensorflow(tmp_path, root):
    np.savez(tmp_path / "a.npz", images=coded(3))
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, str(tmp_path / "a.npz"), str(root)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0 and run.stdout == "done\n", run.stderr


UNCLOSED = """
import sys
from jaxpaint.data import Data, stream
sources = (Data(source="folder", path=sys.argv[1], size=(8, 8)), Data(size=(8, 8)))
streams = [stream(data, batch=4, seed=0) for data in sources]
for s in streams:
    next(s)
print("done")
"""


def test_a_program_may_end_without_closing(root):
    run = subprocess.run(
        [sys.executable, "-c", UNCLOSED, str(root)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0 and run.stdout == "done\n", run.stderr


def test_batch_that_cannot_be_divided():
    with pytest.raises(InputError, match=r"batch of 10 cannot be divided among 4 processes.*8 or 12"):
        stream(Data(), batch=10, seed=0, processes=4)
    with pytest.raises(InputError, match="process 2 of 2"):
        stream(Data(), batch=4, seed=0, process=2, processes=2)


@pytest.mark.parametrize("change,message", [
    ({"source": "foldr"}, "data.source is 'foldr': expected one of demo, folder, tfds, arrays"),
    ({"fit": "squash"}, "data.fit is 'squash': expected one of crop, resize, shorter"),
    ({"mask_convention": "white"}, "data.mask_convention is 'white'"),
    ({"size": (0, 8)}, "data.size is"),
    ({"max_broken": 2.0}, "data.max_broken is 2.0"),
    ({"source": "folder"}, "data.path is empty"),
    ({"length": 0}, "data.length = 0"),
    ({"source": "arrays", "path": "gone.npz"}, "gone.npz' cannot be read"),
])  # fmt: skip
def test_bad_fields(change, message):
    with pytest.raises(InputError) as caught:
        open_source(Data(**change))
    assert message in str(caught.value)


def test_bad_arrays(tmp_path):
    (tmp_path / "text.npz").write_text("not a zip file")
    with pytest.raises(InputError, match=r"not a readable \.npz"):
        ArraySource(str(tmp_path / "text.npz"))
    with pytest.raises(InputError, match=r"no array 'images' \(there are \['x'\]\)"):
        ArraySource({"x": np.zeros(3)})
    with pytest.raises(InputError, match=r"float64 \(2, 4, 4, 3\)"):
        ArraySource({"images": np.zeros((2, 4, 4, 3))})
    images = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(InputError, match=r"values from 0.* to 255"):
        ArraySource({"images": images, "masks": np.full((2, 4, 4), 255) * np.eye(4)})
    with pytest.raises(InputError, match=r"2 masks, n h w 1, are expected"):
        ArraySource({"images": images, "masks": np.zeros((3, 4, 4, 1))})
