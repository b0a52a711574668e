"""VFID: what the network is shown in either variant, one look for a clip, and figures of sets."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.metrics import vfid as of_clips
from jaxpaint.metrics.frechet import frechet_distance
from jaxpaint.metrics.networks import build
from jaxpaint.metrics.video import VIDEO_METRICS
from jaxpaint.run.figures import clip_figures
from jaxpaint.types import InputError

NAME = "i3d_rgb_imagenet"


def a_pair(seed=0, frames=3):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 256, (frames, 34, 40, 3), np.uint8)
    mask = np.zeros((frames, 34, 40, 1), np.uint8)
    mask[:, 10:20, 10:30] = 1
    return np.where(mask > 0, rng.integers(0, 256, target.shape, np.uint8), target), target, mask


class Counted:
    """In place of the network: means of what it is shown, and how often it was."""

    shown: ClassVar[list[tuple[np.ndarray, str]]] = []

    def __init__(self, statistics):
        self.statistics = statistics

    def apply(self, variables, clip):
        jax.debug.callback(lambda seen: Counted.shown.append((np.array(seen), self.statistics)), clip)
        return jnp.tile(clip.mean((1, 2, 3)), (1, 342))[:, :1024], {}


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(Counted, "shown", [])
    monkeypatch.setattr(of_clips, "InceptionI3d", Counted)
    return Counted.shown


@pytest.mark.parametrize("name", ["vfid", "vfid.released"])
def test_the_network_is_shown_what_the_name_says(shown, name):
    metric = build([name], {NAME: {}}, VIDEO_METRICS)[name]
    prediction, target, mask = a_pair()
    measured = metric.measure([prediction], [target], [mask])
    jax.effects_barrier()
    released = name == "vfid.released"
    assert [statistics for _, statistics in shown] == 2 * ["clip" if released else "stored"]
    expected = prediction / 255.0 if released else prediction / 127.5 - 1
    np.testing.assert_allclose(shown[1][0], expected[None], atol=1e-6)
    assert measured["prediction"].shape == measured["target"].shape == (1, 1024)
    np.testing.assert_allclose(measured["prediction"][0, :3], expected.mean((0, 1, 2)), atol=1e-6)


def test_a_clip_is_looked_at_once_and_its_row_does_not_depend_on_its_company(shown):
    metric = build(["vfid"], {NAME: {}}, VIDEO_METRICS)["vfid"]
    pairs = [a_pair(0), a_pair(1, frames=5), a_pair(0)]
    together = metric.measure(*zip(*pairs, strict=True))
    jax.effects_barrier()
    assert len(shown) == 5  # three results and two originals
    other_masks = [1 - mask for _, _, mask in pairs]
    again = metric.measure([pair[0] for pair in pairs], [pair[1] for pair in pairs], other_masks)
    jax.effects_barrier()
    assert len(shown) == 8
    alone = metric.measure(*([part] for part in pairs[1]))
    for name in ("prediction", "target"):
        np.testing.assert_array_equal(again[name], together[name])
        np.testing.assert_array_equal(together[name][1:2], alone[name])


def test_vfid_is_the_distance_of_the_rows_however_they_came():
    rng = np.random.default_rng(2)
    rows = {
        name: rng.normal(0, scale, (60, 8)).astype(np.float32) for name, scale in (("prediction", 1), ("target", 2))
    }
    moments = [x for array in rows.values() for x in (array.mean(0, dtype=float), np.cov(array, rowvar=False))]
    for name in ("vfid", "vfid.released"):
        metric = VIDEO_METRICS[name].finish(lambda *_: rows, VIDEO_METRICS[name].about)
        parts = [{key: array[part] for key, array in rows.items()} for part in (slice(20), slice(20, None))]
        states = [metric.update(metric.init(), part) for part in (*parts, rows)]
        whole = metric.compute(states[2])["whole"]
        assert whole["value"] == pytest.approx(frechet_distance(*moments), rel=1e-9)
        assert metric.compute(metric.merge(states[1], states[0]))["whole"] == whole
        assert whole["n"] == 60 and "biased upwards" in whole["flag"] and metric.of_set
        few = metric.compute(states[1])["whole"]
        assert few["value"] is None and "N = 40 clips: VFID is given for 50 at least" in few["reason"]


def test_the_command_s_names_say_whose_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXPAINT_WEIGHTS", str(tmp_path))
    metrics = clip_figures(["vfid", "vfid.released"], "random")
    assert set(metrics) == {"vfid[random features]", "vfid.released[random features]"}
    assert all("weights: random" in metric.about for metric in metrics.values())
    with pytest.raises(InputError, match=r"i3d_rgb_imagenet\.pt"):
        clip_figures(["vfid"])


def test_what_belongs_not_together_is_refused():
    measure = of_clips.extractor({}, released=False)
    prediction, target, mask = a_pair()
    for given, message in (
        ((prediction[0], target, mask), r"prediction is uint8 \(34, 40, 3\): expected a clip"),
        ((prediction, target / 255, mask), "ground truth is float64"),
        ((prediction[:2], target, mask), "give the same frames"),
        ((prediction, target, mask[:2]), r"masks \(2, 34, 40, 1\)"),
    ):
        with pytest.raises(InputError, match=message):
            measure(*([part] for part in given))
    assert measure([], [], [])["target"].shape == (0, 1024)
