"""Trains a system: ``python train.py --config=configs/demo.py``. The same as ``jaxpaint train``."""

import sys

from jaxpaint.run.train import main

if __name__ == "__main__":
    sys.exit(main())
