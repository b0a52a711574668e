"""The ConvLSTM against NumPy; the published numbers are in `tests/goldens/test_vinet_golden.py`."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.nn import ConvLSTM, Memory

KEY = jax.random.key(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_step_against_numpy():
    """A 1x1 kernel is a matrix: input, forget and output gate, then the candidate."""
    layer = ConvLSTM(3, kernel=1, bias_init=jax.nn.initializers.normal(1.0))
    x = jax.random.normal(KEY, (2, 4, 5, 6))
    memory = Memory(*jax.random.normal(jax.random.key(1), (2, 2, 4, 5, 3)))
    variables = jax.jit(layer.init)(KEY, memory, x)
    after, hidden = layer.apply(variables, memory, x)

    gates = variables["params"]["Gates"]
    matrix, bias = (np.asarray(gates[name], np.float64) for name in ("kernel", "bias"))
    seen = np.concatenate([x, memory.hidden], axis=-1).astype(np.float64) @ matrix[0, 0] + bias
    let_in, keep, let_out, candidate = np.split(seen, 4, axis=-1)
    cell = sigmoid(keep) * np.asarray(memory.cell) + sigmoid(let_in) * np.tanh(candidate)
    np.testing.assert_allclose(after.cell, cell, atol=1e-5)
    np.testing.assert_allclose(after.hidden, sigmoid(let_out) * np.tanh(cell), atol=1e-5)
    np.testing.assert_array_equal(hidden, after.hidden)


def test_a_scan_carries_float32_whatever_the_activations():
    layer = ConvLSTM(4, dtype=jnp.bfloat16)
    empty, clip = Memory.empty(1, 6, 6, 4), jax.random.normal(KEY, (3, 1, 6, 6, 2))
    variables = jax.jit(layer.init)(KEY, empty, clip[0])
    last, hidden = jax.jit(lambda clip: jax.lax.scan(lambda m, x: layer.apply(variables, m, x), empty, clip))(clip)
    assert (last.hidden.dtype, last.cell.dtype, hidden.dtype) == (jnp.float32, jnp.float32, jnp.bfloat16)
    assert hidden.shape == (3, 1, 6, 6, 4)
    one_by_one = empty
    for x in clip:
        one_by_one, _ = layer.apply(variables, one_by_one, x)
    # The same operations, compiled in other groups: bfloat16 gates may be rounded the other way, 2^-8 of about 1.
    np.testing.assert_allclose(last.cell, one_by_one.cell, atol=0.02)
