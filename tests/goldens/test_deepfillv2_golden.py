"""DeepFillv2 against numbers of the authors' code, its weights through the converter."""

import re

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.convert import convert, to_flax
from jaxpaint.models.deepfillv2 import Discriminator, Generator
from jaxpaint.ops.attend import contextual_attention
from jaxpaint.ops.pixels import composite

CASES = harness.cases("deepfillv2")


def networks(config) -> tuple[Generator, Discriminator]:
    """The networks of a manifest's configuration (5 input channels: picture, ones, mask; more are a guide)."""
    ours = config["generator"]
    generator = Generator(
        width=ours["cnum"],
        fuse=ours["fuse"],
        rate=ours["rate"],
        softmax_scale=ours["softmax_scale"],
        guide_channels=ours["cnum_in"] - 5,
    )
    return generator, Discriminator(width=config["discriminator"]["cnum"])


def variables(case):
    """{network: variables} with the case's weights, through the converter."""
    config = case.config
    image, mask = jnp.zeros((1, 64, 64, 3)), jnp.zeros((1, 64, 64, 1))
    template = {}
    for name, network in zip(("generator", "discriminator"), networks(config), strict=True):
        guides = config[name]["cnum_in"] - {"generator": 5, "discriminator": 4}[name]
        guide = jnp.zeros((1, 64, 64, guides)) if guides else None
        template[name] = jax.eval_shape(network.init, jax.random.key(0), image, mask, guide)
    return to_flax("deepfillv2", case.weights(), template)


def check_generator(case):
    generator, _ = networks(case.config)
    given = case.inputs
    stage2, out = generator.apply(variables(case)["generator"], given["image"], given["mask"], given.get("guide"))
    completed = composite(stage2, jnp.asarray(given["image"]), given["mask"])
    case.compare({**out, "stage2": stage2, "completed": completed})


def check_contextual_attention(case):
    config, given = case.config["generator"], case.inputs
    options = {"rate": config["rate"], "softmax_scale": config["softmax_scale"]}
    foreground, background, mask = (jnp.asarray(given[name]) for name in ("f", "b", "mask"))
    case.compare(
        {
            "out": contextual_attention(foreground, background, mask, fuse=config["fuse"], **options),
            "out_no_fuse": contextual_attention(foreground, background, mask, fuse=False, **options),
            "out_no_mask": contextual_attention(foreground, background, None, fuse=config["fuse"], **options),
        }
    )


def check_discriminator(case):
    _, discriminator = networks(case.config)
    given = case.inputs
    features, out = discriminator.apply(
        variables(case)["discriminator"], given["image"], given["mask"], given.get("guide")
    )
    case.compare({**out, "features": features, "flat": features.reshape(features.shape[0], -1)})


CHECKS = {
    "generator": check_generator,
    "contextual_attention": check_contextual_attention,
    "discriminator": check_discriminator,
}


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_deepfillv2_golden(case):
    with jax.default_matmul_precision("highest"):
        harness.run(case, CHECKS)


@pytest.mark.parametrize("case", [c for c in CASES if c.name in ("generator", "missing")], ids=harness.case_id)
def test_original_tensorflow_checkpoint(case, tmp_path):
    """The authors' folder: its networks see BGR pictures, the converted one RGB, so the picture is reversed."""

    def check(case):
        weights = case.weights()
        write_checkpoint(
            tmp_path, {name: (weights[name], how) for name, how in case.manifest["tf_names"].items() if name in weights}
        )
        converted, config, report = convert("deepfillv2", tmp_path)
        assert (report.source, report.channels) == ("tensorflow", "bgr")
        assert "discriminator" in converted["params"] or not any(name.startswith("D.") for name in weights)
        assert config.get("width", 48) == case.config["generator"]["cnum"]
        generator, discriminator = networks(case.config)
        given, expected = case.inputs, case.expected
        image, guide = given["image"][..., ::-1], given.get("guide")
        stage2, out = generator.apply({"params": converted["params"]["generator"]}, image, given["mask"], guide)
        features = {name: out[name] for name in expected if name.endswith("_pre") or name == "attention"}
        pictures = {"stage1": out["stage1"], "stage2": stage2, "completed": composite(stage2, image, given["mask"])}
        case.compare({**features, **{name: picture[..., ::-1] for name, picture in pictures.items()}})

        if "discriminator" in converted["params"]:
            judge = {"params": converted["params"]["discriminator"], **converted["extra"]["discriminator"]}
            scores, _ = discriminator.apply(judge, image, given["mask"], guide)
            straight, _ = discriminator.apply(variables(case)["discriminator"], given["image"], given["mask"], guide)
            # The same sums in another order.
            np.testing.assert_allclose(scores, straight, atol=1e-5)

    with jax.default_matmul_precision("highest"):
        harness.run(case, {"generator": check})


def write_checkpoint(folder, tensors):
    """A TF1 checkpoint as the authors' training writes it, with optimiser slots and a pointer to another machine."""
    import tensorflow as tf

    stored = {}
    for weight, (name, how) in tensors.values():
        order = re.search(r"transpose\(([\d,]+)\)", how)
        axes = np.argsort([int(axis) for axis in order.group(1).split(",")]) if order else range(weight.ndim)
        stored[name] = np.transpose(weight, axes)
        stored[f"{name}/Adam"] = stored[f"{name}/Adam_1"] = np.zeros((), np.float32)
    stored |= {"global_step": np.int64(7), "lr": np.float32(1e-4), "beta1_power": np.float32(0.5)}
    tf.raw_ops.SaveV2(
        prefix=str(folder / "snap-0"),
        tensor_names=list(stored),
        shape_and_slices=[""] * len(stored),
        tensors=list(stored.values()),
    )
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/someone/logs/snap-0"\n')
