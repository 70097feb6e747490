"""TensorFlow functions that a layer's ``call`` uses (``tf.shape``, ``tf.matmul``), on tracers.

Each call is traced by itself into a graph, and the graph's ops are run on torch tensors by the table of the TensorFlow
frontend. So whatever surrounds them (sublayers, ``training``, ``keras.ops``) stays what it is. Sizes stay sizes: what
``tf.shape`` gives is a :class:`~.sizes.Sizes`, and its items are ints or :class:`~.sizes.Size`.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from keras import tree
from keras.src.backend.common.variables import Variable as KerasVariable

from diglot.errors import BadInput, Problem, Unsupported
from diglot.frontends.keras_ops.creation import dtype_of
from diglot.frontends.keras_tracing import sizes, tf_control, tf_places, tf_signal
from diglot.frontends.keras_tracing.mode import Mode, combined
from diglot.frontends.keras_tracing.sizes import Size, Sizes, host
from diglot.frontends.keras_tracing.tensor import (
    Tracer,
    as_torch,
    author_line,
    constant,
    is_variable,
    subscript,
    unwrap,
)
from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.graph import Graph, Node, Out
from diglot.frontends.tensorflow.ops import registry
from diglot.frontends.tensorflow.values import Constant, Precision, Refused

_MOST_STEPS = 256
"""A loop of more steps is not written out."""


# --- which calls are taken ---------------------------------------------------------------------------


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Let TensorFlow's public functions take tracers for the length of the context."""
    tf = sys.modules.get("tensorflow")
    if tf is None or not hasattr(tf, "__version__"):
        yield
        return
    eagerly = tf.config.functions_run_eagerly()
    replaced = [
        *tf_places.everywhere(_replacements()),
        (tf, "TensorArray", tf.TensorArray, tf_control.array_class(tf.TensorArray)),
        (tf, "GradientTape", tf.GradientTape, tf_control.no_tape),
    ]
    item = tf.Tensor.__getitem__
    try:
        tf.config.run_functions_eagerly(True)  # a tf.function of the author's is plain Python, too
        tf.Tensor.__getitem__ = lambda tensor, key: _item(item, tensor, key)
        for place, name, _, traced in replaced:
            setattr(place, name, traced)
        sizes.as_tensorflow.append(_symbol)
        with tf_places.dispatched(_dispatched):
            yield
    finally:
        sizes.as_tensorflow.pop()
        for place, name, function, _ in replaced:
            setattr(place, name, function)
        tf.Tensor.__getitem__ = item
        tf.config.run_functions_eagerly(eagerly)


def instead_of(function: Callable) -> Callable:
    """What stands for a function of TensorFlow's that was taken before (``activation=tf.nn.gelu``)."""
    if not getattr(function, "__module__", "").startswith("tensorflow"):
        return function
    return next((traced for _, _, f, traced in _replacements() if f is function), function)


def _item(plain: Callable, tensor: Any, key: Any) -> Any:
    """``table[:, :size]`` of a constant."""
    if any(isinstance(part, (Size, Tracer)) for part in _parts(key)):
        return Tracer(subscript(constant(tensor), unwrap(key)))
    return plain(tensor, key)


def _parts(key: Any) -> Iterator[Any]:
    for part in key if isinstance(key, tuple) else (key,):
        yield from (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)


@functools.cache
def _replacements() -> list[tf_places.Place]:
    registry.load()
    return tf_places.public(_traced)


def _dispatched(function: Callable, args: Any, kwargs: Any) -> Any:
    """A call that TensorFlow itself refused, by whatever way the function was come by (a default, a partial)."""
    leaves = tree.flatten((args, kwargs))
    if not any(isinstance(leaf, (Tracer, Size, Sizes)) for leaf in leaves):
        return NotImplemented
    return _traced(function.__name__, function)(*args, **kwargs)


def _traced(name: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if tf_is_building():
            return function(*args, **kwargs)  # within a function that is being traced
        short = tf_control.find(name) or tf_signal.SHORT.get(name)
        if short is not None and tf_control.takes_functions(name):
            return short(*args, **kwargs)
        leaves = tree.flatten((args, kwargs))
        if any(isinstance(leaf, Mode) for leaf in leaves):
            made = combined(name, args, kwargs)
            if made is not NotImplemented:
                return made
        if any(
            isinstance(leaf, (Tracer, Size, Sizes, KerasVariable, torch.SymInt))
            or is_variable(leaf)
            for leaf in leaves
        ):
            made = short(*args, **kwargs) if short is not None else NotImplemented
            return _run(name, function, args, kwargs) if made is NotImplemented else made
        if name == "range":
            made = _run(name, function, args, kwargs, as_tensor=True)
            return tf_control.Counted(as_torch(made), function(*args, **kwargs).numpy())
        return function(*args, **kwargs)

    return call


def tf_is_building() -> bool:
    """Whether TensorFlow is tracing a function, of which nothing here is any concern."""
    from tensorflow.python.eager import context  # the public name is replaced, too

    return not context.executing_eagerly()


# --- one call ----------------------------------------------------------------------------------------


def _run(name: str, function: Callable, args: tuple, kwargs: dict, as_tensor: bool = False) -> Any:
    """Call a function of TensorFlow on tracers."""
    import tensorflow as tf

    from diglot.frontends.tensorflow_graph import read_concrete

    given: list[Any] = []
    specs: list[Any] = []

    def take(leaf: Any) -> Any:
        held = _held(leaf)
        if held is None:
            return leaf
        array = values.array_of(held)
        if array is not None:
            return array.astype(np.int32)
        given.append(held)
        specs.append(_spec(held))
        return _Place(len(specs) - 1)

    structure = tree.map_structure(take, (args, kwargs))

    closed: list[tuple[Any, Any]] = []

    def again(*tensors: Any) -> Any:
        _building.append((tf.compat.v1.get_default_graph(), closed))
        positional, named = tree.map_structure(
            lambda leaf: tensors[leaf.number] if isinstance(leaf, _Place) else leaf, structure
        )
        made = function(*positional, **named)
        return tree.map_structure(lambda v: _symbol(v) if isinstance(v, Tracer) else v, made)

    where = author_line()
    depth = len(_building)
    try:
        concrete = tf.function(again, autograph=False).get_concrete_function(*specs)
        source = read_concrete(concrete, fed=[placeholder for _, placeholder in closed])
    except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
        text = str(error).strip().splitlines()[-1] if str(error).strip() else repr(error)
        raise BadInput(
            f"TensorFlow cannot trace tf.{name} as the model calls it: {text}", where=where
        ) from error
    finally:
        del _building[depth:]
    given += [_held(value) for value, _ in closed]
    results = evaluate(source.graph, given, f"tf.{name}", where, as_tensor)
    if any(isinstance(r, tf.__internal__.CompositeTensor) for r in _leaves(concrete)):
        raise tf_control.refused(f"tf.{name}", "it makes sparse or ragged tensors: use dense ones")
    flat = iter([_seen(result) for result in results])
    return tf.nest.map_structure(lambda _: next(flat), concrete.structured_outputs)


def _leaves(concrete: Any) -> list[Any]:
    import tensorflow as tf

    return tf.nest.flatten(concrete.structured_outputs)


_building: list[tuple[Any, list[tuple[Any, Any]]]] = []
"""The graphs of the calls that are being traced, each with the tracers that functions in it have closed over and
their placeholders."""


def _symbol(value: Any) -> Any:
    """A tracer, or a size, as TensorFlow sees it: a placeholder in the graph that is being traced.

    Raises Unsupported where none is: TensorFlow's own code cannot compute with a tracer.
    """
    import tensorflow as tf

    if not _building:
        raise tf_places.Unfollowed([_unfollowed()])
    graph, closed = _building[-1]
    known = next((placeholder for held, placeholder in closed if held is value), None)
    if known is not None:
        return known
    spec = _spec(_held(value))
    with graph.as_default():
        closed.append((value, tf.compat.v1.placeholder(spec.dtype, spec.shape)))
    return closed[-1][1]


def _unfollowed() -> Problem:
    why = "its tensors cannot be followed through this function of TensorFlow's: write it with tf's ops, or keras.ops"
    return Problem(tf_places.called(), author_line(), "", why)


class _Place:
    """Stands for a tensor among the arguments of a call."""

    def __init__(self, number: int) -> None:
        self.number = number


def _held(leaf: Any) -> Any:
    """The torch tensor or the sizes that an argument is; None for anything else."""
    if isinstance(leaf, Size):
        return leaf.number
    if isinstance(leaf, Sizes):
        return leaf.numbers
    if isinstance(leaf, torch.SymInt):
        return leaf
    plain = isinstance(leaf, (Tracer, KerasVariable, torch.Tensor)) or is_variable(leaf)
    return as_torch(leaf) if plain else None


def _spec(value: Any) -> Any:
    import tensorflow as tf

    if isinstance(value, list):
        return tf.TensorSpec([len(value)], tf.int32)
    if not isinstance(value, torch.Tensor):
        return tf.TensorSpec([], tf.int32)
    name = str(value.dtype).removeprefix("torch.")
    if value.dtype == dtype_of(None):
        name = "float32"  # what the model is written in, whatever it is run in
    name = "complex64" if name == "complex128" else name
    shape = [size if isinstance(size, int) else None for size in value.shape]
    return tf.TensorSpec(shape, "int32" if name == "int64" else name)


def _seen(value: Any) -> Any:
    """A result as the model's code sees it."""
    if isinstance(value, torch.Tensor):
        return Tracer(value)
    if isinstance(value, Constant):
        return value.array
    return host(value)


def evaluate(
    graph: Graph, given: Sequence[Any], what: str, where: str, as_tensor: bool = False
) -> list[Any]:
    """The outputs of a graph on values (see ``tensorflow.values``). Raises Unsupported for what has no rule.

    ``as_tensor``: a result that could be computed here and now is a tensor of the program all the same.
    """
    precision = Precision()
    precision.dtype = dtype_of(None)
    try:
        return _outputs(graph, given, precision, as_tensor)
    except Refused as error:
        raise Unsupported([Problem(what, where, "", str(error))]) from error


def _outputs(
    graph: Graph, given: Sequence[Any], precision: Precision, as_tensor: bool = False
) -> list[Any]:
    known: dict[Out, Any] = {Out(n): v for n, v in zip(graph.inputs, given, strict=True)}
    for node in graph.order():
        if node.op == "Input":
            continue
        arguments = [known[out] for out in node.inputs]
        try:
            result = _node(node, arguments, precision, as_tensor)
        except (Refused, RuntimeError, TypeError, ValueError, IndexError) as error:
            text = next(iter(str(error).splitlines()), type(error).__name__)
            inner = isinstance(error, Refused) and text.startswith("the TensorFlow op")
            raise Refused(text if inner else f"the TensorFlow op {node.op}: {text}") from error
        results = result if isinstance(result, tuple) else (result,)
        known.update((Out(node, i), r) for i, r in enumerate(results))
    return [known[out] for out in graph.outputs]


def _node(node: Node, arguments: list[Any], precision: Precision, as_tensor: bool) -> Any:
    if node.op == "Const":
        return Constant(node.value)
    if node.op == "Variable":
        return torch.from_numpy(np.array(node.attrs["variable"].value))
    if node.op in ("If", "StatelessIf"):
        known = values.array_of(arguments[0])
        if known is None:
            raise Refused("its predicate depends on the data: use tf.where")
        side = node.attrs["then_branch" if known.any() else "else_branch"]
        return tuple(_outputs(side, arguments[1:], precision))
    if node.op in ("While", "StatelessWhile"):
        return _loop(node, arguments, precision)
    if node.op not in registry.TABLE:
        raise Refused(registry.REFUSED.get(node.op, "there is no rule for it yet"))
    call = registry.Call(node.name, node.op, node.attrs, precision)
    if as_tensor and node.op == "Range":
        return registry.TABLE["Range"].run(call, *arguments)
    return registry.evaluate(call, arguments)


def _loop(node: Node, state: list[Any], precision: Precision) -> tuple[Any, ...]:
    """A loop whose number of steps is known, written out."""
    for _ in range(_MOST_STEPS):
        (going,) = _outputs(node.attrs["cond"], state, precision)
        known = values.array_of(going)
        if known is None:
            raise Refused(
                "the number of its steps depends on the data or on a dynamic size; fix that size, or write it "
                "without a loop"
            )
        if not known.any():
            return tuple(state)
        state = _outputs(node.attrs["body"], state, precision)
    raise Refused(f"it takes more than {_MOST_STEPS} steps")
