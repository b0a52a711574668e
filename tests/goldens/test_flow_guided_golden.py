"""The two fills of a flow field: DFVI's harmonic one, and FGVC's by least squares."""

import functools

import harness
import jax
import jax.numpy as jnp
import pytest

from jaxpaint.ops.flow_fill import laplace_fill, poisson_fill, untrusted


def check_fill(case):
    flow, mask = jnp.asarray(case.inputs["flow"])[None], jnp.asarray(case.inputs["mask"])[None, ..., None]
    run = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    case.compare(
        {
            "laplace": run(laplace_fill)(flow, mask)[0],
            "poisson_no_edges": run(poisson_fill)(flow, mask)[0],
            "gradient_mask": untrusted(mask)[0, ..., 0],
        }
    )


@pytest.mark.parametrize("case", harness.cases("flow_guided"), ids=harness.case_id)
def test_flow_guided_golden(case):
    harness.run(case, {"completion of one flow field": check_fill})
