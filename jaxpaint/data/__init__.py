"""Pictures, clips and masks from files to batches on the host. The only part of jaxpaint that imports TensorFlow, and
only where a source needs it: arrays and demos do not."""

from jaxpaint.data.arrays import ArraySource
from jaxpaint.data.clip_sources import ArrayClips, FolderClips, TfdsClips
from jaxpaint.data.config import Data
from jaxpaint.data.decode import ENDINGS, decode, decode_channels
from jaxpaint.data.demo import DemoSource
from jaxpaint.data.demo_clips import DemoClips
from jaxpaint.data.folder import FolderSource, list_pictures
from jaxpaint.data.pipeline import Stream, open_source, specification, stream

__all__ = [
    "ENDINGS",
    "ArrayClips",
    "ArraySource",
    "Data",
    "DemoClips",
    "DemoSource",
    "FolderClips",
    "FolderSource",
    "Stream",
    "TfdsClips",
    "decode",
    "decode_channels",
    "list_pictures",
    "open_source",
    "specification",
    "stream",
]
