"""The checkpoints of a run: saved in the background, kept by rule, restored from the newest good one.

A run directory holds ``checkpoints/STEP/``, one `checkpoint_folder` a step. Orbax' own manager is not
used: it stops at a damaged file, counts an empty folder as the latest step, skips a save while another
one runs, and cannot walk back. What is needed of it is a few rules about numbered folders, below.

On many processes every method must be called by all of them, with one shared file system or bucket.
"""

import logging
from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from jaxpaint.io import checkpoint_folder as folders
from jaxpaint.io.checkpoint_folder import Broken, CheckpointError
from jaxpaint.types import InputError, PyTree

FOLDER = "checkpoints"
"""Where a run directory keeps them."""

log = logging.getLogger(__name__)


class Skipped(NamedTuple):
    """A step that could not be used, and why."""

    step: int
    reason: str


class Restored(NamedTuple):
    """What `Checkpoints.restore` brings back.

    step:    of the checkpoint
    items:   ``weights`` and ``train``, in the trees and on the devices that were asked for
    config:  as it was saved
    skipped: newer steps that were broken, newest first
    """

    step: int
    items: dict[str, PyTree]
    config: dict
    skipped: list[Skipped]


class Checkpoints:
    """The numbered checkpoints in one directory; use it in a ``with`` statement.

    What is kept: the newest `keep`, and the `keep_best` best by the metric `best` of those that were
    saved with it (of equals, the newer). The rule is applied when a save has been seen to finish: at
    the next `save`, `wait` or `close`; an old step is never deleted before a newer one is complete.

    An error of a save in the background is raised by the next call of any method.
    """

    def __init__(
        self,
        directory: str | epath.Path,
        *,
        keep: int = 3,
        best: str = "",
        mode: Literal["max", "min"] = "max",
        keep_best: int = 1,
    ):
        """Opens or makes the directory, and removes what a killed run has left half written.

        Args:
          directory: ``RUN/checkpoints``.
          keep: newest steps to keep, at least 1.
          best: metric by which the best steps are kept too; "" for none.
          mode: whether a high or a low value of it is good.
          keep_best: how many of the best.
        """
        if keep < 1 or keep_best < 0 or mode not in ("max", "min"):
            raise InputError(
                f"checkpoints: keep={keep}, keep_best={keep_best}, mode={mode!r}: expected keep of 1 or more, "
                "keep_best of 0 or more, and mode max or min"
            )
        self.directory = folders.absolute(directory)
        self._keep, self._best, self._sign = keep, best, 1 if mode == "max" else -1
        self._keep_best = keep_best if best else 0
        self._pending: tuple[int, ocp.AsyncResponse, dict[str, float | None]] | None = None
        self._metrics: dict[int, Mapping[str, float | None]] = {}  # of the steps that look good
        self._broken: set[int] = set()
        if self.directory.exists() and not self.directory.is_dir():
            raise InputError(f"checkpoint directory {self.directory} is a file: name a directory")
        if jax.process_index() == 0:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"checkpoint directory {self.directory} cannot be made: {error}") from error
            self._remove_leftovers()
        folders.wait_for_all("jaxpaint checkpoints opened")
        for step in steps_in(self.directory):
            try:
                self._metrics[step] = folders.read_record(self._path(step)).metrics
            except Broken:
                self._broken.add(step)  # `restore` says why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except CheckpointError as second:  # the first error is the one to show
            log.error("%s", second)

    def latest(self) -> int | None:
        """The newest step on disk, good or not; None where there is none."""
        self._finish()
        return max(steps_in(self.directory), default=None)

    def config(self) -> dict | None:
        """The config of the newest step that has a readable one; None where there is none.

        For a run to compare with its own before it asks `restore` for arrays.
        """
        self._finish()
        for step in reversed(steps_in(self.directory)):
            try:
                return folders.read_config(self._path(step), folders.read_record(self._path(step)))
            except Broken:
                continue  # `restore` reports it
        return None

    def save(
        self,
        step: int,
        items: Mapping[str, PyTree],
        config: dict,
        *,
        metrics: Mapping | None = None,
        wait: bool = False,
    ) -> bool:
        """Starts to save; a save in progress is waited for. The arrays may be donated on return.

        Args:
          step: newer than every step here.
          items: ``{"weights": ..., "train": ...}``, as from ``State.items()``.
          config: anything that JSON can hold.
          metrics: numbers by name; a step without the metric `best` is no candidate for best.
          wait: return when the checkpoint is complete.

        Returns:
          Whether there was anything to do: False for a step that is saved already.

        Raises:
          CheckpointError: no room (nothing was written), or the save before this one failed.
          InputError: the directory holds newer steps, of another run or of one not resumed.
        """
        self._finish()
        newest = max(self._metrics, default=-1)
        if step in self._metrics and step == newest:
            log.info("step %d is saved already", step)
            return False
        if step <= newest:
            raise InputError(
                f"step {step} cannot be saved: {self.directory} holds step {newest} already. "
                "Resume that run, or use another directory"
            )
        if metrics and self._best and self._best not in metrics:
            raise InputError(f"the best checkpoint goes by {self._best!r}, but the metrics are {sorted(metrics)}")
        self._set_aside()
        folders.check_space(self.directory, items)
        try:
            response = folders.write(self._path(step), step, items, config, metrics)
        except OSError as error:
            raise self._failure(step, error) from error
        self._pending = (step, response, folders.finite(metrics or {}))
        if wait:
            self.wait()
        return True

    def wait(self) -> None:
        """Returns when everything is on disk; raises what went wrong."""
        self._finish()

    def close(self) -> None:
        """`wait`; nothing else has to be given back."""
        self._finish()

    def restore(self, abstract_items: Mapping[str, PyTree]) -> Restored | None:
        """Loads the newest good step, going back over broken ones, each of which is reported.

        Nothing on disk is changed. The first `save` afterwards renames the broken steps to
        ``STEP.broken``, where no later run trips over them and a person can look at them.

        Args:
          abstract_items: by item, a tree of ``jax.ShapeDtypeStruct``; their shardings say where the
            arrays go, whatever devices wrote them (without one: the first device).

        Returns:
          None where the directory has no step at all.

        Raises:
          InputError: the newest readable step has other leaves than were asked for, or every step is
            broken: a run is never silently started anew.
          CheckpointError: this machine cannot read (memory, permission), whatever the step.
        """
        self._finish()
        abstract = jax.tree.map(_placed, dict(abstract_items))
        skipped: list[Skipped] = []
        for step in reversed(steps_in(self.directory)):
            try:
                record = folders.read_record(self._path(step))
                config = folders.read_config(self._path(step), record)
                items = folders.read_items(self._path(step), record, abstract)
            except Broken as error:
                report_broken(self._path(step), str(error))
                skipped.append(Skipped(step, str(error)))
                continue
            self._broken |= {s.step for s in skipped}
            for broken in skipped:
                self._metrics.pop(broken.step, None)
            return Restored(step, items, config, skipped)
        if skipped:
            raise InputError(all_broken(self.directory, skipped))
        return None

    def _path(self, step: int) -> epath.Path:
        return self.directory / str(step)

    def _finish(self) -> None:
        """Waits for the save in progress, then applies the rule of what is kept."""
        if self._pending is None:
            return
        (step, response, metrics), self._pending = self._pending, None
        try:
            response.result()
        except Exception as error:
            raise self._failure(step, error) from error
        self._metrics[step] = metrics
        self._delete_old()

    def _failure(self, step: int, error: Exception) -> CheckpointError:
        """What to say about a save that failed, once its remains are gone."""
        free = folders.free_bytes(self.directory)
        if jax.process_index() == 0:
            self._remove_leftovers()
        good = max(self._metrics, default=None)
        return CheckpointError(
            f"the checkpoint of step {step} was not saved to {self.directory}: {folders.reason(error)} "
            + (f"({folders.size(free)} were free then). " if free is not None else ". ")
            + (f"The checkpoint of step {good} is untouched." if good is not None else "There is no earlier one.")
        )

    def _kept(self) -> set[int]:
        steps = sorted(self._metrics)
        scored = [(m[self._best], s) for s, m in self._metrics.items() if m.get(self._best) is not None]
        ranked = sorted((self._sign * value, s) for value, s in scored)
        best = ranked[-self._keep_best :] if self._keep_best else []
        return set(steps[-self._keep :]) | {s for _, s in best}

    def _delete_old(self) -> None:
        old = set(self._metrics) - self._kept()
        for step in old:
            del self._metrics[step]
            if jax.process_index() == 0:
                _delete(self._path(step))
        if old:
            folders.wait_for_all("jaxpaint checkpoints deleted")

    def _set_aside(self) -> None:
        """Renames steps known as broken: a run that went back over them is about to pass them again."""
        if jax.process_index() == 0:
            for step in sorted(self._broken & set(steps_in(self.directory))):
                number, target = 1, self.directory / f"{step}.broken"
                while target.exists():
                    number += 1
                    target = self.directory / f"{step}.broken-{number}"
                self._path(step).rename(target)
                log.warning("broken checkpoint %d is now %s: delete it when you have no use for it", step, target)
        if self._broken:
            folders.wait_for_all("jaxpaint checkpoints set aside")
        self._broken.clear()

    def _remove_leftovers(self) -> None:
        for path in self.directory.iterdir():
            if folders.TEMPORARY in path.name:
                log.warning("removing %s, left by a save that did not finish", path)
                path.rmtree()


def steps_in(directory: epath.Path) -> list[int]:
    """The steps that have a folder in a directory, oldest first, whatever is in the folder."""
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdecimal() and path.is_dir())


def report_broken(path: epath.Path, why: str) -> None:
    """Warns that a checkpoint is passed over."""
    log.warning("checkpoint %s is broken, going back to the one before it: %s", path, why)


def all_broken(directory: epath.Path, skipped: list[Skipped]) -> str:
    """What to say where steps exist and none can be used."""
    return (
        f"every checkpoint in {directory} is broken:\n"
        + "\n".join(f"  {s.step}: {s.reason}" for s in skipped)
        + ("\nRestore them from a copy; to start anew, move the directory away.")
    )


def _delete(path: epath.Path) -> None:
    """Deletes a step such that a kill in between leaves no torn step behind."""
    if not path.exists():
        log.warning("checkpoint %s has been deleted by somebody else", path)
        return
    if not folders.remote(path):
        path = path.rename(path.parent / f"{path.name}{folders.TEMPORARY}-deleted")
    path.rmtree()


def _placed(x) -> jax.ShapeDtypeStruct:
    sharding = getattr(x, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
