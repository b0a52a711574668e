"""How a command speaks to the person at the terminal: warnings and log records as plain lines on stderr."""

import contextlib
import functools
import logging
import os
import select
import sys
import warnings
from collections.abc import Callable, Iterator

BROKEN_PIPE = 141
"""The exit status of a command whose reader has gone: 128 + SIGPIPE, as a shell reports it."""


def ends_quietly(main: Callable[..., int]) -> Callable[..., int]:
    """A `main` that stops without a traceback, with the status `BROKEN_PIPE`, where ``… | head`` has read enough."""

    @functools.wraps(main)
    def run(*arguments, **options) -> int:
        try:
            status = main(*arguments, **options)
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            if not _stdout_is_closed():
                raise
            # Python flushes once more on its way out: what is left goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            from jaxpaint.parallel.hosts import leave  # here: no command that ends well has to import JAX for this

            return leave(BROKEN_PIPE)

    return run


def _stdout_is_closed() -> bool:
    """Whether the standard output is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def tell(line: str) -> None:
    """A line on stdout, at once, also where it goes into a file."""
    print(line, flush=True)


def first_says(say: Callable[[str], None] = tell) -> Callable[[str], None]:
    """`say` on the first of a run's processes; on the others, what says nothing."""
    import jax  # here, as above

    return say if jax.process_index() == 0 else lambda line: None


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
