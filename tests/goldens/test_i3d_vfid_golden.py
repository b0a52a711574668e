"""I3D with the statistics of the clip (published figures) and with the stored ones, and the distance of features."""

import functools

import harness
import jax
import numpy as np
import pytest

from jaxpaint.convert.features import to_variables
from jaxpaint.metrics.frechet import frechet_distance_of
from jaxpaint.models.i3d import InceptionI3d

CASES = harness.cases("i3d_vfid")
STORED = {
    "real_Conv3d_1a_7x7": "Conv3d_1a_7x7",
    "real_MaxPool3d_4a_3x3": "MaxPool3d_4a_3x3",
    "real_Mixed_4f": "Mixed_4f",
    "real_Mixed_5c": "Mixed_5c",
}


def check_network(case, statistics):
    network = InceptionI3d(statistics=statistics)
    variables = to_variables("i3d_rgb_imagenet", case.weights(), network)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 12_287_264
    run = jax.jit(network.apply, compiler_options={"xla_backend_optimization_level": 0})
    # The published code gives the network values in [0, 1], in both cases.
    (real, out), (comp, _) = (run(variables, case.inputs[name][None] / np.float32(255)) for name in ("real", "comp"))
    got = {"feature_real": real[0], "feature_comp": comp[0]}
    for name, layer in STORED.items():
        got[name] = np.moveaxis(out[layer][0, :3, :10, :10, :6], -1, 0)
    case.compare(got)


def check_distance(case):
    case.compare({"vfid_f64": frechet_distance_of(case.inputs["real_activations"], case.inputs["comp_activations"])})


CHECKS = {
    "train_mode_as_published_code": functools.partial(check_network, statistics="clip"),
    "eval_mode": functools.partial(check_network, statistics="stored"),
    "vfid_from_activations": check_distance,
}


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_i3d_vfid_golden(case):
    with jax.default_matmul_precision("highest"):
        harness.run(case, CHECKS)
