"""How a weight that no standard layer holds starts: the initializer a person would have written.

The weight file fills every weight; a program that is built without it starts as the author's model did: ones stay
ones, a causal mask stays a causal mask, and what was drawn at random is drawn again with the same spread.
"""

from __future__ import annotations

import ast
import math
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from diglot.codegen import author
from diglot.codegen.constants import band_limits, number
from diglot.codegen.expr import E, call, to_ast

if TYPE_CHECKING:
    from diglot.codegen.program import Program

_USUAL = (0.02, 0.01, 0.05, 0.1, 1.0)  # spreads that people write
_SAMPLE = 1 << 20  # values that are looked at for a spread


class Initial:
    """Chooses initializers, one for all weights that are the same attribute of one class."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.unknown: list[str] = []  # tables that only the weight file knows
        self._peers: dict[Any, list[fx.Node]] | None = None

    def initializer(self, node: fx.Node, perm: list[int] | None, lambdas: bool = True) -> ast.expr:
        """Return the initializer of a weight that is stored with its axes in the order ``perm``.

        ``lambdas=False`` keeps to what Keras can write to a configuration.
        """
        parameter = self.program.hub.parameters[node]
        peers = self._peers_of(node)
        values = [self.program.hub.parameters[p].value.detach().cpu() for p in peers]
        own = parameter.value.detach().cpu()
        made = self._constant(node, own, peers, values)
        if made is None and not parameter.trainable and lambdas:
            made = _pattern(own.permute(perm) if perm else own)
            self._carry(made)
        if made is None:
            said = self._author_said(node)
            if said == "ones" or (said and not parameter.trainable):
                made = to_ast(said)
            elif not parameter.trainable or not own.dtype.is_floating_point:
                self.unknown.append(self.program.weights.short_name(node))
                made = to_ast("zeros")
            else:
                made = _random(parameter.name, values)
        return made

    def sentence(self) -> str | None:
        """Say which tables a program without its weight file lacks."""
        found = ", ".join(f"``{name}``" for name in dict.fromkeys(self.unknown))
        return (
            f"Tables that are not trained and come from that file alone: {found}."
            if found
            else None
        )

    def _carry(self, made: ast.expr | None) -> None:
        if isinstance(made, ast.Name):
            self.program.helpers.add(made.id)

    def _constant(
        self, node: fx.Node, own: torch.Tensor, peers: list[fx.Node], values: list[torch.Tensor]
    ) -> ast.expr | None:
        """Return the initializer of a weight that is one number everywhere, in every peer."""
        numbers = [_only_value(v) for v in values]
        if any(n is None for n in numbers):
            return None
        mine = _only_value(own)
        if all(n == mine for n in numbers):
            drawn = own.numel() == 1 and isinstance(mine, float)  # or trained: no digits to keep
            return _filled(_rounded(mine, 4) if drawn else mine)
        if all(self._is_argument(p, n) for p, n in zip(peers, numbers, strict=True)):
            return call("keras.initializers.Constant", mine)  # a constructor argument of the class
        return _filled(_rounded(sum(map(float, numbers)) / len(numbers), 2))

    def _is_argument(self, node: fx.Node, value: Any) -> bool:
        """Tell whether a number was given to the constructor of the module that holds a weight."""
        module = self.program.modules.get(self._anchor(node)[0])
        return module is not None and value in author.constructor_values(module).values()

    def _anchor(self, node: fx.Node) -> tuple[str, str]:
        """Return the path of the author's own module that holds a weight, and the rest of its name."""
        name = self.program.hub.parameters[node].name
        path = name.rpartition(".")[0]
        while path and _is_torch(self.program.modules.get(path)):
            path = path.rpartition(".")[0]
        return path, name[len(path) + 1 :] if path else name

    def _peers_of(self, node: fx.Node) -> list[fx.Node]:
        """Return the weights that are the same attribute of the same class; items of a list are one attribute."""
        if self._peers is None:
            self._peers = {}
            for other in self.program.hub.parameters:
                self._peers.setdefault(self._place(other), []).append(other)
        return self._peers[self._place(node)]

    def _place(self, node: fx.Node) -> Any:
        path, rest = self._anchor(node)
        return type(self.program.modules.get(path)), re.sub(r"\b\d+\b", "*", rest)

    def _author_said(self, node: fx.Node) -> str | None:
        """Return what the author's constructor fills a weight with: ``ones`` or ``zeros``."""
        path, rest = self._anchor(node)
        module = self.program.modules.get(path)
        return author.filled_with(type(module), rest) if module is not None else None


def _is_torch(module: Any) -> bool:
    return module is not None and type(module).__module__.startswith("torch.nn")


def _only_value(value: torch.Tensor) -> Any:
    """Return the number that fills a tensor, or ``None``."""
    flat = value.flatten()
    return number(flat[0]) if flat.numel() and bool((flat == flat[0]).all()) else None


def _filled(value: Any) -> ast.expr:
    name = {0: "zeros", 1: "ones"}.get(value)
    return to_ast(name) if name else call("keras.initializers.Constant", value)


def _pattern(value: torch.Tensor) -> ast.expr | None:
    """Return the initializer of a table with a known form: a triangle, positions, frequencies, sinusoids."""
    return _triangle(value) or _counted(value) or _frequencies(value) or _sinusoids(value)


def _triangle(value: torch.Tensor) -> ast.expr | None:
    """Return the initializer of one number between two diagonals of a matrix, and zero elsewhere."""
    filled = value != 0
    limits = band_limits(filled)
    number_ = _only_value(value[filled]) if limits else None
    if limits is None or number_ is None:
        return None
    low, high = limits
    made = E("ops.ones(shape, dtype)")
    if number_ != 1:
        made = E("ops.full(shape, c, dtype)", c=to_ast(number_))
    if high is not None:
        made = call("ops.tril", made, *([high] if high else []))
    if low is not None:
        made = call("ops.triu", made, *([low] if low else []))
    return E("lambda shape, dtype=None: made", made=made)


def _counted(value: torch.Tensor) -> ast.expr | None:
    """Return the initializer of 0, 1, 2, … along the only axis."""
    length = value.numel()
    if length < 2 or length != max(value.shape) or value.dtype == torch.bool:
        return None
    if not torch.equal(value.flatten().double(), torch.arange(length).double()):
        return None
    if value.dim() == 1:
        return E("lambda shape, dtype=None: ops.arange(shape[0], dtype=dtype)")
    axis = to_ast(value.shape.index(length))
    return E(
        "lambda shape, dtype=None: ops.reshape(ops.arange(shape[a], dtype=dtype), shape)", a=axis
    )


def _frequencies(value: torch.Tensor) -> ast.expr | None:
    """Return the initializer of rotary frequencies, which fall from 1 to nearly one part in ``base``."""
    if value.dim() != 1 or len(value) < 2 or not value.dtype.is_floating_point:
        return None
    if value[0] != 1 or not 0 < float(value[1]) < 1:
        return None
    base = _rounded(float(value[1]) ** -len(value), 3)
    wanted = base ** -(torch.arange(len(value)).double() / len(value))
    if not torch.allclose(value.double(), wanted, rtol=1e-5):
        return None
    made = "lambda shape, dtype=None: base ** -(ops.arange(shape[0], dtype=dtype) / shape[0])"
    return E(made, base=to_ast(base))


def _sinusoids(value: torch.Tensor) -> ast.expr | None:
    """Return the helper that makes the sines and cosines of "Attention Is All You Need", if these are they."""
    if value.dim() < 2 or not value.dtype.is_floating_point or value.shape[-1] % 2:
        return None
    length, width = max(value.shape[:-1]), value.shape[-1]
    if value.numel() != length * width or length < 2:
        return None
    rates = torch.exp(torch.arange(0, width, 2).double() * (-math.log(10000.0) / width))
    angles = torch.arange(length).double()[:, None] * rates
    pairs = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
    close = torch.allclose(value.reshape(length, width).double(), pairs, atol=1e-3)
    return ast.Name("sinusoids", ast.Load()) if close else None


def _random(name: str, values: list[torch.Tensor]) -> ast.expr:
    """Return the initializer of weights that were drawn at random, or trained: by their spread."""
    flat = torch.cat([v.flatten()[:_SAMPLE].double() for v in values])
    mean, spread = float(flat.mean()), float(flat.std())
    if name.rpartition(".")[2].endswith("bias") and values[0].dim() == 1:
        return to_ast("zeros")
    if abs(mean) > 2 * spread:  # about one number: a scale after training
        return _filled(_rounded(mean, 1))
    return call("keras.initializers.RandomNormal", stddev=_natural(spread, flat.numel(), values))


def _natural(spread: float, count: int, values: list[torch.Tensor]) -> float:
    """Return the spread as a person would give it: a usual one that the sample allows, else two digits."""
    # Three of the standard errors that a spread from so many numbers has, relative to it.
    allowed = 3 / math.sqrt(2 * count)
    near = min(_USUAL, key=lambda u: abs(math.log(spread / u)))
    if abs(spread / near - 1) <= max(allowed, 0.02):
        return near
    return _rounded(spread, 2)


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
