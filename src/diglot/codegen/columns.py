"""Lists of lists of layers, written column by column.

A block that is no module of its own, but a row of a nested list::

    self.layers = nn.ModuleList([nn.ModuleList([Attention(…), FeedForward(…)]) for _ in range(depth)])
    for attn, ff in self.layers: …

becomes one list for each place in the row::

    self.attns = [Attention(…) for _ in range(depth)]
    self.ffs = [FeedForward(…) for _ in range(depth)]
    for attn, ff in zip(self.attns, self.ffs): …
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from torch import nn

from diglot.codegen import author, names

if TYPE_CHECKING:
    from diglot.codegen.program import Program
    from diglot.ir.hub import Call

_ROWS = (nn.ModuleList, nn.ModuleDict)


class Columns:
    """Knows which lists are held by columns, and what each column is called."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._found: dict[tuple[str, str], dict[str, str]] = {}

    def place(self, region: Call, path: str) -> tuple[str, int] | None:
        """Return the list attribute of a layer in a nested list, and the row; ``None`` for any other path."""
        parts = path.split(".")
        for at in range(1, len(parts) - 1):
            if not parts[at].isdigit():
                continue
            held, rest = ".".join(parts[:at]), ".".join(parts[at + 1 :])
            columns = self._columns(region, held)
            leaf = max((c for c in columns if _begins(rest, c)), key=len, default=None)
            if leaf is None:
                continue
            beyond = rest[len(leaf) :].replace(".", "_")
            name = columns[leaf]
            return (names.plural(f"{names.singular(name)}{beyond}") if beyond else name), int(
                parts[at]
            )
        return None

    def _columns(self, region: Call, held: str) -> dict[str, str]:
        """Return the name of each column of a list, by its place in a row."""
        key = (region.path, held)
        if key not in self._found:
            self._found[key] = self._name(region, held)
        return self._found[key]

    def _name(self, region: Call, held: str) -> dict[str, str]:
        path = f"{region.path}.{held}" if region.path else held
        rows = self.program.modules.get(path)
        if type(rows) is not nn.ModuleList or not all(type(r) in _ROWS for r in rows):
            return {}
        leaves = [_leaves(row) for row in rows]
        if any(list(row) != list(leaves[0]) for row in leaves):
            return {}
        attribute = held.rpartition(".")[2]
        loop = author.row_of_loop(region.cls, attribute) if region.cls else None
        if loop is None and not any(len({type(m) for m in r.values()}) > 1 for r in leaves):
            return {}
        if isinstance(loop, ast.Name) and author.runs_over(region.cls, loop.id):
            return {}  # a stage of several blocks, which the author runs through in turn
        owner = self.program.modules.get(region.path)
        others = [n for n, _ in owner.named_children()] if owner is not None else []
        taken = {*others, *self._said_elsewhere(region.cls, {*others} - {attribute})}
        row = names.singular(attribute)
        found: dict[str, str] = {}
        for leaf in leaves[0]:
            said = _unpacked(loop, leaf)
            wanted = names.plural(said or f"{row}_{leaf.replace('.', '_')}")
            if wanted in taken or wanted in found.values():
                wanted = names.plural(f"{row}_{said or leaf.replace('.', '_')}")
            found[leaf] = self.program.dialect.attribute(wanted)
        return found

    @staticmethod
    def _said_elsewhere(cls: type | None, attributes: set[str]) -> set[str]:
        """Return what the author's loops call the columns of other lists of a class."""
        loops = [author.row_of_loop(cls, attribute) for attribute in attributes] if cls else []
        tuples = [loop for loop in loops if isinstance(loop, ast.Tuple)]
        found = [n.id for loop in tuples for n in ast.walk(loop) if isinstance(n, ast.Name)]
        return {names.plural(name) for name in found}


def _begins(rest: str, leaf: str) -> bool:
    return rest == leaf or rest.startswith((f"{leaf}_", f"{leaf}."))


def _leaves(row: nn.Module, path: str = "") -> dict[str, nn.Module]:
    """Return what a row holds, rows within it taken apart."""
    found: dict[str, nn.Module] = {}
    for name, module in row.named_children():
        if type(module) in _ROWS:
            found |= _leaves(module, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = module
    return found


def _unpacked(target: ast.expr | None, leaf: str) -> str | None:
    """Return the variable that a loop's target gives to a place in a row: ``1`` of ``attn, ff`` is ``ff``."""
    for part in leaf.split("."):
        if not isinstance(target, ast.Tuple) or not part.isdigit():
            return None
        if int(part) >= len(target.elts):
            return None
        target = target.elts[int(part)]
    return target.id if isinstance(target, ast.Name) and target.id != "_" else None
