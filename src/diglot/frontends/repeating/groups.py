"""What the names of a model's layers say about its parts: ``block_3_expand`` is of ``block_3``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from diglot.frontends.repeating.items import Item, Step, flat

_NUMBERED = re.compile(r"\d[a-z]?$")
SEPARATOR = re.compile(r"[_.\-/]")


class Groups:
    """Which steps the author named alike."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.prefixes: dict[int, list[str]] = {}
        self.members: dict[str, set[int]] = {}
        for step in steps:
            if step.is_named:
                self.prefixes[id(step)] = numbered_prefixes(step.name)
                for prefix in self.prefixes[id(step)]:
                    self.members.setdefault(prefix, set()).add(id(step))

    def cut(self, items: list[Item]) -> bool:
        """Tell whether a run holds a part of a group: of ``block_3`` without its last layer, say."""
        inside = {id(s) for item in items for s in flat(item)}
        named = inside & set(self.prefixes)
        for prefix in {p for i in named for p in self.prefixes[i]}:
            members = self.members[prefix]
            if not members <= inside and not named <= members:
                return True
        own = self.of(items)
        return bool(own) and not self.members[own] <= inside

    def of(self, items: list[Item]) -> str:
        """Return the longest prefix that all named steps of a run share; an empty text where there is none."""
        named = [self.prefixes[id(s)] for i in items for s in flat(i) if id(s) in self.prefixes]
        shared = [p for p in named[0] if all(p in other for other in named)] if named else []
        return shared[-1] if shared else ""


def numbered_prefixes(name: str) -> list[str]:
    """``stage1_block2_conv`` -> ``stage1``, ``stage1_block2``: where a part of a name ends with a number."""
    heads = [name[: m.start()] for m in SEPARATOR.finditer(name)]
    return [h for h in heads if _NUMBERED.search(h)]


def stage(prefix: str) -> str:
    """``conv2_block3`` -> ``conv2_block``; ``layer1.0`` -> ``layer1``; ``block2a`` -> ``block2``."""
    return re.sub(r"(?<=\d)[a-z]$|[_.\-/]?\d+$", "", prefix)


def template(prefix: str) -> str:
    """``stage1_block2`` -> ``stage#_block#``; ``block2a`` -> ``block#``."""
    return re.sub(r"\d+[a-z]?(?![a-z])", "#", prefix)
