"""Our patch-swap beside its convolution form (style-swap), written plainly in PyTorch, in one run on one machine.

    python tests/benchmarks/patch_swap.py

The convolution form is the paper's (arXiv 1711.08590, section 3): known patches, normalised, are the filters of a
convolution; the largest of its channels is a one-hot map; a transposed convolution with the patches as they are pastes
them, and the sum is divided by the number of patches that overlap. It is timed over the whole map (as style-swap is
used), and on the hole's surroundings alone, which the paper's text allows; the faster counts. The sides take turns in
one process, round after round; a turn is one run that is not timed (the other's idle threads spin for a while, and
caches are cold) and as many as fill a third of a second; medians over the rounds are given. Features are random but
smooth, so that neighbours are alike, and rectified, as those of VGG are. The exit status is 1 where a target is missed.
Needs torch and this package.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from jaxpaint.ops.swap import Swapped, patch_swap

SECONDS, TIMES = 1.0, 5.0  # the targets: at most so long, at least so many times faster


def convolution_form(features: torch.Tensor, mask: torch.Tensor, cropped: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Style-swap of the hole, patches of 3x3.

    Args:
      features: 1 c h w
      mask: 1 1 h w, 1 = hole
      cropped: correlate and paste in the smallest rectangle that holds all patches which touch the hole

    Returns:
      features 1 c h w with the hole rebuilt, and h-2 w-2 the number of the chosen patch's first cell, -1 for no choice
    """
    width = mask.shape[3]
    touched = F.max_pool2d(mask, 3, stride=1)[0, 0] > 0
    numbers = torch.arange(mask.shape[2])[:-2, None] * width + torch.arange(width)[:-2]
    patches = F.unfold(features, 3)[0].T[~touched.flatten()].reshape(-1, features.shape[1], 3, 3)
    numbers = numbers[~touched]
    filters = patches / patches.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]

    top, left, bottom, right = 0, 0, *touched.shape
    if cropped:
        rows, columns = touched.any(1).nonzero()[:, 0], touched.any(0).nonzero()[:, 0]
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    asking = touched[top:bottom, left:right]
    best = F.conv2d(features[:, :, top : bottom + 2, left : right + 2], filters).argmax(1)
    chosen = torch.zeros(1, len(filters), *asking.shape).scatter_(1, best[:, None], asking[None, None].float())
    pasted = F.conv_transpose2d(chosen, patches)
    overlaps = F.conv_transpose2d(asking[None, None].float(), torch.ones(1, 1, 3, 3))

    out = features.clone()
    inside = mask[:, :, top : bottom + 2, left : right + 2] > 0
    region = out[:, :, top : bottom + 2, left : right + 2]
    region[:] = torch.where(inside, pasted / overlaps.clamp_min(1), region)
    index = torch.full(touched.shape, -1)
    index[top:bottom, left:right] = torch.where(asking, numbers[best[0]], -1)
    return out, index


def example(size: int, hole: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Features 1 h w c, smooth and rectified, and the mask 1 h w 1 of a square hole in the middle."""
    noise = torch.randn(1, channels, size + 4, size + 4, generator=torch.Generator().manual_seed(0))
    features = F.relu(F.avg_pool2d(noise, 5, stride=1)).permute(0, 2, 3, 1).contiguous().numpy()
    mask = np.zeros((1, size, size, 1), np.float32)
    start = (size - hole) // 2
    mask[:, start : start + hole, start : start + hole] = 1
    return features, mask


def correlation(features: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Of each patch (h w c) with the one chosen for it (h-2 w-2, by its first cell), in float64; 0 for no choice."""
    patches = np.lib.stride_tricks.sliding_window_view(features, (3, 3), axis=(0, 1))
    found = np.zeros(index.shape)
    for y, x in np.argwhere(index >= 0):
        row, column = divmod(index[y, x], features.shape[1])
        one, other = (np.float64(patches[at]).ravel() for at in ((y, x), (row, column)))
        found[y, x] = one @ other / np.sqrt((one @ one) * (other @ other))
    return found


def turn(run: Callable[[], object], length: float = 1 / 3) -> float:
    """Seconds of a run: the mean of as many as fill the length (at least one), after one that does not count."""
    run()
    started, times = time.perf_counter(), 0
    while times == 0 or time.perf_counter() - started < length:
        run()
        times += 1
    return (time.perf_counter() - started) / times


def main() -> int:
    parser = argparse.ArgumentParser(description="patch-swap beside its convolution form")
    parser.add_argument("--size", type=int, default=64, help="side of the map, in cells")
    parser.add_argument("--hole", type=int, default=32, help="side of the hole, in cells")
    parser.add_argument("--channels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    features, mask = example(arguments.size, arguments.hole, arguments.channels)
    theirs = [torch.from_numpy(x).permute(0, 3, 1, 2).contiguous() for x in (features, mask)]
    ours = jax.device_put((features, mask))
    compiled = jax.jit(patch_swap).lower(*map(jnp.asarray, ours)).compile()
    print(
        f"{arguments.size}x{arguments.size}x{arguments.channels}, hole {arguments.hole}x{arguments.hole}; "
        f"jax {jax.__version__} on {jax.default_backend()}, torch {torch.__version__} with {torch.get_num_threads()} "
        f"threads; ours holds {compiled.memory_analysis().temp_size_in_bytes / 2**20:.0f} MiB"
    )

    def swap() -> Swapped:
        return jax.block_until_ready(compiled(*ours))

    def whole() -> tuple[torch.Tensor, torch.Tensor]:
        return convolution_form(*theirs, cropped=False)

    def around() -> tuple[torch.Tensor, torch.Tensor]:
        return convolution_form(*theirs, cropped=True)

    runs = {"ours": swap, "convolution, whole map": whole, "convolution, around the hole": around}
    results = {name: run() for name, run in runs.items()}
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            taken[name].append(turn(run))
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    ours = medians.pop("ours")
    print(f"{'ours':30} {ours:7.3f} s ({min(taken['ours']):.3f} to {max(taken['ours']):.3f})")
    mine = results.pop("ours")
    for name, (out, index) in results.items():
        seconds = taken[name]
        chosen = np.asarray(mine.index)[0], index.numpy()
        alike = np.mean(chosen[0] == chosen[1])
        given_up = correlation(features[0], chosen[1]) - correlation(features[0], chosen[0])
        off = np.abs(np.asarray(mine.features) - out.permute(0, 2, 3, 1).numpy()).max()
        print(
            f"{name:30} {medians[name]:7.3f} s ({min(seconds):.3f} to {max(seconds):.3f}), "
            f"{medians[name] / ours:.1f} times ours;\n{'':31}{alike:.2%} of indices agree "
            f"(ours correlate at most {given_up.max():.1e} less), features to {off:.1e}"
        )
    times = min(medians.values()) / ours
    met = ours < SECONDS and times >= TIMES
    print(f"targets: under {SECONDS} s and {TIMES} times faster than the faster one: {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    with torch.no_grad():
        sys.exit(main())
