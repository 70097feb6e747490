"""Loops and branches of ``keras.ops`` on tracers: their functions may call sublayers, and are written out.

A loop runs as often as it does for the sizes of the example; where that depends on the data or on a size that is open
it is refused. Source: ``keras.ops.scan``, ``fori_loop``, ``while_loop``, ``associative_scan``, ``map``,
``vectorized_map`` and ``switch`` of Keras 3.15.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from keras import tree

from diglot.frontends.keras_tracing import tf_control
from diglot.frontends.keras_tracing.tensor import Tracer, as_torch
from diglot.frontends.keras_tracing.tf_control import refused


def _while_loop(
    cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    many = isinstance(loop_vars, (tuple, list))
    state = tuple(loop_vars) if many else (loop_vars,)
    made = tf_control.written_out("keras.ops.while_loop", cond, body, state, maximum_iterations)
    return made if many else made[0]


def _fori_loop(lower: Any, upper: Any, body_fun: Callable, init_val: Any) -> Any:
    state = (lower, init_val)
    return tf_control.written_out(
        "keras.ops.fori_loop",
        lambda i, _: i < upper,
        lambda i, value: (i + 1, body_fun(i, value)),
        state,
        None,
    )[1]


def _steps(what: str, columns: list[torch.Tensor], axis: int = 0, length: Any = None) -> int:
    found = columns[0].shape[axis] if columns else length
    found = tf_control.steps(what, found)
    if found > tf_control.MOST_STEPS:
        raise refused(what, f"it takes more than {tf_control.MOST_STEPS} steps")
    return found


def _scan(
    f: Callable,
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: Any = 1,
) -> Any:
    columns = [torch.as_tensor(as_torch(value)) for value in tree.flatten(xs) if value is not None]
    places = range(_steps("keras.ops.scan", columns, length=length))
    carry, made = init, []
    for i in reversed(places) if reverse else places:
        row = tree.pack_sequence_as(xs, [Tracer(c[i]) for c in columns]) if columns else None
        carry, result = f(carry, row)
        made.append(result)
    made = made[::-1] if reverse else made
    if not made or made[0] is None:
        return carry, None
    return carry, tree.map_structure(_stacked, *made)


def _stacked(*rows: Any) -> Tracer:
    return Tracer(torch.stack([torch.as_tensor(as_torch(row)) for row in rows]))


def _associative_scan(f: Callable, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    columns = [torch.as_tensor(as_torch(value)) for value in tree.flatten(elems)]
    count = _steps("keras.ops.associative_scan", columns, axis)
    rows = [
        tree.pack_sequence_as(elems, [Tracer(c.narrow(axis, i, 1)) for c in columns])
        for i in (reversed(range(count)) if reverse else range(count))
    ]
    made = [rows[0]]
    for row in rows[1:]:
        made.append(f(made[-1], row))
    made = made[::-1] if reverse else made
    return tree.map_structure(
        lambda *parts: Tracer(torch.cat([as_torch(part) for part in parts], dim=axis)), *made
    )


def _map(f: Callable, xs: Any) -> Any:
    return tf_control.over_rows("keras.ops.map", f, xs)


def _vectorized_map(function: Callable, elements: Any) -> Any:
    return tf_control.over_rows("keras.ops.vectorized_map", function, elements)


def _switch(index: Any, branches: Any, *operands: Any) -> Any:
    *before, last = [lambda f=function: f(*operands) for function in branches]
    known = tf_control.plain(index)
    if known is not None:
        return [*before, last][min(max(int(known), 0), len(before))]()
    if not isinstance(index, Tracer):
        raise refused("keras.ops.switch", "its index depends on a dynamic size")
    result = last()
    for place, function in reversed(list(enumerate(before))):
        result = tf_control.pick(Tracer(as_torch(index) <= place), function(), result)
    return result


CONTROL: dict[str, Callable] = {
    "while_loop": _while_loop,
    "fori_loop": _fori_loop,
    "scan": _scan,
    "associative_scan": _associative_scan,
    "map": _map,
    "vectorized_map": _vectorized_map,
    "switch": _switch,
}
