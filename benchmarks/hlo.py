"""Reads the text of a compiled program: how often each operation runs, and what it costs."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)


class Instruction(NamedTuple):
    """A line of the text, such as `%y = f32[4,8]{1,0} add(%a, %b), metadata={…}`.

    Attributes:
        shape: Of the result without its layout: "f32[4,8]", or of a tuple "(f32[4,8], s32[])".
        opcode: "add".
        operands: Names of the operands: ("a", "b"); of a constant its value.
        attributes: What follows the operands.
        root: Whether its result is that of the computation.
    """

    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    root: bool


Computation = dict[str, Instruction]  # by name


class Cost(NamedTuple):
    """What one run of a program costs each device.

    Attributes:
        flop: Multiplications and additions of convolutions and matrix products. Products with the
            zeros of padding are counted, those with the zeros between the pixels of a dilated image
            are not, so that a gradient counts as much as the forward pass.
        collectives: Number and bytes of operands by kind, {"all-reduce": (2, 4096)}.
        cycles: The compiler's estimate, None if there is none. All operations one after the other.
        endless: Loops whose number of turns the text does not tell; they count as one turn.
    """

    flop: int
    collectives: dict[str, tuple[int, int]]
    cycles: int | None
    endless: int


def cost(text: str) -> Cost:
    """Adds up a program's operations, each times the turns of the loops around it.

    Args:
        text: `compiled.as_text()`. Of a condition's branches all are counted.
    """
    entry, computations = parse(text)
    flop = cycles = endless = 0
    collectives: dict[str, tuple[int, int]] = {}
    for instruction, computation, times in executed(entry, computations):
        flop += 2 * times * _macs(instruction, computation)
        if found := re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes):
            cycles += times * int(found[1])
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            count, size = collectives.get(kind, (0, 0))
            operands = [computation[name].shape for name in instruction.operands]
            collectives[kind] = count + times, size + times * sum(map(_bytes, operands))
        if kind == "while":
            endless += _turns(instruction, computations) is None
    return Cost(flop, collectives, cycles or None, endless)


def executed(
    name: str, computations: dict[str, Computation], times: int = 1
) -> Iterator[tuple[Instruction, Computation, int]]:
    """Yields the instructions of a computation and of all that it calls.

    With each are its own computation and how often it runs.
    """
    for instruction in computations[name].values():
        yield instruction, computations[name], times
        if instruction.opcode.endswith(("-done", "-update")):  # counted at their -start
            continue
        turns = 1
        if instruction.opcode == "while":
            turns = _turns(instruction, computations) or 1
        for called in _called(instruction):
            yield from executed(called, computations, times * turns)


def parse(text: str) -> tuple[str, dict[str, Computation]]:
    """Returns the name of a program's first computation, and all computations by name."""
    entry, computations, current = "", {}, {}
    for line in text.splitlines():
        line = re.sub(r"(?<=\])\{[^{}]*\}|/\*.*?\*/", "", line)  # layouts, and numbers of operands
        if found := re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line):
            current = computations[found[2]] = {}
            entry = found[2] if found[1] else entry
        elif found := re.match(r"\s+(ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*?)\)(.*)$", line):
            root, name, shape, opcode, operands, attributes = found.groups()
            names = tuple(re.findall(r"[\w.-]+", operands))
            current[name] = Instruction(shape, opcode, names, attributes, bool(root))
    return entry, computations


def _called(instruction: Instruction) -> list[str]:
    """Returns the computations that an instruction runs, once or in a loop."""
    kinds = "calls|to_apply|body|condition|branch_computations|called_computations"
    found = re.findall(rf"\b(?:{kinds})=(\{{[^}}]*\}}|\S+)", instruction.attributes)
    return re.findall(r"[\w.-]+", " ".join(found))


def _turns(loop: Instruction, computations: dict[str, Computation]) -> int | None:
    """Returns how often a loop's body runs: its counter goes from 0 up to a constant."""
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(found[1])
    found = re.search(r"condition=%?([\w.-]+)", loop.attributes)
    assert found
    condition = computations[found[1]]
    test = next(instruction for instruction in condition.values() if instruction.root)
    operands = [condition.get(name) for name in test.operands]
    limits = [
        operand.operands[0] for operand in operands if operand and operand.opcode == "constant"
    ]
    ascends = test.opcode == "compare" and "direction=LT" in test.attributes
    return int(limits[0]) if ascends and len(limits) == 1 else None


def _macs(instruction: Instruction, computation: Computation) -> int:
    """Returns the multiply-accumulates of a convolution or a matrix product, 0 of all else."""
    found = re.search(r'custom_call_target="(.*?)"', instruction.attributes)
    target = found[1] if found else ""
    convolves = instruction.opcode == "convolution" or target.startswith("__cudnn$conv")
    if not (convolves or instruction.opcode == "dot" or target.startswith("__cublas$")):
        return 0
    result = _dimensions(instruction.shape)
    left, right = (_dimensions(computation[name].shape) for name in instruction.operands[:2])
    if not convolves:
        found = re.search(
            r'lhs_contracting_dim(?:ension)?s"?[=:][\[{]([\d,"]*)', instruction.attributes
        )
        assert found
        axes = [int(axis) for axis in re.findall(r"\d+", found[1])]
        return math.prod(result) * math.prod(left[axis] for axis in axes)
    # cuDNN's gradients have the window and the names of axes of their forward convolution.
    if "BackwardInput" in target:
        result, left = left, result
    elif "BackwardFilter" in target:
        result, right = right, result
    return _convolution_macs(left, right, result, instruction.attributes)


def _convolution_macs(
    image: list[int], kernel: list[int], result: list[int], attributes: str
) -> int:
    found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes)
    assert found
    sizes = zip(found.groups(), (image, kernel, result), strict=True)
    _, taps, outputs = (dict(zip(names, shape, strict=True)) for names, shape in sizes)
    macs = outputs["b"] * outputs["f"] * taps["i"]
    for axis in range(len(result) - 2):
        dilation = _window(attributes, "lhs_dilate", axis) or (1,)
        stride = _window(attributes, "stride", axis) or (1,)
        step = _window(attributes, "rhs_dilate", axis) or (1,)
        low = _window(attributes, "pad", axis) or (0,)
        macs *= sum(
            (output * stride[0] + tap * step[0] - low[0]) % dilation[0] == 0
            for output in range(outputs[str(axis)])
            for tap in range(taps[str(axis)])
        )
    return macs


def _window(attributes: str, key: str, axis: int) -> tuple[int, ...]:
    """Returns the numbers of an axis in `window={size=3x3 pad=1_1x1_1}`: (1, 1) for "pad"."""
    found = re.search(rf"window=\{{[^}}]*\b{key}=([-\d_x]+)", attributes)
    return tuple(map(int, found[1].split("x")[axis].split("_"))) if found else ()


def _dimensions(shape: str) -> list[int]:
    """Returns the dimensions of an array, or of the first one of a tuple."""
    found = re.search(r"\w+\[([\d,]*)\]", shape)
    assert found
    return [int(size) for size in found[1].split(",") if size]


def _bytes(shape: str) -> int:
    """Returns the bytes of an array, or of all arrays of a tuple."""
    total = 0
    for name, sizes in re.findall(r"(\w+)\[([\d,]*)\]", shape):
        bits = re.search(r"\d+", name)  # "bf16" has 16, "f8e4m3fn" 8, "pred" 8, "token" none
        width = int(bits[0]) if bits else 8 * (name == "pred")
        total += width * math.prod(int(size) for size in sizes.split(",") if size) // 8
    return total
