"""Padding."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call, to_ast
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _widths(op: OpCall) -> list[list[Any]]:
    """Return ``[before, after]`` for each of the target's axes. PyTorch lists them from the last
    axis.
    """
    given = list(op["pad"] if "pad" in op.args else op["padding"])
    widths: list[list[Any]] = [[0, 0] for _ in range(op.fake("self").dim())]
    for i in range(len(given) // 2):
        axis = op.axis(-1 - i)
        widths[axis] = [given[2 * i], given[2 * i + 1]]
    return widths


def _mode(op: OpCall) -> str:
    if "mode" in op.args:
        return op["mode"]
    name = op.rule.op
    return (
        "reflect" if "reflection" in name else "replicate" if "replication" in name else "constant"
    )


def _cropped(op: OpCall, x: ast.expr, widths: list[list[Any]]) -> ast.expr:
    """Negative padding cuts off."""
    cuts = [[max(-w, 0) if isinstance(w, int) else 0 for w in pair] for pair in widths]
    while cuts and not any(cuts[-1]):
        cuts.pop()
    if not cuts:
        return x
    slices = [
        ast.Slice(to_ast(low) if low else None, to_ast(-high) if high else None, None)
        for low, high in cuts
    ]
    return ast.Subscript(x, ast.Tuple(slices, ast.Load()), ast.Load())


def _pad(op: OpCall) -> ast.expr:
    widths = _widths(op)
    x = _cropped(op, op.expr("self"), widths)
    widths = [[max(w, 0) if isinstance(w, int) else w for w in pair] for pair in widths]
    if all(w == 0 for pair in widths for w in pair):
        return x
    pairs = to_ast(tuple(tuple(op.value(w) for w in pair) for pair in widths))
    mode = _mode(op)
    if mode in ("replicate", "circular"):
        return E("f(x, widths)", f=op.helper(f"pad_{mode}"), x=x, widths=pairs)
    if mode == "reflect":
        return op.ops("pad", x, pairs, mode="reflect")
    value = op.get("value", 0)
    if not isinstance(value, (int, float, bool)):
        raise op.refuse("it pads with a value that is only known while the model runs")
    options = {} if value == 0 else {"constant_values": value}
    return op.ops("pad", x, pairs, **options)


def _layer(op: OpCall) -> ast.expr:
    """``layers.ZeroPadding2D`` where it says the same."""
    widths = _widths(op)
    rank = len(widths) - 2
    fits = rank in (1, 2, 3) and widths[0] == widths[-1] == [0, 0] and _mode(op) == "constant"
    fits = fits and op.get("value", 0) == 0
    if not fits or any(not isinstance(w, int) or w < 0 for pair in widths for w in pair):
        raise op.refuse("Keras has no layer for it")
    inner = tuple(tuple(pair) for pair in widths[1:-1])
    padding: Any = inner[0] if rank == 1 else inner
    if len({w for pair in inner for w in pair}) == 1:
        padding = inner[0][0]
    return call(f"layers.ZeroPadding{rank}D", padding)


def _as_tensorflow(op: OpCall) -> ast.expr:
    """Where no layer pads so itself (passes/same_padding.py)."""
    window, stride = (to_ast(tuple(int(n) for n in op[name])) for name in ("window", "stride"))
    made = E(
        "f(x, window, stride)",
        f=op.helper("padded_same"),
        x=op.expr("x"),
        window=window,
        stride=stride,
    )
    if op["value"]:
        made.keywords = [ast.keyword("value", to_ast(op["value"]))]  # type: ignore[attr-defined]
    return made


def _samples(*calls: str, x: str = "2,3,5,6") -> tuple[Sample, ...]:
    return tuple(Sample(c, {"x": x}, channels_last=x.count(",") == 3) for c in calls)


_FIELDS: dict[str, Any] = {"layout": "axis", "noun": "padded"}

register(
    __name__,
    Rule(
        "aten.pad.default",
        _pad,
        torch="F.pad(x, (1, 2))",
        layer=_layer,
        samples=_samples(
            "F.pad(x, (1, 2))",
            "F.pad(x, (1, 2, 0, 3), value=0.5)",
            "F.pad(x, (-1, 2, 1, -2))",
            "F.pad(x, (1, 2, 2, 1), mode='reflect')",
            "F.pad(x, (1, 2, 2, 1), mode='replicate')",
            "F.pad(x, (1, 2, 2, 1), mode='circular')",
        ),
        **_FIELDS,
    ),
    Rule(
        "aten.constant_pad_nd.default",
        _pad,
        torch="F.pad(x, (1, 2))",
        layer=_layer,
        samples=_samples("torch.constant_pad_nd(x, (1, 2, 3, 0), 0.5)"),
        **_FIELDS,
    ),
    Rule(
        "diglot.pad_same.default",
        _as_tensorflow,
        torch="pad_same(x, (3, 3), (2, 2))",
        layout="spatial",
        noun="padded",
    ),
    *(
        Rule(
            f"aten.{kind}_pad{rank}d.default",
            _pad,
            torch=f"F.pad(x, pads, mode='{mode}')",
            samples=_samples(
                f"torch.ops.aten.{kind}_pad{rank}d(x, {list(range(1, 1 + 2 * rank))[::-1]})",
                x=("2,4,7", "2,4,6,7", "2,3,7,8,9")[rank - 1],
            ),
            **_FIELDS,
        )
        for kind, mode in (("reflection", "reflect"), ("replication", "replicate"))
        for rank in (1, 2, 3)
    ),
)
