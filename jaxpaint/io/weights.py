"""Weights alone: what evaluation, inpainting and a new run take from a checkpoint, and what a converter makes."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from jaxpaint.io import checkpoint_folder as folders
from jaxpaint.io.checkpoint import FOLDER, Skipped, all_broken, report_broken, steps_in
from jaxpaint.io.checkpoint_folder import Broken, CheckpointError
from jaxpaint.io.fingerprint import digest
from jaxpaint.types import InputError, PyTree

PARTS = ("params", "extra", "ema")
"""What weights consist of, as in `jaxpaint.train.state.Weights`."""


class LoadedWeights(NamedTuple):
    """What `restore_weights` brings back.

    step:        of the run that saved them; 0 for converted weights
    weights:     {"params", "extra", "ema"}, nested dicts of NumPy arrays
    config:      as it was saved
    fingerprint: 16 hexadecimal digits that name the contents of the weights
    path:        the folder they come from
    skipped:     newer steps that were broken, newest first
    """

    step: int
    weights: dict[str, PyTree]
    config: dict
    fingerprint: str
    path: str
    skipped: list[Skipped]


def restore_weights(path: str | epath.Path, step: int | None = None) -> LoadedWeights:
    """Loads and checks the weights of a checkpoint, on any machine; nothing on disk is changed.

    Args:
      path: a run directory, its directory of checkpoints, or one checkpoint.
      step: of a run; None for the newest good one (each broken one that is passed over is warned of).

    Raises:
      InputError: there is no such checkpoint, or it is broken.
      CheckpointError: this machine cannot read it (memory, permission).
    """
    path = folders.absolute(path)
    if not path.exists():
        raise InputError(f"checkpoint {path} does not exist: give a run directory or one of its checkpoints")
    if not path.is_dir():
        raise InputError(
            f"checkpoint {path} is a file, a checkpoint of jaxpaint is a directory. "
            "Weights that authors published become one through: jaxpaint convert SYSTEM FILE OUT"
        )
    if _is_checkpoint(path):
        try:
            loaded = _load(path, [])
        except Broken as error:
            raise InputError(f"checkpoint {path} is broken: {error}") from error
        if step not in (None, loaded.step):
            raise InputError(f"{path} is the checkpoint of step {loaded.step}, not of step {step}")
        return loaded
    directory = path / FOLDER if (path / FOLDER).is_dir() else path
    steps = steps_in(directory)
    if not steps:
        raise InputError(f"{path} holds no checkpoint: expected {path / FOLDER}/STEP, or a directory of steps")
    if step is not None and step not in steps:
        raise InputError(f"{directory} has no step {step}: it has {', '.join(map(str, steps))}")
    skipped: list[Skipped] = []
    for one in [step] if step is not None else reversed(steps):
        try:
            return _load(directory / str(one), skipped)
        except Broken as error:
            skipped.append(Skipped(one, str(error)))
            if step is not None:
                raise InputError(f"checkpoint {directory / str(step)} is broken: {error}") from error
            report_broken(directory / str(one), str(error))
    raise InputError(all_broken(directory, skipped))


def save_weights(path: str | epath.Path, weights: Mapping[str, PyTree], config: dict) -> str:
    """Writes a checkpoint of weights and config alone, complete or not at all.

    Args:
      path: the checkpoint's folder; it must not exist, or be empty.
      weights: {"params"} and, where there are any, "extra" and "ema".
      config: anything that JSON can hold.

    Returns:
      The fingerprint, as in `LoadedWeights`.

    Raises:
      InputError: the path is taken, or the weights have other entries.
      CheckpointError: there is no room, or the file system refused.
    """
    path = folders.absolute(path)
    if "params" not in weights or not set(weights) <= set(PARTS):
        raise InputError(f"weights have the entries {sorted(weights)}: expected params, and extra and ema if any")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not empty: give a new path, or delete it first")
    items = {"weights": {part: weights.get(part, {}) for part in PARTS}}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        folders.check_space(path.parent, items)
        if path.exists():
            path.rmdir()
        folders.write(path, 0, items, config).result()
    except (InputError, CheckpointError):
        raise
    except Exception as error:
        _remove_leftovers(path)
        raise CheckpointError(f"weights were not saved to {path}: {folders.reason(error)}") from error
    return digest(folders.read_record(path).leaves["weights"])


def _load(path: epath.Path, skipped: list[Skipped]) -> LoadedWeights:
    record = folders.read_record(path)
    config = folders.read_config(path, record)
    template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), folders.read_index(path, "weights"))
    try:
        tree = folders.read_items(path, record, {"weights": template})["weights"]
    except InputError as error:  # both come from the checkpoint
        raise Broken("weights: the index of the arrays and the record disagree") from error
    weights = {part: tree.get(part, {}) for part in PARTS}
    return LoadedWeights(record.step, weights, config, digest(record.leaves["weights"]), str(path), list(skipped))


def _is_checkpoint(path: epath.Path) -> bool:
    return (path / "weights").is_dir() or (path / folders.COMPLETE).exists()


def _remove_leftovers(path: epath.Path) -> None:
    """Removes what an earlier, killed attempt at the same path has left."""
    for sibling in path.parent.iterdir():
        if sibling.name.startswith(f"{path.name}{folders.TEMPORARY}"):
            sibling.rmtree()
