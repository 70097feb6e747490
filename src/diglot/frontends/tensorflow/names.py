"""Paths of layers: a node's name scopes, with the names that the source's variables have.

TensorFlow numbers a scope that is opened again (``dense_1`` for the layer ``dense``); variables keep the layer's own
name (``dense/kernel``), so they say which of a scope's numbers are not the author's.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import nn

from diglot.frontends.repeating.naming import snake_case
from diglot.frontends.tensorflow import tree
from diglot.frontends.tensorflow.graph import Node
from diglot.frontends.tensorflow.tree import Path

#: Scopes that TensorFlow's own functions open, within a layer.
_FUNCTIONS = re.compile(
    r"(Tensordot|einsum|convolution|conv1d|batchnorm|moments|Gelu|conv_transpose|MatMul|BiasAdd|"
    r"Conv2D|ReadVariableOp|Cast|embedding_lookup|Add|xw_plus_b|while|cond)(_\d+)?$"
)

_NUMBERS = re.compile(r"(_\d+)+$")


def weight_name(node: Node) -> str:
    """The name of the variable (or constant) of a weight node."""
    name = node.name if node.op == "Const" else node.attrs["variable"].name
    return re.sub(r"(/(Read)?/?ReadVariableOp)?(/resource)?$", "", name.split(":")[0])


def variables_first(weights: Sequence[Node]) -> list[Node]:
    """A layer's weights in the order in which they may name it: a constant says less than a variable."""
    return sorted(weights, key=lambda node: node.op == "Const")


def is_function(part: str) -> bool:
    """Tell whether a scope is one that TensorFlow's own functions open."""
    return bool(_FUNCTIONS.match(part))


def alike(part: str, owner: str) -> bool:
    """Tell whether a scope is that of the layer ``owner``, numbered again or not."""
    return part == owner or re.sub(r"_\d+$", "", part) == owner


def _beyond(scope: Path, weights: Sequence[Node]) -> Path:
    """What the names of a layer's variables add to the scope that it runs in (``conv/BatchNorm/beta``)."""
    names = [re.sub(r"/\w+_cell(_\d+)?/", "/", weight_name(w)) for w in weights if w.op != "Const"]
    owners = {tuple(name.split("/")[:-1]) for name in names}
    owner = next(iter(owners)) if len(owners) == 1 else ()
    for i in range(len(owner) - 1, 0, -1):
        if scope and alike(scope[-1], owner[i - 1]):
            return owner[i:]
    return ()


class Names:
    """Clean paths for the layers and scopes of one graph."""

    def __init__(self, layers: Iterable[tuple[Path, Sequence[Node]]]) -> None:
        votes: dict[Path, Counter] = {}
        layers = list(layers)
        self._deeper: dict[Path, Path] = {}
        self._deeper = self._own_scopes(layers)
        raw = []
        for scope, weights in layers:
            owners = [p for w in weights for p in weight_name(w).split("/")[:-1]]
            path = self._raw(scope, weights)
            raw.append(path)
            for i in range(1, len(path) + 1):
                part = path[i - 1]
                for owner in dict.fromkeys(owners):
                    if alike(part, owner):
                        votes.setdefault(path[:i], Counter())[owner] += 1 + (part == owner)
        self._clean: dict[Path, str] = {}
        taken: dict[tuple[Path, str], Path] = {}
        for prefix, counted in votes.items():
            name = counted.most_common(1)[0][0]
            if taken.setdefault((prefix[:-1], name), prefix) == prefix:
                self._clean[prefix] = name
        self._number_less(raw)
        inner: dict[Path, dict[Path, None]] = {}
        for path in raw:
            for i in range(len(path)):
                inner.setdefault(path[:i], {})[path[: i + 1]] = None
        self._count_anew(inner, [()])
        fronts = {p[:1] for p in raw}
        deep = any(len(p) > 1 for p in raw)
        self.root = next(iter(fronts)) if raw and deep and len(fronts) == 1 else ()

    def _own_scopes(self, layers: Sequence[tuple[Path, Sequence[Node]]]) -> dict[Path, Path]:
        """The scopes of layers whose variables say of which block they are and no more (``block/kernel_3`` in
        ``block/attention/query``): these layers go by their own scopes."""
        alike: dict[Path, dict[Path, Path]] = {}
        for scope, weights in layers:
            own = scope
            while own and _FUNCTIONS.match(own[-1]):
                own = own[:-1]
            alike.setdefault(self._raw(scope, weights), {})[scope] = own
        found: dict[Path, Path] = {}
        for path, scopes in alike.items():
            below = set(scopes.values())
            if 1 < len(scopes) == len(below) and all(
                path == own[: len(path)] != own for own in below
            ):
                found |= scopes
        return found

    def _number_less(self, raw: Sequence[Path]) -> None:
        """Call a scope, whose name no variable has, without the number that it has of Keras: of its calls, and of the
        layers of its kind in other blocks. Those of a kind in one block count from the first.
        """
        own = set(self._deeper.values())
        scopes = dict.fromkeys(p[:i] for p in raw for i in range(1, len(p) + 1))
        around = {p[:-1] for p in scopes}
        within = {p[:i] for p in own for i in range(1, len(p) + 1)}
        bare = {p: (*p[:-1], _NUMBERS.sub("", p[-1])) for p in scopes if p in around or p in own}
        counts: Counter[Path] = Counter()
        used = Counter({**{p: p for p in scopes}, **bare}.values())
        for scope, path in bare.items():
            if scope in self._clean:
                continue
            if used[path] == 1:
                self._clean[scope] = path[-1]
            elif scope in within and len(scope) > 1 and scope[:-1] in within:
                number, counts[path] = counts[path], counts[path] + 1
                self._clean[scope] = f"{path[-1]}_{number}" if number else path[-1]

    def _count_anew(self, inner: dict[Path, dict[Path, None]], alike: Sequence[Path]) -> None:
        """Let what is in blocks of a kind have the same names in each, where Keras counted through all of them
        (``block/conv2d``, ``block_1/conv2d_1``).
        """
        stems: dict[str, list[Path]] = {}
        for scope in alike:
            for child in inner.get(scope, ()):
                stems.setdefault(_NUMBERS.sub("", self._called(child)), []).append(child)
        for stem, children in stems.items():
            of_each = [[c for c in children if c[:-1] == scope] for scope in alike]
            named = [{self._called(c) for c in own} for own in of_each]
            apart = sum(map(len, named)) == len(set().union(*named)) == len(children)
            if len(alike) > 1 and apart and sum(map(bool, named)) > 1:
                for own in of_each:
                    for number, child in enumerate(sorted(own, key=self._number)):
                        self._clean[child] = f"{stem}_{number}" if number else stem
            same: dict[str, list[Path]] = {}
            for child in children:
                name = self._called(child) if len(alike) > 1 else stem
                same.setdefault(name, []).append(child)
            for group in same.values():
                self._count_anew(inner, group)

    def _called(self, scope: Path) -> str:
        return self._clean.get(scope, scope[-1])

    def _number(self, scope: Path) -> list[int]:
        """The number that a name ends with; 0 where it has none."""
        return [int(n) for n in re.findall(r"\d+", _NUMBERS.search(self._called(scope) + "_0")[0])]  # type: ignore[index]

    def _raw(self, scope: Path, weights: Sequence[Node]) -> Path:
        """The part of a scope that is the layer's own."""
        if scope in self._deeper:
            return self._deeper[scope]
        weights = variables_first(weights)
        for weight in [w for w in weights if w.op != "Const"] or weights:
            owner = weight_name(weight).split("/")[:-1]
            for i in range(len(scope), 0, -1):
                if owner and alike(scope[i - 1], owner[-1]):
                    while i > 1 and alike(scope[i - 2], owner[-1]):
                        i -= 1  # a function's scope is often called as the layer is
                    return scope[:i]
        while scope and _FUNCTIONS.match(scope[-1]):
            scope = scope[:-1]
        if not scope and weights:
            return tuple(weight_name(weights[0]).split("/")[:-1])
        return (*scope, *_beyond(scope, weights))

    def layer(self, scope: Path, weights: Sequence[Node]) -> Path:
        """The path of a layer, from the scope of its node and the names of its weights."""
        return self.scope(self._raw(scope, weights))

    def scope(self, scope: Path) -> Path:
        """A name scope as a path of modules, without what the whole graph is in."""
        clean = tuple(
            tree.identifier(self._clean.get(scope[: i + 1], part)) for i, part in enumerate(scope)
        )
        return clean[1:] if self.root and scope[:1] == self.root else clean


def is_of_op(name: str) -> bool:
    """Tell whether TensorFlow named a node, after its op (``ExpandDims_1``)."""
    return name != name.lower() and bool(re.fullmatch(r"[A-Z]\w*?(_\d+)?", name))


def distinguished(weight: Node, kind: str) -> str:
    """A name for one of several layers of a scope, after its weight (``depthwise_kernel``: ``depthwise``)."""
    last = weight_name(weight).split("/")[-1]
    if weight.op == "Const" and is_of_op(last):
        return kind.lower()
    stem = re.sub(r"_?(kernel|weights?|embeddings)(_\d+)?$", "", last)
    return tree.identifier(stem) if stem else kind.lower()


def free_name(module: nn.Module, name: str) -> str:
    """A name that is no attribute of a module's yet."""
    candidate, count = name, 1
    while hasattr(module, candidate):
        count += 1
        candidate = f"{name}_{count}"
    return candidate


def is_automatic(name: str) -> bool:
    """Tell whether a name is one that Keras or TensorFlow gives: of a class, or an op, with a number."""
    bare = re.sub(r"(_\d+)+$", "", name)
    return bool(re.match(r"tf[._]", name)) or bare.lower() in _class_names() or is_function(name)


@functools.cache
def _class_names() -> frozenset[str]:
    from keras import layers

    names = [name for name, value in vars(layers).items() if isinstance(value, type)]
    return frozenset(made for name in names for made in (snake_case(name), name.lower()))
