"""One large picture over several devices that share it: memory a device, and the same output.

    python tests/benchmarks/one_large_picture.py --size 2048 --spatial 8        # compiles only: seconds
    python tests/benchmarks/one_large_picture.py --size 2048 --spatial 8 --run  # fills it both ways: minutes

DeepFillv2 as published, with random weights, in float32, on fake devices of the CPU. Memory is the compiler's plan for
one device: arguments, temporaries and output.
"""

import argparse
import os

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="height and width")
    parser.add_argument("--spatial", type=int, default=8, help="devices that share the picture")
    parser.add_argument("--run", action="store_true", help="fill it both ways and compare")
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={arguments.spatial}"

    import jax
    import numpy as np

    size, several = arguments.size, arguments.spatial
    plans, results = {}, {}
    for spatial in (1, several):
        compiled, (weights, batch) = program(size, spatial)
        plan = compiled.memory_analysis()
        parts = [plan.argument_size_in_bytes, plan.temp_size_in_bytes, plan.output_size_in_bytes]
        plans[spatial] = sum(parts)
        print(
            f"{size}x{size} over {spatial} device(s), MiB each: {plans[spatial] / MIB:,.1f} "
            "(arguments {:,.1f}, temporaries {:,.1f}, output {:,.1f})".format(*(part / MIB for part in parts)),
            flush=True,
        )
        if arguments.run:
            results[spatial] = np.asarray(jax.device_get(compiled(weights, batch, jax.random.key(0))))
    print(f"one device takes {plans[1] / plans[several]:.2f} times as much")
    if arguments.run:
        hole = np.broadcast_to(np.asarray(batch["mask"]) > 0, results[1].shape)
        difference, values = np.abs(results[1] - results[several])[hole], results[1][hole]
        print(
            f"in the hole: largest difference {difference.max():.2g}, mean {difference.mean():.2g}; "
            f"values from {values.min():.3f} to {values.max():.3f}, standard deviation {values.std():.3f}"
        )
        assert np.array_equal(results[1][~hole], results[several][~hole])


def program(size: int, spatial: int) -> tuple:
    """(compiled inpainting of one picture, its weights and batch, placed)."""
    import jax
    import jax.numpy as jnp

    from jaxpaint.parallel.layout import Layout
    from jaxpaint.parallel.mesh import make_mesh, replicated, split
    from jaxpaint.systems.deepfillv2 import Config, build

    mesh = make_mesh(Layout(data=1, spatial=spatial))
    system = build(Config(gain=3.0))
    small = {"image": jnp.zeros((1, 64, 64, 3)), "mask": jnp.zeros((1, 64, 64, 1))}
    weights = jax.device_put(jax.jit(system.init)(jax.random.key(0), small).weights, replicated(mesh))
    blocks = jax.random.uniform(jax.random.key(1), (1, size // 32, size // 32, 3), minval=-1, maxval=1)
    batch = {
        "image": jnp.repeat(jnp.repeat(blocks, 32, axis=1), 32, axis=2),
        "mask": jnp.zeros((1, size, size, 1)).at[:, size // 3 : 2 * size // 3, size // 4 : size // 2].set(1.0),
    }
    batch = {name: jax.device_put(x, split(mesh, x.shape)) for name, x in batch.items()}
    jitted = jax.jit(system.inpaint, out_shardings=split(mesh, batch["image"].shape))
    with jax.set_mesh(mesh):
        return jitted.lower(weights, batch, jax.random.key(0)).compile(), (weights, batch)


if __name__ == "__main__":
    main()
