"""The end of a command whose reader has gone."""

import subprocess
import sys

import pytest

from jaxpaint.run.console import BROKEN_PIPE, ends_quietly

PROGRAM = """
import sys
from jaxpaint.run.console import ends_quietly

@ends_quietly
def main():
    for number in range(100_000):
        print(number)
    return 0

sys.exit(main())
"""


@pytest.mark.parametrize("unbuffered", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_reader_that_has_read_enough(unbuffered):
    child = subprocess.Popen(
        [sys.executable, *unbuffered, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "0\n"
    child.stdout.close()
    error = child.stderr.read()
    child.stderr.close()
    assert child.wait(timeout=60) == BROKEN_PIPE
    assert error == ""


def test_any_other_broken_pipe_is_a_defect():
    @ends_quietly
    def main():
        raise BrokenPipeError("a socket")

    with pytest.raises(BrokenPipeError, match="a socket"):
        main()


def test_a_status_is_passed_on():
    assert ends_quietly(lambda status: status)(3) == 3
