"""VGG-19's taps, and the perceptual and style losses that inpainting code makes of them."""

import dataclasses

import harness
import jax
import jax.numpy as jnp
import pytest

from jaxpaint.convert.features import to_variables
from jaxpaint.losses.perceptual import gram, perceptual, style
from jaxpaint.models.features import imagenet, unit_range
from jaxpaint.models.vgg import PERCEPTUAL_TAPS, STYLE_TAPS, vgg19

CASES = harness.cases("vgg19")


def check(normalise):
    def run(case):
        network = vgg19(normalise=normalise)
        variables = to_variables("vgg19", case.weights(), network)
        image = 2 * jnp.asarray(case.inputs["x"]).transpose(0, 2, 3, 1) - 1
        _, out = jax.jit(network.apply)(variables, image)
        got = {name: out[name][:, :12, :12, :8].transpose(0, 3, 1, 2) for name in case.expected if name in out}
        first, second = ({name: tap[i : i + 1] for name, tap in out.items()} for i in (0, 1))
        got["perceptual_l1"] = jnp.stack([perceptual(first, second, {name: 1.0}) for name in PERCEPTUAL_TAPS])
        got["style_l1"] = jnp.stack([style(first, second, {name: 1.0}) for name in STYLE_TAPS])
        got["gram_relu2_2"] = gram(out["relu2_2"])[:, :32, :32]
        with_relative(case, "style_l1").compare(got)

        for name in (n for n in out if n.startswith("relu")):
            assert jnp.array_equal(out[name], jnp.maximum(out[name.replace("relu", "conv")], 0)), name

    return run


def with_relative(case, output: str):
    """The case with the relative tolerance of an output as an absolute one, that of its smallest value."""
    allowed = case.entry["relative_tolerance"][output] * float(abs(case.expected[output]).min())
    return dataclasses.replace(case, entry={**case.entry, "tolerance": {**case.entry["tolerance"], output: allowed}})


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_vgg19_golden(case):
    with jax.default_matmul_precision("highest"):
        harness.run(case, {"imagenet_normalised": check(imagenet), "raw_0_1": check(unit_range)})
