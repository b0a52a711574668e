"""Measures a checkpoint on held-out pictures or clips:

    python evaluate.py --checkpoint runs/demo --data demo --size 64
    python evaluate.py --published deepfillv2 FILE --data DIR --mask-set irregular
    python evaluate.py --baseline mean --data DIR --masks DIR
    python evaluate.py --video --method iivi --data CLIPS --mask-set still-freeform

Prints and writes a table, metrics.json with the protocol card, a sheet of pictures, and a row a picture.
"""

import sys

from jaxpaint.run.evaluate import main

if __name__ == "__main__":
    sys.exit(main())
