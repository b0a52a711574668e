"""Shared discriminators: shapes, what a score sees, and one tower against JAX's own convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.losses.adversarial import r1
from jaxpaint.models.discriminators import GlobalLocal, GlobalLocalCritics, PatchGAN
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh, replicated, split
from jaxpaint.types import leaf_name

KEY = jax.random.key(0)
QUICKLY = {"xla_backend_optimization_level": 0}


def quickly(function):
    """Compiled as one program, without optimisation: much sooner than operation by operation."""
    return jax.jit(function, compiler_options=QUICKLY)


def begin(network, *pictures, **options):
    return quickly(lambda key, *pictures: network.init(key, *pictures, **options))(KEY, *pictures)


def leaves(variables):
    return {leaf_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def test_published_size():
    """EdgeConnect's: 2.8 million parameters, no bias; with biases where there is no spectral norm."""
    picture = jnp.zeros((1, 64, 80, 3))
    spectral = leaves(jax.eval_shape(PatchGAN().init, KEY, picture))
    kernels = [(4, 4, 3, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512), (4, 4, 512, 1)]
    expected = {f"params/conv{i}/0/kernel": shape for i, shape in enumerate(kernels, 1)}
    for i, (*inside, outside) in enumerate(kernels, 1):
        expected |= {f"spectral/conv{i}/0/u": (1, outside), f"spectral/conv{i}/0/v": (1, int(np.prod(inside)))}
    assert spectral == expected
    plain = leaves(jax.eval_shape(PatchGAN(spectral=False).init, KEY, picture))
    biases = {f"params/conv{i}/0/bias": shape[-1:] for i, shape in enumerate(kernels, 1)}
    assert plain == {name: shape for name, shape in expected.items() if name.startswith("params")} | biases


@pytest.mark.parametrize("spectral", [True, False])
def test_a_score_sees_seventy_pixels(spectral):
    network = PatchGAN(width=2, spectral=spectral)
    picture, condition = jax.random.normal(KEY, (1, 128, 128, 3)), jnp.ones((1, 128, 128, 2))
    variables = begin(network, picture, condition)
    scores, out = quickly(network.apply)(variables, picture, condition)
    assert scores.shape == (1, 14, 14, 1)
    assert scores.dtype == jnp.float32
    assert set(out) == {"conv1", "conv2", "conv3", "conv4", "conv5"} | ({"sigma"} if spectral else set())
    np.testing.assert_array_equal(out["conv5"], scores)

    def one_score(picture, condition):
        return network.apply(variables, picture, condition)[0][0, 7, 7, 0]

    for slope in quickly(jax.grad(one_score, (0, 1)))(picture, condition):
        rows, columns = np.nonzero(np.abs(slope[0]).sum(-1))
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (70, 70)


def test_activations_of_another_type():
    network = PatchGAN(width=2, dtype=jnp.bfloat16)
    picture = jnp.ones((1, 32, 32, 3))
    variables = begin(network, picture)
    scores, out = quickly(network.apply)(variables, picture)
    assert (scores.dtype, out["conv4"].dtype, out["sigma"].dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)


def test_over_a_mesh():
    """The height of pictures over four devices: scores, and a penalty's gradient (second derivatives), stay."""
    network = PatchGAN(width=2)
    picture = jax.random.normal(KEY, (2, 64, 32, 3))
    variables = begin(network, picture)

    def run(variables, picture):
        def scores(params, picture):
            return network.apply({**variables, "params": params}, picture)[0]

        def penalty(params):
            return r1(lambda x: jnp.tanh(scores(params, x)), picture)

        return scores(variables["params"], picture), jax.grad(penalty)(variables["params"])

    expected = quickly(run)(variables, picture)
    mesh = make_mesh(Layout(data=2, spatial=4))
    shardings = (replicated(mesh), split(mesh, picture.shape))
    with jax.set_mesh(mesh):
        jitted = jax.jit(run, in_shardings=shardings, compiler_options=QUICKLY)
        found = jitted(*jax.device_put((variables, picture), shardings))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        b = np.asarray(b)
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_global_local_against_plain_convolutions():
    network = GlobalLocal(width=2)
    keys = jax.random.split(KEY)
    picture, crop = jax.random.normal(keys[0], (2, 64, 64, 3)), jax.random.normal(keys[1], (2, 32, 32, 3))
    variables = begin(network, picture, crop, train=False)
    # Statistics and scales that do something.
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: x + rng.uniform(0, 0.5, x.shape).astype(np.float32), variables)

    def tower(variables, name, x, layers):
        params, stats = variables["params"][name], variables["batch_stats"][name]
        for i in range(1, layers + 1):
            layer, norm, seen = params[f"conv{i}"], params[f"bn{i}"], stats[f"bn{i}"]
            around, numbers = ((2, 2), (2, 2)), ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, layer["kernel"], (2, 2), around, dimension_numbers=numbers)
            x = jnp.maximum(x + layer["bias"], 0)
            x = (x - seen["mean"]) / jnp.sqrt(seen["var"] + 1e-5) * norm["scale"] + norm["bias"]
        last = params[f"linear{layers + 1}"]
        return jnp.maximum(x.reshape(2, -1) @ last["kernel"] + last["bias"], 0)

    def both(variables):
        return {"local": tower(variables, "model_ld", crop, 5), "global": tower(variables, "model_gd", picture, 6)}

    with jax.default_matmul_precision("highest"):
        features = quickly(both)(variables)
        scores, out = quickly(lambda v: network.apply(v, picture, crop, train=False))(variables)
    last = variables["params"]["linear1"]
    expected = np.concatenate([features["local"], features["global"]], -1) @ last["kernel"] + last["bias"]
    assert scores.shape == (2, 1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    for name, feature in features.items():
        assert feature.shape == (2, 32)
        np.testing.assert_allclose(out[name], feature, rtol=1e-4, atol=1e-4 * feature.max())


def test_global_local_learns_statistics_only_in_training():
    network = GlobalLocal(width=2, global_layers=5)
    pictures = jax.random.normal(KEY, (2, 32, 32, 3))
    variables = begin(network, pictures, pictures, train=False)
    for train, moves in ((False, False), (True, True)):
        run = quickly(lambda v, t=train: network.apply(v, pictures, pictures, train=t, mutable=["batch_stats"])[1])
        changed = run(variables)
        before = variables["batch_stats"]["model_ld"]["bn1"]["mean"]
        assert np.any(changed["batch_stats"]["model_ld"]["bn1"]["mean"] != before) == moves
    bare = jax.eval_shape(lambda: GlobalLocal(width=2, norm=False).init(KEY, pictures, pictures, train=True))
    assert set(bare) == {"params"}


def test_critics():
    """Two scores; each of its own input alone. Channels of the paper at the published width."""
    network = GlobalLocalCritics(width=2)
    picture, crop = jax.random.normal(KEY, (3, 32, 48, 3)), jax.random.normal(KEY, (3, 16, 16, 3))
    variables = begin(network, picture, crop)
    kernels = {
        tower: [parts[f"conv{i}"]["kernel"].shape[-1] // 2 for i in (1, 2, 3, 4)]
        for tower, parts in variables["params"].items()
    }
    assert kernels == {"global": [1, 2, 4, 4], "local": [1, 2, 4, 8]}
    scores, _ = quickly(network.apply)(variables, picture, crop)
    assert scores.shape == (3, 2)

    def second_score(picture, crop):
        return network.apply(variables, picture, crop)[0][1]

    # Of the second picture, and each score of its own input only.
    for slope, column in zip(quickly(jax.jacrev(second_score, (0, 1)))(picture, crop), (0, 1), strict=True):
        moves = [[bool(np.any(x)) for x in row] for row in slope]
        expected = [[False] * 3, [False] * 3]
        expected[column][1] = True
        assert moves == expected
