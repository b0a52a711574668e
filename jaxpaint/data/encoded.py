"""Batches from encoded pictures (a folder, TFDS) through tf.data.

Plain JPEG files, nearly all of a usual data set, are cropped while they are decoded, inside TensorFlow and
in parallel; all else (other formats, EXIF rotation, CMYK, a picture that has to be resized) goes through Pillow.
`jaxpaint.data.decode.read_header` decides, from the file's first bytes, once for each file.

A broken picture makes tf.data fail for a whole batch. That batch is then made example by example, by the same
operations, which finds the broken picture and puts the next one in its place; after it the pipeline starts again at the
next step. What takes its place depends on the position and on the files only, never on when it was noticed:
a picture is skipped in advance only if it is broken for every crop.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxpaint.data._tensorflow import tensorflow
from jaxpaint.data.broken import Broken
from jaxpaint.data.decode import decode, read_header
from jaxpaint.data.folder import FolderSource
from jaxpaint.data.geometry import Window, cut
from jaxpaint.data.masks import MaskFolder
from jaxpaint.data.plan import Examples, Plan
from jaxpaint.types import InputError

_UNSEEN, _FUSED, _PILLOW = range(3)


class Route(NamedTuple):
    """How a picture is decoded (one of the three above), and the window of its example. int32 in the graph."""

    how: int
    height: int
    width: int
    top: int
    left: int


def encoded_batches(
    source, plan: Plan, masks: MaskFolder | None, broken: Broken, start_step: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches from `start_step` on; see `jaxpaint.data.pipeline.stream`."""
    tf = tensorflow()
    reader = _Reader(tf, source, plan, masks)
    step = start_step
    while True:
        iterator = reader.dataset(step).as_numpy_iterator()
        failure = None
        while failure is None:
            try:
                batch = next(iterator)
            except tf.errors.OpError as error:
                failure = error
            if failure is not None:
                batch = reader.one_by_one(step, broken, failure)
            yield batch
            step += 1


class _Reader:
    """The graph of the pipeline, and the same steps one by one."""

    def __init__(self, tf, source, plan: Plan, masks: MaskFolder | None):
        self.tf, self.source, self.plan, self.masks = tf, source, plan, masks
        self.size = plan.data.size
        self._headers = np.zeros((len(source), 3), np.int32)  # height, width, plain; all 0 where not seen yet

    def dataset(self, step: int):
        """tf.data.Dataset of batches, from `step` on."""
        tf = self.tf
        size, folder = list(self.size), isinstance(self.source, FolderSource)
        kinds = [tf.int64, tf.int64, tf.float64, tf.float64, tf.bool, tf.int32, tf.string]

        @tf.autograph.experimental.do_not_convert
        def begin(step):
            parts = tf.numpy_function(_weakly(self._begin), [step], kinds)
            for part in parts:
                shape = [self.plan.share, len(Route._fields)] if part.dtype == tf.int32 else [self.plan.share]
                part.set_shape(shape)
            return tuple(parts)

        @tf.autograph.experimental.do_not_convert
        def example(position, index, down, right, flip, route, payload):
            encoded = tf.io.read_file(payload) if folder else payload
            route = tf.cond(
                route[0] == _UNSEEN,
                lambda: tf.ensure_shape(
                    tf.numpy_function(_weakly(self._route), [encoded, index, down, right], tf.int32), [5]
                ),
                lambda: route,
            )
            image = tf.cond(
                route[0] == _FUSED,
                lambda: self._fused(encoded, route),
                lambda: tf.numpy_function(_weakly(self._pillow), [encoded, index, route], tf.uint8),
            )
            image = tf.ensure_shape(tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image), [*size, 3])
            made = {"image": image, "position": tf.cast(position & 0xFFFFFFFF, tf.uint32)}
            if self.masks is not None:
                mask = tf.numpy_function(_weakly(self._mask), [position, index, route, flip], tf.uint8)
                made["mask"] = tf.ensure_shape(mask, [*size, 1])
            return made

        steps = tf.data.Dataset.range(step, np.iinfo(np.int64).max)
        # Reading records happens in `begin`, so for TFDS two steps are read at a time.
        examples = steps.map(begin, num_parallel_calls=1 if folder else 2, deterministic=True).unbatch()
        made = examples.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return made.batch(self.plan.share, drop_remainder=True).prefetch(2)

    def one_by_one(self, step: int, broken: Broken, error: Exception) -> dict[str, np.ndarray]:
        """The batch at which the graph failed with `error`. Broken pictures are noted and replaced.

        Raises:
          InputError: there are too many broken pictures, or a mask is broken.
          error: nothing is wrong with the pictures or the masks.
        """
        made, faults = [], 0
        for position, index, down, right, flip in zip(*self.plan.step(step), strict=True):
            index = int(index)
            while True:
                try:
                    image, route = self._example(index, down, right)
                    break
                except _Broken as fault:
                    faults += 1
                    if fault.whole:
                        self.plan.skipped.add(index)
                    broken.add(index, str(fault))
                    index = self.plan.next(index)
            example = {"image": image[:, ::-1] if flip else image, "position": np.uint32(position & 0xFFFFFFFF)}
            if self.masks is not None:
                example["mask"] = self._mask(position, index, route, flip)
            made.append(example)
        if not faults:
            raise error
        return {name: np.stack([example[name] for example in made]) for name in made[0]}

    def _example(self, index: int, down: float, right: float) -> tuple[np.ndarray, np.ndarray]:
        """Picture and route of one example, not yet mirrored. Raises _Broken."""
        try:
            encoded = self.source.read(index)
            route = self._route(encoded, index, down, right)
            if route[0] == _PILLOW:
                return self._pillow(encoded, index, route), route
        except InputError as error:
            raise _Broken(str(error), whole=True) from error
        try:
            return self._fused(encoded, route).numpy(), route
        except self.tf.errors.OpError as error:
            # Another crop of it may well decode.
            message = f"{self._name(index)}: broken or truncated picture ({error.message})"
            raise _Broken(message, whole=False) from error

    def _begin(self, step: int):
        """The examples of a step, with what is known of their pictures and where their bytes come from."""
        examples: Examples = self.plan.step(int(step))
        routes = np.zeros((self.plan.share, len(Route._fields)), np.int32)
        for row, (index, down, right) in enumerate(zip(*examples[1:4], strict=True)):
            if self._headers[index, 0]:
                routes[row] = self._known(index, down, right)
        if isinstance(self.source, FolderSource):
            payload = [self.source.path(index) for index in examples.index]
        else:
            payload = self.source.read_many(examples.index)
        return (*examples, routes, np.array(payload, object))

    def _known(self, index: int, down: float, right: float) -> Route:
        height, width, plain = self._headers[index].tolist()
        where = self.plan.window(height, width, down, right)
        return Route(_FUSED if plain and where[:2] == (height, width) else _PILLOW, *where)

    def _route(self, encoded: bytes, index: int, down: float, right: float) -> np.ndarray:
        self._headers[index] = read_header(encoded, name=self._name(index))
        return np.array(self._known(index, down, right), np.int32)

    def _fused(self, encoded, route):
        """Decodes the window alone.

        With this DCT, which costs no time, the values are Pillow's, bit for bit; but for the outermost columns where
        the file's colours are subsampled: the decoder smooths them with neighbours that it did not decode.
        """
        corner = self.tf.concat([route[3:], self.size], 0)
        return self.tf.io.decode_and_crop_jpeg(encoded, corner, channels=3, dct_method="INTEGER_ACCURATE")

    def _pillow(self, encoded: bytes, index: int, route: np.ndarray) -> np.ndarray:
        return cut(decode(encoded, name=self._name(index)), Window(*route[1:].tolist()), self.size)

    def _mask(self, position: int, index: int, route: np.ndarray, flip: bool) -> np.ndarray:
        return self.masks.make(self.plan.seed, int(position), int(index), Window(*route[1:].tolist()), bool(flip))

    def _name(self, index: int) -> str:
        return self.source.path(index) if isinstance(self.source, FolderSource) else self.source.label(index)


def _weakly(method: Callable) -> Callable:
    """The method, without keeping its object: TensorFlow keeps every function that it was given for ever.

    The object lives as long as the generator of batches; a call that comes later belongs to a pipeline that ends.
    """
    reference = weakref.WeakMethod(method)

    def call(*arguments):
        return reference()(*arguments)

    return call


class _Broken(Exception):
    """A picture cannot be decoded: `whole` says whether that is so for every crop of it."""

    def __init__(self, message: str, whole: bool):
        super().__init__(message)
        self.whole = whole
