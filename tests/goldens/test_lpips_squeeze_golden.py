"""LPIPS 0.1 on SqueezeNet, network and linear weights through the converter."""

import harness
import jax
import pytest
from lpips_check import check

from jaxpaint.models.features import lpips_scaling
from jaxpaint.models.squeezenet import LPIPS_TAPS, SqueezeNet

CASES = harness.cases("lpips_squeeze")


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_lpips_squeeze_golden(case):
    network = SqueezeNet(normalise=lpips_scaling)
    with jax.default_matmul_precision("highest"):
        harness.run(case, {"lpips_squeeze": check("lpips_squeeze", "squeezenet1_1", network, LPIPS_TAPS)})
