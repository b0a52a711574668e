"""EdgeConnect's discriminators (PatchGAN, spectral norm in torch's convention) against numbers of the authors' code."""

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.convert.table import Conversion, assign
from jaxpaint.models.discriminators import PatchGAN

NETWORKS = {"EDGE": ("edge", "edge_pair", 2), "INPAINT": ("inpaint", "image", 3)}
"""By prefix of the manifest's names: how its outputs begin, the input, and the number of channels."""

# Published names are the modules' names, but for the spectral norm's kernel; `features` repeats `conv1`.
CONVERSION = Conversion(
    files=(),
    networks={prefix: prefix for prefix in NETWORKS},
    required=(),
    read=None,
    config=None,
    batch=None,
    channels={},
    reorder=None,
)


def weights(case):
    """{prefix: variables}, every published tensor in its place."""
    state = {}
    for name, array in case.weights().items():
        prefix, part, rest = name.split(".", 2)
        if part == "discriminator":
            state[f"{prefix}.{rest}".replace("weight_orig", "weight")] = array
    network = PatchGAN()
    template = {
        prefix: jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, channels)))
        for prefix, (_, _, channels) in NETWORKS.items()
    }
    return assign("edge_connect", CONVERSION, state, template)


def check_discriminator(case):
    got = {}
    published = weights(case)
    for prefix, (name, given, _) in NETWORKS.items():
        picture = jnp.asarray(case.inputs[given])
        # A training pass in torch: one power iteration first.
        (logits, out), changed = PatchGAN().apply(published[prefix], picture, mutable=["spectral"])
        got |= {
            f"{name}_logits": logits,
            f"{name}_prob": jax.nn.sigmoid(logits),
            f"{name}_conv3": out["conv3"],
        }
        # What was stored is what the norms were made of: a pass that stores nothing uses it and gives the same.
        after, _ = PatchGAN().apply({**published[prefix], **changed}, picture)
        np.testing.assert_allclose(after, logits, atol=1e-6)
    case.compare(got)


def check_generator(case):
    pytest.skip(f"{case.name}: EdgeConnect's generators are not part of jaxpaint yet")


CHECKS = {
    "discriminator": check_discriminator,
    "edge_generator": check_generator,
    "inpaint_generator": check_generator,
}


@pytest.mark.parametrize("case", harness.cases("edge_connect"), ids=harness.case_id)
def test_edge_connect_golden(case):
    with jax.default_matmul_precision("highest"):
        harness.run(case, CHECKS)
