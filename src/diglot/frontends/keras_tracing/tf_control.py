"""TensorFlow functions that take functions, or that are more than ops: on tracers they are what they say in Python.

``tf.cond``, ``tf.while_loop`` or ``tf.map_fn`` in a layer's ``call`` may call the layer's sublayers, which no graph of
TensorFlow's can follow. A function here returns NotImplemented for what the graph of the call says as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from keras import tree
from keras.src.backend.common.variables import Variable as KerasVariable
from torch.nn import functional as F

from diglot.errors import Problem, Unsupported
from diglot.frontends.keras_tracing.sizes import Size, Sizes
from diglot.frontends.keras_tracing.tensor import (
    Tracer,
    as_torch,
    author_line,
    is_variable,
)
from diglot.frontends.tensorflow import values
from diglot.frontends.unconditional import always_dropout

MOST_STEPS = 256
"""A loop of more steps is not written out."""


def find(name: str) -> Callable | None:
    """What stands for a function of TensorFlow's, by its public name; None where its graph is all there is to it."""
    return _nothing if name.startswith("assert_") or name == "Assert" else _SHORT.get(name)


def takes_functions(name: str) -> bool:
    """Tell whether a function may reach tensors of the model that are not among its arguments."""
    return name in _CONTROL or name in ("hann_window", "hamming_window")


def refused(what: str, why: str) -> Unsupported:
    """Return the error for a function of TensorFlow's that the author calls."""
    return Unsupported([Problem(what, author_line(), "", why)])


#: Whether the model that is read says itself which of its inputs' sizes are open.
says_sizes: list[bool] = [False]


def steps(what: str, size: Any) -> int:
    """How often a loop over an axis runs. A size that only was found to vary is the example's from then on.

    Raises :class:`Unsupported` for a size that the model leaves open.
    """
    if isinstance(size, torch.SymInt) and says_sizes[-1]:
        raise refused(what, "the number of its steps is a dynamic size; fix that size")
    return int(size)


def _nothing(*args: Any, **kwargs: Any) -> None:
    """An assertion: nothing of the function that the model computes."""


# --- branches and loops ------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A host value as an array; None for what depends on the data or on a dynamic size."""
    if isinstance(value, (Tracer, Size, Sizes, KerasVariable, torch.SymBool)) or is_variable(value):
        return None
    return np.asarray(value)


def _cond(pred: Any, true_fn: Any = None, false_fn: Any = None, name: Any = None) -> Any:
    """One side where the predicate is known; else both are computed, and the predicate picks."""
    known = plain(pred)
    if known is not None:
        return true_fn() if known.any() else false_fn()
    return pick(pred, true_fn(), false_fn())


def pick(pred: Any, chosen: Any, other: Any) -> Any:
    flags = as_torch(pred)

    def pick(yes: Any, no: Any) -> Any:
        a, b = (_tensor(side) for side in (yes, no))
        if not values.same_shape(a.shape, b.shape):
            raise refused(
                "tf.cond", "its predicate depends on the data, and its two results differ in shape"
            )
        return Tracer(torch.where(flags, a, b))

    return tree.map_structure(pick, chosen, other)


def _tensor(value: Any) -> torch.Tensor:
    return torch.as_tensor(as_torch(value))


def _case(
    pred_fn_pairs: Any,
    default: Any = None,
    exclusive: bool = False,
    strict: bool = False,
    name: Any = None,
) -> Any:
    pairs = list(pred_fn_pairs.items() if isinstance(pred_fn_pairs, dict) else pred_fn_pairs)
    rest = default if default is not None else pairs.pop()[1]
    for predicate, function in reversed(pairs):
        rest = functools.partial(_cond, predicate, function, rest)
    return rest()


def _switch_case(branch_index: Any, branch_fns: Any, default: Any = None, name: Any = None) -> Any:
    items = branch_fns.items() if isinstance(branch_fns, dict) else enumerate(branch_fns)
    branches = dict(f if isinstance(f, tuple) else (i, f) for i, f in items)
    last = default if default is not None else branches[max(branches)]
    known = plain(branch_index)
    if known is not None:
        return branches.get(int(known), last)()
    if not isinstance(branch_index, Tracer):
        raise refused("tf.switch_case", "its index depends on a dynamic size")
    result = last()
    for index, function in branches.items():
        result = pick(Tracer(as_torch(branch_index) == index), function(), result)
    return result


def _while_loop(
    cond: Callable,
    body: Callable,
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    maximum_iterations: Any = None,
    name: Any = None,
) -> Any:
    """A loop whose number of steps is known, written out."""
    return written_out("tf.while_loop", cond, body, loop_vars, maximum_iterations)


def written_out(
    what: str, cond: Callable, body: Callable, loop_vars: Any, maximum_iterations: Any
) -> Any:
    """What ``loop_vars`` are after as many runs of ``body`` as ``cond`` says; it must know without the data."""
    single = not isinstance(loop_vars, (list, tuple, dict))
    state = [loop_vars] if single else loop_vars
    limit = MOST_STEPS if maximum_iterations is None else plain(maximum_iterations)
    for step in range(MOST_STEPS + 1):
        arguments = state.values() if isinstance(state, dict) else state
        going = _known(cond(*arguments)) if limit is not None else None
        if going is None:
            raise refused(
                what,
                "the number of its steps depends on the data or on a dynamic size; fix that size, or write it "
                "without a loop",
            )
        done = maximum_iterations is not None and step >= int(limit)  # type: ignore[arg-type]
        if done or not going:
            return state[0] if single else state
        made = body(*arguments)
        lone = len(state) == 1 and not isinstance(made, (list, tuple, dict))
        state = tree.pack_sequence_as(state, tree.flatten([made] if lone else made))
    raise refused(what, f"it takes more than {MOST_STEPS} steps")


def _known(predicate: Any) -> bool | None:
    """Whether a predicate holds; None where the data decide, or a size that the model leaves open."""
    sizes = values.bound(predicate.value) if isinstance(predicate, Tracer) else None
    if sizes is not None:
        return None if says_sizes[-1] else bool(sizes)
    known = plain(predicate)
    return None if known is None else bool(known.any())


# --- functions over rows -----------------------------------------------------------------------------


def _map_fn(
    fn: Callable,
    elems: Any,
    dtype: Any = None,
    parallel_iterations: Any = None,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    name: Any = None,
    fn_output_signature: Any = None,
) -> Any:
    return over_rows("tf.map_fn", fn, elems)


def _vectorized_map(
    fn: Callable, elems: Any, fallback_to_while_loop: bool = True, warn: bool = True
) -> Any:
    return over_rows("tf.vectorized_map", fn, elems)


def over_rows(what: str, function: Callable, elems: Any) -> Any:
    """Every row at once: what is done with one is done with the axis of rows kept."""
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx

    made: list[Any] = []

    def one(*rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = tree.pack_sequence_as(elems, [Tracer(row) for row in rows])
        made.append(function(given))
        return tuple(_tensor(value) for value in tree.flatten(made[-1]))

    columns = [_tensor(value) for value in tree.flatten(elems)]
    counts = elems if isinstance(elems, Counted) else None
    try:
        # Written out first: torch.export keeps a vmap as a pair of functions that no program can call.
        with disable_proxy_modes_tracing():
            program = make_fx(torch.vmap(one), _allow_non_fake_inputs=True)(*columns)
        results = program(*columns)
    except RuntimeError as error:
        if counts is not None and columns[0].shape[0] <= MOST_STEPS:
            return _stacked([function(number) for number in counts])
        text = next(iter(str(error).splitlines()), "")
        raise refused(what, f"it cannot be done for all rows at once: {text}") from error
    return tree.pack_sequence_as(made[-1], [Tracer(result) for result in results])


def _stacked(made: Any) -> Any:
    return tree.map_structure(lambda *rows: Tracer(torch.stack([_tensor(r) for r in rows])), *made)


def _scan(
    fn: Callable,
    elems: Any,
    initializer: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    infer_shape: bool = True,
    reverse: bool = False,
    name: Any = None,
) -> Any:
    made = _folded("tf.scan", fn, elems, initializer, reverse)
    made = made[::-1] if reverse else made
    return _stacked(made)


def _fold(what: str, backwards: bool) -> Callable:
    def fold(fn: Callable, elems: Any, initializer: Any = None, *_: Any, **__: Any) -> Any:
        return _folded(what, fn, elems, initializer, backwards)[-1]

    return fold


def _folded(what: str, fn: Callable, elems: Any, start: Any, backwards: bool) -> list[Any]:
    """What a function makes of the state and each row in turn, written out."""
    columns = [_tensor(value) for value in tree.flatten(elems)]
    length = steps(what, columns[0].shape[0])
    rows = [
        tree.pack_sequence_as(elems, [Tracer(column[i]) for column in columns])
        for i in (reversed(range(length)) if backwards else range(length))
    ]
    made = [rows[0]] if start is None else []
    state = rows.pop(0) if start is None else start
    for row in rows:
        state = fn(state, row)
        made.append(state)
    return made


class Counted(Tracer):
    """``tf.range`` of known numbers: a tensor of the program; a loop over it counts."""

    def __init__(self, value: torch.Tensor, numbers: np.ndarray) -> None:
        super().__init__(value)
        self._numbers = numbers

    def __iter__(self) -> Iterator[Any]:
        return iter(self._numbers)


# --- what is no op -----------------------------------------------------------------------------------


def array_class(plain: type) -> Callable:
    """What stands for ``tf.TensorArray``: one whose rows are tracers."""

    def make(dtype: Any, *args: Any, **kwargs: Any) -> Any:
        from diglot.frontends.keras_tracing.tf_calls import tf_is_building

        return plain(dtype, *args, **kwargs) if tf_is_building() else Rows(dtype)

    return make


class Rows:
    """A ``tf.TensorArray`` while a model is read: a list of tensors, by number."""

    def __init__(self, dtype: Any, rows: dict[int, Any] | None = None) -> None:
        self.dtype = dtype
        self._rows = rows or {}

    def _number(self, index: Any) -> int:
        known = plain(index)
        if known is None:
            raise refused("tf.TensorArray", "which of its rows is meant depends on the data")
        return int(known)

    def _all(self) -> list[torch.Tensor]:
        if sorted(self._rows) != list(range(len(self._rows))) or not self._rows:
            raise refused("tf.TensorArray", "it is read as a whole before every row is written")
        return [_tensor(self._rows[i]) for i in range(len(self._rows))]

    def write(self, index: Any, value: Any, name: Any = None) -> Rows:
        return Rows(self.dtype, {**self._rows, self._number(index): value})

    def read(self, index: Any, name: Any = None) -> Any:
        number = self._number(index)
        if number not in self._rows:
            raise refused("tf.TensorArray", f"its row {number} is read before it is written")
        return self._rows[number]

    def stack(self, name: Any = None) -> Tracer:
        return Tracer(torch.stack(self._all()))

    def concat(self, name: Any = None) -> Tracer:
        return Tracer(torch.cat(self._all()))

    def gather(self, indices: Any, name: Any = None) -> Tracer:
        known = plain(indices)
        if known is None:
            raise refused("tf.TensorArray", "which of its rows are meant depends on the data")
        return Tracer(torch.stack([_tensor(self.read(i)) for i in known.ravel()]))

    def unstack(self, value: Any, name: Any = None) -> Rows:
        rows = _tensor(value)
        steps("tf.TensorArray", rows.shape[0])
        return Rows(self.dtype, dict(enumerate(Tracer(row) for row in rows.unbind(0))))

    def size(self, name: Any = None) -> int:
        return len(self._rows)

    def identity(self) -> Rows:
        return self

    def mark_used(self) -> None:
        """Nothing: every row is there."""

    close = mark_used


def no_tape(*args: Any, **kwargs: Any) -> Any:
    """``tf.GradientTape`` in a layer's ``call``."""
    raise refused(
        "tf.GradientTape", "it takes gradients while the model runs, which no exported program does"
    )


def _refuse(name: str, why: str) -> Callable:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise refused(f"tf.{name}", why)

    return refuse


# --- plainer ways ------------------------------------------------------------------------------------


def _gelu(features: Any, approximate: bool = False, name: Any = None) -> Any:
    value = as_torch(features)
    return Tracer(F.gelu(value, approximate="tanh" if approximate else "none"))


def _silu(features: Any, beta: Any = 1.0, name: Any = None) -> Any:
    return Tracer(F.silu(as_torch(features))) if beta == 1.0 else NotImplemented


def _normalize(
    x: Any, axis: Any = None, epsilon: float = 1e-12, name: Any = None, dim: Any = None
) -> Any:
    axis = dim if axis is None else axis
    if type(axis) is not int:
        return NotImplemented
    return Tracer(F.normalize(as_torch(x), dim=axis, eps=epsilon**0.5))


def _dropout(
    x: Any, rate: Any = None, noise_shape: Any = None, seed: Any = None, name: Any = None, **_: Any
) -> Any:
    """Dropout whose noise is shared along the axes that ``noise_shape`` holds a 1 for."""
    value = as_torch(x)
    if type(rate) is not float or noise_shape is None:
        return NotImplemented
    sizes = [s.number if isinstance(s, Size) else s for s in noise_shape]
    if not all(isinstance(s, (int, torch.SymInt)) for s in sizes):
        return NotImplemented
    return Tracer(value * always_dropout(torch.ones(sizes, dtype=value.dtype), rate))


_PYTHON = (
    "it runs Python code on values, which no exported program can hold: write it with tf's ops"
)
_CONTROL: dict[str, Callable] = {
    "cond": _cond,
    "case": _case,
    "switch_case": _switch_case,
    "while_loop": _while_loop,
    "map_fn": _map_fn,
    "vectorized_map": _vectorized_map,
    "scan": _scan,
    "foldl": _fold("tf.foldl", False),
    "foldr": _fold("tf.foldr", True),
    **{name: _refuse(name, _PYTHON) for name in ("py_function", "numpy_function", "py_func")},
}
_SHORT: dict[str, Callable] = {
    **_CONTROL,
    "dropout": _dropout,
    "gelu": _gelu,
    "silu": _silu,
    "swish": _silu,
    "l2_normalize": _normalize,
    "print": _nothing,
    "is_tensor": lambda x: True,
}
