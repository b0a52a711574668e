"""Config flags: what they set, and what a wrong one says."""

import dataclasses
import json
import pathlib

import pytest

from jaxpaint.run.config import Experiment, convert, from_dict, load, replace, to_dict
from jaxpaint.run.train import main, parse
from jaxpaint.systems import SYSTEMS
from jaxpaint.systems.deepfillv2 import Config
from jaxpaint.types import InputError

DEMO = pathlib.Path(__file__).parents[2] / "configs/demo.py"
CONFIGS = sorted(DEMO.parent.glob("*.py"))
DEEPFILL = CONFIGS[0].with_name("deepfillv2_bsds500.py")


def experiment() -> Experiment:
    return Experiment(system="deepfillv2", model=Config())


def test_there_are_configs():
    assert {"demo", "deepfillv2_places2", "deepfillv2_celebahq", "deepfillv2_bsds500"} <= {p.stem for p in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_config_loads_and_survives_json(path):
    loaded = load(str(path), {})
    assert from_dict(json.loads(json.dumps(to_dict(loaded)))) == loaded


@pytest.mark.parametrize("name", ["contextual_bsds500", "contextual_coco", "contextual_imagenet"])
def test_variants_of_a_config(name):
    path = DEEPFILL.with_name(f"{name}.py")
    stages = [load(f"{path}:{variant}", {}) for variant in ("image2feature", "feature2image")]
    assert [stage.model.stage for stage in stages] == ["image2feature", "feature2image"]
    for loaded in stages:
        assert from_dict(json.loads(json.dumps(to_dict(loaded)))) == loaded
        SYSTEMS["contextual"].build(loaded.model, loaded.optim)
    with pytest.raises(InputError, match="there is no variant 'both'"):
        load(f"{path}:both", {})


def test_overrides():
    path = str(DEEPFILL)
    changed = load(
        path,
        {
            "optim.lr": "3e-4",
            "train.batch": "32",
            "data.size": "(128, 96)",
            "data.flip": "True",
            "data.path": "some folder",
            "optim.lr_scale": "{'discriminator': 2}",
            "masks.options": "{'scale': 0.5}",
            "model.fuse": "False",
        },
    )
    assert (changed.optim.lr, changed.train.batch, changed.data.size) == (3e-4, 32, (128, 96))
    assert changed.data.flip is True and changed.model.fuse is False
    assert changed.data.path == "some folder"
    assert changed.optim.lr_scale == {"discriminator": 2.0}
    assert changed.masks.options == {"scale": 0.5}
    assert load(path, {}).optim.lr != 3e-4, "the config itself is not changed"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optim.lrr", "1", r"Optim has no field 'lrr'; did you mean --config\.optim\.lr\?"),
        ("optin.lr", "1", r"Experiment has no field 'optin'; did you mean --config\.optim\?"),
        ("train.stepz", "1", r"did you mean --config\.train\.steps\?"),
        ("optim.lr", "fast", r"--config\.optim\.lr: expected float, got 'fast'"),
        ("train.steps", "1.5", r"--config\.train\.steps: expected int, got '1\.5'"),
        ("train.steps", "True", r"expected int, got 'True'"),
        ("data.size", "(1, 2, 3)", r"--config\.data\.size: expected tuple\[int, int\]"),
        ("data.fit", "crup", r"expected one of 'crop', 'resize', 'shorter', got 'crup'; did you mean 'crop'\?"),
        ("optim", "1", r"--config\.optim is a group: set one of its fields"),
        ("optim.lr.x", "1", r"--config\.optim\.lr is a float: it has no field 'x'"),
        ("optim.lr_scale", "{'d': 'x'}", r"expected float, got 'x'"),
        ("optim.lr_scale", "{{}: 1}", r"expected dict\[str, float\], got '{{}: 1}'"),
    ],
)
def test_a_wrong_flag_says_what_to_do(field, value, message):
    with pytest.raises(InputError, match=message):
        replace(experiment(), field, value)


def test_a_config_of_an_unknown_system():
    values = to_dict(experiment()) | {"system": "deepfilv2"}
    with pytest.raises(InputError, match=r"none of .*did you mean 'deepfillv2'"):
        from_dict(values)
    values = to_dict(experiment())
    values["model"]["colour"] = 3
    with pytest.raises(InputError, match="Config has no field 'colour'"):
        from_dict(values)


def test_no_such_file(tmp_path):
    (tmp_path / "places.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"no such file; did you mean .*places\.py"):
        load(str(tmp_path / "place.py"), {})
    with pytest.raises(InputError, match=r"defines no get_config"):
        load(str(tmp_path / "places.py"), {})


def test_variants(tmp_path):
    (tmp_path / "v.py").write_text(
        "from jaxpaint.run.config import Experiment\nfrom jaxpaint.systems.deepfillv2 import Config\n"
        "def get_config(variant='wide'):\n"
        "    return Experiment(system='deepfillv2', model=Config(width={'wide': 48, 'narrow': 16}[variant]))\n"
    )
    assert load(f"{tmp_path}/v.py", {}).model.width == 48
    assert load(f"{tmp_path}/v.py:narrow", {}).model.width == 16
    with pytest.raises(InputError, match=r"demo\.py has no variants: leave :small out"):
        load(f"{DEMO}:small", {})


@pytest.mark.parametrize(
    ("system", "message"),
    [
        ("vinett", r"config\.system is 'vinett': expected one of .*did you mean 'vinet'"),
        ("contextual", r"another system's \(jaxpaint\.systems\.deepfillv2\): choose a config file of contextual"),
    ],
)
def test_a_system_that_is_not_the_models(system, message):
    with pytest.raises(InputError, match=message):
        load(str(DEMO), {"system": system})


def test_convert_choices():
    assert convert("None", int | None, "x") is None
    assert convert("3", int | None, "x") == 3
    with pytest.raises(InputError, match=r"--x: expected int \| None, got 'y'"):
        convert("y", int | None, "x")
    assert convert("3", str, "x") == "3"


def test_the_command_line():
    arguments, overrides = parse(
        ["--config=c.py", "--config.optim.lr=1e-3", "--config.train.steps", "5", "--no-resume"]
    )
    assert arguments.config == "c.py" and not arguments.resume
    assert overrides == {"optim.lr": "1e-3", "train.steps": "5"}
    with pytest.raises(SystemExit):
        parse(["--config=c.py", "--confg.optim.lr=1"])


def test_bad_input_exits_2_without_a_traceback(capsys):
    path = str(DEEPFILL)
    assert main([f"--config={path}", "--config.optim.lrr=1"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: --config.optim.lrr: Optim has no field 'lrr'; did you mean")
    assert captured.err.count("\n") == 1


def test_every_field_is_documented():
    """A field that a user can set is explained in its dataclass's docstring."""
    for group in (experiment(), *(getattr(experiment(), f.name) for f in dataclasses.fields(Experiment))):
        if dataclasses.is_dataclass(group) and not isinstance(group, Experiment):
            for field in dataclasses.fields(group):
                assert field.name in type(group).__doc__, f"{type(group).__name__}.{field.name}"
