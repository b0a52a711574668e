"""Fixed feature networks: preparation, pools, sizes and taps, against NumPy; over a mesh against one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.models.alexnet import AlexNet
from jaxpaint.models.features import (
    as_it_is,
    imagenet,
    lpips_scaling,
    max_pool,
    random_variables,
    unit_range,
)
from jaxpaint.models.inception import InceptionV3, _average, resize_half_pixel, resize_tf1
from jaxpaint.models.squeezenet import SqueezeNet
from jaxpaint.models.vgg import VGG, vgg16, vgg19
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, replicated, split
from jaxpaint.types import InputError

QUICKLY = {"xla_backend_optimization_level": 0}


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_preparation():
    """The mean is brought to 0, mean and standard deviation to 1."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(imagenet(jnp.asarray(2 * mean - 1)), 0, atol=1e-6)
    np.testing.assert_allclose(imagenet(jnp.asarray(2 * (mean + std) - 1)), 1, atol=1e-6)
    np.testing.assert_allclose(unit_range(jnp.array([-1.0, 0, 1])), [0, 0.5, 1])
    np.testing.assert_allclose(lpips_scaling(jnp.array([-0.030, -0.088, -0.188])), 0, atol=1e-7)
    ones = np.array([1.030, 1.088, 1.188]) / [0.458, 0.448, 0.450]
    np.testing.assert_allclose(lpips_scaling(jnp.ones(3)), ones, 1e-6)
    assert as_it_is(jnp.ones(3, jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("side", [3, 6])
@pytest.mark.parametrize(("size", "stride", "ceil"), [(2, 2, False), (3, 2, False), (3, 2, True)])
def test_max_pool(side, size, stride, ceil):
    """Windows begin at every stride; whole ones count, and with `ceil` those that begin where no whole one covers."""
    x = np.asarray(normal(2, side, side + 1, 3))

    def starts(n):
        whole = list(range(0, n - size + 1, stride))
        # One more, if there is something that the whole ones leave over.
        return [*whole, whole[-1] + stride] if ceil and whole[-1] + size < n else whole

    expected = [[x[:, i : i + size, j : j + size].max(axis=(1, 2)) for j in starts(side + 1)] for i in starts(side)]
    np.testing.assert_array_equal(max_pool(x, size, stride, ceil=ceil), np.array(expected).transpose(2, 0, 1, 3))


def test_average_pools_do_not_count_zeros_around_the_picture():
    x = np.asarray(normal(1, 4, 5, 2))
    expected = np.zeros_like(x)
    for i in range(4):
        for j in range(5):
            expected[:, i, j] = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean(axis=(1, 2))
    np.testing.assert_allclose(_average(x), expected, atol=1e-6)


def test_resizes_of_a_ramp():
    """24 rows: from the corner row i is read at i * 24 / 299, with half-pixel centres at (i + 0.5) * 24 / 299 - 0.5."""
    ramp = np.broadcast_to(np.arange(24.0, dtype=np.float32)[None, :, None, None], (1, 24, 30, 3))
    places = np.arange(299) * 24 / 299
    half = np.clip((np.arange(299) + 0.5) * 24 / 299 - 0.5, 0, 23)
    np.testing.assert_allclose(resize_tf1(ramp / 127.5 - 1)[0, :, 7, 1] * 128 + 128, np.minimum(places, 23), atol=1e-4)
    np.testing.assert_allclose(resize_half_pixel(ramp)[0, :, 7, 1], half, atol=1e-4)


SIZES = [
    (vgg16(), 32, (1, 1, 512)),
    (vgg19(), 47, (1, 1, 512)),
    (AlexNet(), 31, (1, 1, 256)),
    (SqueezeNet(), 17, (1, 1, 512)),
    (SqueezeNet(), 37, (2, 2, 512)),  # 18, 9, 4, 2; rounded down it would be 18, 8, 3, 1
    (InceptionV3(), 75, (2048,)),
]


@pytest.mark.parametrize(("network", "side", "last"), SIZES)
def test_sizes_and_taps(network, side, last):
    """Shapes alone: nothing is computed."""
    picture = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    (y, out), variables = jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x), picture)
    assert y.shape == (2, *last)
    assert all(0 not in tap.shape for tap in out.values())
    assert variables["params"]
    smallest = {VGG: 32, AlexNet: 31, SqueezeNet: 17, InceptionV3: 75}[type(network)]
    for shape, message in [
        ((2, smallest - 1, 99, 3), f"{smallest}x{smallest} at least"),
        ((2, 99, 99, 1), "expected b h w 3"),
        ((99, 99, 3), "expected b h w 3"),
    ]:
        with pytest.raises(InputError, match=message):
            jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.fixture(scope="module")
def squeezed():
    """SqueezeNet's random weights, a picture, its features."""
    variables, image = random_variables(SqueezeNet(), 0), normal(1, 40, 40, 3)
    return variables, image, jax.jit(SqueezeNet().apply, compiler_options=QUICKLY)(variables, image)[1]


def test_taps_before_and_after_relu(squeezed):
    _, _, out = squeezed
    for number in range(2, 10):
        before, after = np.asarray(out[f"fire{number}_pre"]), np.asarray(out[f"fire{number}"])
        assert np.array_equal(after, np.maximum(before, 0)) and before.min() < 0
    assert np.array_equal(out["relu1"], np.maximum(out["conv1"], 0))


def test_random_weights_are_a_function_of_the_seed(squeezed):
    first, _, out = squeezed
    again, other = (random_variables(SqueezeNet(), seed) for seed in (0, 1))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    assert not np.array_equal(first["params"]["0"]["kernel"], other["params"]["0"]["kernel"])
    # He's kernels: ReLUs neither drown nor blow up what goes through them.
    assert 0.1 < np.sqrt(np.mean(np.square(out["fire9"]))) < 10


def test_random_normalisation_does_nothing():
    variables = random_variables(InceptionV3(), 0)
    layer = {kind: tree["Mixed_6b"]["branch7x7_2"]["bn"] for kind, tree in variables.items()}
    for kind, leaf, value in [("params", "scale", 1), ("params", "bias", 0), ("batch_stats", "mean", 0)]:
        assert np.all(layer[kind][leaf] == value)
    assert np.all(layer["batch_stats"]["var"] == 1)


def test_bfloat16_features_are_near_those_of_float32(squeezed):
    variables, image, exact = squeezed
    network = SqueezeNet(dtype=jnp.bfloat16)
    _, rounded = jax.jit(network.apply, compiler_options=QUICKLY)(variables, image)
    assert all(tap.dtype == jnp.bfloat16 for tap in rounded.values())
    for name, tap in exact.items():
        difference = np.abs(np.asarray(rounded[name], np.float32) - tap)
        # Some seventeen roundings to 8 bits, one after the other: a few parts in a hundred of the largest value.
        assert difference.max() < 0.05 * np.abs(tap).max(), name


@pytest.mark.parametrize(
    ("network", "tap"),
    [
        (VGG((1, 1, 1, 1, 1)), "relu4_1"),  # pooled to one row a device
        (SqueezeNet(), "fire2"),  # 15 and 7 rows, which four devices cannot share
    ],
)
def test_over_a_mesh_that_divides_height(network, tap):
    """Features, and what they send back to the picture, equal those of one device."""
    mesh = make_mesh(Layout(data=2, spatial=4))
    variables = random_variables(network, 0)
    image = normal(2, 32, 32, 3)

    def run(variables, image):
        def value(image):
            y = network.apply(variables, image)[1][tap]
            return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), y

        return jax.grad(value, has_aux=True)(image)

    expected = jax.jit(run, compiler_options=QUICKLY)(variables, image)
    whole, rows = replicated(mesh), split(mesh, image.shape)
    arguments = jax.device_put(variables, whole), jax.device_put(image, rows)
    with jax.set_mesh(mesh):
        found = jax.jit(run, in_shardings=(whole, rows), compiler_options=QUICKLY)(*arguments)
    for a, b in zip(found, expected, strict=True):
        # The same sums in another order.
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * np.abs(b).max())
