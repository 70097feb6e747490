"""Names that Keras gives to layers by itself, and what is left of the author's without what tells them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from diglot.frontends.repeating.groups import SEPARATOR, numbered_prefixes


def is_automatic(operation: Any) -> bool:
    """Tell whether the name of a layer or an operation is the one that Keras gives: its class's, with a number."""
    from keras.src.utils.naming import to_snake_case

    return re.sub(r"_\d+$", "", operation.name) == to_snake_case(type(operation).__name__)


def own_names(layers: Sequence[Any]) -> list[str]:
    """The names of a model's layers as one of its kind would have them alone.

    Automatic names are counted from the start, and what the author's names say of which of several it is
    (``encoder_3_dense_0``) is left out: models of a kind are one class.
    """
    said = [layer.name for layer in layers if not is_automatic(layer)]
    heads = [h for h in numbered_prefixes(said[0]) if len(said) > 1] if said else []
    shared = [h for h in heads if all(SEPARATOR.match(n, len(h)) for n in said if n.startswith(h))]
    shared = [h for h in shared if all(n.startswith(h) for n in said)]
    cut = len(shared[-1]) + 1 if shared else 0
    counts: Counter[str] = Counter()
    made = []
    for layer in layers:
        if not is_automatic(layer):
            made.append(layer.name[cut:])
            continue
        kind = re.sub(r"_\d+$", "", layer.name)
        made.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
    return made
