"""Which weights are not trained, and of what they are all the weights: a layer, a model, a layer of the user's own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from torch import fx

from diglot.ir.hub import Call, Hub, Parameter, is_call, is_own


class Frozen:
    """Tells what of a program is not trained, outermost first: what is inside does not say so again.

    A Sequential's layers in a graph say so themselves. Where nothing is trained at all, no class says so.
    """

    def __init__(self, hub: Hub, style: str) -> None:
        self._hub = hub
        trained = {p.name for p in hub.parameters.values() if p.trainable and not p.buffer}
        # A batch norm whose statistics move is no frozen layer, whatever becomes of its weights.
        norms = [n for n in hub.call_of if is_call(n, {"aten.batch_norm.default"}) and n.args[5]]
        moving = {hub.parameters[w].name for n in norms for w in n.args[3:5] if w in hub.parameters}
        held = {p.name for p in hub.parameters.values() if not p.buffer}
        self._whole = {
            path
            for path in _wholes(hub, style)
            if any(_below(held, path)) and not any(_below(trained | moving, path))
        }

    def whole(self, path: str) -> bool:
        """Whether no weight of a module is trained, where some of those around it are."""
        return path in self._whole and not self._inside(path)

    def layer(self, region: Call, construct: ast.Call, weights: Sequence[fx.Node]) -> bool:
        """Whether no weight of a layer is trained, where some of the modules around it are."""
        said = any(k.arg == "trainable" for k in construct.keywords)
        held = [p for w in weights if (p := self._hub.parameters.get(w)) is not None]
        frozen = bool(held) and not any(p.trainable or p.buffer for p in held)
        return (said or frozen) and not self._inside(f"{region.path}.")

    def weight(self, parameter: Parameter) -> bool:
        """Whether a weight that no layer holds is not trained."""
        within = not parameter.buffer and self._inside(parameter.name)
        return not parameter.trainable and not within

    def _inside(self, path: str) -> bool:
        return any(path.startswith(f"{whole}.") for whole in self._whole)


def _wholes(hub: Hub, style: str) -> set[str]:
    """The paths of what can be frozen as a whole: the models in a graph, and whatever is a class's attribute."""
    if style != "functional":
        trained = any(p.trainable and not p.buffer for p in hub.parameters.values())
        return {r.path for r in hub.root.walk() if r.path and not r.function and trained}
    own = {r.path for r in hub.root.walk() if not r.function and is_own(hub, r)}
    return own | {path for path, model in hub.inner_models.items() if not model.is_sequence}


def _below(names: Iterable[str], path: str) -> Iterator[str]:
    return (name for name in names if name.startswith(f"{path}."))
