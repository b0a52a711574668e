"""Our FID, KID, inception score, P-IDS and U-IDS beside those of published packages, on the same features.

    python tests/benchmarks/beside_metric_packages.py [--pictures 1000] [--features 2048]

Prints both figures, their difference and the seconds of each. Features are random, rectified and correlated, float32;
the second set is the first one with noise. Needs this package, and torch, torchvision, torchmetrics, torch-fidelity,
pytorch-fid and scikit-learn.

What differences to expect: FID of fewer pictures than features is 1e-4 or so apart from a square root of the product
of the covariances, and less than 1e-8 otherwise; torch-fidelity and TorchMetrics compute KID in float32; both draw
random subsets or orders, so torch-fidelity's seed is ours, and TorchMetrics is given all rows at once; scikit-learn
stops at a tolerance of 1e-4, so single pictures next to the plane may change sides.
"""

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from sklearn.svm import LinearSVC
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from jaxpaint.metrics.frechet import frechet_distance_of
from jaxpaint.metrics.inception_score import inception_score_of
from jaxpaint.metrics.kernel import kernel_distance, kernel_distances
from jaxpaint.metrics.separability import separability


class AsTheyAre(torch.nn.Module):
    """Stands in for the network of TorchMetrics: what it is given are features."""

    def __init__(self, features: int):
        super().__init__()
        self.num_features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def sets(pictures: int, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of real and of inpainted pictures, and logits."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((64, features)) * 0.1
    real = rng.standard_normal((pictures, 64)) @ common + rng.standard_normal((pictures, features)) * 0.3 + 0.2
    real = np.maximum(real, 0).astype(np.float32)
    fake = np.maximum(real + rng.standard_normal(real.shape) * 0.15, 0).astype(np.float32)
    return real, fake, (rng.standard_normal((pictures, 1008)) * 3).astype(np.float32)


def moments(x: np.ndarray) -> dict[str, np.ndarray]:
    """As pytorch-fid and torch-fidelity make them."""
    return {"mu": np.mean(x.astype(np.float64), axis=0), "sigma": np.cov(x.astype(np.float64), rowvar=False)}


def machine(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    """(P-IDS, U-IDS) in percent, as CoModGAN's definition reads, with scikit-learn."""
    x, labels = np.concatenate([real, fake]).astype(np.float64), np.repeat([1, 0], len(real))
    svm = LinearSVC(dual=False).fit(x, labels)
    decisions = svm.decision_function(x)
    beaten = decisions[len(real) :] > decisions[: len(real)]
    return 100 * float(beaten.mean()), 100 * (1 - svm.score(x, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--features", type=int, default=2048)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    real, fake, logits = sets(arguments.pictures, arguments.features)
    real_t, fake_t, logits_t = map(torch.from_numpy, (real, fake, logits))
    n = len(real)
    size = min(1000, n // 2)

    def pytorch_fid():
        a, b = moments(real), moments(fake)
        return calculate_frechet_distance(a["mu"], a["sigma"], b["mu"], b["sigma"])

    def torch_fidelity_fid():
        (value,) = fid_statistics_to_metric(moments(real), moments(fake), False).values()
        return value

    def torchmetrics_fid():
        metric = FrechetInceptionDistance(AsTheyAre(real.shape[1])).set_dtype(torch.float64)
        metric.update(real_t.double(), real=True)
        metric.update(fake_t.double(), real=False)
        return metric.compute()

    def torchmetrics_kid():
        metric = KernelInceptionDistance(AsTheyAre(real.shape[1]), subsets=1, subset_size=n)
        metric.update(real_t, real=True)
        metric.update(fake_t, real=False)
        return metric.compute()[0]

    def torchmetrics_is():
        metric = InceptionScore(AsTheyAre(1008), splits=1)
        metric.update(logits_t)
        return metric.compute()[0]

    def torch_fidelity_kid():
        options = {"kid_subsets": 10, "kid_subset_size": size, "rng_seed": 2020, "verbose": False}
        return kid_features_to_metric(real_t, fake_t, **options)["kernel_inception_distance_mean"]

    def torch_fidelity_is():
        return isc_features_to_metric(logits_t)["inception_score_mean"]

    ours = Timed(lambda: frechet_distance_of(real, fake))
    for name, function in (
        ("pytorch-fid", pytorch_fid),
        ("torch-fidelity", torch_fidelity_fid),
        ("TorchMetrics", torchmetrics_fid),
    ):
        show(f"FID, {name}", ours, Timed(function))
    show("FID with itself", Timed(lambda: frechet_distance_of(real, real)), None)
    subsets = Timed(lambda: kernel_distances(real, fake, subsets=10, subset_size=size).mean())
    show(f"KID, torch-fidelity, 10 x {size}", subsets, Timed(torch_fidelity_kid))
    show("KID, TorchMetrics, all", Timed(lambda: kernel_distance(real, fake)), Timed(torchmetrics_kid))
    show("IS, torch-fidelity", Timed(lambda: inception_score_of(logits)[0]), Timed(torch_fidelity_is))
    show("IS, TorchMetrics, one part", Timed(lambda: inception_score_of(logits, 1)[0]), Timed(torchmetrics_is))
    ours, theirs = Timed(lambda: separability(real, fake)), Timed(lambda: machine(real, fake))
    show("P-IDS, scikit-learn, %", ours.part(0), theirs.part(0))
    show("U-IDS, scikit-learn, %", ours.part(1), theirs.part(1))


class Timed:
    """What a function gives, and the seconds that it took."""

    def __init__(self, function: Callable):
        start = time.perf_counter()
        self.value = function()
        self.seconds = time.perf_counter() - start

    def part(self, index: int) -> "Timed":
        other = object.__new__(Timed)
        other.value, other.seconds = self.value[index], self.seconds
        return other


def show(name: str, ours: Timed, theirs: Timed | None) -> None:
    line = f"{name:34} ours {float(ours.value):15.9f} ({ours.seconds:5.1f} s)"
    if theirs is not None:
        difference = float(ours.value) - float(theirs.value)
        line += f"   theirs {float(theirs.value):15.9f} ({theirs.seconds:5.1f} s)   difference {difference:9.1e}"
    print(line, flush=True)


if __name__ == "__main__":
    main()
