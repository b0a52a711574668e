"""The counter of compilations: what it counts, when it warns, and that it leaves JAX as it was."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpaint.run.compiles import LOGGER, WARNINGS, Compiles, Signature, reason


@pytest.fixture
def said():
    return []


def double():
    """A function that no other test has compiled, of arrays that need no compilation."""
    return jax.jit(lambda x: 2 * x)


def numbers(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_counts_exactly(said):
    f = double()
    with Compiles(said.append) as compiles:
        f(numbers(2))
        f(numbers(2))
        f(numbers(3))
        assert compiles.count == 2
        jax.jit(lambda x: x - 1).lower(numbers(2)).compile()
        assert (compiles.count, compiles.cached, compiles.late) == (3, 0, 0)
        assert compiles.functions == {"jit(<lambda>)": 3}
        assert compiles.seconds >= compiles.last.seconds > 0 and not compiles.last.cached
    f(numbers(4))
    assert compiles.count == 3 and said == []


def test_warns_with_the_shapes_once_it_is_steady(said):
    @functools.partial(jax.jit, static_argnames="power")
    def total(tree, power=1):
        return (tree["a"] ** power).sum() + tree["b"].sum()

    tree = {"a": numbers(2, 3), "b": numbers(4)}
    with Compiles(said.append) as compiles:
        total(tree)
        total({**tree, "a": numbers(8, 8)})
        assert said == []
        compiles.steady()
        total(tree)
        assert said == []
        total({**tree, "a": numbers(2, 5)})
        assert "jit(total)" in said[-1] and "argument 0: float32[2,3] -> float32[2,5]" in said[-1]
        assert "argument 1" not in said[-1]
        total({**tree, "b": tree["b"].astype(np.int32)})
        assert "argument 1: float32[4] -> int32[4]" in said[-1]
        total(tree, power=2)
        assert "static argument" in said[-1]
        total({**tree, "b": tree["a"], "c": tree["b"]})
        assert "it has 2 arguments" in said[-1] or "argument 1" in said[-1]  # an unused one may be dropped
        assert compiles.late == len(said) == 4


def test_tells_where_an_argument_lies(said):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    whole, split = (jax.NamedSharding(mesh, jax.P(*spec)) for spec in ((), ("data",)))
    f = double()
    with Compiles(said.append) as compiles:
        f(jax.device_put(numbers(4), whole))
        compiles.steady()
        f(jax.device_put(numbers(4), split))
    assert "argument 0 on the devices" in said[0] and "'data'" in said[0].partition("->")[2]


def test_the_first_time_of_something_is_silent(said):
    f = double()
    with Compiles(said.append) as compiles:
        with compiles.first("samples"):
            f(numbers(1))
        compiles.steady()
        with compiles.first("validation"):
            f(numbers(2))
        assert said == []
        with compiles.first("samples"):
            f(numbers(3))
        f(numbers(4))
        with compiles.first("validation"):
            f(numbers(4))
        assert [line.partition("-> ")[2] for line in said] == ["float32[3]", "float32[4]"]
        assert compiles.count == 4 and compiles.late == 2


def test_warnings_end(said):
    f = double()
    with Compiles(said.append) as compiles:
        compiles.steady()
        for n in range(1, WARNINGS + 4):
            f(numbers(n))
    assert len(said) == WARNINGS and "no more of these" in said[-1] and compiles.late == WARNINGS + 3
    assert "never compiled before, for float32[1]" in said[0]


def test_leaves_nothing_behind(said, caplog):
    logger = logging.getLogger(LOGGER)

    def state():
        names = ("jax_log_compiles", "jax_explain_cache_misses", "jax_compilation_cache_dir")
        return logger.level, list(logger.filters), list(logger.handlers), [getattr(jax.config, n) for n in names]

    before = state()
    root = logging.getLogger()
    root.addHandler(caplog.handler)
    with pytest.raises(ZeroDivisionError), Compiles(said.append) as compiles:
        double()(numbers(1))
        raise ZeroDivisionError
    assert state() == before
    assert not [r for r in caplog.records if r.name == LOGGER], "records below the logger's level must not get out"
    with Compiles() as inner, Compiles():
        double()(numbers(2))
    assert inner.count == 1 and state() == before
    count = compiles.count
    double()(numbers(3))
    assert compiles.count == count
    with pytest.raises(RuntimeError), compiles:
        pass


def test_what_jax_was_asked_to_log_still_comes_through(said, caplog):
    with jax.log_compiles(), Compiles(said.append), caplog.at_level(logging.WARNING):
        double()(numbers(1))
    assert any("Compiling jit(<lambda>)" in record.getMessage() for record in caplog.records)


def test_the_reason_names_the_nearest_program():
    def signature(*types: str) -> Signature:
        return Signature(types, ("same",) * len(types))

    known = [signature("f32[1]", "f32[8]"), signature("f32[2]", "f32[9]")]
    assert reason(signature("f32[2]", "f32[10]"), known) == "argument 1: f32[9] -> f32[10]"
    many = [signature(*(f"f32[{n}]" for n in range(9)))]
    text = reason(signature(*(f"i32[{n}]" for n in range(9))), many)
    assert text.startswith("argument 0: f32[0] -> i32[0], argument 1:") and text.endswith("and 5 more")
    assert "did not say" in reason(None, known) and "no arguments" in reason(signature(), [])


def test_random_keys_and_donation(said):
    """Typed keys and donated arguments are told apart like others."""
    draw = jax.jit(lambda key, x: x + jax.random.uniform(key, x.shape), donate_argnums=1)
    with Compiles(said.append) as compiles:
        key = jax.random.key(0)
        draw(key, jnp.ones(3))
        compiles.steady()
        wide = jax.device_put(numbers(5))
        draw(key, wide)
    assert "argument 1: float32[3] -> float32[5]" in said[0]
