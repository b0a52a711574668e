"""Metrics through networks: LPIPS as a metric against its formula, one look for all that share it, small pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.metrics import networks, perceptual
from jaxpaint.metrics.frechet import frechet_distance
from jaxpaint.metrics.inception_score import inception_score_of
from jaxpaint.metrics.kernel import kernel_distance
from jaxpaint.metrics.metric import mean_of_pictures
from jaxpaint.metrics.networks import NETWORK_METRICS, Look, Recipe, build
from jaxpaint.metrics.separability import separability
from jaxpaint.models.features import random_variables
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}


def pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width, 1), np.uint8)
    mask[height // 4 : height // 2, width // 5 : width // 2] = 1
    return np.where(mask > 0, rng.integers(0, 256, target.shape, np.uint8), target), target, mask


@pytest.fixture(scope="module")
def weights():
    backbone = perceptual.BACKBONES["alex"]
    rng = np.random.default_rng(1)
    linear = tuple(rng.random(width, np.float32) for width in (64, 192, 384, 256, 256))
    return {backbone.name: random_variables(backbone.network, 0), "lpips_alex": linear}


@pytest.fixture(scope="module")
def metric(weights):
    return build(["lpips.alex"], weights)["lpips.alex"]


def enlarged(values, size, axis):
    """Bilinear with half-pixel centres along an axis, edges repeated: as torch's interpolate(align_corners=False)."""
    count = values.shape[axis]
    places = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    low = np.floor(places).astype(int)
    share = (places - low).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    high = np.minimum(low + 1, count - 1)
    return values.take(low, axis) * (1 - share) + values.take(high, axis) * share


def test_the_whole_is_the_published_distance_and_the_hole_is_the_mean_of_its_map(metric, weights):
    prediction, target, mask = pair(40, 53)
    measured = metric.measure([prediction], [target], [mask])
    backbone = perceptual.BACKBONES["alex"]
    both = np.float32(np.stack([prediction, target])) / 127.5 - 1
    _, out = jax.jit(backbone.network.apply, compiler_options=QUICKLY)(weights[backbone.name], both)
    taps = [np.asarray(out[tap], np.float64) for tap in backbone.taps]
    units = [tap / np.linalg.norm(tap, axis=-1, keepdims=True) for tap in taps]
    linear = weights["lpips_alex"]
    maps = [((unit[0] - unit[1]) ** 2 @ weight)[..., None] for unit, weight in zip(units, linear, strict=True)]
    assert measured["whole"] == [pytest.approx(sum(values.mean() for values in maps), rel=1e-5)]
    total = sum(enlarged(enlarged(values, 40, 0), 53, 1) for values in maps)
    assert measured["hole"] == [pytest.approx(total[mask > 0].mean(), rel=1e-5)]
    assert measured["hole"][0] > 1.2 * measured["whole"][0]  # the known pixels are equal
    same = metric.measure([target], [target], [mask])
    assert same == {region: [pytest.approx(0, abs=1e-12)] for region in ("whole", "hole")}


def test_a_picture_s_value_does_not_depend_on_its_company(metric):
    sizes = [(40, 53), (32, 48), (40, 53), (32, 48)]
    several = [pair(*size, seed) for seed, size in enumerate(sizes)]
    together = metric.measure(*zip(*several, strict=True))
    alone = [metric.measure(*([part] for part in three)) for three in several]
    for region in metric.regions:
        assert together[region] == [one[region][0] for one in alone]
    halves = [metric.measure(*zip(*part, strict=True)) for part in (several[:1], several[1:])]
    states = [metric.update(metric.init(), measured) for measured in (*halves, together)]
    assert metric.compute(metric.merge(states[1], states[0])) == metric.compute(states[2])


def test_the_truth_s_features_are_computed_once_for_all_masks(metric, monkeypatch):
    pictures = [pair(40, 53, seed) for seed in (7, 8)]
    predictions, targets, masks = zip(*pictures, strict=True)
    looked, features = [], perceptual._features
    monkeypatch.setattr(perceptual, "_features", lambda *given: looked.append(0) or features(*given))
    first = metric.measure(predictions, targets, masks)
    assert len(looked) == 4
    assert metric.measure(predictions, targets, masks) == first
    assert len(looked) == 6
    # A buffer that is filled with another picture is another picture.
    targets[0][...] = 0
    assert metric.measure(predictions, targets, masks)["whole"][0] != first["whole"][0]


def test_a_small_picture_is_a_reason(metric):
    three = zip(pair(40, 53), pair(16, 40), strict=True)
    measured = metric.measure(*three)
    assert measured["whole"][1] == measured["hole"][1] == "too small"
    result = metric.compute(metric.update(metric.init(), measured))["hole"]
    assert result == {"value": None, "n": 0, "reason": "1 of 2 pictures are below 31 px on a side"}
    prediction, target, mask = pair(40, 53)
    assert metric.measure([prediction], [target], [0 * mask])["hole"] == ["empty region"]
    with pytest.raises(InputError, match="the prediction is 40x50x3"):
        metric.measure([prediction[:, :50]], [target], [mask])


@pytest.mark.parametrize("net", perceptual.BACKBONES)
def test_the_smallest_side_is_the_network_s(net):
    network, side = perceptual.BACKBONES[net].network, perceptual.BACKBONES[net].smallest
    key = jax.random.key(0)
    jax.eval_shape(network.init, key, jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32))
    with pytest.raises(InputError, match=f"expected {side}x{side} at least"):
        jax.eval_shape(network.init, key, jax.ShapeDtypeStruct((1, side - 1, side, 3), jnp.float32))


def test_metrics_with_one_look_share_it(monkeypatch):
    made = []

    def make(*weights):
        made.append(weights)
        return lambda predictions, targets, masks: {"whole": [0.0] * len(targets)}

    def finish(measure, about):
        return mean_of_pictures(measure, about=about, better="lower", regions=("whole",))

    one, other = Look(("net",), make), Look(("net", "linear"), make)
    for name, look in (("a", one), ("b", one), ("c", other)):
        monkeypatch.setitem(NETWORK_METRICS, name, Recipe(f"the {name}", look, finish))
    metrics = build(["a", "b", "c"], {"net": 1, "linear": 2})
    assert made == [(1,), (1, 2)]
    assert metrics["a"].measure is metrics["b"].measure is not metrics["c"].measure
    assert [metric.about for metric in metrics.values()] == ["the a", "the b", "the c"]


def test_every_recipe_names_weights_that_there_are():
    from jaxpaint.io.pretrained import FILES

    for name, recipe in NETWORK_METRICS.items():
        assert recipe.about, name
        assert set(recipe.look.needs) <= set(FILES), name
        assert recipe.look.needs[0] in networks.NETWORKS, name


def test_every_recipe_of_the_whole_set_is_the_variant_that_its_name_says():
    rng = np.random.default_rng(3)
    prediction, target = rng.normal(0, 1, (2, 120, 6)).astype(np.float32) * [[[1]], [[2]]]
    seen = {"prediction": prediction, "target": target, "logits_unbiased": target, "logits": 0 * target}

    def of(name):
        recipe = NETWORK_METRICS[name]
        metric = recipe.finish(lambda *_: seen, recipe.about)
        assert metric.about == recipe.about and metric.regions == ("whole",)
        result = metric.compute(metric.update(metric.init(), metric.measure()))["whole"]
        assert result["n"] == 120
        return result

    def frechet(ddof):
        moments = [(x.mean(0), np.cov(x.T, ddof=ddof)) for x in (np.float64(prediction), np.float64(target))]
        return pytest.approx(frechet_distance(*moments[0], *moments[1]), rel=1e-9)

    assert of("fid.half_pixel")["value"] == of("fid.tf1")["value"] == frechet(1) != frechet(0)
    assert of("fid.tf1_population")["value"] == frechet(0)
    assert of("kid.tf1")["value"] == pytest.approx(kernel_distance(prediction, target, paired=True))
    assert "1000 at least" in of("kid.tf1_subsets")["reason"]
    assert of("inception_score.tf1")["value"] == pytest.approx(inception_score_of(np.float32(target), 10)[0], rel=0.05)
    paired, unpaired = separability(target, prediction)
    assert (of("p_ids.tf1")["value"], of("u_ids.tf1")["value"]) == pytest.approx((paired, unpaired))
    resizes = {name: NETWORK_METRICS[name].look.make.keywords["resize"] for name in ("fid.half_pixel", "p_ids.tf1")}
    assert resizes == {"fid.half_pixel": "half_pixel", "p_ids.tf1": "tf1"}
    # One look, and so one pass of the network, for all that resize in one way.
    assert len({recipe.look for name, recipe in NETWORK_METRICS.items() if ".tf1" in name}) == 1
