"""One training step, compiled ahead for a mesh: with jit (the default) or with pmap.

Both run the same ``step(state, batch, *, axis=None)``, on a state that is replicated and a batch that is split over
the mesh. Under jit the step sees the whole batch and the compiler puts in the reductions; under pmap every device runs
the step on its share, and ``axis`` names the axis over which gradients are averaged. The state is donated: its memory
becomes the new state's. Over several processes there is jit alone: what pmap compiles ahead of time cannot be called
there (JAX's own limit).
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxpaint.parallel.mesh import DATA, check_batch, place, replicated, split
from jaxpaint.types import InputError, PyTree

Mode = Literal["jit", "pmap"]


class Program(NamedTuple):
    """A compiled training step, and what it takes and gives.

    step:     (state, batch) -> (state, metrics). The given state is donated: never use it again.
    begin:    rng -> the first state, made on the devices
    place:    this process's share of a batch (NumPy) -> what `step` takes
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
    mode: Mode = "jit",
    *,
    options: dict[str, Any] | None = None,
) -> Program:
    """Compiles a step once, before any data is read.

    Args:
      init: (rng, batch) -> state
      step: (state, batch, *, axis=None) -> (state, metrics); metrics are scalars
      batch: the global batch as ``jax.ShapeDtypeStruct``
      mesh: see `jaxpaint.parallel.mesh.data_mesh`
      mode: "jit" or "pmap"
      options: XLA's compiler options for the step

    Raises:
      InputError: if the batch does not divide over the mesh, or there are several processes under pmap.
    """
    if mode == "pmap" and jax.process_count() > 1:
        raise InputError(f"mode is 'pmap', which runs on one process, and there are {jax.process_count()}: use 'jit'")
    check_batch(jax.tree.leaves(batch)[0].shape[0], mesh.size)
    whole = replicated(mesh)
    # A hundred random draws take XLA half a minute to optimise on a CPU, and run once: they are not optimised.
    unoptimised = {"xla_backend_optimization_level": 0} if mesh.devices.flat[0].platform == "cpu" else None

    def first(rng):
        return init(rng, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch))

    born = jax.jit(first, out_shardings=whole, compiler_options=unoptimised)
    shapes = jax.eval_shape(born, jax.random.key(0))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
    share = split(mesh)
    started = time.perf_counter()
    if mode == "jit":
        jitted = jax.jit(step, in_shardings=(whole, share), out_shardings=(whole, whole), donate_argnums=0)
        compiled = jitted.lower(shapes, batch).compile(compiler_options=options)
        placed = functools.partial(place, sharding=share)
    else:
        count = mesh.size
        mapped = jax.pmap(
            functools.partial(step, axis=DATA),
            axis_name=DATA,
            in_axes=(None, 0),
            out_axes=None,  # every device ends with the same state and metrics
            devices=list(mesh.devices.flat),
            donate_argnums=0,
        )
        shares = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((count, x.shape[0] // count, *x.shape[1:]), x.dtype), batch
        )
        compiled = mapped.lower(shapes, shares).compile(compiler_options=options)

        def placed(data):
            return place({name: x.reshape(count, -1, *x.shape[1:]) for name, x in data.items()}, share)

    return Program(
        step=compiled,
        begin=born,
        place=placed,
        abstract=abstract,
        compiled=compiled,
        seconds=time.perf_counter() - started,
    )
