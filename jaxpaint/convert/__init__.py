"""Published checkpoints to weights. `CONVERSIONS` is a plain dict of the systems that have files to convert.

A module in this folder with the name of a system is found and defines `CONVERSION`: adding one means adding a file.
Others are `table`, the engine, `features`, for fixed networks, and tables whose system has no page yet.
"""

import dataclasses
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpaint.convert.table import Conversion, PublishedFile, assign
from jaxpaint.systems import SYSTEMS
from jaxpaint.types import InputError, PyTree

__all__ = ["CONVERSIONS", "Conversion", "PublishedFile", "Report", "convert", "template", "to_flax"]

CONVERSIONS: dict[str, Conversion] = {
    module.name: importlib.import_module(f"{__name__}.{module.name}").CONVERSION
    for module in pkgutil.iter_modules(__path__)
    if module.name in SYSTEMS
}


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion did.

    system, path: what was asked for
    sha256:       of the file; empty for a folder
    source:       the container: "torch" or "tensorflow"
    channels:     the colour order that the file was taken to have; the weights are RGB
    networks:     network -> how many numbers its tensors hold
    absent:       networks of the system that the file does not hold
    config:       fields of the system's config that the file's shapes ask for
    """

    system: str
    path: str
    sha256: str
    source: str
    channels: str
    networks: Mapping[str, int]
    absent: tuple[str, ...]
    config: Mapping[str, Any]

    def __str__(self) -> str:
        held = ", ".join(f"{name} {numbers:,} numbers" for name, numbers in self.networks.items())
        lines = [
            f"{self.path}: {self.source} file of {self.system}, pictures in {self.channels.upper()} -> RGB",
            f"  {held}",
        ]
        if self.absent:
            lines.append(f"  not in the file: {', '.join(self.absent)}")
        if self.config:
            lines.append("  config: " + ", ".join(f"{field}={value}" for field, value in self.config.items()))
        if self.sha256:
            lines.append(f"  sha256 {self.sha256}")
        return "\n".join(lines)


def convert(system: str, path: str | os.PathLike, *, channels: str | None = None) -> tuple[dict, dict, Report]:
    """Reads a published checkpoint.

    Args:
      system: a name in `CONVERSIONS`
      path: the file or folder as downloaded
      channels: the colour order that the stored weights expect, "rgb" or "bgr"; None: that of this kind of file

    Returns:
      (weights, config, report): ``{"params": {network: tree}, "extra": {network: {collection: tree}}, "ema": {}}``,
      float32 NumPy arrays for RGB pictures; the fields of the system's config that differ from its default.

    Raises:
      InputError: if the file cannot be read safely, is not of this system, or does not fit it in every tensor.
    """
    record = _record(system)
    path = os.fspath(path)
    if not os.path.exists(path) and not os.path.exists(path + ".index"):
        raise InputError(f"{path} does not exist: give the file or folder as downloaded")
    state, source = record.read(path)
    order = _order(channels or record.channels[source])
    config = record.config(state)
    try:
        variables = to_flax(system, state, template(system, config), channels=order)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    lacking = [network for network in record.required if network not in variables]
    if lacking:
        raise InputError(
            f"{path} holds {', '.join(variables)} of {system} but not its {', '.join(lacking)}: nothing to use"
        )
    weights = {
        "params": {network: collections["params"] for network, collections in variables.items()},
        "extra": {
            network: rest
            for network, collections in variables.items()
            if (rest := {name: tree for name, tree in collections.items() if name != "params"})
        },
        "ema": {},
    }
    report = Report(
        system=system,
        path=path,
        sha256=_sha256(path),
        source=source,
        channels=order,
        networks={name: sum(int(x.size) for x in jax.tree.leaves(tree)) for name, tree in variables.items()},
        absent=tuple(name for name in record.networks.values() if name not in variables),
        config=config,
    )
    return weights, config, report


def to_flax(
    system: str, state: Mapping[str, np.ndarray], template: Mapping[str, PyTree], *, channels: str = "rgb"
) -> dict[str, dict[str, Any]]:
    """Tensors by canonical (torch) name -> ``{network: {collection: tree}}`` of float32 arrays for RGB pictures.

    Args:
      system: a name in `CONVERSIONS`
      state: arrays in torch's layout, each name with its network's prefix (``G.conv1.conv.weight``)
      template: ``{network: variables}`` of arrays or shapes
      channels: the colour order that the state expects

    Raises:
      InputError: one, that lists every tensor that does not map, is missing or does not fit.
    """
    record = _record(system)
    state = dict(state)
    if _order(channels) == "bgr":
        state = record.reorder(state)
    return assign(system, record, state, template)


def template(system: str, config: Mapping[str, Any] | None = None) -> dict[str, PyTree]:
    """``{network: variables}`` of a system, as shapes: nothing is computed.

    config: fields of the system's config that differ from its default.
    """
    record, page = _record(system), SYSTEMS[system]
    fields = dict(config or {})
    built = page.build(dataclasses.replace(page.config(), **fields))
    shapes = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in record.batch(fields).items()}
    state = jax.eval_shape(built.init, jax.random.key(0), shapes)
    return {name: {"params": params, **state.extra.get(name, {})} for name, params in state.params.items()}


def _record(system: str) -> Conversion:
    if system not in CONVERSIONS:
        raise InputError(f"there is no conversion for {system!r}: expected one of {', '.join(sorted(CONVERSIONS))}")
    return CONVERSIONS[system]


def _order(channels: str) -> str:
    if channels not in ("rgb", "bgr"):
        raise InputError(f"channels is {channels!r}: expected 'rgb' or 'bgr'")
    return channels


def _sha256(path: str) -> str:
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
