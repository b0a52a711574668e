"""One training step, compiled ahead for a mesh: with jit (the default) or with pmap.

Both run the same ``step(state, batch, *, axis=None)``. Under jit the step sees the whole batch, the compiler divides it
over the mesh and puts in the reductions; under pmap every device runs the step on its share, and ``axis`` names the
axis over which gradients are averaged. The state is donated: its memory becomes the new state's. Over several
processes there is jit alone: what pmap compiles ahead of time cannot be called there (JAX's own limit).
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxpaint.ops.placement import whole
from jaxpaint.parallel.mesh import check_batch, place, replicated, share, split
from jaxpaint.parallel.rules import Rule, shardings
from jaxpaint.types import DATA, InputError, PyTree


class Program(NamedTuple):
    """A compiled training step, and what it takes and gives.

    step:     (state, batch) -> (state, metrics). The given state is donated: never use it again. Metrics have an axis
              of steps in front where a dispatch does several
    begin:    rng -> the first state, made on the devices
    place:    this process's share of a batch (NumPy), or of each of several steps' -> what `step` takes
    abstract: shapes, types and shardings of the state: what a checkpoint is restored into
    compiled: the compiled step: ``memory_analysis()``, ``cost_analysis()``, ``as_text()``
    seconds:  what compiling took
    """

    step: Callable
    begin: Callable
    place: Callable
    abstract: PyTree
    compiled: Any
    seconds: float


def compile_step(
    init: Callable,
    step: Callable,
    batch: PyTree,
    mesh: Mesh,
    mode: str = "jit",
    *,
    rules: Sequence[Rule] = (),
    steps: int = 1,
    options: dict[str, Any] | None = None,
) -> Program:
    """Compiles a step once, before any data is read.

    Args:
      init: (rng, batch) -> state
      step: (state, batch, *, axis=None) -> (state, metrics); metrics are scalars
      batch: the global batch of one step as ``jax.ShapeDtypeStruct``
      mesh: see `jaxpaint.parallel.mesh.make_mesh`
      mode: "jit" or "pmap"
      rules: which part of the state lies where, see `jaxpaint.parallel.rules`
      steps: how many a dispatch does: small steps take less time than sending them off one by one
      options: XLA's compiler options for the step

    Raises:
      InputError: if the batch does not divide over the mesh, a rule does not fit the state, or pmap cannot do it.
    """
    check_batch(jax.tree.leaves(batch)[0].shape[0], mesh)
    if steps < 1:
        raise InputError(f"{steps} steps a dispatch: expected 1 or more")
    if mode == "pmap":
        _check_pmap(mesh, rules)

    def first(rng):
        return init(rng, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch))

    shapes = jax.eval_shape(first, jax.random.key(0))
    lies = shardings(shapes, mesh, rules)
    # A hundred random draws take XLA half a minute to optimise on a CPU, and run once: they are not optimised.
    unoptimised = {"xla_backend_optimization_level": 0} if mesh.devices.flat[0].platform == "cpu" else None
    born = jax.jit(first, out_shardings=lies, compiler_options=unoptimised)
    build = _with_pmap if mode == "pmap" else _with_jit
    started = time.perf_counter()
    lowered, placed = build(step, shapes, lies, batch, mesh, steps)
    compiled = lowered.compile(compiler_options=options)
    return Program(
        step=compiled,
        begin=born,
        place=placed,
        abstract=jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, lies),
        compiled=compiled,
        seconds=time.perf_counter() - started,
    )


def _with_jit(step: Callable, state: PyTree, lies: PyTree, batch: PyTree, mesh: Mesh, steps: int) -> tuple:
    """(the lowered step, how a batch is placed)."""
    if steps > 1:
        batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((steps, *x.shape), x.dtype), batch)
    shares = {name: split(mesh, x.shape, steps=steps > 1) for name, x in batch.items()}
    _, parts = share(mesh) if jax.process_count() > 1 else (0, 1)

    def one(state, data):
        # The parameters may be stored in parts; they are used whole.
        used = state.replace(params=whole(state.params), extra=whole(state.extra))
        return step(used, data)

    jitted = jax.jit(
        _several(one) if steps > 1 else one,
        in_shardings=(lies, shares),
        out_shardings=(lies, replicated(mesh)),
        donate_argnums=0,
    )

    def placed(*data):
        return place(_stacked(data), shares, parts)

    # The mesh around the tracing is what `jaxpaint.ops.placement` looks at.
    with jax.set_mesh(mesh):
        return jitted.lower(state, batch), placed


def _with_pmap(step: Callable, state: PyTree, lies: PyTree, batch: PyTree, mesh: Mesh, steps: int) -> tuple:
    """(the lowered step, how a batch is placed)."""
    count, one = mesh.size, functools.partial(step, axis=DATA)
    mapped = jax.pmap(
        _several(one) if steps > 1 else one,
        axis_name=DATA,
        in_axes=(None, 0),
        out_axes=None,  # every device ends with the same state and metrics
        devices=list(mesh.devices.flat),
        donate_argnums=0,
    )
    inner = (steps,) if steps > 1 else ()
    shares = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((count, *inner, x.shape[0] // count, *x.shape[1:]), x.dtype), batch
    )
    sharding = NamedSharding(mesh, PartitionSpec(DATA))

    def placed(*data):
        pattern = "s (d b) ... -> d s b ..." if steps > 1 else "(d b) ... -> d b ..."
        stacked = {name: einops.rearrange(x, pattern, d=count) for name, x in _stacked(data).items()}
        return {name: jax.make_array_from_process_local_data(sharding, x) for name, x in stacked.items()}

    return mapped.lower(state, shares), placed


def _several(step: Callable) -> Callable:
    """(state, batches with an axis of steps) -> (state, metrics with that axis)."""
    return lambda state, batches: jax.lax.scan(step, state, batches)


def _stacked(batches: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One batch as it is, several with an axis of steps in front."""
    if len(batches) == 1:
        return batches[0]
    return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}


def _check_pmap(mesh: Mesh, rules: Sequence[Rule]) -> None:
    if jax.process_count() > 1:
        raise InputError(f"mode is 'pmap', which runs on one process, and there are {jax.process_count()}: use 'jit'")
    if mesh.size != mesh.shape[DATA] or rules:
        raise InputError(
            f"mode is 'pmap', which divides nothing but batches, and the mesh is {dict(mesh.shape)} with "
            f"{len(rules)} rules: use 'jit'"
        )
