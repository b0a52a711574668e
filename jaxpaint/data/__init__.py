"""Pictures and masks from files to batches on the host. The only part of jaxpaint that imports TensorFlow, and only
where a source needs it: arrays and the demo pictures do not."""

from jaxpaint.data.arrays import ArraySource
from jaxpaint.data.config import Data
from jaxpaint.data.decode import ENDINGS, decode, decode_channels
from jaxpaint.data.demo import DemoSource
from jaxpaint.data.folder import FolderSource, list_pictures
from jaxpaint.data.pipeline import Stream, open_source, specification, stream

__all__ = [
    "ENDINGS",
    "ArraySource",
    "Data",
    "DemoSource",
    "FolderSource",
    "Stream",
    "decode",
    "decode_channels",
    "list_pictures",
    "open_source",
    "specification",
    "stream",
]
