"""Pictures of a TensorFlow Datasets builder, by random access."""

import hashlib
import os

import numpy as np

from jaxpaint.data._tensorflow import tensorflow_datasets
from jaxpaint.data.decode import decode
from jaxpaint.types import InputError


class TfdsSource:
    """A prepared TFDS data set in the array_record format.

    Only this format is random access, without which step N's batch cannot be made at once after a restart. The
    pictures stay encoded (`SkipDecoding`) until an example is cut from them.

    Args:
      name: "places365_small", or with configuration and version "celeb_a_hq/256:2.0.0".
      split: "train", "validation", or a slice such as "train[:1%]".
      directory: TFDS data_dir; "" is the default of TFDS.
      feature: name of the picture's feature.

    Raises:
      InputError: an unknown name, split or feature; not prepared; prepared in a format without random access.
    """

    encoded = True

    def __init__(self, name: str, split: str = "train", *, directory: str = "", feature: str = "image"):
        tfds = tensorflow_datasets()
        self.name = f"tfds {name} {split}"
        prepare = f"tfds build {name} --file_format=array_record" + (f" --data_dir={directory}" if directory else "")
        try:
            builder = tfds.builder(name, data_dir=directory or None)
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            raise InputError(f"TFDS knows no data set {name!r}: {error}") from error
        if not builder.info.splits:
            raise InputError(f"TFDS {name!r} is not prepared in {builder.data_dir}: run `{prepare}`")
        if feature not in builder.info.features:
            raise InputError(
                f"TFDS {name!r} has no feature {feature!r}: it has {sorted(builder.info.features)}; set data.feature"
            )
        try:
            self._source = builder.as_data_source(split=split, decoders={feature: tfds.decode.SkipDecoding()})
        except NotImplementedError as error:
            raise InputError(
                f"TFDS {name!r} is prepared as {_format(builder)}, which has no random access: run `{prepare}`"
            ) from error
        except (ValueError, KeyError, AssertionError) as error:
            raise InputError(
                f"TFDS {name!r}, split {split!r}: {error}; splits: {sorted(builder.info.splits)}"
            ) from error
        self._feature = feature
        self._builder = builder
        self._split = split

    def __len__(self) -> int:
        return len(self._source)

    def label(self, index: int) -> str:
        return f"{self.name}[{index}]"

    def read(self, index: int) -> bytes:
        """The encoded picture."""
        return self.read_many([index])[0]

    def read_many(self, indices) -> list[bytes]:
        """Several at once: one read per file of records."""
        return [bytes(example[self._feature]) for example in self._source.__getitems__([int(i) for i in indices])]

    def picture(self, index: int) -> np.ndarray:
        """The whole picture, uint8 h w 3. Raises InputError where it is broken."""
        return decode(self.read(index), name=self.label(index))

    @property
    def hash(self) -> str:
        """SHA-256 over the builder's full name, the split, and the names and sizes of its files, in hex."""
        digest = hashlib.sha256(f"{self._builder.info.full_name}\0{self._split}\0{len(self)}\n".encode())
        folder = os.fspath(self._builder.data_dir)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if ".array_record" in name:
                digest.update(f"{name}\0{os.path.getsize(os.path.join(folder, name))}\n".encode())
        return digest.hexdigest()


def _format(builder) -> str:
    return str(getattr(builder.info.file_format, "value", builder.info.file_format))
