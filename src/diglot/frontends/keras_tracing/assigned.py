"""What a layer's ``call`` may assign to: weights of the model that are one tensor in PyTorch, too."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from keras import Layer, Metric

from diglot.errors import Problem, Unsupported
from diglot.frontends.keras_tracing.tensor import Tracer, as_torch, author_line, unwrap

if TYPE_CHECKING:
    from diglot.frontends.keras_tracing.calls import Trace
    from diglot.frontends.keras_tracing.tree import Tree

_TURNED = ("permute", "slice")
_OPERATORS = (
    "getitem neg abs add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow "
    "matmul rmatmul lt le gt ge and rand or ror"
)


def write(trace: Trace, variable: Any, value: Any) -> Tracer:
    """Write to the torch tensor that holds a Keras variable. Raises Unsupported where no one tensor does."""
    why = _refusal(trace.tree, variable)
    if why is not None:
        raise Unsupported([Problem("Variable.assign", author_line(), variable.name, why)])
    held = trace.value_of(variable)
    given = torch.as_tensor(unwrap(value), dtype=held.dtype)
    if id(variable) not in trace.tree.variables:
        return Tracer(given)
    with torch.no_grad():
        trace.value_of(variable).copy_(given)
    return Tracer(trace.value_of(variable))


def of_tensorflow(assign: Callable[[Any, Any], Tracer]) -> Iterator[tuple[type, str, Callable]]:
    """Yield the methods of TensorFlow's own variables that write or compute, and what stands for them."""
    tf = sys.modules.get("tensorflow")
    if tf is None or not hasattr(tf, "__version__"):
        return
    from tensorflow.python.ops import resource_variable_ops as variables

    kinds = (variables.ResourceVariable, variables.BaseResourceVariable)

    def add(variable: Any, delta: Any, *_: Any, **__: Any) -> Tracer:
        return assign(variable, as_torch(variable) + as_torch(delta))

    def subtract(variable: Any, delta: Any, *_: Any, **__: Any) -> Tracer:
        return assign(variable, as_torch(variable) - as_torch(delta))

    def write_to(variable: Any, value: Any, *_: Any, **__: Any) -> Tracer:
        return assign(variable, value)

    for name, made in (("assign", write_to), ("assign_add", add), ("assign_sub", subtract)):
        yield from ((kind, name, made) for kind in kinds if name in vars(kind))
    base = next(k for k in variables.ResourceVariable.__mro__ if "__getitem__" in vars(k))
    for name in (f"__{word}__" for word in _OPERATORS.split()):
        if name in vars(base):
            yield base, name, _operator(name, vars(base)[name])


def _operator(name: str, plain: Callable) -> Callable:
    """``variable[:, :-1]`` and ``variable * 2``, which would be numbers of here and now."""

    def compute(variable: Any, *args: Any) -> Any:
        from diglot.frontends.keras_tracing.tf_calls import tf_is_building

        if tf_is_building():
            return plain(variable, *args)
        return getattr(Tracer(as_torch(variable)), name)(*args)

    return compute


def _refusal(tree: Tree, variable: Any) -> str | None:
    """Return why an assignment cannot be translated, or ``None``.

    What metrics gather and what a seed counts is no part of what a model computes: these assignments are left out.
    """
    place = tree.variables.get(id(variable))
    if place is None:
        path = getattr(variable, "path", "")  # TensorFlow's own have none
        if "seed_generator" in path or id(variable) in _of_metrics(tree):
            return None
        return "the variable is no weight of the model: make it with add_weight, or hold it by an attribute"
    entry = tree.entries[place]
    if entry.combine is not None or any(step[0] not in _TURNED for step in entry.steps):
        return "the weight is a part of PyTorch's, or made of several: it is no one tensor there"
    return None


def _of_metrics(tree: Tree) -> set[int]:
    """The ids of the variables in which the model's layers gather metrics."""
    found: set[int] = set()
    for layer in tree.layers.values():
        if isinstance(layer, Layer):
            held = [*layer._metrics, *(v for v in vars(layer).values() if isinstance(v, Metric))]
            found.update(id(variable) for metric in held for variable in metric.variables)
    return found
