"""What the blocks of a Functional model, and the layers in them, were called in PyTorch."""

from __future__ import annotations

from keras import Layer

from diglot.frontends.keras_tracing.blocks import Plan
from diglot.frontends.keras_tracing.original_names import Names
from diglot.frontends.repeating.items import Block, Family, Item, flat


class KnownBlocks:
    """Finds names for a plan's blocks, and for their members where these are called alike in all of a family."""

    def __init__(self, plan: Plan, names: Names) -> None:
        self.plan = plan
        self.names = names
        self.found: dict[int, str] = {}  # by the id of a block or step

    def run(self) -> dict[int, str]:
        """Return the names."""
        families = self._families(self.plan.steps, {})
        for blocks in families.values():
            self._alike(blocks)
        self._outermost(self.plan.steps, "")
        return self.found

    def _families(
        self, steps: list[Item], found: dict[Family, list[Block]]
    ) -> dict[Family, list[Block]]:
        for step in steps:
            if isinstance(step, Block):
                if step.family is not None:
                    found.setdefault(step.family, []).append(step)
                self._families(step.steps, found)
        return found

    def _path(self, item: Item) -> str | None:
        """The path of the module that a block, or a layer with weights, was."""
        layers = [s.operation for s in flat(item) if isinstance(s.operation, Layer)]
        held = [layer for layer in layers if layer.weights]
        if isinstance(item, Block):
            return self.names.around(held)
        return self.names.path(held[0], leaf=True) if held else None

    def _alike(self, blocks: list[Block]) -> None:
        """Name the members of a family's blocks."""
        said: dict[str, set[str | None]] = {}
        for block in blocks:
            around = self._path(block)
            for step in block.steps:
                path = self._path(step)
                if path is None and not isinstance(step, Block):
                    continue  # nothing in it has a name
                below = _below(path, around)
                said.setdefault(self.plan.names[id(step)], set()).add(below)
        names = {own: next(iter(found)) for own, found in said.items() if len(found) == 1}
        if len(names) < len(said) or None in names.values():
            return
        if len(set(names.values())) < len(names):
            return
        for block in blocks:
            for step in block.steps:
                own = names.get(self.plan.names[id(step)])
                if own is not None:
                    self.found[id(step)] = own

    def _outermost(self, steps: list[Item], around: str) -> None:
        """Name the blocks that are in no other block."""
        for step in steps:
            if isinstance(step, Block):
                below = _below(self._path(step), around)
                if below is not None:
                    self.found[id(step)] = below


def _below(path: str | None, around: str | None) -> str | None:
    """The name, below one module, of another: ``conv1``, or ``layer.0`` for an item of a list."""
    if path is None or around is None or not path.startswith(f"{around}." if around else ""):
        return None
    parts = path[len(around) + 1 if around else 0 :].split(".")
    item = len(parts) == 2 and parts[1].isdigit() and not parts[0].isdigit()
    return ".".join(parts) if len(parts) == 1 or item else None
