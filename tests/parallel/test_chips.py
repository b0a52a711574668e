"""The table of accelerators: what JAX calls them, and that no figure lost its unit."""

import jax
import pytest

from jaxpaint.parallel.chips import CHIPS, GIB, KINDS, chip_of
from jaxpaint.types import InputError


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5 lite", "v5e"),
        ("TPU v5p", "v5p"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU7x", "tpu7x"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM-80GB"),
    ],
)
def test_kinds_that_jax_reports(kind, name):
    assert chip_of(kind) is CHIPS[name]


@pytest.mark.parametrize("kind", ["cpu", "", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA GeForce RTX 4090"])
def test_unknown_devices_have_no_figures(kind):
    assert chip_of(kind) is None


def test_this_machine_is_no_accelerator():
    assert chip_of(jax.devices("cpu")[0].device_kind) is None


def test_figures_are_plausible():
    assert set(KINDS.values()) == set(CHIPS)
    for chip in CHIPS.values():
        # FLOPs that a device does while it reads one byte: 150 to 660 on all that were built for this.
        assert 100 < chip.peak("bfloat16") / chip.bandwidth < 700, chip
        assert 14e9 < chip.usable < 200e9, chip
        assert abs(chip.usable / chip.memory - 1) < 0.06, chip  # the two are counted in different places
        assert chip.source
        assert chip.peak("bfloat16") >= chip.peak("float32")


def test_devices_of_one_chip():
    ironwood = CHIPS["tpu7x"]
    assert ironwood.devices == 2
    assert 2 * ironwood.peak("bfloat16") == 2307e12
    assert 2 * ironwood.memory == 192 * GIB


def test_a_type_without_a_figure():
    with pytest.raises(InputError, match=r"no peak is known of v5e for int4: there is one for bfloat16, float32"):
        CHIPS["v5e"].peak("int4")
