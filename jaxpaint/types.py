"""The vocabulary of jaxpaint: value conventions, the axis alphabet and the error for bad input.

Values, at every public border:

- an image is ``b h w c``, a video ``b t h w c``; channels last, RGB, float32 in [-1, 1];
- a mask is ``... 1``, **1 = hole**, every value exactly 0 or 1;
- on the host, between a file and the accelerator, pictures and masks are uint8 (0..255, and 0 or 1).

Axes, in docstrings, einops patterns and einsum strings alike: ``b`` batch, ``t`` time (frames),
``h w`` height and width, ``c`` channels, ``n`` tokens or positions, ``d`` width of a token, ``k`` heads.

Randomness is a key that somebody passed in. What is drawn for one example is a function of
(seed, position), where the position of an example is its number in the global stream of examples:
the same picture, crop and mask come out on one device and on a pod, before and after a restart.
"""

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import jax

PyTree = Any

DATA, FSDP, SPATIAL = "data", "fsdp", "spatial"
"""The axes of a device mesh: the first two divide a batch (and the second the optimiser's state), the last a picture's
height."""

Batch = Mapping[str, jax.Array]
"""One batch, by name:

``image``     b h w 3    ground truth (or, for inpainting, anything inside the hole)
``mask``      b h w 1    1 = hole
``position``  b          uint32, the example's number in the global stream, or among the pictures to inpaint:
                         a system that draws noise draws it from ``fold_in(rng, position)``

A system may ask for more entries; its page says so.
"""


class InputError(ValueError):
    """Something a user gave cannot be used.

    The message says what was given, what was expected and what to do. The command line prints it
    without a traceback; a caller of the library catches a ValueError.
    """


def did_you_mean(name: object, known: Iterable, form: str = "; did you mean {!r}?", cutoff: float = 0.6) -> str:
    """The part of a message that proposes the known name nearest to a mistyped one; "" where none is near.

    Args:
      name: what was given.
      known: what there is.
      form: the text, with a place for the nearest name.
      cutoff: how alike names must be, from 0 to 1.
    """
    near = difflib.get_close_matches(str(name), [str(one) for one in known], 1, cutoff)
    return form.format(near[0]) if near else ""


def check_choices(record: Any) -> None:
    """Raises InputError where a field of a dataclass whose type is a ``Literal`` holds nothing of it."""
    for name, hint in typing.get_type_hints(type(record)).items():
        choices, given = typing.get_args(hint), getattr(record, name)
        if typing.get_origin(hint) is typing.Literal and given not in choices:
            near = did_you_mean(given, choices)
            raise InputError(f"{name} is {given!r}: expected one of {', '.join(map(repr, choices))}{near}")


def leaf_name(path: tuple) -> str:
    """A leaf's name from its path in a tree, ``params/generator/conv1/kernel``: the same for dicts, tuples, records."""
    parts = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
    return "/".join(parts)
