"""``python -m jaxpaint``: the same as ``jaxpaint``."""

import sys

from jaxpaint.run.cli import main

if __name__ == "__main__":
    sys.exit(main())
