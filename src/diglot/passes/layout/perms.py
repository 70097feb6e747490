"""Permutations, and reshapes seen as groups of axes."""

from __future__ import annotations

from typing import Any

from torch import fx

from diglot.ir.hub import target_name
from diglot.ir.sizes import Size, is_static, product

Perm = tuple[int, ...]


def channels_last(rank: int) -> Perm:
    """``(0, 2, 3, 1)`` for rank 4."""
    return (0, *range(2, rank), 1)


def channels_first(rank: int) -> Perm:
    """``(0, 3, 1, 2)`` for rank 4."""
    return (0, rank - 1, *range(1, rank - 1))


def simplify(perm: Perm | None) -> Perm | None:
    """Return ``None`` for the identity."""
    return None if perm is None or perm == tuple(range(len(perm))) else perm


def full(perm: Perm | None, rank: int) -> Perm:
    """Return the permutation written out."""
    return tuple(range(rank)) if perm is None else perm


def after_permute(layout: Perm | None, dims: list[int]) -> Perm | None:
    """Return the layout of ``x.permute(dims)`` when the data stay where they are."""
    perm = full(layout, len(dims))
    return simplify(tuple(dims.index(p) for p in perm))


def without(layout: Perm | None, rank: int, removed: set[int]) -> Perm | None:
    """Return the layout after some of PyTorch's axes are gone."""
    kept = [a for a in range(rank) if a not in removed]
    return simplify(tuple(kept.index(p) for p in full(layout, rank) if p not in removed))


def inserted(layout: Perm | None, rank: int, axis: int) -> Perm | None:
    """Return the layout after ``unsqueeze(axis)``; the new axis goes to the same place in the target."""
    shifted = [p + 1 if p >= axis else p for p in full(layout, rank)]
    place = axis if axis == 0 or layout is None else shifted.index(axis - 1) + 1
    return simplify((*shifted[:place], axis, *shifted[place:]))


def groups(
    before: tuple[Size, ...], after: tuple[Size, ...]
) -> list[tuple[list[int], list[int]]] | None:
    """Match the axes of a reshape: ``(2, 3, 4) -> (6, 4)`` gives ``[([0, 1], [0]), ([2], [1])]``.

    Returns ``None`` when the sizes cannot be matched (dynamic sizes that do not divide).
    """
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = ([i], [j]) if i < len(before) and j < len(after) else ([], [])
        if not left:
            left, right = list(range(i, len(before))), list(range(j, len(after)))
            if not all(s == 1 for s in [*(before[k] for k in left), *(after[k] for k in right)]):
                return None
            found.append((left, right))
            break
        i, j = i + 1, j + 1
        while not _equal(
            a := product(before[k] for k in left), b := product(after[k] for k in right)
        ):
            step = _grow_left(a, b)
            if step is None:
                return None
            if step and i < len(before):
                left.append(i)
                i += 1
            elif not step and j < len(after):
                right.append(j)
                j += 1
            else:
                return None
        found.append((left, right))
    return found


def _equal(a: Size, b: Size) -> bool:
    return a == b or (not (is_static(a) and is_static(b)) and (a - b) == 0)


def _grow_left(a: Size, b: Size) -> bool | None:
    """Tell whether the left product is the smaller one (a proper divisor of the right)."""
    if is_static(a) and is_static(b):
        return a < b
    ratio: Any = b / a
    if hasattr(ratio, "simplify"):
        ratio = ratio.simplify()
    if ratio.is_Integer or not ratio.as_numer_denom()[1].free_symbols:
        return True
    inverse = (a / b).simplify()
    if not inverse.as_numer_denom()[1].free_symbols:
        return False
    return None


def reshaped(
    layout: Perm | None, before: tuple[Size, ...], after: tuple[Size, ...]
) -> tuple[bool, Perm | None]:
    """Return ``(possible, layout)`` for a reshape of data that stay where they are.

    Possible when each group's axes lie together and in order in the target (axes of size 1 do not count).
    """
    if layout is None:
        return True, None
    matched = groups(before, after)
    if matched is None:
        return False, None
    matched = _split_ones(matched, before, after)
    order: list[tuple[int, list[int]]] = []
    for left, right in matched:
        places = sorted(layout.index(axis) for axis in left if before[axis] != 1)
        if [layout[p] for p in places] != [axis for axis in left if before[axis] != 1]:
            return False, None
        between = [p for p in range(places[0], places[-1] + 1) if p not in places] if places else []
        if any(before[layout[p]] != 1 for p in between):
            return False, None
        anchor = places[0] if places else (layout.index(left[0]) if left else len(layout))
        order.append((anchor, right))
    order.sort(key=lambda item: item[0])
    return True, simplify(tuple(axis for _, right in order for axis in right))


def _split_ones(matched: list, before: tuple[Size, ...], after: tuple[Size, ...]) -> list:
    """Let axes of size 1 stand alone, so that they do not tie groups together."""
    result = []
    for left, right in matched:
        if len(left) == len(right) == 1:
            result.append((left, right))
            continue
        heavy = [a for a in left if before[a] != 1]
        rest = [a for a in right if after[a] != 1]
        if len(heavy) == len(rest) == 1 and len(left) == len(right):
            pairs = list(zip(left, right, strict=True))
            if all((before[a] == 1) == (after[b] == 1) for a, b in pairs):
                result.extend(([a], [b]) for a, b in pairs)
                continue
        result.append((left, right))
    return result


def is_first(node: fx.Node) -> bool:
    """Tell whether a node turns a sequence's last two axes."""
    rank = node.meta["val"].dim()
    return rank == 3 and tuple(permuted_dims(node, rank)) == channels_first(rank)


def permuted_dims(node: fx.Node, rank: int) -> list[int]:
    """Return the dims of a permute, transpose, t or movedim as ``permute`` takes them."""
    name = target_name(node)
    dims = list(range(rank))
    if name in ("aten.permute.default",):
        return [d % rank for d in node.args[1]]
    if name in ("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default"):
        a, b = node.args[1] % rank, node.args[2] % rank
        dims[a], dims[b] = dims[b], dims[a]
        return dims
    if name in (
        "aten.t.default",
        "aten.mT.default",
        "aten.numpy_T.default",
        "aten.adjoint.default",
    ):
        if name == "aten.numpy_T.default":
            return dims[::-1]
        if rank >= 2:
            dims[-1], dims[-2] = dims[-2], dims[-1]
        return dims
    if name.startswith("aten.movedim") or name.startswith("aten.moveaxis"):
        source, target = node.args[1], node.args[2]
        source = [source] if isinstance(source, int) else list(source)
        target = [target] if isinstance(target, int) else list(target)
        source, target = [s % rank for s in source], [t % rank for t in target]
        rest = iter([d for d in dims if d not in source])
        return [source[target.index(i)] if i in target else next(rest) for i in dims]
    raise ValueError(f"{name} is not a permute")
