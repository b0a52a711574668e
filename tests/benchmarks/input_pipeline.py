"""Images a second from a folder of pictures: `jaxpaint.data.stream` against a torch DataLoader.

    python tests/benchmarks/input_pipeline.py FOLDER

Both do the same work on the same cores: read a file, decode it, cut a random window, mirror it or not, stack a batch
of uint8. The DataLoader decodes with Pillow, in this process or in workers; its best number of workers counts. Runs of
all loaders are interleaved, so that whatever else the machine does falls on all of them, and medians are compared. Each
loader starts before its runs and makes a few batches first. Needs torch, which jaxpaint itself does not.
"""

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from jaxpaint.data import Data, FolderSource, stream


def ours(root: str, size: int, batch: int) -> Iterator:
    return stream(Data(source="folder", path=root, size=(size, size), flip=True), batch=batch, seed=0)


class Pictures:
    """What a torch training script does for one example: Pillow, random crop, random mirroring, uint8 tensor."""

    def __init__(self, root: str, size: int):
        source = FolderSource(root)
        self.paths, self.size = [source.path(index) for index in range(len(source))], size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        import torch
        from PIL import Image

        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        width, height = image.size
        left = int(torch.randint(width - self.size + 1, ()))
        top = int(torch.randint(height - self.size + 1, ()))
        image = image.crop((left, top, left + self.size, top + self.size))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(image))


def torch_loader(root: str, size: int, batch: int, workers: int) -> Iterator:
    """Batches without end: the sampler repeats, so that no run pays for a start of workers."""
    import torch

    torch.set_num_threads(1)  # as the DataLoader does in its workers: more only get in each other's way here
    pictures = Pictures(root, size)
    sampler = torch.utils.data.RandomSampler(pictures, replacement=True, num_samples=10**9)
    return iter(torch.utils.data.DataLoader(pictures, batch, sampler=sampler, num_workers=workers))


def processor_seconds() -> float:
    """Processor time of this process and of its workers that are alive (Linux)."""
    total = time.process_time()
    for worker in multiprocessing.active_children():
        with open(f"/proc/{worker.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def run(batches: Iterator, batch: int, seconds: float) -> tuple[float, float]:
    """Images a second, and images a second of processor time, which a busy machine disturbs less."""
    count, wall, busy = 0, time.perf_counter(), processor_seconds()
    while time.perf_counter() - wall < seconds:
        next(batches)
        count += batch
    return count / (time.perf_counter() - wall), count / (processor_seconds() - busy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one run")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    options = parser.parse_args()
    arguments = (options.folder, options.size, options.batch)
    # The loaders live one at a time: those that wait would fill their queues on the other's time.
    makers: dict[str, Callable[[], Iterator]] = {"jaxpaint": lambda: ours(*arguments)}
    for workers in options.workers:
        makers[f"torch, {workers} workers"] = lambda workers=workers: torch_loader(*arguments, workers)
    speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in makers}
    for repeat in range(options.repeats):
        for name, make in makers.items():
            batches = make()
            for _ in range(20):
                next(batches)
            speeds[name].append(run(batches, options.batch, options.seconds))
            del batches
        print(
            f"run {repeat + 1}: " + "; ".join(f"{name} {speeds[name][-1][0]:.0f} img/s" for name in makers), flush=True
        )
    print(
        f"{options.size}x{options.size}, batch {options.batch}, {os.cpu_count()} cores, medians of {options.repeats}:"
    )
    medians = {}
    for name, values in speeds.items():
        walls, busy = zip(*values, strict=True)
        medians[name] = statistics.median(walls)
        print(
            f"  {name:18} {medians[name]:6.0f} img/s (from {min(walls):.0f} to {max(walls):.0f}), "
            f"{statistics.median(busy):6.0f} img a second of processor time"
        )
    best = max((name for name in medians if name != "jaxpaint"), key=medians.get)
    print(f"jaxpaint / {best}: {medians['jaxpaint'] / medians[best]:.2f}")


if __name__ == "__main__":
    main()
