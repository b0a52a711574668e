"""Broken files: named, counted, and too many of them an error."""

import logging

from jaxpaint.types import InputError

log = logging.getLogger(__name__)


class Broken:
    """The broken pictures met so far.

    Args:
      source: has `label` and a length.
      limit: the largest share of them, see `Data.max_broken`.
    """

    def __init__(self, source, limit: float):
        self.source, self.limit = source, limit
        self.reasons: dict[str, str] = {}

    def add(self, index: int, reason: str) -> None:
        """Notes a broken picture, once.

        Raises:
          InputError: there are too many; names them.
        """
        label, count = self.source.label(index), len(self.source)
        if label in self.reasons:
            return
        self.reasons[label] = reason
        number = len(self.reasons)
        log.warning("broken picture, another takes its place: %s (%d of %d so far)", reason, number, count)
        if number == count or ((number > 1 or self.limit <= 0) and number > self.limit * count):
            first = "; ".join(list(self.reasons.values())[:10]) + ("; ..." if number > 10 else "")
            raise InputError(
                f"{self.source.name}: {number} of {count} pictures ({number / count:.2%}) are broken, more than "
                f"data.max_broken = {self.limit:.2%}: {first}. Repair or remove them, or raise data.max_broken"
            )
