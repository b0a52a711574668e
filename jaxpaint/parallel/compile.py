"""One training step, compiled ahead for a mesh: with jit (the default) or with pmap.

Both run the same ``step(state, batch, *, axis=None)``. Under jit the batch is split over the mesh, the state is
replicated, and the compiler puts in the reductions; under pmap every device runs the step on its share and
``axis`` names the axis over which gradients are averaged. The state is donated: its memory becomes the new state's.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxpaint.parallel.mesh import DATA, check_batch, place, replicated, split
from jaxpaint.types import PyTree

Mode = Literal["jit", "pmap"]


class Program(NamedTuple):
    """A compiled training step, and what it takes and gives.

    step:     (state, batch) -> (state, metrics). The given state is donated: never use it again.
    begin:    rng -> the first state, made on the devices
    place:    this process's share of a batch (NumPy) -> what `step` takes
    gather:   the state as `step` has it -> one logical copy, what a checkpoint holds
    scatter:  the inverse of `gather`
    abstract: shapes, types and shardings of `gather`'s result: what a checkpoint is restored into
    compiled: the compiled step: ``memory_analysis()``, ``cost_analysis()``, ``as_text()``
    seconds:  what compiling took
    """

    step: Callable
    begin: Callable
    place: Callable
    gather: Callable
    scatter: Callable
    abstract: PyTree
    compiled: Any
    seconds: float


def compile_step(init: Callable, step: Callable, batch: PyTree, mesh: Mesh, mode: Mode = "jit") -> Program:
    """Compiles a step once, before any data is read.

    Args:
      init: (rng, batch) -> state
      step: (state, batch, *, axis=None) -> (state, metrics); metrics are scalars
      batch: the global batch as ``jax.ShapeDtypeStruct``
      mesh: see `jaxpaint.parallel.mesh.data_mesh`
      mode: "jit" or "pmap"

    Raises:
      InputError: if the batch does not divide over the mesh.
    """
    check_batch(jax.tree.leaves(batch)[0].shape[0], mesh.size)
    whole = replicated(mesh)
    # A hundred random draws take XLA half a minute to optimise on a CPU, and run once: they are not optimised.
    options = {"xla_backend_optimization_level": 0} if mesh.devices.flat[0].platform == "cpu" else None

    def first(rng):
        return init(rng, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch))

    born = jax.jit(first, out_shardings=whole, compiler_options=options)
    shapes = jax.eval_shape(born, jax.random.key(0))
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
    started = time.perf_counter()
    if mode == "jit":
        share = split(mesh)
        jitted = jax.jit(step, in_shardings=(whole, share), out_shardings=(whole, whole), donate_argnums=0)
        compiled = jitted.lower(shapes, batch).compile()
        program = Program(
            step=compiled,
            begin=born,
            place=functools.partial(place, sharding=share),
            gather=lambda state: state,
            scatter=lambda state: state,
            abstract=abstract,
            compiled=compiled,
            seconds=0.0,
        )
    else:
        devices = list(mesh.devices.flat)
        mapped = jax.pmap(functools.partial(step, axis=DATA), axis_name=DATA, devices=devices, donate_argnums=0)

        def stack(x):
            """The abstract value of a leaf copied to (or already split over) the devices."""
            return jax.ShapeDtypeStruct((len(devices), *x.shape), x.dtype)

        shares = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((x.shape[0] // len(devices), *x.shape[1:]), x.dtype), batch
        )
        compiled = mapped.lower(jax.tree.map(stack, shapes), jax.tree.map(stack, shares)).compile()
        local = len(mesh.local_devices)

        def copy(state):
            return jax.pmap(lambda _: state, devices=devices)(np.zeros(local))

        program = Program(
            step=lambda state, shared: _first(compiled(state, shared)),
            begin=lambda rng: copy(born(rng)),
            place=lambda data: {k: x.reshape(local, -1, *x.shape[1:]) for k, x in data.items()},
            gather=lambda state: jax.tree.map(lambda x: x[0], state),
            scatter=copy,
            abstract=abstract,
            compiled=compiled,
            seconds=0.0,
        )
    return program._replace(seconds=time.perf_counter() - started)


def _first(result):
    """pmap gives every device's metrics: they are equal, so the first ones are taken."""
    state, metrics = result
    return state, jax.tree.map(lambda x: x[0], metrics)
