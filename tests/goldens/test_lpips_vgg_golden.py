"""LPIPS 0.1 on VGG-16, network and linear weights through the converter."""

import harness
import jax
import pytest
from lpips_check import check

from jaxpaint.models.features import lpips_scaling
from jaxpaint.models.vgg import LPIPS_TAPS, vgg16

CASES = harness.cases("lpips_vgg")


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_lpips_vgg_golden(case):
    network = vgg16(normalise=lpips_scaling)
    with jax.default_matmul_precision("highest"):
        harness.run(case, {"lpips_vgg": check("lpips_vgg", "vgg16", network, LPIPS_TAPS)})
