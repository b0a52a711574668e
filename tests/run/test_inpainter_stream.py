"""Errors of systems that fill clips their own way: what a user can mend is said, all else passes."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxpaint.run.inpainter import Inpainter
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Page, System
from jaxpaint.types import InputError


@dataclasses.dataclass
class Nothing:
    """A config."""


@pytest.mark.parametrize("name", ["iivi", "vinet"])
def test_weights_of_another_width_are_refused_for_clips(name):
    page = SYSTEMS[name]
    clip = np.zeros((2, 32, 32, 3), np.uint8)
    batch = {"image": np.zeros((1, *clip.shape[not page.video :]), np.float32)}
    batch["mask"] = np.zeros((*batch["image"].shape[:-1], 1), np.float32)
    shapes = jax.eval_shape(page.build(page.tiny).init, jax.random.key(0), batch).weights
    weights = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    wider = dataclasses.replace(page.tiny, width=page.tiny.width * 2)
    frames = Inpainter(name, wider, weights, devices=1).stream(clip, np.eye(32))
    with pytest.raises(InputError, match=f"the weights do not fit {name} with .*another configuration"):
        next(frames)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("internal", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 16G"), InputError, "the array, 32x32, does not fit into"),
        (jax.errors.JaxRuntimeError("INTERNAL: a bug"), jax.errors.JaxRuntimeError, "a bug"),
        (InputError("a broken frame"), InputError, "^a broken frame$"),
        (ValueError("a bug"), ValueError, "a bug"),
    ],
    ids=["memory", "internal", "input", "other"],
)
def test_errors_of_a_stream(monkeypatch, error, kind, said, internal, late):
    """At once or late, what a user can mend is said so, and nothing else is hidden."""

    def stream(weights, clip, masks, key, say):
        def frames():
            yield from clip
            raise error

        if late:
            return frames()
        raise error

    def build(config, optim=None, dtype=None):
        return System(None, None, None, {}, stream=stream)

    monkeypatch.setitem(SYSTEMS, "failing", Page("", Nothing, build, None, watch="", internal=internal))
    inpainter = Inpainter("failing", {}, {"params": {}}, devices=1)
    given = []
    with pytest.raises(kind, match=said) as caught:
        filled = inpainter.stream(np.zeros((2, 32, 32, 3), np.uint8), np.eye(32))
        given.append("an iterator")
        given.extend(filled)
    assert len(given) == (3 if late else 0)
    if "fit into" in said:
        assert ("--model.base" in str(caught.value)) == internal and caught.value.__cause__ is error
