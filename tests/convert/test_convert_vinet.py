"""VINet's file to weights: container, the decoder's axis, colours."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.convert import vinet
from jaxpaint.convert.table import assign
from jaxpaint.io import torch_file
from jaxpaint.models.vinet import VINet
from jaxpaint.types import InputError

MANIFEST = json.loads((Path(__file__).parents[1] / "goldens" / "vinet" / "manifest.json").read_text())
WIDTH = 4


def published() -> dict[str, np.ndarray]:
    """A file's tensors by published name, of a narrower network."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape, _ in MANIFEST["state"]:
        if len(shape) > 1:
            inputs = {5: 5, 34: WIDTH + 2}.get(shape[1], shape[1] * WIDTH // 32)
            if "flow_estimator.convs.0.0" in name:  # features, 81 correlations and, but at the coarsest level, a flow
                others = 81 if name.startswith("flownet.") else 83
                inputs = (shape[1] - others) * WIDTH // 32 + others
            shape = [shape[0], inputs, *shape[2:]]
        shape = [shape[0] if shape[0] <= 3 else shape[0] * WIDTH // 32, *shape[1:]]
        fan_in = np.prod(shape[1:])
        state[f"module.{name}"] = (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)
    return state


def variables(state):
    network = VINet(width=WIDTH)
    clip = (jnp.zeros((1, 5, 16, 16, channels)) for channels in (3, 1))
    template = jax.eval_shape(network.init, jax.random.key(0), network.begin(1, 16, 16), *clip)
    return assign("vinet", vinet.CONVERSION, state, {"vinet": template})["vinet"]


def test_a_file_becomes_weights(monkeypatch):
    state = published()
    monkeypatch.setattr(torch_file, "read", lambda path: {"epoch": 3, "state_dict": state})
    found, source = vinet.read("save_agg_rec.pth")
    assert source == "torch"
    assert vinet.config(found) == {"width": WIDTH}
    params = variables(found)["params"]
    kernel = params["decoder"]["dc1_1"]["conv"]["1"]["kernel"]
    np.testing.assert_array_equal(
        kernel, np.einsum("oidhw->dhwio", state["module.decoder.dc1_1.conv.1.weight"])[0], strict=True
    )
    kernel = params["st_agg_64"]["stAgg"]["conv"]["kernel"]
    np.testing.assert_array_equal(
        kernel, np.einsum("oithw->thwio", state["module.st_agg_64.stAgg.conv.weight"]), strict=True
    )
    del state["module.masknet.convs.2.bias"]
    with pytest.raises(InputError, match="masknet/convs/2/bias"):
        variables(vinet.canonical(state))


def test_bgr_weights_become_rgb():
    """The first three inputs of both towers and the outputs of the last layer, and nothing else, are reversed."""
    bgr = vinet.canonical(published())
    rgb = vinet.reorder(bgr)
    assert rgb.keys() == bgr.keys()
    changed = {name for name in bgr if not np.array_equal(bgr[name], rgb[name])}
    towers = {"vinet.encoder1.ec0.conv.weight", "vinet.encoder2.ec0.conv.weight"}
    assert changed == {*towers, "vinet.decoder.dc6.weight"}
    for name in towers:
        np.testing.assert_array_equal(rgb[name], bgr[name][:, [2, 1, 0, 3, 4]])
    np.testing.assert_array_equal(rgb["vinet.decoder.dc6.weight"], bgr["vinet.decoder.dc6.weight"][[2, 1, 0]])
    assert vinet.CONVERSION.channels == {"torch": "bgr"}


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {"a": 1}}])
def test_other_files(content, monkeypatch):
    monkeypatch.setattr(torch_file, "read", lambda path: content)
    with pytest.raises(InputError, match=r"VINet file|expected tensors"):
        vinet.read("other.pth")
