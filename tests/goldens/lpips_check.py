"""The check that LPIPS's three golden tests share."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.convert.features import to_linear, to_variables
from jaxpaint.losses.lpips import lpips, lpips_map, lpips_terms


def check(system, weights, network, taps):
    """The check of a backbone: its golden, the names of its weights, the module and its taps."""

    def run(case):
        variables = to_variables(weights, case.weights(), network)
        with np.load(case.folder / case.manifest["lin_weights"]) as file:
            linear = to_linear(system, dict(file))

        @jax.jit
        def measure(first, second):
            features = [network.apply(variables, image)[1] for image in (first, second)]
            one, two = ([out[tap] for tap in taps] for out in features)
            maps = lpips_map(one, two, linear, *first.shape[1:3])
            return lpips(one, two, linear), lpips_terms(one, two, linear), maps, one

        first, second = (jnp.asarray(case.inputs[name]).transpose(0, 2, 3, 1) for name in ("x0", "x1"))
        distance, terms, maps, features = measure(first, second)
        crops = {
            f"feat{number}": feature[1:, :16, :16, :8].transpose(0, 3, 1, 2)
            for number, feature in enumerate(features, start=1)
        }
        spatial = maps[1:].transpose(0, 3, 1, 2)
        case.compare({"distance": distance, "per_layer": terms, "spatial": spatial, **crops})

    return run
