"""Marks: identity ops that survive ``torch.export`` and say where modules begin and end.

``torch.export`` keeps ``nn_module_stack`` but forgets which value was passed as which parameter, and it cannot
tell a function that was handed to a module (``residual(x, lambda x: self.attention(x, x, x, mask))``) from the
module's own code. A mark on each tensor that enters or leaves keeps both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from diglot.ir.leaves import is_leaf

_LIBRARY = torch.library.Library("diglot", "FRAGMENT")
_LIBRARY.define("mark(Tensor(a) x, str tag) -> Tensor(a)")
_LIBRARY.impl("mark", lambda x, tag: x.view_as(x), "CompositeExplicitAutograd")


@dataclasses.dataclass
class CallRecord:
    """What was seen of one module call while tracing."""

    index: int
    path: str
    cls: type
    functions: dict[
        str, list[str]
    ]  # parameter that takes a function -> the function's own parameters
    output_structure: Any = None


def _is_return_type(value: Any) -> bool:
    """Tell whether a value is what ``torch.max(x, dim)`` and its like return: a tuple with names of torch's own."""
    return isinstance(value, tuple) and type(value).__module__ == "torch.return_types"


def map_tensors(
    value: Any, change: Callable[[str, torch.Tensor], torch.Tensor], path: str = ""
) -> Any:
    """Replace every tensor in a nested structure, giving ``change`` its path (``a``, ``a.0``, ``a.key``).

    Tuples, named tuples, lists, dicts (and their subclasses, such as the outputs of transformers) and
    dataclasses are entered; anything else is returned as it is.
    """
    join = f"{path}." if path else ""
    if isinstance(value, torch.Tensor):
        return change(path, value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(
            *(
                map_tensors(v, change, f"{join}{k}")
                for k, v in zip(value._fields, value, strict=True)
            )
        )
    if type(value) in (tuple, list) or _is_return_type(value):
        return type(value)(map_tensors(v, change, f"{join}{i}") for i, v in enumerate(value))
    if isinstance(value, dict):
        changed = {k: map_tensors(v, change, f"{join}{k}") for k, v in value.items()}
        if type(value) is dict:
            return changed
        if dataclasses.is_dataclass(value):  # transformers' ModelOutput
            return type(value)(**changed)
        for key, item in changed.items():
            value[key] = item
        return value
    return value


def structure_of(value: Any) -> Any:
    """Describe a returned structure as ``"tensor" | ["list", [...]] | ["dict", {...}] | None``."""
    if isinstance(value, torch.Tensor):
        return "tensor"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ["dict", {k: structure_of(v) for k, v in zip(value._fields, value, strict=True)}]
    if type(value) in (tuple, list) or _is_return_type(value):
        return ["list", [structure_of(v) for v in value]]
    if isinstance(value, dict):
        return ["dict", {str(k): structure_of(v) for k, v in value.items()}]
    return None


def _positional_names(module: nn.Module, count: int) -> list[str]:
    """Name the first ``count`` positional arguments of a module's ``forward``."""
    try:
        parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    star = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "input")
    names += [f"{star}_{i}" for i in range(len(names), count)]
    return names[:count]


def _parameter_names(function: Callable) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


class _Handed:
    """A sibling module that was handed to a module: its calls are marked, all else is the module's own."""

    def __init__(self, module: nn.Module, function: Callable) -> None:
        self._module = module
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Marker:
    """Installs hooks that mark what enters and leaves each module call."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.records: dict[int, CallRecord] = {}
        self.active = True
        self.multiples: dict[tuple[str, int], int] = {}
        """Of what the size of an input's axis has to be a multiple, or the model fails."""
        self._counter = itertools.count()
        self._stack: list[int] = []
        self._second = 0  # the first number of a second trace's calls

    def restart(self) -> None:
        """Forget what was seen, before the model is traced again."""
        self.records.clear()
        self._counter = itertools.count()
        self._stack.clear()

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Mark another trace of the model within the block; what is seen there has numbers of its own."""
        self._stack.clear()
        self._second = next(self._counter)
        yield
        self._stack.clear()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Mark nothing within the block."""
        self.active, before = False, self.active
        try:
            yield
        finally:
            self.active = before

    def forget_unmarked(self, graph: torch.fx.Graph) -> None:
        """Forget the calls of a second trace that left no mark in a graph."""
        marks = [n for n in graph.nodes if n.target is torch.ops.diglot.mark.default]
        kept = {int(str(n.args[1]).partition("|")[0]) for n in marks}
        self.records = {i: r for i, r in self.records.items() if i < self._second or i in kept}

    @contextlib.contextmanager
    def installed(self) -> Iterator[Marker]:
        """Hook every module that is not a leaf, for the length of the context."""
        handles = []
        for path, module in self.model.named_modules():
            if is_leaf(module) and module is not self.model:
                continue
            handles.append(
                module.register_forward_pre_hook(
                    functools.partial(self._enter, path), with_kwargs=True
                )
            )
            handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, path: str, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if not self.active:
            return args, kwargs
        index = next(self._counter)
        record = CallRecord(index, path, type(module), {})
        self.records[index] = record
        self._stack.append(index)
        names = _positional_names(module, len(args))
        args = tuple(
            self._mark_argument(module, record, n, v) for n, v in zip(names, args, strict=True)
        )
        kwargs = {n: self._mark_argument(module, record, n, v) for n, v in kwargs.items()}
        return args, kwargs

    def _mark_argument(self, module: nn.Module, record: CallRecord, name: str, value: Any) -> Any:
        if isinstance(value, nn.Module):
            if any(value is own for own in module.modules()):
                return value
            record.functions[name] = _parameter_names(value.forward)
            return _Handed(value, self._wrap(record.index, name, value))
        if callable(value) and not isinstance(value, (type, torch.Tensor)):
            record.functions[name] = _parameter_names(value)
            return self._wrap(record.index, name, value)
        return map_tensors(
            value, lambda path, t: torch.ops.diglot.mark(t, f"{record.index}|in|{path}"), name
        )

    def _wrap(self, index: int, name: str, function: Callable) -> Callable:
        """Mark what goes into and comes out of a function that was handed to a module."""
        counter = itertools.count()

        def marked(*args: Any, **kwargs: Any) -> Any:
            tag = f"{index}|{{}}|{name}@{next(counter)}"
            args = tuple(
                map_tensors(
                    a, lambda p, t: torch.ops.diglot.mark(t, f"{tag.format('fin')}|{p}"), str(i)
                )
                for i, a in enumerate(args)
            )
            result = function(*args, **kwargs)
            return map_tensors(
                result, lambda p, t: torch.ops.diglot.mark(t, f"{tag.format('fout')}|{p}"), ""
            )

        return marked

    def _leave(self, module: nn.Module, args: tuple, kwargs: dict, result: Any) -> Any:
        if not self.active:
            return result
        index = self._stack.pop()
        self.records[index].output_structure = structure_of(result)
        return map_tensors(result, lambda p, t: torch.ops.diglot.mark(t, f"{index}|out|{p}"), "")
