"""What the families share in their options: sizes that follow the picture, and checks of ranges."""

from jaxpaint.types import InputError

REFERENCE = 256
"""The side, in pixels, of the pictures that published sizes of brushes and boxes are meant for."""


def unit(height: int, width: int, scale: float | None = None) -> float:
    """What a published pixel size is multiplied by.

    The released generators take brush and box sizes as pixels, whatever the picture. So do we from a
    shorter side of 256 upwards; below it sizes shrink with the shorter side, so that a 64x64 picture
    gets the mask of a 256x256 one made smaller, not a mask that is all hole.

    Args:
      scale: overrides the rule; 1.0 is absolute pixels at any size, 2.0 suits 512x512 pictures that
        should look like the 256x256 ones.
    """
    if scale is None:
        return min(1.0, min(height, width) / REFERENCE)
    if not scale > 0:
        raise InputError(f"mask option scale is {scale}: give a positive number, or None for the built-in rule")
    return float(scale)


def at_size(value: float, multiplier: float, least: int = 1) -> int:
    """A published pixel size at this picture's size."""
    return max(least, round(value * multiplier))


def between(low: float, high: float, multiplier: float, least: int = 1) -> tuple[int, int]:
    """A half-open range of pixel sizes at this picture's size, never empty."""
    first = at_size(low, multiplier, least)
    return first, max(first + 1, round(high * multiplier))


def check_size(height: int, width: int) -> None:
    """Raises `InputError` for a picture in which no mask makes sense."""
    if height < 8 or width < 8:
        raise InputError(f"a mask of {height}x{width} was asked for: both sides must be at least 8 pixels")


def check_range(name: str, value, low: float, high: float) -> tuple[float, float]:
    """Checks a pair of numbers, low <= first <= second <= high; one number stands for both.

    Raises:
      InputError: with the option's name, what it was and what it may be.
    """
    try:
        first, second = (value, value) if isinstance(value, int | float) else (float(part) for part in value)
    except (TypeError, ValueError):
        raise InputError(f"mask option {name} is {value!r}: give a number or a pair of numbers") from None
    if not low <= first <= second <= high:
        raise InputError(f"mask option {name} is {value!r}: give numbers that rise within [{low:g}, {high:g}]")
    return first, second


def check_counts(name: str, value, low: int, high: int) -> tuple[int, int]:
    """As `check_range`, for whole numbers."""
    first, second = check_range(name, value, low, high)
    if int(first) != first or int(second) != second:
        raise InputError(f"mask option {name} is {value!r}: give whole numbers")
    return int(first), int(second)
