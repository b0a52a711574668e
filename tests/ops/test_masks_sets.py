"""Frozen sets: the same pixels everywhere and always."""

import jax
import numpy as np
import pytest

from jaxpaint.ops import masks
from jaxpaint.types import InputError

# A change of any of these changes what published figures were measured on: it needs a new name for the set.
PINNED = {
    "deepfillv2": "38e5d621d9d226b95311e0dd3b2e71fc178ecd8e9fd2486f680c20812faa6fd0",
    "irregular-20-30": "1867906ae66436af82850e306a8c7209afe6eb5cd24902dbf9167248b07807a6",
    "lama-thick": "dcb7bd58a4362c1496377a413bc89fa5d96375b1270accc8c4621d860f06305a",
    "mat": "33d8c124a346c7362758dc6da3a87ef91dd8a5dcf8515997d2fb994ee30444e4",
    "outpaint": "ed92b75fd7ec33db1af69ef219d8a5e3c622a948568a46c3f2056e8b34a22d60",
}


@pytest.mark.parametrize("name", PINNED)
def test_digest_is_pinned(name):
    assert masks.digest(masks.frozen(name, 6, 64, 96)) == PINNED[name]


def test_a_longer_set_begins_with_the_shorter():
    long = masks.frozen("box", 70, 32, 32)
    assert long.shape == (70, 32, 32, 1) and long.dtype == np.uint8
    np.testing.assert_array_equal(masks.frozen("box", 5, 32, 32), long[:5])
    assert not np.array_equal(masks.frozen("box", 5, 32, 32, seed=1), long[:5])


def test_settings_of_the_program_do_not_matter():
    with jax.threefry_partitionable(False), jax.default_prng_impl("rbg"):
        there = masks.frozen("box", 4, 32, 32)
    np.testing.assert_array_equal(there, masks.frozen("box", 4, 32, 32))


def test_sets_are_configured():
    """Every set names a family and options that exist; the buckets are what their names say."""
    for chosen in masks.SETS.values():
        masks.family(masks.Masks(chosen.family, dict(chosen.options)))
    for name, (low, high) in masks.BUCKETS.items():
        assert name == f"irregular-{100 * low:02.0f}-{100 * high:02.0f}"
        assert masks.SETS[name].options["bucket"] == (low, high)


def test_digest_tells_shape_and_pixels():
    mask = np.zeros((2, 4, 4, 1), np.uint8)
    other = mask.copy()
    other[1, 2, 3] = 1
    named = [masks.digest(m) for m in (mask, other, mask.reshape(1, 8, 4, 1))]
    assert len(set(named)) == 3
    assert masks.digest(other.astype(np.float32)) == named[1]


def test_jax_without_its_cpu_backend(monkeypatch):
    def refuse(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", refuse)
    with pytest.raises(InputError, match=r"Unknown backend cpu.*JAX_PLATFORMS=cuda,cpu"):
        masks.frozen("box", 1, 32, 32)


def test_errors():
    with pytest.raises(InputError, match="no mask set 'irregular-10-21': did you mean 'irregular-10-20'"):
        masks.frozen("irregular-10-21", 1, 32, 32)
    with pytest.raises(InputError, match="0 masks of the set 'box' were asked for"):
        masks.frozen("box", 0, 32, 32)
