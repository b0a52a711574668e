"""LPIPS 0.1 on AlexNet, network and linear weights through the converter."""

import harness
import jax
import pytest
from lpips_check import check

from jaxpaint.models.alexnet import LPIPS_TAPS, AlexNet
from jaxpaint.models.features import lpips_scaling

CASES = harness.cases("lpips_alex")


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_lpips_alex_golden(case):
    network = AlexNet(normalise=lpips_scaling)
    with jax.default_matmul_precision("highest"):
        harness.run(case, {"lpips_alex": check("lpips_alex", "alexnet", network, LPIPS_TAPS)})
