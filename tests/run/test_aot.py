"""Compiling for a slice that is not there: the command, its errors, its figures; with libtpu, the real thing."""

import importlib.util
import json
import subprocess
import sys

import jax
import pytest

from jaxpaint.parallel import topology as topologies
from jaxpaint.parallel.hlo import Collective
from jaxpaint.parallel.layout import Layout
from jaxpaint.parallel.mesh import make_mesh
from jaxpaint.run import aot
from jaxpaint.run.config import Experiment, load
from jaxpaint.train.state import count
from jaxpaint.types import InputError

CONFIG = """
from jaxpaint.data.config import Data
from jaxpaint.run.config import Experiment, Train
from jaxpaint.systems.deepfillv2 import Config

def get_config():
    return Experiment(system="deepfillv2", model=Config(width=8, discriminator_width=4), data=Data(size=(64, 64)),
                      train=Train(batch=16))
"""
TOO_LARGE = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required (16G) exceeds available HBM (15.75G)."
)


@pytest.fixture
def config(tmp_path) -> str:
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def experiment(config) -> Experiment:
    return load(config, {})


@pytest.fixture
def cpu_slice(monkeypatch):
    """Eight fake CPU devices in the place of a slice."""
    monkeypatch.setattr(aot, "check_libtpu", lambda: None)
    monkeypatch.setattr(aot, "topology", lambda name, slices: jax.devices())


def test_parsing(capsys):
    arguments, overrides = aot.parse(["--config=c.py", "--topology=v5e:4x4", "--config.mesh.fsdp=2", "--fit"])
    assert (arguments.topology, arguments.fit, arguments.slices) == ("v5e:4x4", True, 1)
    assert overrides == {"mesh.fsdp": "2"}
    for bad, message in (
        ("--topologie=x", "unknown argument '--topologie=x'; did you mean --topology?"),
        ("--batch-per-chip=0", "0: expected 1 or more"),
    ):
        with pytest.raises(SystemExit) as error:
            aot.parse(["--config=c.py", "--topology=v5e:4x4", bad])
        assert error.value.code == 2
        assert message in capsys.readouterr().err


def test_without_libtpu(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert aot.main(["--config=none.py", "--topology=v5e:4x4"]) == 2
    assert "libtpu: pip install 'jaxpaint[tpu]'" in capsys.readouterr().err


def test_topologies(monkeypatch):
    from jax.experimental import topologies as jax_topologies

    asked = []

    def describe(platform, topology_name, **options):
        asked.append((platform, topology_name, options))
        if topology_name == "v9:2x2":
            raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Invalid TPU external name: TPU v9")
        return jax_topologies.TopologyDescription(jax.devices())

    monkeypatch.setattr(jax_topologies, "get_topology_desc", describe)
    assert topologies.topology("v5e:4x4") == jax.devices()
    topologies.topology("v5e:1x1")
    topologies.topology("v5p:2x2x2", slices=2)
    topologies.topology("v4:2x2x1")
    assert asked == [
        ("tpu", "v5e:4x4", {}),
        ("tpu", "v5e:1x1", {"chips_per_host_bounds": (1, 1, 1)}),
        ("tpu", "v5p:2x2x2", {"num_slices": 2}),
        ("tpu", "v4:2x2x1", {"chip_config_name": "megacore"}),
    ]
    with pytest.raises(InputError, match=r"topology 'v9:2x2': .*TPU v9\). Names that work: .* v5e:4x4 "):
        topologies.topology("v9:2x2")


def test_only_hbm_is_a_matter_of_the_batch():
    assert topologies.out_of_memory(TOO_LARGE)
    assert not topologies.out_of_memory("RESOURCE_EXHAUSTED: Ran out of memory in memory space vmem. Used 20M of 16M.")
    assert not topologies.out_of_memory("INTERNAL: Mosaic failed to compile")


@pytest.mark.parametrize("start", [1, 16, 1000])
def test_bisection(start):
    for limit in range(1, 300):
        tried = []

        def fits(number, limit=limit, tried=tried):
            tried.append(number)
            return number <= limit

        low, high = aot.largest(fits, start)
        assert low <= limit < high
        assert high - low <= max(1, low // 8)
        assert len(tried) == len(set(tried)) <= 15
    assert aot.largest(lambda number: False, start) == (0, 1)


def test_what_inpainting_takes(experiment):
    mesh = make_mesh(Layout(data=4), jax.devices())
    cost = aot.measure(experiment, mesh, 8, aot.inpainting)
    assert (cost.fits, cost.what, cost.dtype, cost.devices, cost.batch_per_chip) == (True, "inpaint", "bfloat16", 4, 2)
    assert cost.collectives == {}
    system = aot.build(experiment, "float32")
    shapes = {
        "image": jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"),
        "mask": jax.ShapeDtypeStruct((1, 64, 64, 1), "float32"),
    }
    generator = jax.eval_shape(system.init, jax.random.key(0), shapes).params["generator"]
    # Float32 weights whole, two pictures with masks as bytes; a picture comes out.
    assert cost.arguments == 4 * count(generator) + 2 * 64 * 64 * 4
    assert cost.output == 2 * 64 * 64 * 3
    assert cost.flops > 0 and cost.accessed > 0 and cost.temporaries > 0 and cost.seconds > 0
    assert cost.usable is None  # a CPU


def test_too_large_and_other_errors(experiment):
    def program(message):
        def compiled(*arguments):
            raise jax.errors.JaxRuntimeError(message)

        return compiled

    mesh = make_mesh(Layout(data=2), jax.devices())
    cost = aot.measure(experiment, mesh, 8, program(TOO_LARGE + "\n\nLargest allocations: ..."))
    assert not cost.fits
    assert cost.message == TOO_LARGE
    assert "does NOT fit: RESOURCE_EXHAUSTED: Ran out of memory on HBM" in aot.lines(cost)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Mosaic"):
        aot.measure(experiment, mesh, 8, program("INTERNAL: Mosaic failed to compile"))
    with pytest.raises(InputError, match=r"the global batch is 9, which does not divide over 2 parts"):
        aot.measure(experiment, mesh, 9, aot.training)


def cost_of(batch: int, mesh, fits: bool = True) -> aot.Cost:
    """A cost as of a v5e:4x4, with round figures."""
    cost = aot.Cost(
        "train", "v5e:4x4", "TPU v5 lite", 16, dict(mesh.shape), batch, batch // 8, (256, 256), "bfloat16", fits
    )
    if not fits:
        return cost._replace(message=TOO_LARGE, usable=63 * 2**28, seconds=61.2)
    figures = {"arguments": 3 << 20, "temporaries": 5 << 30, "output": 2 << 20, "donated": 1 << 20, "code": 9 << 20}
    sent = {"all-reduce": Collective(2, 3 << 20), "all-gather": Collective(7, 1 << 20, 6)}
    figures |= {"peak": 6 << 30, "usable": 63 * 2**28, "flops": 197e9, "accessed": 819e6, "peak_flops": 197e12}
    return cost._replace(**figures, bandwidth=819e9, collectives=sent, seconds=61.2)


def test_lines():
    mesh = make_mesh(Layout(data=4, spatial=2), jax.devices())
    assert aot.lines(cost_of(64, mesh)).splitlines() == [
        "v5e:4x4: 16 x TPU v5 lite (data=4 x spatial=2); train, 256x256, bfloat16, batch 64, 8 a device",
        "  memory: arguments 3.0 MiB (donated 1.0), temporaries 5,120.0, output 2.0, code 9.0; "
        "peak 6.00 of 15.75 GiB: fits",
        "  work: 197.0 GFLOP (1.0 ms at the peak), 0.82 GB accessed (1.0 ms, were all of it in HBM)",
        "  collectives: all-reduce 2 (3.00 MiB), all-gather 7 (1.00 MiB, in loops of unknown length)",
        "  compiled in 61 s",
    ]


def test_fitting(config, cpu_slice, monkeypatch, capsys, tmp_path):
    batches = []

    def measure(experiment, mesh, batch, program):
        assert (experiment.data.size, program) == ((48, 64), aot.training)
        batches.append(batch)
        return cost_of(batch, mesh, fits=batch <= 8 * 20)

    monkeypatch.setattr(aot, "measure", measure)
    flags = [f"--config={config}", "--topology=v5e:4x2", "--size=48x64", "--fit", f"--json={tmp_path}/out/costs.json"]
    assert aot.main(flags) == 0
    assert batches == [8 * n for n in (2, 4, 8, 16, 32, 24, 20, 22)]  # the config's 16 are 2 a device
    assert "largest batch a device that fits: 20; 22 does not" in capsys.readouterr().out
    costs = json.loads((tmp_path / "out/costs.json").read_text())
    assert [cost["batch"] for cost in costs] == batches
    assert costs[0]["collectives"]["all-reduce"] == {"count": 2, "bytes": 3 << 20, "open_loops": 0}
    monkeypatch.setattr(aot, "measure", lambda experiment, mesh, batch, program: cost_of(batch, mesh, fits=False))
    assert aot.main(flags[:2]) == 1
    assert aot.main([*flags[:2], f"--json={config}/costs.json"]) == 2
    assert f"error: {config}/costs.json cannot be written: " in capsys.readouterr().err


def test_bad_input(config, cpu_slice, capsys):
    for flag, message in (
        ("--size=original", "a compiled program has one size"),
        ("--config.mesh.mode=pmap", "mesh.mode is 'pmap'"),
        ("--config.mesh.fsdp=3", "does not divide the 8 devices"),
        ("--config.train.batch=9", "the global batch is 9, which does not divide over 8 parts"),
        ("--config.train.bach=9", "did you mean --config.train.batch?"),
    ):
        assert aot.main([f"--config={config}", "--topology=v5e:4x2", flag]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.tpu_compile
@pytest.mark.timeout(1200)
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: jaxpaint[tpu]")
def test_a_training_step_for_four_tpus(config, tmp_path):
    command = [sys.executable, "-m", "jaxpaint.run.aot", f"--config={config}", "--topology=v5e:2x2"]
    command += ["--batch-per-chip=2", f"--json={tmp_path}/costs.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("v5e:2x2: 4 x TPU v5 lite (data=4); train, 64x64, bfloat16, batch 8, 2 a device\n")
    (cost,) = json.loads((tmp_path / "costs.json").read_text())
    system = aot.build(load(config, {}), "bfloat16")
    shapes = {
        "image": jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"),
        "mask": jax.ShapeDtypeStruct((1, 64, 64, 1), "float32"),
    }
    state = jax.eval_shape(system.init, jax.random.key(0), shapes)
    # Every gradient is summed once, in float32 (or, halved, in bfloat16), and little else but scalars.
    assert set(cost["collectives"]) == {"all-reduce"}
    assert 2 * count(state.params) <= cost["collectives"]["all-reduce"]["bytes"] <= 1.1 * 4 * count(state.params)
    # Parameters and two moments of Adam: all of it donated.
    assert cost["donated"] >= 3 * 4 * count(state.params)
    assert cost["donated"] >= 0.95 * cost["arguments"]
    assert cost["fits"] and cost["peak"] < cost["usable"]
