"""TFDS by name: random access to array_record files, and what else is refused."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxpaint.data import Data, decode, open_source, stream
from jaxpaint.types import InputError

COUNT = 9


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Nine pictures of odd sizes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "number": np.int64}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(COUNT):
            image = np.full((20 + number, 24, 3), 10 * number, np.uint8)
            image[..., 1] = np.arange(24)
            yield number, {"image": image, "number": number}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    TinyPictures(data_dir=str(root / "array"), file_format="array_record").download_and_prepare()
    TinyPictures(data_dir=str(root / "tfrecord"), file_format="tfrecord").download_and_prepare()
    return root


def data(directory, kind="array", **options):
    return Data(source="tfds", path="tiny_pictures", directory=str(directory / kind), size=(16, 16), **options)


def test_random_access(directory):
    source = open_source(data(directory))
    assert len(source) == COUNT and len(source.hash) == 64
    numbers = {int(source.picture(i)[0, 0, 0]) // 10 for i in range(COUNT)}
    assert numbers == set(range(COUNT))
    np.testing.assert_array_equal(decode(source.read(2)), source.picture(2))

    config = data(directory, flip=True)
    batches = stream(config, batch=3, seed=0)
    whole = [next(batches) for _ in range(6)]
    seen = np.concatenate([b["image"][:, 0, 0, 0] // 10 for b in whole]).reshape(2, COUNT)
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in seen)
    np.testing.assert_array_equal(next(stream(config, batch=3, seed=0, start_step=5))["image"], whole[5]["image"])


def test_what_has_no_random_access_is_refused(directory):
    with pytest.raises(InputError, match=r"prepared as tfrecord.*tfds build tiny_pictures --file_format=array_record"):
        open_source(data(directory, "tfrecord"))


def test_unknown_names(directory):
    with pytest.raises(InputError, match="no data set 'no_such_data_set'"):
        open_source(Data(source="tfds", path="no_such_data_set", directory=str(directory / "array")))
    with pytest.raises(InputError, match=r"is not prepared in .*tfds build"):
        open_source(data(directory, "elsewhere"))
    with pytest.raises(InputError, match=r"no feature 'picture'.*\['image', 'number'\]"):
        open_source(data(directory, feature="picture"))
    with pytest.raises(InputError, match=r"split 'test'.*\['train'\]"):
        open_source(data(directory, split="test"))
