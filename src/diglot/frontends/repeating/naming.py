"""What blocks, and the layers in them, are called: as the author's names say, else as people call such things."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from diglot.frontends.repeating.groups import template
from diglot.frontends.repeating.items import Block, Family, Item, Step, flat
from diglot.frontends.repeating.repeats import is_sum

#: What a layer in a block is called, by a part of its class's name.
_ROLES = {
    "Transpose": "up", "Conv": "conv", "BatchNormalization": "bn", "Normalization": "norm", "Dropout": "dropout",
    "Dense": "fc", "Attention": "attention", "Embedding": "embedding",
}  # fmt: skip
#: Words that say only that something repeats.
_PLAIN = frozenset("block blocks layer layers stage conv unit cell module b l s".split())


def snake_case(name: str) -> str:
    """``BatchNormalization`` -> ``batch_normalization``; ``Conv2DTranspose`` -> ``conv2d_transpose``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", name).lower()


def role(item: Item, classes: dict[Family, str]) -> str:
    """Return what a person would call a layer in a block that holds one of its kind."""
    if isinstance(item, Block):
        return snake_case(classes[item.family]) if item.family is not None else "branch"
    found = next((r for part, r in _ROLES.items() if part in item.kind), None)
    return found or snake_case(item.kind)


def class_name(family: Family) -> str:
    """Return a class's name: the last word that its blocks' names share, else by what the blocks hold."""
    forms = Counter(template(b.prefix) for b in family.blocks if b.prefix)
    form, count = forms.most_common(1)[0] if forms else ("", 0)
    words = [w for w in re.split(r"[\W_#]+", form) if w]
    if count * 2 > len(family.blocks) and words and words[-1].lower() not in _PLAIN:
        return "".join(w[0].upper() + w[1:] for w in words[-2:] if w.lower() not in _PLAIN)
    said = _content(max(family.blocks, key=lambda b: len(b.steps)))
    return said if not words or words[-1].lower() != "layer" else said.replace("Block", "Layer")


def family_names(families: Sequence[Family]) -> dict[Family, str]:
    """Return the class of each family, inner ones first; no two are called alike."""
    said: dict[Family, str] = {}
    for family in families:
        name, taken = class_name(family), set(said.values())
        numbers = (f"{name}{n}" for n in itertools.count(2))
        said[family] = name if name not in taken else next(n for n in numbers if n not in taken)
    return said


def input_names(family: Family) -> list[str]:
    """Return what a family's blocks call their inputs."""
    block = family.blocks[0]
    takers = [s.kind for s in block.steps for t in block.inputs[1:] if t in s.inputs]
    other = "context" if any("Attention" in kind for kind in takers) else "skip"
    return ["x", other][: len(block.inputs)]


def _content(block: Block) -> str:
    kinds = [s.kind for s in flat(block)]
    entry = block.inputs[0]
    residual = any(_closes(item, block) for item in block.steps)
    holds = lambda *parts: any(p in k for k in kinds for p in parts)  # noqa: E731
    if holds("Attention") and residual:
        return "TransformerBlock"
    if residual:
        return "ResidualBlock"
    place = next((i for i, s in enumerate(block.steps) if s.kind == "Concatenate"), 0)
    before = [s.kind for item in block.steps[:place] for s in flat(item)]
    joined = block.steps[place]
    if any(p in k for k in before for p in ("Conv", "Dense")) and len(block.inputs) == 1:
        return "DenseLayer" if entry in joined.inputs else "InceptionBlock"
    if holds("DTranspose", "UpSampling"):
        return "UpBlock"
    if holds("Conv"):
        return "ConvBlock"
    if holds("LSTM", "GRU", "RNN"):
        return "RecurrentBlock"
    return "DenseBlock" if holds("Dense") else "Block"


def _closes(item: Item, block: Block) -> bool:
    """Tell whether a step adds what entered the block, or what a projection made of it."""
    return is_sum(item) and (id(item) in block.optional or block.inputs[0] in item.inputs)


def member_names(family: Family, classes: dict[Family, str]) -> dict[int, str]:
    """Return the attribute of each step (by id) of each block of a family: alike for steps in the same place."""
    rows = [[s for s in b.steps if id(s) not in b.optional] for b in family.blocks]
    found: dict[int, str] = {}
    for form in {tuple(s.symbol for s in row) for row in rows}:
        blocks = [
            b
            for b, row in zip(family.blocks, rows, strict=True)
            if tuple(s.symbol for s in row) == form
        ]
        alike = [[s for s in b.steps if id(s) not in b.optional] for b in blocks]
        for column in zip(*alike, strict=True):
            said = {_suffix(s, b) for s, b in zip(column, blocks, strict=True)}
            if len(said) == 1 and None not in said:
                found.update(dict.fromkeys(map(id, column), next(iter(said)) or ""))
    for block in family.blocks:
        found.update(_completed(block, found, classes))
    return found


def _completed(block: Block, known: dict[int, str], classes: dict[Family, str]) -> dict[int, str]:
    """Names for all steps of a block: those in ``known``, the others by their role."""
    taken: dict[str, int] = {}
    made: dict[int, str] = {}
    counts = Counter(
        role(s, classes) for s in block.steps if id(s) not in known and id(s) not in block.optional
    )
    numbers: Counter[str] = Counter()
    for step in sorted(block.steps, key=lambda s: id(s) in block.optional):
        name = known.get(id(step))
        if name is None:
            own = role(step, classes)
            optional = id(step) in block.optional
            if optional and step.lines > 1 and "Dropout" not in step.kind:  # a projection
                own = "shortcut"
            name = (_said(step, block) if optional else None) or own
            if not optional and counts[own] > 1:
                numbers[own] += 1
                name = f"{own}{numbers[own]}"
        same = taken.get(name, 0)
        taken[name] = same + 1
        made[id(step)] = f"{name}_{same + 1}" if same else name
    return made


def _said(step: Item, block: Block) -> str | None:
    """The author's name of a step that only some blocks have; of a projection, what its layers' names share."""
    if isinstance(step, Step):
        return _suffix(step, block)
    suffixes = [_suffix(s, block) or "" for s in flat(step)]
    heads = {re.split(r"[_.\-/]", s)[0] for s in suffixes}
    head = heads.pop() if len(heads) == 1 else ""
    return head if head.isidentifier() and len(head) > 2 else None


def _suffix(step: Item, block: Block) -> str | None:
    """The end of an author's name, without what the names of the block share: ``1_conv`` is ``conv1``."""
    if not isinstance(step, Step) or not block.prefix or not step.is_named:
        return None
    if not step.name.startswith(block.prefix):
        return None
    end = step.name[len(block.prefix) :].strip("_.-/")
    turned = re.fullmatch(r"(\d+)[_.\-/]([A-Za-z]\w*)", end)
    made = f"{turned[2]}{turned[1]}" if turned else end
    return re.sub(r"\W", "_", made) or None


def scope_names(items: list[Item], classes: dict[Family, str], model: str) -> dict[int, str]:
    """Return the attribute of each block among some items: ``blocks.0`` where blocks follow each other in a list."""
    made: dict[int, str] = {}
    groups: list[tuple[str, list[Block]]] = []
    for before, block in itertools.pairwise([None, *items]):
        if not isinstance(block, Block):
            continue
        if isinstance(before, Block) and _follows(before, block):
            groups[-1][1].append(block)
        else:
            groups.append((_wanted(block, classes, model), [block]))
    lists = [f"{_alone(w)}s" if len(found) > 1 else w for w, found in groups]
    counts = Counter(lists)
    numbers: Counter[str] = Counter()
    for wanted, (_, found) in zip(lists, groups, strict=True):
        name = wanted
        if counts[wanted] > 1:
            numbers[wanted] += 1
            name = (
                f"{wanted}_{numbers[wanted]}"
                if wanted[-1].isdigit()
                else f"{wanted}{numbers[wanted]}"
            )
        for place, block in enumerate(found):
            made[id(block)] = f"{name}.{place}" if len(found) > 1 else name
    return made


def _alone(name: str) -> str:
    """``transformer_block_1`` without its number."""
    return re.sub(r"_?\d+$", "", name)


def _follows(before: Block, block: Block) -> bool:
    """Tell whether a block of several inputs goes on with what one of its family gives."""
    same = before.family is block.family is not None and len(block.inputs) > 1
    return same and block.inputs[0] == before.outputs[0]


def _wanted(block: Block, classes: dict[Family, str], model: str) -> str:
    prefix = block.prefix.removeprefix(f"{model}_")
    if block.family is not None:
        return re.sub(r"\W", "_", prefix) or snake_case(classes[block.family].rstrip("0123456789"))
    name = re.sub(r"\W", "_", prefix).strip("_")
    if name:
        return name if name[-1].isdigit() or name.endswith("s") else f"{name}s"
    first = block.steps[0]
    assert isinstance(first, Block) and first.family is not None
    own = snake_case(classes[first.family].rstrip("0123456789"))
    return f"{own}s" if len(classes) > 1 else "blocks"
