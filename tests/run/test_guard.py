"""The guard names what was not finite, and stops a run that does not recover."""

import math

import pytest

from jaxpaint.run.guard import Guard, NonFiniteError
from jaxpaint.types import InputError

GOOD = {"generator/l1": 1.0, "skipped": 0.0}
BAD = {"generator/l1": math.nan, "generator/grad_norm": math.inf, "discriminator/loss": 1.0, "skipped": 1.0}


def test_skip_warns_and_stops_after_the_limit():
    guard = Guard("skip", limit=3, batch=8)
    assert guard.check(0, GOOD) is None
    warning = guard.check(1, BAD)
    assert "step 1 was dropped" in warning
    assert "generator/l1 = nan, generator/grad_norm = inf" in warning
    assert "discriminator/loss" not in warning
    assert "positions 8 to 15" in warning
    assert guard.check(2, BAD)
    assert guard.check(3, GOOD) is None, "the row is broken"
    assert guard.check(4, BAD) and guard.check(5, BAD)
    with pytest.raises(NonFiniteError, match=r"step 6 was dropped.*3 in a row, 5 in all.*Lower optim\.lr"):
        guard.check(6, BAD)


def test_abort_stops_at_the_first():
    with pytest.raises(NonFiniteError, match=r"step 0 was dropped: not finite: generator/l1 = nan"):
        Guard("abort", limit=10, batch=8).check(0, BAD)


def test_unknown_policy():
    with pytest.raises(InputError, match="expected 'skip' or 'abort'"):
        Guard("ignore", limit=1, batch=8)
