"""Sizes and inputs to prove with: small, odd and even, never all equal, valid for the model."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diglot.codegen.weights import TensorSpec
from diglot.errors import BadInput

Sizes = dict[str, int]

BATCHES = (2, 3, 1)
# One row per dynamic size beside the batch: no two of a set are ever equal.
LENGTHS = ((7, 10, 5), (9, 4, 8), (5, 12, 11), (11, 6, 9), (13, 8, 7))
BEYOND = (
    0,
    3,
    4,
)  # where the least that a size may be is more than these: not one size three times
VARIANTS = 4
"""How many kinds of input `make_inputs` knows; a model may take only some of them."""

_OPERATORS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def evaluate(size: int | str, sizes: Mapping[str, int]) -> int:
    """A size of a shape as a number: an int, a symbol, or arithmetic on symbols ("2*s0 + 1").

    Raises BadInput for anything else, and for a symbol that `sizes` lacks.
    """
    if isinstance(size, int):
        return size

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name) and node.id in sizes:
            return sizes[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return int(_OPERATORS[type(node.op)](value(node.left), value(node.right)))
        raise BadInput(
            f"The size {size!r} cannot be computed.",
            expected="a number, or arithmetic on " + (", ".join(sizes) or "no symbol"),
        )

    return value(ast.parse(str(size), mode="eval").body)


def choose_sizes(info: Mapping[str, Any]) -> list[Sizes]:
    """Up to three size sets for the dynamic sizes of translation.json ([{}] where there are none).

    Batches 2, 3 and 1, everything else short, odd and even; within the limits that the
    translation gives. Image sides stay near half of the example's.
    """
    dynamic: Mapping[str, Mapping[str, Any]] = info.get("dynamic") or {}
    dtypes = {item["name"]: item for item in info.get("example_inputs") or []}
    sets: list[Sizes] = []
    for number in range(3):
        sizes: Sizes = {}
        row = 0
        for symbol, about in dynamic.items():
            if _is_batch(symbol, about, dynamic):
                wanted = BATCHES[number]
            elif _is_side(about, dtypes):
                wanted = _side(int(about.get("example") or 32), number) + row
                row += 1
            else:
                wanted = LENGTHS[row % len(LENGTHS)][number]
                row += 1
            sizes[symbol] = clamp(wanted, about, BEYOND[number])
        if sizes not in sets:
            sets.append(sizes)
    return sets


def fallback_sizes(info: Mapping[str, Any], sizes: Sizes) -> list[Sizes]:
    """What to try where a model refuses `sizes`: its own example's, with that batch, then whole."""
    dynamic: Mapping[str, Mapping[str, Any]] = info.get("dynamic") or {}
    example = {s: int(a["example"]) for s, a in dynamic.items() if a.get("example")}
    batch = {s: sizes[s] for s, a in dynamic.items() if _is_batch(s, a, dynamic)}
    whole = {**sizes, **example}
    return [item for item in ({**whole, **batch}, whole) if item != sizes]


def clamp(wanted: int, about: Mapping[str, Any], beyond: int = 0) -> int:
    """`wanted` within the "min" and "max" of a dynamic size (either may be null), a "multiple" of what it says.

    Where it is less than "min", the size is `beyond` more than that.
    """
    low, high = about.get("min"), about.get("max")
    if low is not None and wanted < int(low):
        wanted = int(low) + beyond
    step = int(about.get("multiple") or 1)
    wanted = max(1, round(wanted / step)) * step
    wanted += step if low is not None and wanted < int(low) else 0
    return wanted if high is None else min(wanted, int(high) // step * step)


def _is_batch(symbol: str, about: Mapping[str, Any], dynamic: Mapping[str, Any]) -> bool:
    named = any("batch" in str(item.get("name")).lower() for item in dynamic.values())
    if named:
        return "batch" in str(about.get("name")).lower()
    return about.get("axis") == 0 and symbol == next(iter(dynamic))


def _is_side(about: Mapping[str, Any], inputs: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a size is a side of an image."""
    item = inputs.get(str(about.get("input")))
    if item is None or "float" not in str(item.get("dtype")):
        return False
    return len(item["shape"]) >= 4 and int(about.get("axis") or 0) >= 2


def _side(example: int, number: int) -> int:
    half = max(example // 2, min(example, 32))
    return (half, half + 3, example)[number]


def make_inputs(
    specs: Sequence[TensorSpec],
    examples: Sequence[Mapping[str, Any]],
    sizes: Sizes,
    seed: int,
    variant: int = 0,
) -> list[np.ndarray]:
    """One array per input, in the source's layout, random but reproducible.

    Values stay in the range of the example inputs (so that token numbers are in the vocabulary);
    masks keep part of each row. Variant 0 widens ranges that the example leaves
    unknown; 1 has masks the other way round; 2 keeps to the example's range exactly; 3 has masks
    that mask nothing.
    """
    by_name = {item["name"]: item for item in examples}
    generator = np.random.default_rng([seed, 17])
    arrays = []
    for index, spec in enumerate(specs):
        about = by_name.get(str(spec.name), examples[index] if index < len(examples) else {})
        shape = tuple(evaluate(size, sizes) for size in spec.shape)
        if about.get("length") is not None:
            arrays.append(_lengths(spec, about, shape, evaluate(about["length"], sizes), generator))
            continue
        arrays.append(_array(spec, about, shape, generator, variant))
    return arrays


def _array(
    spec: TensorSpec,
    about: Mapping[str, Any],
    shape: tuple[int, ...],
    generator: np.random.Generator,
    variant: int,
) -> np.ndarray:
    dtype = np.dtype(_numpy_dtype(spec.dtype))
    low, high = _number(about.get("min")), _number(about.get("max"))
    if dtype.kind == "b" or _is_mask(spec, dtype, low, high):
        # The first position of a mask is kept, by one value or the other.
        keep = bool(about.get("first", True))
        return (_kept(shape, generator, variant) == keep).astype(dtype)
    if dtype.kind in "iu":
        first = int(low or 0)
        last = int(high) if high is not None else 1
        if first == last == 0 and variant == 0 and len(shape) > 1:
            last = 1  # token types, say, of which the example shows only one
        return generator.integers(first, last + 1, shape).astype(dtype)
    if low is not None and np.isneginf(low):
        return np.where(_kept(shape, generator, variant), 0.0, -np.inf).astype(dtype)
    if low is not None and high is not None and 0 <= low < high:
        return (low + (high - low) * generator.random(shape)).astype(dtype)
    return generator.standard_normal(shape).astype(dtype)


def _lengths(
    spec: TensorSpec,
    about: Mapping[str, Any],
    shape: tuple[int, ...],
    longest: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Lengths of sequences, none empty; no sequence is as long as the batch every third time."""
    most = longest - int(longest > 2 and longest % 3 == 0)
    lengths = generator.integers(1, most + 1, shape)
    lengths.flat[generator.integers(lengths.size)] = most
    if about.get("sorted"):
        lengths = -np.sort(-lengths, axis=-1)
    return lengths.astype(_numpy_dtype(spec.dtype))


def _is_mask(spec: TensorSpec, dtype: np.dtype, low: float | None, high: float | None) -> bool:
    """Whether an integer input holds ones and zeros that choose positions."""
    if dtype.kind not in "iu" or high != 1 or low not in (0, 1):
        return False
    return low == 1 or "mask" in str(spec.name).lower()


def _kept(shape: tuple[int, ...], generator: np.random.Generator, variant: int) -> np.ndarray:
    """Booleans, True for what a mask keeps: in each row of the last axis a run from its start.

    No row is kept whole and none is dropped whole, where it has two elements: what happens to a row
    of which nothing is left differs between frameworks, and means nothing. Square masks
    ([..., n, n]) are triangular, so that with another mask no row loses all.
    """
    if variant == 3 or not shape:
        return np.ones(shape, bool)
    length = shape[-1]
    if len(shape) >= 2 and shape[-2] == length and length > 1:
        kept = np.broadcast_to(np.tril(np.ones((length, length), bool)), shape).copy()
    else:
        counts = generator.integers(1, max(length, 2), int(np.prod(shape[:-1], dtype=int)))
        kept = (np.arange(length) < counts[:, None]).reshape(shape)
    return ~kept if variant == 1 else kept


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _numpy_dtype(name: str) -> str:
    return "float32" if name == "bfloat16" else name.rpartition(".")[2]
