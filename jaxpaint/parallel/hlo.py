"""What a compiled program sends between devices, read from its text: HLO after optimisation, ``compiled.as_text()``."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "ragged-all-to-all",
    "collective-broadcast",
)


class Collective(NamedTuple):
    """All the exchanges of one kind in a program.

    count:      how often one device takes part; inside a loop of known length, that many times
    bytes:      of their results on one device, without the padding of the device's tiles. It is what the exchanges are
                about; what travels depends on the algorithm (a ring sends 2 (n - 1) / n of an all-reduce)
    open_loops: how many of `count` stand inside a loop whose length the text does not say, and are counted once
    """

    count: int
    bytes: int
    open_loops: int = 0


class _Instruction(NamedTuple):
    kind: str  # all-gather-start
    shape: str  # f32[2,4]{1,0}, or a tuple of such
    line: str


def collectives(text: str) -> dict[str, Collective]:
    """Collectives by kind (`KINDS`); a kind that does not occur is left out.

    Asynchronous pairs count once, by their start. Of a conditional every branch counts. An all-reduce of which every
    device keeps its part (a TPU compiler writes a reduce-scatter so) counts as a reduce-scatter.

    Args:
      text: the whole module
    """
    computations = dict(_computations(text))
    times = _times(computations)
    found: dict[str, Collective] = {}
    for name, instructions in computations.items():
        count, known = times.get(name, (0, True))
        if not count:
            continue
        scattered = name.startswith("all-reduce-scatter")
        for one in instructions:
            kind = one.kind.removesuffix("-start")
            if kind not in KINDS:
                continue
            size = _bytes(_result(one))
            if scattered and kind == "all-reduce":
                kind = "reduce-scatter"
                size = _bytes(instructions[-1].shape)
            before = found.get(kind, Collective(0, 0))
            found[kind] = Collective(
                before.count + count, before.bytes + count * size, before.open_loops + (0 if known else count)
            )
    return {kind: found[kind] for kind in KINDS if kind in found}


def _computations(text: str) -> Iterator[tuple[str, list[_Instruction]]]:
    """(name, instructions in order) of every computation; the entry's name is ""."""
    name, instructions = "", []
    for line in text.splitlines():
        if line.rstrip().endswith("{") and (header := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{\s*$", line)):
            name, instructions = "" if header[1] else header[2], []
        elif line.startswith("}"):
            yield name, instructions
        elif instruction := _instruction(line):
            instructions.append(instruction)


def _instruction(line: str) -> _Instruction | None:
    """``%name = SHAPE KIND(...), ...``"""
    _, equals, rest = line.strip().partition(" = ")
    if not equals:
        return None
    end = _closing(rest) if rest.startswith("(") else rest.find(" ")
    kind = re.match(r"\s*([\w\-]+)\(", rest[end:])
    return _Instruction(kind[1], rest[:end], rest) if end > 0 and kind else None


def _closing(text: str) -> int:
    """Where the bracket that opens the text is closed: the index behind it, or -1."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0:
            return index + 1
    return -1


def _elements(shape: str) -> list[str]:
    """The elements of a tuple's shape."""
    parts, depth, start = [], 0, 1
    for index, letter in enumerate(shape):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 1 and letter == ",":
            parts.append(shape[start:index])
            start = index + 1
    return [*parts, shape[start:-1]]


def _result(instruction: _Instruction) -> str:
    """The shape of what an exchange gives.

    A start holds (operands, results, ...), but that of an all-reduce holds the results alone.
    """
    paired = instruction.kind.endswith("-start") and instruction.kind != "all-reduce-start"
    return _elements(instruction.shape)[1] if paired else instruction.shape


def _bytes(shape: str) -> int:
    """Of an array's shape, or of all arrays of a tuple."""
    total = 0
    for dtype, sizes in re.findall(r"([a-z]+\d*\w*)\[([\d,<=]*)\]", shape):
        bits = re.match(r"[a-z]+(\d+)", dtype)
        width = int(bits[1]) if bits else (8 if dtype == "pred" else 0)  # token and opaque hold nothing
        total += math.ceil(math.prod(int(n.removeprefix("<=")) for n in sizes.split(",") if n) * width / 8)
    return total


def _times(computations: dict[str, list[_Instruction]]) -> dict[str, tuple[int, bool]]:
    """How often each computation runs, and whether the lengths of all loops around it are known."""
    times: dict[str, tuple[int, bool]] = {}

    def visit(name: str, count: int, known: bool) -> None:
        before = times.get(name, (0, True))
        times[name] = (before[0] + count, before[1] and known)
        for one in computations[name]:
            length = re.search(r'"known_trip_count":\{"n":"(\d+)"', one.line) if one.kind == "while" else None
            for called in _called(one.line):
                if called in computations:
                    inside = known and (one.kind != "while" or length is not None)
                    visit(called, count * (int(length[1]) if length else 1), inside)

    visit("" if "" in computations else next(iter(computations)), 1, True)
    return times


def _called(line: str) -> list[str]:
    """The computations that an instruction runs."""
    attributes = r"\b(?:body|condition|calls|to_apply|true_computation|false_computation|branch_computations)"
    called = []
    for group in re.findall(attributes + r"=(\{[^}]*\}|%?[\w.\-]+)", line):
        called += re.findall(r"[\w.\-]+", group)
    return called
