"""The tracer: a Keras tensor that holds a torch tensor, so that a layer's own ``call`` runs on torch."""

from __future__ import annotations

import builtins
import operator
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from keras import KerasTensor, tree

from diglot.errors import DataDependent
from diglot.frontends.keras_tracing.sizes import Dtype, Shape, Size, Sizes, Symbolic
from diglot.literals import intended

#: Keras's default integers are 32 bits wide, PyTorch's 64: what counts or names things is int64 in torch.
_TORCH_DTYPES = {
    "int32": torch.int64,
    "int64": torch.int64,
    "uint32": torch.int64,
    "bool": torch.bool,
}


def torch_dtype(name: Any) -> torch.dtype:
    """Return the torch dtype for a Keras one (a name, or anything that Keras takes for a dtype)."""
    import keras

    if isinstance(name, torch.dtype):
        return name
    name = keras.backend.standardize_dtype(name)
    return _TORCH_DTYPES.get(name) or getattr(torch, name)


def keras_name(dtype: torch.dtype) -> str:
    """Return the name of a torch dtype in Keras, where ids and counts are 32-bit integers."""
    name = str(dtype).removeprefix("torch.")
    return "int32" if name == "int64" else name


def author_line() -> str:
    """Return ``file:line`` of the innermost frame that is neither a library's nor Diglot's."""
    place = ""
    for frame in traceback.extract_stack():
        inside = any(
            f"/{part}/" in frame.filename for part in ("torch", "keras", "diglot", "tensorflow")
        )
        if not inside and not frame.filename.startswith("<"):
            place = f"{frame.filename}:{frame.lineno}"
    return place


def no_one_program(kind: str) -> DataDependent:
    """Return the error for a model that asks for a tensor's value while it is read."""
    return DataDependent(
        f"the model's `call` needs the value of a tensor as a Python {kind}, which no single program can hold",
        where=author_line() or None,
        hint="use keras.ops.where or a mask instead of Python control flow",
    )


class Tracer(Symbolic, KerasTensor):
    """A Keras tensor whose value is ``value``, a torch tensor; sizes may be symbolic (``torch.SymInt``)."""

    # As tf.Tensor's: NumPy's numbers and arrays leave an operator to the tensor beside them.
    __array_priority__ = 100

    def __init__(self, value: torch.Tensor) -> None:
        self._held = value
        self._sparse = self._ragged = False
        self._ragged_rank = self._row_splits_dtype = None
        self.name = "tracer"
        self.record_history = False
        self._keras_mask = None

    @property
    def value(self) -> torch.Tensor:
        return self._held

    @property
    def shape(self) -> tuple:
        return Shape(self.value.shape)

    @property
    def dtype(self) -> str:
        return Dtype(keras_name(self.value.dtype))

    @property
    def ndim(self) -> int:
        return self.value.dim()

    def get_shape(self) -> tuple:
        return self.shape

    def __eq__(self, other: object) -> Any:
        """Element by element, as ``tf.Tensor`` and PyTorch do; ``KerasTensor`` leaves it to Python."""
        import keras

        numbers = (bool, int, float, np.ndarray, np.generic, torch.Tensor, KerasTensor)
        return keras.ops.equal(self, other) if isinstance(other, numbers) else NotImplemented

    __hash__ = KerasTensor.__hash__

    def __len__(self) -> int:
        return self.value.shape[0]

    def __iter__(self) -> Iterator[Tracer]:
        return iter([Tracer(part) for part in self.value.unbind(0)])

    def __getitem__(self, key: Any) -> Tracer:
        items = [_number(k) for k in key] if isinstance(key, tuple) else _number(key)
        return Tracer(
            subscript(self.value, unwrap(tuple(items) if isinstance(key, tuple) else items))
        )

    def __bool__(self) -> bool:
        raise no_one_program("bool")

    def __int__(self) -> int:
        raise no_one_program("int")

    def __index__(self) -> int:
        raise no_one_program("int")

    def __float__(self) -> float:
        raise no_one_program("float")

    def __array__(self, *_: Any) -> np.ndarray:
        raise no_one_program("array")

    def numpy(self) -> np.ndarray:
        raise no_one_program("array")

    def __repr__(self) -> str:
        return f"<Tracer shape={tuple(self.shape)} dtype={self.dtype}>"

    @classmethod
    def __torch_function__(
        cls, function: Callable, types: Any, args: tuple = (), kwargs: Any = None
    ) -> Any:
        return wrap(function(*unwrap(args), **unwrap(kwargs or {})))


def subscript(value: torch.Tensor, key: Any) -> torch.Tensor:
    """``value[key]`` as NumPy and TensorFlow mean it: slices with negative steps, too."""
    items = list(key) if isinstance(key, tuple) else [key]
    for place, item in enumerate(items):
        if isinstance(item, torch.Tensor) and item.dim() == 0 and item.dtype == torch.int64:
            return _selected(value, items, place, item)
    if not any(
        isinstance(i, builtins.slice) and isinstance(i.step, int) and i.step < 0 for i in items
    ):
        return value[tuple(items)]
    taken = sum(1 for i in items if i is not None and i is not Ellipsis)
    axis, flips, plain = 0, [], []
    for item in items:
        if item is Ellipsis:
            plain += [builtins.slice(None)] * (value.dim() - taken)
            axis += value.dim() - taken
            continue
        if isinstance(item, builtins.slice) and isinstance(item.step, int) and item.step < 0:
            start, stop, step = item.indices(value.shape[axis])
            count = max(0, -((stop - start) // -step) if stop < start else 0)
            count = len(range(start, stop, step))
            low = start + (count - 1) * step
            plain.append(builtins.slice(low, start + 1, -step) if count else builtins.slice(0, 0))
            flips.append(len([p for p in plain if not isinstance(p, int)]) - 1)
        else:
            plain.append(item)
        axis += item is not None
    return value[tuple(plain)].flip(flips)


def _number(item: Any) -> Any:
    """A part of a subscript; a scalar of TensorFlow's or NumPy's that is no part of the model as its number."""
    if isinstance(item, Size):
        return item.number
    plain = not isinstance(item, (Tracer, torch.Tensor)) and not is_variable(item)
    scalar = plain and getattr(item, "shape", None) == () and hasattr(item, "__index__")
    return operator.index(item) if scalar else item


def _selected(value: torch.Tensor, items: list, place: int, index: torch.Tensor) -> torch.Tensor:
    """``value[…, index, …]`` for a number that the data decide, which torch.export can only look up."""
    rest = subscript(value, (*items[:place], builtins.slice(None), *items[place + 1 :]))
    before = items[:place]
    if Ellipsis in before:
        axis = rest.dim() - 1 - sum(1 for i in items[place + 1 :] if not isinstance(i, int))
    else:
        axis = sum(1 for i in before if not isinstance(i, int))
    return rest.index_select(axis, index.reshape(1)).squeeze(axis)


def wrap(value: Any) -> Any:
    """Replace every torch tensor in a nested structure by a tracer."""
    if isinstance(value, torch.Tensor):
        return Tracer(value)
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, (list, tuple, dict)):
        return tree.map_structure(lambda v: Tracer(v) if isinstance(v, torch.Tensor) else v, value)
    return value


#: Says which torch tensor a Keras variable is while a model is traced; set by ``tracing``.
_variable_value: list[Callable[[Any], torch.Tensor]] = []


def as_torch(value: Any) -> Any:
    """Return a tracer's, a variable's or an array's torch tensor; anything else as it is."""
    from keras.src.backend.common.variables import Variable as KerasVariable

    if isinstance(value, Tracer):
        return value.value
    if _variable_value and (isinstance(value, KerasVariable) or is_variable(value)):
        return _variable_value[-1](value)
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Size):
        return value.number
    if isinstance(value, Sizes):
        return value.numbers
    if is_backend_tensor(value) and len(value.shape) == 0 and "float" in str(value.dtype):
        return intended(value.numpy()[()])  # a number that the author wrote, or computed
    if isinstance(value, np.generic):  # a number, as `for rate in np.linspace(0, 0.1, 12)` gives
        return value.item()
    if isinstance(value, np.ndarray) or is_backend_tensor(value):
        return constant(value)
    return value


def is_variable(value: Any) -> bool:
    """Tell whether a value is a variable of TensorFlow's own, which Keras knows nothing of."""
    tf = sys.modules.get("tensorflow")
    return hasattr(value, "assign") and tf is not None and isinstance(value, tf.Variable)


def constant(value: Any) -> torch.Tensor:
    """Return an array as a torch tensor; 32-bit integers become 64-bit ones."""
    array = np.asarray(value)
    if array.dtype.kind in "iu" and array.dtype.itemsize >= 4:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))


def is_backend_tensor(value: Any) -> bool:
    module = type(value).__module__
    return hasattr(value, "numpy") and module.startswith(("tensorflow", "jax"))


def unwrap(value: Any) -> Any:
    """Replace every tracer, variable and array in a nested structure by its torch tensor."""
    if isinstance(value, builtins.slice):
        return builtins.slice(*(as_torch(v) for v in (value.start, value.stop, value.step)))
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(unwrap(v) for v in value)
    if type(value) is list or (isinstance(value, list) and not hasattr(value, "_fields")):
        return [unwrap(v) for v in value]
    if isinstance(value, dict):
        return {k: unwrap(v) for k, v in value.items()}
    return as_torch(value)
