"""Metrics that are of clips alone, by the ids that the protocol card prints."""

from jaxpaint.metrics.networks import Recipe
from jaxpaint.metrics.vfid import VFID_METRICS
from jaxpaint.metrics.warping import WARPING_METRICS

VIDEO_METRICS: dict[str, Recipe] = {**WARPING_METRICS, **VFID_METRICS}
