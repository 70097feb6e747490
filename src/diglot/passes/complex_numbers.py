"""Complex numbers -> pairs of real ones, as they are written where a language has none (rotary positions).

Before::

    z = view_as_complex(x);  y = view_as_real(z * polar(ones, angle))

After::

    a, b = x[..., 0], x[..., 1]
    y = stack([a * cos(angle) - b * sin(angle), a * sin(angle) + b * cos(angle)], dim=-1)

Requires: a functional graph. Ensures: what is real but was computed from complex numbers is computed from real
ones; what has no pair here (a Fourier transform) stays, and is listed as unsupported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from diglot.ir.hub import Hub, is_mark, target_name

#: The real and the imaginary part; ``None`` is zero.
Pair = tuple[Any, Any]
_ATEN = torch.ops.aten
#: Ops that move values about: both parts go the same way.
_MOVES = {
    f"aten.{name}"
    for name in (
        "view.default reshape.default _unsafe_view.default unsqueeze.default squeeze.dim squeeze.default "
        "select.int slice.Tensor expand.default permute.default transpose.int flatten.using_ints "
        "unflatten.int index.Tensor index_select.default contiguous.default clone.default alias.default "
        "detach.default repeat.default to.device"
    ).split()
}


def to_real(hub: Hub) -> None:
    """Rewrite in place."""
    if not any(_is_complex(n) for n in hub.graph.nodes):
        return
    pairs = _Pairs(hub)
    for node in list(hub.graph.nodes):
        pairs.visit(node)


def _is_complex(value: Any) -> bool:
    seen = value.meta.get("val") if isinstance(value, fx.Node) else None
    return isinstance(seen, torch.Tensor) and seen.is_complex()


class _Pairs:
    """One walk over the graph: the pair of every complex value."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.known: dict[fx.Node, Pair] = {}
        self._at: fx.Node = next(iter(hub.graph.nodes))

    def visit(self, node: fx.Node) -> None:
        """Find the pair of a complex value, or replace what is read off one."""
        if node.op == "placeholder" and _is_complex(node):
            self._table(node)
        if node.op != "call_function":
            return
        self._at = node
        name = target_name(node)
        operands = [a for a in node.args if isinstance(a, fx.Node)]
        if any(_is_complex(a) and a not in self.known for a in operands):
            return
        if _is_complex(node):
            found = self._pair(node, name)
            if found is not None:
                self.known[node] = found
                self._name(found)
        elif operands and operands[0] in self.known and name in _READ:
            node.replace_all_uses_with(_READ[name](self, self.known[operands[0]]))

    def _name(self, pair: Pair) -> None:
        """Have the parts called by the author's name for the whole: ``z_real`` and ``z_imag``."""
        line = self._at.meta.get("stack_trace")
        if all(user.meta.get("stack_trace") == line for user in self._at.users):
            return  # the author gave no name to it, only to what becomes of it in the same statement
        for part, what in zip(pair, ("real", "imag"), strict=True):
            if isinstance(part, fx.Node) and part.meta.get("stack_trace") == line:
                part.meta["part"] = what

    def _table(self, node: fx.Node) -> None:
        """Split a complex constant, or a buffer, which nothing trains, into two."""
        parameter = self.hub.parameters.get(node)
        value = self.hub.constants.get(node) if parameter is None else parameter.value
        if value is None or (parameter is not None and parameter.trainable):
            return
        places = [n for n in self.hub.graph.nodes if n.op == "placeholder"]
        parts = []
        for part in (value.real, value.imag):
            with self.hub.graph.inserting_after(places[-1]):
                made = self.hub.graph.call_function(_ATEN.empty.memory_format, ())
            made.meta = {**node.meta, "val": _real(node.meta["val"])}
            self.hub.constants[made] = part.detach().clone()
            parts.append(made)
        self.known[node] = (parts[0], parts[1])

    def _pair(self, node: fx.Node, name: str) -> Pair | None:
        if name in _MOVES:
            return self._moved(node)
        if is_mark(node):
            return self._marked(node)
        make = _MAKE.get(name.rsplit(".", 1)[0])
        if make is None:
            return None
        return make(self, *(self._of(a) for a in node.args))

    def _of(self, value: Any) -> Pair:
        """Return the pair of an operand: a complex value's own, a real one with nothing beside it."""
        if isinstance(value, fx.Node):
            return self.known.get(value, (value, None))
        if isinstance(value, complex):
            return (value.real or None, value.imag or None)
        return (value, None)

    def _moved(self, node: fx.Node) -> Pair:
        def move(part: Any) -> Any:
            if part is None:
                return None
            return self._insert(
                node.target, (part, *node.args[1:]), _real(node.meta["val"]), node.kwargs
            )

        real, imaginary = self.known[node.args[0]]  # type: ignore[index]
        return move(real), move(imaginary)

    def _marked(self, node: fx.Node) -> Pair:
        """A complex argument or result of a module becomes two."""
        parts = []
        for part, what in zip(self.known[node.args[0]], ("real", "imag"), strict=True):  # type: ignore[index]
            if part is not None:
                record, kind, port = str(node.args[1]).split("|", 2)
                tag = f"{record}|{kind}|{port}.{what}" if port else f"{record}|{kind}|{what}"
                part = self._insert(node.target, (part, tag), part.meta["val"])
            parts.append(part)
        return parts[0], parts[1]

    def _insert(self, target: Any, args: tuple, value: Any, kwargs: dict | None = None) -> fx.Node:
        with self.hub.graph.inserting_before(self._at):
            made = self.hub.graph.call_function(target, args, kwargs or {})
        made.meta = {**self._at.meta, "val": value}
        return made

    # --- arithmetic on parts ------------------------------------------------------------------------

    def call(self, target: Any, *args: Any) -> fx.Node:
        """Insert an op on real parts."""
        fakes = fx.map_arg(args, lambda n: n.meta["val"])
        return self._insert(target, args, target(*fakes))

    def times(self, a: Any, b: Any) -> Any:
        """``a * b``; ``None`` is zero."""
        if a is None or b is None:
            return None
        if not isinstance(a, fx.Node):
            a, b = b, a
        if not isinstance(a, fx.Node):
            return a * b
        return self.call(_ATEN.mul.Tensor, a, b)

    def plus(self, a: Any, b: Any, sign: int = 1) -> Any:
        """``a + b`` or ``a - b``; ``None`` is zero."""
        if b is None:
            return a
        if a is None:
            return b if sign == 1 else self.minus(b)
        return self.call(_ATEN.add.Tensor if sign == 1 else _ATEN.sub.Tensor, a, b)

    def minus(self, a: Any) -> Any:
        """``-a``."""
        return None if a is None else self.call(_ATEN.neg.default, a)


def _real(value: torch.Tensor) -> torch.Tensor:
    """Return a fake of a complex value's parts."""
    return value.new_empty(value.shape, dtype=value.dtype.to_real())


def _multiply(g: _Pairs, x: Pair, y: Pair) -> Pair:
    real = g.plus(g.times(x[0], y[0]), g.times(x[1], y[1]), -1)
    return real, g.plus(g.times(x[0], y[1]), g.times(x[1], y[0]))


def _polar(g: _Pairs, radius: Pair, angle: Pair) -> Pair:
    cos, sin = g.call(_ATEN.cos.default, angle[0]), g.call(_ATEN.sin.default, angle[0])
    if target_name(radius[0]) in ("aten.ones_like.default", "aten.ones.default"):
        return cos, sin
    return g.times(radius[0], cos), g.times(radius[0], sin)


def _exponential(g: _Pairs, x: Pair) -> Pair:
    cos, sin = g.call(_ATEN.cos.default, x[1]), g.call(_ATEN.sin.default, x[1])
    if x[0] is None:
        return cos, sin
    size = g.call(_ATEN.exp.default, x[0])
    return g.times(size, cos), g.times(size, sin)


def _view_as_complex(g: _Pairs, x: Pair) -> Pair:
    return g.call(_ATEN.select.int, x[0], -1, 0), g.call(_ATEN.select.int, x[0], -1, 1)


_MAKE: dict[str, Callable[..., Pair]] = {
    "aten.view_as_complex": _view_as_complex,
    "aten.complex": lambda g, a, b: (a[0], b[0]),
    "aten.polar": _polar,
    "aten.mul": _multiply,
    "aten.add": lambda g, x, y: (g.plus(x[0], y[0]), g.plus(x[1], y[1])),
    "aten.sub": lambda g, x, y: (g.plus(x[0], y[0], -1), g.plus(x[1], y[1], -1)),
    "aten.neg": lambda g, x: (g.minus(x[0]), g.minus(x[1])),
    "aten._conj": lambda g, x: (x[0], g.minus(x[1])),
    "aten.conj_physical": lambda g, x: (x[0], g.minus(x[1])),
    "aten.resolve_conj": lambda g, x: x,
    "aten.exp": _exponential,
}


def _zeros(g: _Pairs, other: Any) -> fx.Node:
    return g.call(_ATEN.zeros_like.default, other)


def _as_real(g: _Pairs, x: Pair) -> fx.Node:
    real, imaginary = x
    real = _zeros(g, imaginary) if real is None else real
    imaginary = _zeros(g, real) if imaginary is None else imaginary
    return g.call(_ATEN.stack.default, [real, imaginary], -1)


def _absolute(g: _Pairs, x: Pair) -> fx.Node:
    return g.call(_ATEN.sqrt.default, g.plus(g.times(x[0], x[0]), g.times(x[1], x[1])))


#: Real values that are read off a complex one.
_READ: dict[str, Callable[[_Pairs, Pair], fx.Node]] = {
    "aten.view_as_real.default": _as_real,
    "aten.real.default": lambda g, x: _zeros(g, x[1]) if x[0] is None else x[0],
    "aten.imag.default": lambda g, x: _zeros(g, x[0]) if x[1] is None else x[1],
    "aten.abs.default": _absolute,
}
