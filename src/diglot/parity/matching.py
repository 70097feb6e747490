"""Which layer of a Keras model is which module of a PyTorch model: by weights, kind and order."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diglot.parity.tolerances import relative

SAME_WEIGHTS = 1e-5
_ENOUGH = 1.5

# PyTorch class -> Keras class, where they are not spelt alike.
_KINDS = {
    "linear": "dense",
    "batchnorm": "batchnormalization",
    "layernorm": "layernormalization",
    "groupnorm": "groupnormalization",
    "rmsnorm": "rmsnormalization",
    "multiheadattention": "multiheadattention",
    "convtranspose": "convtranspose",
    "maxpool": "maxpooling",
    "avgpool": "averagepooling",
    "adaptiveavgpool": "globalaveragepooling",
    "upsample": "upsampling",
}
_ACTIVATIONS = {
    "activation", "elu", "gelu", "hardsigmoid", "hardswish", "leakyrelu", "logsoftmax", "mish",
    "prelu", "relu", "selu", "sigmoid", "silu", "softmax", "softplus", "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One call of one module or layer: its path, class, own weights, and outputs."""

    path: str
    kind: str
    index: int
    weights: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]

    @property
    def prints(self) -> list[tuple[int, float, float]]:
        """Size, sum of absolute values and of squares of every weight: the same in any layout."""
        found = [
            (
                w.size,
                float(np.abs(w, dtype=np.float64).sum()),
                float((w.astype(np.float64) ** 2).sum()),
            )
            for w in self.weights
        ]
        return sorted(found)


def _kind(name: str) -> str:
    plain = re.sub(r"[^a-z]|\dd$", "", re.sub(r"\dd", "", name.lower()))
    return "activation" if plain in _ACTIVATIONS else _KINDS.get(plain, plain)


def _same_weights(a: Node, b: Node) -> bool:
    first, second = a.prints, b.prints
    return (
        bool(first)
        and len(first) == len(second)
        and all(
            x[0] == y[0] and np.allclose(x[1:], y[1:], rtol=SAME_WEIGHTS, atol=1e-12)
            for x, y in zip(first, second, strict=True)
        )
    )


def score(a: Node, b: Node) -> float:
    """How likely the two are one layer; below 1.5 they are not."""
    total = 0.0
    if bool(a.weights) != bool(b.weights):
        return 0.0
    if a.weights:
        sizes, others = ([p[0] for p in node.prints] for node in (a, b))
        # Attention's query, key and value are one weight in PyTorch and three in Keras.
        alike = 2.0 if sizes == others else 1.0 if sum(sizes) == sum(others) else -1.0
        total += 4.0 if _same_weights(a, b) else alike
    if _kind(a.kind) == _kind(b.kind):
        total += 1.5
    names = [re.sub(r"[\W_]+", "", n.path.rpartition(".")[2].lower()) for n in (a, b)]
    total += difflib.SequenceMatcher(None, names[0], names[1]).ratio()
    if a.outputs and b.outputs:
        total += 0.5 if a.outputs[0].size == b.outputs[0].size else -0.5
    return total


def match(sources: Sequence[Node], targets: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Pairs of calls, in the order of `sources`.

    Layers whose weights are equal, and equal to no other's, are taken first, whatever their order;
    the others by the alignment of the two sequences that makes the scores add up to most.
    """
    taken: dict[int, int] = {}
    for i, source in enumerate(sources):
        alike = [j for j, target in enumerate(targets) if _same_weights(source, target)]
        back = [
            k
            for k, other in enumerate(sources)
            if alike and _same_weights(other, targets[alike[0]])
        ]
        if len(alike) == 1 and len(back) == 1:
            taken[i] = alike[0]
    rest_i = [i for i in range(len(sources)) if i not in taken]
    rest_j = [j for j in range(len(targets)) if j not in taken.values()]
    for i, j in _align([sources[i] for i in rest_i], [targets[j] for j in rest_j]):
        taken[rest_i[i]] = rest_j[j]
    return [(sources[i], targets[j]) for i, j in sorted(taken.items())]


def _align(sources: Sequence[Node], targets: Sequence[Node]) -> list[tuple[int, int]]:
    """The longest-scoring alignment of two sequences; gaps cost nothing."""
    rows, columns = len(sources), len(targets)
    scores = [[score(a, b) for b in targets] for a in sources]
    best = np.zeros((rows + 1, columns + 1))
    for i, j in itertools.product(range(rows), range(columns)):
        gain = scores[i][j] if scores[i][j] >= _ENOUGH else -1.0
        best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + max(gain, 0.0))
    pairs = []
    i, j = rows, columns
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def in_source_layout(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """`target` with its axes moved so that it has the source's shape, the nearest way; None where
    no order of axes gives that shape."""
    if source.ndim != target.ndim:
        same = source.size == target.size and 1 in (*source.shape, *target.shape)
        return target.reshape(source.shape) if same else None
    rank = source.ndim
    identity = tuple(range(rank))
    # Channels last, then the others; the batch stays where it is.
    candidates = [identity]
    if rank >= 3:
        candidates.append((0, rank - 1, *range(1, rank - 1)))
        if rank <= 5:
            candidates += [(0, *p) for p in itertools.permutations(range(1, rank))]
        candidates.append((1, 0, *range(2, rank)))
    found = None
    for perm in dict.fromkeys(candidates):
        moved = target.transpose(perm)
        if moved.shape != source.shape:
            continue
        error = relative(source, moved)
        if found is None or error < found[0]:
            found = (error, moved)
        if error < 1e-3:
            break
    return None if found is None else found[1]
