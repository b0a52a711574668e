"""What is printed before step 0: what will run, how large it is, what it costs."""

import jax
from jax.sharding import Mesh

from jaxpaint.parallel.compile import Program
from jaxpaint.train.state import count
from jaxpaint.types import PyTree

MIB = 2**20


def parameter_table(params: PyTree, *, depth: int = 2) -> str:
    """A table of parameters: a row per layer (the first `depth` names of a path), subtotals per network."""
    rows: list[tuple[str, str, int]] = []
    for network, tree in params.items():
        layers: dict[str, list] = {}
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            names = [str(getattr(key, "key", key)) for key in path]
            layers.setdefault("/".join(names[: depth - 1]), []).append((names[-1], leaf))
        for layer, leaves in layers.items():
            shapes = "  ".join(f"{name} {'x'.join(map(str, leaf.shape)) or 'scalar'}" for name, leaf in leaves)
            rows.append((f"{network}/{layer}", shapes, sum(leaf.size for _, leaf in leaves)))
        rows.append((f"{network}: all", "", count(tree)))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return "\n".join(f"{name:{widths[0]}}  {shapes:{widths[1]}}  {size:>12,}" for name, shapes, size in rows)


def cost(program: Program) -> dict[str, float]:
    """FLOPs and bytes of the compiled step, per device, as the compiler counts them.

    flops:           of one step (0 where the backend does not say)
    arguments, temporary, output, donated: MiB
    compile_seconds: wall time
    """
    analysis = program.compiled.cost_analysis() or {}
    memory = program.compiled.memory_analysis()
    return {
        "flops": float(analysis.get("flops", 0.0)),
        "arguments": memory.argument_size_in_bytes / MIB,
        "temporary": memory.temp_size_in_bytes / MIB,
        "output": memory.output_size_in_bytes / MIB,
        "donated": memory.alias_size_in_bytes / MIB,
        "compile_seconds": program.seconds,
    }


def cost_lines(program: Program, mesh: Mesh) -> str:
    """`cost`, to be read."""
    c = cost(program)
    return (
        f"one step on each of {mesh.size} {mesh.devices.flat[0].device_kind} device(s): {c['flops'] / 1e9:,.2f} GFLOP; "
        f"memory: arguments {c['arguments']:,.1f} MiB (donated {c['donated']:,.1f}), temporaries "
        f"{c['temporary']:,.1f} MiB; compiled in {c['compile_seconds']:.1f} s"
    )
