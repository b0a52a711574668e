"""How a command speaks to the person at the terminal: warnings and log records as plain lines on stderr."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def plain(verbose: bool = False) -> Iterator[None]:
    """Inside, a warning is one line ``warning: …`` without its place in the source, once for each occasion.

    Records of the logger "jaxpaint" are lines too, once, whatever handlers other packages have installed: warnings
    and errors after their level, and with `verbose` what it logs at level INFO as it is.
    """
    logger, handler = logging.getLogger("jaxpaint"), logging.StreamHandler()
    handler.setFormatter(_Plain())
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _show
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def _show(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)
