"""Broken files: named, counted, and too many of them an error."""

import logging
import threading

from jaxpaint.types import InputError

log = logging.getLogger(__name__)


class Broken:
    """The broken pictures or clips met so far.

    Args:
      source: has `label` and a length.
      limit: the largest share of them, see `Data.max_broken`.
      kind: what messages call them.
    """

    def __init__(self, source, limit: float, kind: str = "pictures"):
        self.source, self.limit, self.kind = source, limit, kind
        self.reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def add(self, index: int, reason: str) -> None:
        """Notes a broken one, once.

        Raises:
          InputError: there are too many; names them.
        """
        with self._lock:
            self._add(index, reason)

    def _add(self, index: int, reason: str) -> None:
        label, count = self.source.label(index), len(self.source)
        if label in self.reasons:
            return
        self.reasons[label] = reason
        number = len(self.reasons)
        log.warning("broken, another of the %s takes its place: %s (%d of %d so far)", self.kind, reason, number, count)
        if number == count or ((number > 1 or self.limit <= 0) and number > self.limit * count):
            first = "; ".join(list(self.reasons.values())[:10]) + ("; ..." if number > 10 else "")
            raise InputError(
                f"{self.source.name}: {number} of {count} {self.kind} ({number / count:.2%}) are broken, more than "
                f"data.max_broken = {self.limit:.2%}: {first}. Repair or remove them, or raise data.max_broken"
            )
