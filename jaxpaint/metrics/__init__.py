"""Metrics of inpainted pictures: a dict by implementation id, because names such as "SSIM" are ambiguous.

`METRICS` is plain: another metric is another entry (see `jaxpaint.metrics.metric.Metric`). Those that look through
networks, and so need weights, are in `jaxpaint.metrics.networks`; `jaxpaint.run.figures` makes metrics of either kind
by their names.
"""

import functools

import numpy as np

from jaxpaint.metrics import pixelwise, ssim
from jaxpaint.metrics.metric import Mean, Metric, check_pair, picture_metric

__all__ = ["METRICS", "QUICK", "STANDARD", "Mean", "Metric", "check_pair", "picture_metric"]


def _outside_max_abs_diff() -> Metric:
    def measure(predictions, targets, masks):
        worst = []
        for prediction, target, mask in zip(predictions, targets, masks, strict=True):
            check_pair(prediction, target, mask)
            difference = np.abs(prediction.astype(np.float64) - target.astype(np.float64))
            worst.append(float(np.where(mask > 0, 0.0, difference).max()))
        return {"outside": worst}

    def init():
        return (0.0, 0)

    def update(state, measured):
        values = measured["outside"]
        return max([state[0], *values]), state[1] + len(values)

    def merge(a, b):
        return max(a[0], b[0]), a[1] + b[1]

    def compute(state):
        return {"outside": {"value": state[0], "n": state[1]}}

    about = "largest |prediction - target| over all known pixels, in steps of 1/255; 0 where known pixels are kept"
    return Metric(about, "lower", "0..255", ("outside",), measure, init, update, merge, compute)


def _ssim(function, about, smallest, **arguments):
    function = functools.partial(function, **arguments) if arguments else function
    return picture_metric(function, about=about, better="higher", smallest=smallest)


METRICS: dict[str, Metric] = {
    "outside_max_abs_diff": _outside_max_abs_diff(),
    "l1": picture_metric(pixelwise.l1, about="mean |a - b|, [0, 1] range, RGB", better="lower", unit="[0, 1]"),
    "l2": picture_metric(pixelwise.l2, about="mean (a - b)^2, [0, 1] range, RGB", better="lower", unit="[0, 1]"),
    "psnr": picture_metric(
        pixelwise.psnr,
        about="10 log10(255^2 / mse) per picture, RGB; infinite values counted and left out",
        better="higher",
        unit="dB",
    ),
    "psnr.grey": picture_metric(
        pixelwise.psnr_grey, about="PSNR of grey pictures (EdgeConnect's script)", better="higher", unit="dB"
    ),
    "ssim.gauss11": _ssim(
        ssim.ssim_gaussian, "Gaussian 11x11, sigma 1.5, population covariance, valid, RGB (Wang; MAT)", 11
    ),
    "ssim.gauss11_sample": _ssim(
        ssim.ssim_gaussian, "Gaussian 11x11, sample covariance, valid, RGB (scikit-image)", 11, sample=True
    ),
    "ssim.gauss11_zero_pad": _ssim(
        ssim.ssim_gaussian_zero_pad, "Gaussian 11x11, zero padding, border included, RGB (LaMa)", 1
    ),
    "ssim.uniform7": _ssim(
        ssim.ssim_uniform, "uniform 7x7, sample covariance, valid, RGB (scikit-image default; AOT-GAN)", 7, size=7
    ),
    "ssim.uniform11": _ssim(ssim.ssim_uniform, "uniform 11x11, sample covariance, valid, RGB", 11, size=11),
    "ssim.grey51": _ssim(
        ssim.ssim_grey, "uniform 51x51, sample covariance, valid, grey (EdgeConnect's script)", 51, size=51
    ),
    "ssim.uniform65": _ssim(
        ssim.ssim_uniform,
        "uniform 65x65, sample covariance, valid, RGB (STTN, FuseFormer, E2FGVI, ProPainter)",
        65,
        size=65,
    ),
    "ms_ssim": picture_metric(
        ssim.ms_ssim,
        about="5 scales, Gaussian 11x11, zero-padded 2x2 means, RGB (pytorch-msssim); whole picture only",
        better="higher",
        smallest=ssim.MS_SSIM_SMALLEST,
        regions=("whole",),
    ),
    "absolute_ratio": picture_metric(
        pixelwise.absolute_ratio, about="sum |a - b| / sum (a + b), RGB: AOT-GAN's 'MAE', not an L1", better="lower"
    ),
    "absolute_ratio.grey": picture_metric(
        pixelwise.absolute_ratio_grey, about="sum |a - b| / sum (a + b), grey: EdgeConnect's 'MAE'", better="lower"
    ),
}

QUICK = ("outside_max_abs_diff", "l1", "psnr")
"""Cheap enough to run during training."""

STANDARD = (
    *QUICK,
    "l2",
    "ssim.gauss11",
    "ssim.uniform7",
    "ssim.grey51",
    "ssim.uniform65",
    "ms_ssim",
)
"""What an evaluation reports unless told otherwise."""
