"""The networks of Infer, Match, and Translate: shapes, joins and what each is given (spec: the paper's, section by
section, in the docstring of the module). Shapes alone need no computation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.models.contextual import Feature2Image, FeaturePairDiscriminator, Image2Feature
from jaxpaint.train.state import count
from jaxpaint.types import InputError

KEY = jax.random.key(0)
QUICK = {"xla_backend_optimization_level": 0}


def shapes(module, *inputs):
    """(parameters by path, output, out): shapes, for inputs of these shapes."""
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in inputs]
    (result, out), variables = jax.eval_shape(lambda *x: module.init_with_output(KEY, *x), *inputs)
    return variables["params"], result, out


def begun(module, *inputs):
    return jax.jit(module.init, compiler_options=QUICK)(KEY, *inputs)


@pytest.mark.parametrize("side", [64, 128])
def test_feature2image_is_seven_and_eight_blocks_with_six_joins(side):
    """64 -> 256 and 128 -> 512, the sides of the paper; each of the first six deconvolutions is joined."""
    params, picture, out = shapes(Feature2Image(), (2, side, side, 256))
    assert picture.shape == (2, 4 * side, 4 * side, 3)
    assert {n for n in params if n.rstrip("0123456789") == "conv"} == {f"conv{n}" for n in range(1, 8)}
    assert {n for n in params if n.rstrip("0123456789") == "deconv"} == {f"deconv{n}" for n in range(1, 9)}
    for number in range(1, 8):
        assert out[f"conv{number}"].shape[1] == side >> (number - 1)
    joined = []
    for number in range(1, 8):
        made, mirrored = out[f"deconv{number}"].shape, out.get(f"conv{7 - number}")
        channels = params[f"deconv{number + 1}"]["kernel"].shape[2]
        if channels != made[-1]:
            assert channels == made[-1] + mirrored.shape[-1]
            assert made[1:3] == mirrored.shape[1:3]
            joined.append(number)
    assert joined == [1, 2, 3, 4, 5, 6]


def test_feature2image_takes_maps_that_do_not_halve():
    _, picture, out = shapes(Feature2Image(width=2), (1, 9, 13, 256))
    assert picture.shape == (1, 36, 52, 3)
    assert out["deconv6"].shape[1:3] == (9, 13)


def test_joins_carry_what_the_convolutions_saw():
    """With the deconvolutions before the last join silenced, the picture still depends on the features."""
    module = Feature2Image(width=2)
    features = jax.random.normal(KEY, (1, 8, 8, 256))
    variables = begun(module, features)
    params = {**variables["params"], "deconv6": jax.tree.map(jnp.zeros_like, variables["params"]["deconv6"])}

    @functools.partial(jax.jit, compiler_options=QUICK)
    def paint(features):
        return module.apply({**variables, "params": params}, features)[0]

    assert np.abs(np.asarray(paint(features) - paint(features + 1))).max() > 1e-4


def test_image2feature_is_the_table():
    params, picture, out = shapes(Image2Feature(), (1, 256, 256, 3), (1, 256, 256, 1))
    assert picture.shape == (1, 256, 256, 3)
    assert [out[f"down{n}"].shape[1:] for n in (1, 2, 3)] == [(128, 128, 64), (64, 64, 128), (32, 32, 256)]
    assert sum(name.startswith("block") for name in params) == 9
    assert all(out[f"block{n}"].shape[1:] == (32, 32, 256) for n in range(1, 10))
    assert params["down1"]["kernel"].shape[2] == 4  # the picture and the mask
    assert "up3_norm" not in params and "up2_norm" in params
    assert count(params) == 11_945_219


def test_dilation_widens_the_view():
    """At one cell in the middle: dilation 2 in nine blocks sees 2 * 2 * 9 cells to either side, dilation 1 half."""

    def reach(dilation):
        module = Image2Feature(width=1, dilations=(dilation,) * 3)
        image, mask = jnp.zeros((1, 256, 8, 3)), jnp.zeros((1, 256, 8, 1))
        variables = begun(module, image, mask)
        moved = jax.tree.map(lambda x: x + 0.1, variables["params"])  # away from zeros that ReLUs would keep

        @functools.partial(jax.jit, compiler_options=QUICK)
        def apply(image):
            return module.apply({**variables, "params": moved}, image, mask)[1]["block3"]

        change = np.abs(np.asarray(apply(image.at[:, 128].set(1.0)) - apply(image))).max((0, 2, 3))
        return np.flatnonzero(change).size

    # The strip sees one row of cells changed (two where kernels overlap); each block adds 2 * 2 * dilation.
    assert reach(2) - reach(1) == 2 * 2 * 3


def test_the_hole_is_not_looked_at():
    module = Image2Feature(width=1, dilations=(1,))
    image, mask = jax.random.normal(KEY, (1, 16, 16, 3)), jnp.zeros((1, 16, 16, 1)).at[:, 4:9, 4:9].set(1)
    variables = begun(module, image, mask)
    apply = jax.jit(module.apply, compiler_options=QUICK)
    plain, _ = apply(variables, image, mask)
    broken, _ = apply(variables, jnp.where(mask > 0, jnp.nan, image), mask)
    assert np.array_equal(plain, broken)


def test_image2feature_refuses_odd_sizes():
    with pytest.raises(InputError, match=r"60x64.*divisible by 8"):
        shapes(Image2Feature(), (1, 60, 64, 3), (1, 60, 64, 1))


def test_feature_pair_discriminator():
    params, scores, _ = shapes(FeaturePairDiscriminator(), (2, 64, 64, 256), (2, 256, 256, 3))
    assert scores.shape == (2, 30, 30, 1)
    assert params["pair"]["conv1"]["0"]["kernel"].shape[2] == 256 + 128  # features and what became of the picture
