"""Our DeepFillv2 beside the PyTorch port of it, in one run on one machine.

    git clone https://github.com/nipponjo/deepfillv2-pytorch port
    python tests/benchmarks/beside_original.py --port port --json beside.json

Either side lives in a process of its own, so that neither holds the other's memory; the two take turns, round after
round, and medians are given. Of the port the fastest of its variants counts: as released, channels_last, and on a GPU
torch.compile in bfloat16 (``--compile`` for others). Besides: whether both compute the same (one set of weights in
both), and which share of the matrix peak our widest convolutions reach. What the port's step is, and what favours it:
`beside_original_port.py`. Needs torch >= 2.8 and this package, neither TensorFlow nor Orbax.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

from beside_original_cases import Case

NAMES = {
    "train": "train step",
    "inpaint": "inpaint",
    "attention": "attention, forward",
    "attention_grad": "attention, forward + backward",
}


def run_ours(connection) -> None:
    import beside_original_ours

    beside_original_ours.main(connection)


def run_port(connection, port: str, device: str) -> None:
    import beside_original_port

    beside_original_port.main(connection, port, device)


class Side:
    """One side's process, and how it is asked."""

    def __init__(self, name: str, target, *arguments):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *request):
        """The answer; RuntimeError with the side's traceback where it failed."""
        self.connection.send(request)
        try:
            state, value = self.connection.recv()
        except EOFError:
            self.process.join()
            raise SystemExit(f"{self.name}: the process ended at {request} (exit {self.process.exitcode})") from None
        if state == "failed":
            raise RuntimeError(f"{self.name} at {request}:\n{value}")
        return value


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Most important first: what time does not suffice for is left out, with a word."""
    size, batch, large, width = arguments.size, arguments.batch, arguments.large_batch, arguments.width
    first, *others = arguments.precisions
    chosen = [
        Case("train", size, batch, first, width),
        Case("attention", 2 * size, large, first, width),
        Case("attention_grad", 2 * size, large, first, width),
        Case("inpaint", size, batch, first, width),
        Case("inpaint", 2 * size, large, first, width),
        Case("attention", size, batch, first, width),
        Case("attention_grad", size, batch, first, width),
    ]
    for precision in others:
        chosen.append(Case("train", size, batch, precision, width))
        if precision != "fp32" or len(arguments.precisions) < 3:
            chosen += [
                Case("inpaint", size, batch, precision, width),
                Case("inpaint", 2 * size, large, precision, width),
                Case("attention", 2 * size, large, precision, width),
            ]
    return [case for case in chosen if not arguments.only or case.kind in arguments.only]


def measure(ours: Side, port: Side, case: Case, arguments: argparse.Namespace) -> dict:
    """Both sides on one case, in turns."""
    variants = ["eager", "channels_last"] + ["compiled"] * (case.precision in arguments.compile)
    runs = [(ours, "ours")] + [(port, variant) for variant in variants]
    found, failed = {}, {}
    for side, variant in runs:
        try:
            found[variant] = side.ask("prepare", case, variant)
        except RuntimeError as problem:
            if side is ours or variant == "eager":
                raise
            failed[variant] = str(problem).strip()
            print(f"  port, {variant}: failed: {failed[variant].splitlines()[-1]}", flush=True)
    taken: dict[str, list[float]] = {variant: [] for variant in found}
    for _ in range(arguments.rounds):
        for side, variant in runs:
            if variant in found:
                times = max(1, min(200, round(arguments.turn / found[variant]["once_s"])))
                taken[variant].append(side.ask("measure", variant, times))
    for side in (ours, port):
        side.ask("drop")
    for variant, seconds in taken.items():
        found[variant] |= {"median_s": statistics.median(seconds), "all_s": seconds}
    best = min((variant for variant in found if variant != "ours"), key=lambda v: found[v]["median_s"])
    ratio = found[best]["median_s"] / found["ours"]["median_s"]
    return {"case": case._asdict(), "runs": found, "failed": failed, "best": best, "ratio": ratio}


HEADER = """\
| case | precision | ours ms | port ms (its best) | port as released ms | ratio | ours img/s | port img/s | \
ours MiB | port MiB | ours GFLOP | port GFLOP |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


def row(result: dict) -> str:
    case, runs, best = Case(**result["case"]), result["runs"], result["best"]
    ours, port = runs["ours"], runs[best]

    def ms(run: dict) -> str:
        low, high = min(run["all_s"]), max(run["all_s"])
        return f"{1e3 * run['median_s']:.4g} ({1e3 * low:.4g} … {1e3 * high:.4g})"

    return (
        f"| {NAMES[case.kind]}, {case.size}x{case.size}, batch {case.batch} | {case.precision} | {ms(ours)} "
        f"| {ms(port)} {best} | {1e3 * runs['eager']['median_s']:.4g} | **{result['ratio']:.2f}** "
        f"| {case.batch / ours['median_s']:.4g} | {case.batch / port['median_s']:.4g} "
        f"| {ours['memory_mib']:.0f} | {port['memory_mib']:.0f} | {_count(ours)} | {_count(runs['eager'])} |"
    )


def _count(run: dict) -> str:
    return f"{run['gflop']:.4g}" if run["gflop"] else "-"


def report(found: dict) -> str:
    """The page as Markdown."""
    machine = found["machine"]
    lines = [
        f"{machine['device']}; " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()),
        f"`{machine['command']}`, torch on {machine['port_threads']} CPU threads. Median (least … most) of the rounds; "
        "ratio: the port's time / ours. Peak memory: ours as compiled (arguments, results, temporaries), the port's "
        + ("by its allocator." if machine["gpu"] else "by the growth of its process. GFLOP as XLA and torch count."),
        "",
        HEADER,
        *(row(result) for result in found["results"]),
        "",
        *(f"Left out, no time: {NAMES[case['kind']]} {case['size']} {case['precision']}" for case in found["left_out"]),
        "Same weights in both, largest difference as a share of the largest output: "
        + ", ".join(f"{name} {value:.1e}" for name, value in found["check"].items()),
        "",
        f"Matrix peak {found['peak']['tflops']:.4g} TFLOP/s ({found['peak']['size']}³, {found['peak']['precision']}); "
        f"our convolutions, batch {found['peak']['batch']}, TFLOP/s (share of that peak):",
        "",
        "| layer | forward | input gradient | kernel gradient |",
        "|---|---|---|---|",
    ]
    for layer in found["layers"]:
        rates = (layer[name] for name in ("forward", "input_gradient", "kernel_gradient"))
        shares = " | ".join(f"{rate:.4g} ({100 * rate / found['peak']['tflops']:.0f} %)" for rate in rates)
        lines.append(f"| {layer['layer']} | {shares} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", required=True, type=Path, help="a clone of nipponjo/deepfillv2-pytorch")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="gpu" if Path("/dev/nvidiactl").exists() else "cpu")
    parser.add_argument("--batch", type=int, help="pictures a train step, and in inpainting (GPU 16, CPU 2)")
    parser.add_argument("--large-batch", type=int, help="pictures of twice the size (GPU 4, CPU 1)")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--width", type=int, default=48, help="of the generator; the discriminator has 4/3 of it")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "tf32", "bf16"), help="GPU: all, CPU: fp32")
    parser.add_argument("--compile", nargs="*", default=None, help="precisions with torch.compile too (GPU bf16)")
    parser.add_argument("--only", nargs="*", choices=tuple(NAMES), default=(), help="kinds of cases; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--turn", type=float, default=0.5, help="seconds that a side has in a round, at least one run")
    parser.add_argument("--layers", type=int, default=2, help="how many convolutions are timed alone, the widest first")
    parser.add_argument("--minutes", type=float, default=8, help="after these no further case begins")
    parser.add_argument("--json", type=Path, help="where all figures go")
    parser.add_argument("--quick", action="store_true", help="does it run: width 24, 64x64, one round")
    arguments = parser.parse_args()
    gpu = arguments.device == "gpu"
    if arguments.quick:
        arguments.width, arguments.size, arguments.rounds, arguments.turn = 24, 64, 1, 0.1
    arguments.batch = arguments.batch or (16 if gpu else 2)
    arguments.large_batch = arguments.large_batch or (4 if gpu else 1)
    arguments.precisions = arguments.precisions or (["bf16", "tf32", "fp32"] if gpu else ["fp32"])
    if arguments.compile is None:
        arguments.compile = ["bf16"] if gpu else []
    if not (arguments.port / "model" / "networks.py").is_file():
        parser.error(f"--port {arguments.port} has no model/networks.py: clone nipponjo/deepfillv2-pytorch there")
    return arguments


def main() -> None:
    started = time.perf_counter()
    arguments = parse()
    gpu = arguments.device == "gpu"
    # Both sides live on one GPU: neither may take it all.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    os.environ["JAX_PLATFORMS"] = "cuda" if gpu else "cpu"
    ours = Side("ours", run_ours)
    port = Side("port", run_port, str(arguments.port.resolve()), "cuda" if gpu else "cpu")

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "check.npz")
        port.ask("check", path, arguments.width, 64)
        check = ours.ask("check", path, arguments.width)
    print("same weights in both, largest difference of the outputs:", check, flush=True)
    precision = arguments.precisions[0]
    side = 8192 if gpu else 2048 if not arguments.quick else 512
    peak = {
        "size": side,
        "precision": precision,
        "batch": arguments.batch,
        "tflops": ours.ask("peak", side, precision),
    }
    found = {
        "machine": {
            "device": port.ask("device") if gpu else f"{platform.machine()}, {os.cpu_count()} cores",
            "gpu": gpu,
            "port_threads": port.ask("threads"),
            "versions": {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "torch")},
            "command": "python " + " ".join(sys.argv),
        },
        "check": check,
        "peak": peak,
        "layers": ours.ask("layers", arguments.batch, precision, arguments.layers),
        "results": [],
        "left_out": [],
    }
    for case in cases(arguments):
        if time.perf_counter() - started > 60 * arguments.minutes:
            found["left_out"].append(case._asdict())
            continue
        result = measure(ours, port, case, arguments)
        found["results"].append(result)
        print(row(result), flush=True)
        if arguments.json:  # after every case: what ran is kept if a later one does not
            arguments.json.write_text(json.dumps(found, indent=1))
    found["seconds"] = time.perf_counter() - started
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    print()
    print(report(found))


if __name__ == "__main__":
    main()
