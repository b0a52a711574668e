"""An experiment, as plain dataclasses, and the command-line flags that change its fields.

``--config=configs/x.py`` runs the file's ``get_config()``; ``--config=configs/x.py:small`` passes "small" to it;
``--config.optim.lr=1e-4`` sets a field. A flag's value is read as a Python literal and checked against the field's
type; an unknown field or a value of another type is an error that names the nearest field.
"""

import ast
import dataclasses
import importlib.util
import inspect
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from jaxpaint.data.config import Data
from jaxpaint.ops.masks import Masks
from jaxpaint.parallel.hosts import Hosts
from jaxpaint.parallel.layout import Layout
from jaxpaint.systems import SYSTEMS
from jaxpaint.train import Optim
from jaxpaint.types import InputError, did_you_mean


@dataclasses.dataclass
class Train:
    """The run.

    steps:            updates in all
    batch:            examples per step over all devices
    seed:             of weights, order, crops and masks
    precision:        of activations: auto (bfloat16 on TPU and GPU), float32, bfloat16
    dispatch:         steps that are sent to the devices at once; several pay where a step takes a few milliseconds
    log_every:        steps between log lines, which hold the mean of every metric since the last one
    sample_every:     steps between sample sheets, 0 = none
    checkpoint_every: steps between checkpoints (one is always written at the end)
    keep:             newest checkpoints kept
    nonfinite:        on a loss or gradient that is not finite the step is always dropped; then "skip" goes on and
                      "abort" stops the run
    nonfinite_limit:  under "skip", dropped steps in a row that stop the run
    """

    steps: int = 1_000_000
    batch: int = 16
    seed: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    dispatch: int = 1
    log_every: int = 100
    sample_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 3
    nonfinite: Literal["skip", "abort"] = "skip"
    nonfinite_limit: int = 10


@dataclasses.dataclass
class Validation:
    """Validation during the run, on frozen masks; the best checkpoint is kept beside the newest ones.

    every:    steps between validations, 0 = none; a checkpoint is written at each
    data:     the pictures or clips, as for ``evaluate.py --data``: a folder, an .npz file, or "demo"; of a clip the
              first frames, as many as a training example has
    resize:   how they get the size of the training pictures, as for ``evaluate.py --resize``
    count:    the first so many, in the order of their names
    mask_set: name of a frozen mask set, of pictures or of clips; "" is "deepfillv2", of clips "moving-freeform"
    best:     the metric by which the best checkpoint is kept
    """

    every: int = 0
    data: str = "demo"
    resize: Literal["center-crop", "crop", "resize"] = "center-crop"
    count: int = 32
    mask_set: str = ""
    best: Literal["psnr_hole", "psnr", "l1_hole", "l1"] = "psnr_hole"


@dataclasses.dataclass
class Experiment:
    """Everything that a run depends on. `model` is the config of the system named by `system`."""

    system: str
    model: Any
    optim: Optim = dataclasses.field(default_factory=Optim)
    data: Data = dataclasses.field(default_factory=Data)
    masks: Masks = dataclasses.field(default_factory=Masks)
    mesh: Layout = dataclasses.field(default_factory=Layout)
    hosts: Hosts = dataclasses.field(default_factory=Hosts)
    train: Train = dataclasses.field(default_factory=Train)
    validation: Validation = dataclasses.field(default_factory=Validation)


def load(argument: str, overrides: dict[str, str]) -> Experiment:
    """The experiment of a config file, ``FILE`` or ``FILE:variant``, with fields replaced.

    Args:
      argument: what ``--config=`` was given
      overrides: dotted field name -> value as typed, {"optim.lr": "1e-4"}

    Raises:
      InputError: no such file, no ``get_config``, no variants, unknown field, value of another type; the model is not
        the system's.
    """
    name, _, variant = argument.partition(":")
    path = pathlib.Path(name)
    if not path.is_file():
        proposal = did_you_mean(path, path.parent.glob("*.py"), "; did you mean {}?")
        raise InputError(f"--config={name}: no such file{proposal}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise InputError(f"{name} defines no get_config(): a config file has a function that returns an Experiment")
    if variant and not inspect.signature(module.get_config).parameters:
        raise InputError(f"--config={argument}: {name} has no variants: leave :{variant} out")
    experiment = module.get_config(variant) if variant else module.get_config()
    for field, value in overrides.items():
        experiment = replace(experiment, field, value)
    if experiment.system not in SYSTEMS:
        known = f"expected one of {sorted(SYSTEMS)}{did_you_mean(experiment.system, SYSTEMS)}"
        raise InputError(f"config.system is {experiment.system!r}: {known}")
    if not isinstance(experiment.model, SYSTEMS[experiment.system].config):
        raise InputError(
            f"config.system is {experiment.system!r}, and the model's config in {name} is another system's "
            f"({type(experiment.model).__module__}): choose a config file of {experiment.system}"
        )
    return experiment


def replace(config: Any, field: str, value: Any, *, within: str = "config") -> Any:
    """A copy of a config with one dotted field set; strings are read as Python literals where no string is wanted."""
    head, _, rest = field.partition(".")
    hint = _hints(config).get(head)
    if hint is None:
        raise InputError(_unknown(head, config, within))
    if rest:
        inner = getattr(config, head)
        if not dataclasses.is_dataclass(inner):
            raise InputError(f"--{within}.{head} is a {type(inner).__name__}: it has no field {rest!r}")
        return dataclasses.replace(config, **{head: replace(inner, rest, value, within=f"{within}.{head}")})
    if dataclasses.is_dataclass(getattr(config, head)):
        names = [f.name for f in dataclasses.fields(getattr(config, head))]
        raise InputError(f"--{within}.{head} is a group: set one of its fields {names}")
    return dataclasses.replace(config, **{head: convert(value, hint, f"{within}.{head}")})


def model_of(stored: Mapping[str, Any], path: Any) -> Any:
    """The system's config of a checkpoint.

    Args:
      stored: the checkpoint's config item
      path: of the checkpoint, for the error

    Raises:
      InputError: it is of another system or version of jaxpaint.
    """
    try:
        return from_dict({name: stored.get(name) for name in ("system", "model")}).model
    except InputError as error:
        raise InputError(f"{path} is a checkpoint of another system or version of jaxpaint: {error}") from error


def override(model: Any, options: Mapping[str, Any]) -> Any:
    """A system's config with fields replaced, {"iterations": 2}; strings are read as those of flags are.

    Raises:
      InputError: unknown field, value of another type.
    """
    for field, value in options.items():
        model = replace(model, field, value, within="model")
    return model


def to_dict(experiment: Experiment) -> dict[str, Any]:
    """A dict that JSON can hold; the inverse of `from_dict`."""
    return dataclasses.asdict(experiment)


def from_dict(values: dict[str, Any]) -> Experiment:
    """The experiment of a checkpoint's config item.

    Raises:
      InputError: unknown system, unknown or mistyped field (a checkpoint of another version).
    """
    name = values.get("system")
    if name not in SYSTEMS:
        known = f"which is none of {sorted(SYSTEMS)}{did_you_mean(name, SYSTEMS)}"
        raise InputError(f"the config names the system {name!r}, {known}")
    return _from_dict(Experiment(system=name, model=SYSTEMS[name].config()), values, "config")


def _from_dict(config: Any, values: dict[str, Any], within: str) -> Any:
    hints = _hints(config)
    changed = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(_unknown(name, config, within))
        old = getattr(config, name)
        if dataclasses.is_dataclass(old) and isinstance(value, dict):
            changed[name] = _from_dict(old, value, f"{within}.{name}")
        else:
            changed[name] = convert(value, hints[name], f"{within}.{name}")
    return dataclasses.replace(config, **changed)


def _hints(config: Any) -> dict[str, Any]:
    return typing.get_type_hints(type(config))


def _unknown(name: str, config: Any, within: str) -> str:
    names = [f.name for f in dataclasses.fields(config)]
    hint = did_you_mean(name, names, f"did you mean --{within}.{{}}?", cutoff=0.5) or f"it has {', '.join(names)}"
    return f"--{within}.{name}: {type(config).__name__} has no field {name!r}; {hint}"


def convert(value: Any, hint: Any, name: str) -> Any:
    """A value as a field's type; a string is read as a Python literal where no string is wanted.

    Raises:
      InputError: naming the field, the expected type and what was given.
    """
    wanted = InputError(f"--{name}: expected {_describe(hint)}, got {value!r}")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return convert(value, choice, name)
            except InputError:
                continue
        raise wanted
    if origin is Literal:
        if value in arguments:
            return value
        raise InputError(f"{wanted}{did_you_mean(value, arguments)}")
    if hint is Any:
        return value
    if isinstance(value, str) and hint is not str:
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that it may raise
            raise wanted from None
    if hint is type(None):
        if value is not None:
            raise wanted
        return value
    if origin is tuple:
        if not isinstance(value, tuple | list):
            raise wanted
        kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            raise wanted
        return tuple(convert(x, kind, name) for x, kind in zip(value, kinds, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise wanted
        return {convert(k, arguments[0], name): convert(v, arguments[1], name) for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise wanted
    return value


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)
