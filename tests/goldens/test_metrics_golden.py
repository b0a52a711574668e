"""Every implementation id against what the papers' own scripts gave on the same pictures."""

import dataclasses

import harness
import numpy as np
import pytest

from jaxpaint.metrics import METRICS
from jaxpaint.metrics.warping import pair_errors, video_error
from jaxpaint.ops.warp import occluded, warp

# By output of the manifest: the id, and the region where it is not the whole picture.
OUTPUTS = {
    "psnr": ("psnr", "whole"),
    "psnr_e2fgvi": ("psnr", "whole"),
    "psnr_mat": ("psnr", "whole"),
    "edgeconnect_psnr_gray": ("psnr.grey", "whole"),
    "ssim_e2fgvi_win65": ("ssim.uniform65", "whole"),
    "ssim_mat": ("ssim.gauss11", "whole"),
    "ssim_gaussian_wang": ("ssim.gauss11", "whole"),
    "ssim_pytorch_msssim_255": ("ssim.gauss11", "whole"),
    "ssim_pytorch_msssim_1": ("ssim.gauss11", "whole"),
    "ssim_gaussian_sample_cov": ("ssim.gauss11_sample", "whole"),
    "ssim_lama_zero_pad": ("ssim.gauss11_zero_pad", "whole"),
    "ssim_skimage_default_win7": ("ssim.uniform7", "whole"),
    "ssim_uniform_win11": ("ssim.uniform11", "whole"),
    "edgeconnect_ssim_gray_win51": ("ssim.grey51", "whole"),
    "ms_ssim_255": ("ms_ssim", "whole"),
    "ms_ssim_1_f64": ("ms_ssim", "whole"),
    "edgeconnect_mae_gray": ("absolute_ratio.grey", "whole"),
    "edgeconnect_mae_rgb": ("absolute_ratio", "whole"),
    "l1_mat": ("l1", "whole"),
    "l1_mean_0_1": ("l1", "whole"),
    "l1_hole_only_0_1": ("l1", "hole"),
    "l2_mean_0_1": ("l2", "whole"),
}


def check_pictures(case):
    inputs = case.inputs
    unknown = sorted(set(case.expected) - set(OUTPUTS))
    assert not unknown, f"{case.where}: no metric for the outputs {unknown}"
    got = {}
    for name in case.expected:
        metric, region = OUTPUTS[name]
        got[name] = METRICS[metric].measure([inputs["fake"]], [inputs["real"]], [inputs["mask"]])[region][0]
    case.compare(got)


def check_video(case):
    frames, forward, backward = (case.inputs[name] for name in ("frames", "flow_forward", "flow_backward"))
    errors = pair_errors(frames, forward, backward)
    # The manifest allows pixels that are near a threshold to differ; none does.
    np.testing.assert_array_equal(np.asarray(occluded(forward, backward))[..., 0], case.expected["occlusion"])
    outputs = {name: text for name, text in case.entry["outputs"].items() if name != "occlusion"}
    dataclasses.replace(case, entry=case.entry | {"outputs": outputs}).compare(
        {
            "warped_0": warp(frames[1:2] / np.float32(255), forward[:1], outside="border")[0],
            "e_warp_pairs": errors["whole"],
            "e_warp": video_error(errors)["whole"],
        }
    )


CASES = harness.cases("metrics")


@pytest.mark.parametrize("case", CASES, ids=harness.case_id)
def test_metrics_golden(case):
    checks = {c.name: check_video if "frames" in c.entry.get("inputs", ()) else check_pictures for c in CASES}
    harness.run(case, checks)
