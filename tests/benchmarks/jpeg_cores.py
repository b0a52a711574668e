"""How many processor cores decode pictures as fast as a training step takes them.

    python -m jaxpaint.run.bench --config=configs/NAME.py --data memory --json bench.json    # where the step runs
    python tests/benchmarks/jpeg_cores.py FOLDER bench.json                                 # where pictures are

Cores = img/s of the step / img per processor second of `jaxpaint.data.stream` (read, decode, random window, mirror,
stack), for one accelerator and for all of the bench. Processor seconds are what a busy machine disturbs least; what
the operating system does for the disk is in them, waiting for the disk is not.
"""

import argparse
import json
import math
import os
import pathlib
import statistics

from input_pipeline import ours, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="pictures like those of the training set: their size is what decoding costs")
    parser.add_argument("bench", type=pathlib.Path, help="the JSON file of jaxpaint.run.bench")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run")
    options = parser.parse_args()
    measured = json.loads(options.bench.read_text())
    about, rate = measured["about"], measured["training"]["images_per_second"]
    height, width = about["size"]
    if height != width:
        parser.error(f"{options.bench} is of {height}x{width} pictures: this script reads square ones")
    batches = ours(options.folder, height, about["batch"])
    for _ in range(20):
        next(batches)
    speeds = [run(batches, about["batch"], options.seconds)[1] for _ in range(options.repeats)]
    batches.close()
    speed = statistics.median(speeds)
    print(
        f"decoding: {speed:.0f} img per processor second ({min(speeds):.0f} to {max(speeds):.0f} in {len(speeds)} "
        f"runs), {os.cpu_count()} cores"
    )
    for name, images in (("accelerator", rate / about["devices"]), (f"all {about['devices']}", rate)):
        cores = images / speed
        print(f"{about['device']}, {name}: {images:.0f} img/s need {cores:.2f} cores, so {math.ceil(cores)}")


if __name__ == "__main__":
    main()
