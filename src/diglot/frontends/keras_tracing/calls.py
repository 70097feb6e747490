"""Calling a Keras layer on tracers: its torch module or its own ``call``, with the masks that Keras carries along."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from keras import Layer, Sequential, tree
from keras.src.layers.layer import CallSpec
from keras.src.models.functional import Functional, unpack_singleton
from torch import nn

from diglot.errors import Problem, Unsupported
from diglot.frontends import keras_layers
from diglot.frontends.keras_layers.records import LayerCall
from diglot.frontends.keras_ops.creation import working_float
from diglot.frontends.keras_tracing import (
    assigned,
    carried_functions,
    losses,
    patches,
    super_calls,
    tf_calls,
    tf_control,
)
from diglot.frontends.keras_tracing.classes import Running
from diglot.frontends.keras_tracing.given import fitted, flat_inputs, packed
from diglot.frontends.keras_tracing.graph import runs_its_graph, steps_of
from diglot.frontends.keras_tracing.lent import FREE
from diglot.frontends.keras_tracing.mode import Mode
from diglot.frontends.keras_tracing.tensor import Tracer, author_line, constant, unwrap, wrap
from diglot.frontends.keras_tracing.tree import Gap, Tree
from diglot.frontends.keras_tracing.weights import torch_step
from diglot.frontends.repeating.items import Block, Item
from diglot.ir.weight_entry import WeightEntry

_NOWHERE = "it has weights, but is no attribute of the model (nor in a list or dict that is): assign it to one"


class Trace:
    """Runs a mirror. ``root`` is the module that is running, which may be a copy of the one that was built."""

    def __init__(self, built: Tree) -> None:
        self.tree = built
        self.root: nn.Module | None = None
        self._pending: list[tuple[Any, Any, bool | None]] = []
        self._forced: list[bool | None] = [None]
        self._modules: list[nn.Module] = []
        self._returned: Any = None
        self._received_as: Any = ()
        self._given: Any = None  # to a function that was handed to a layer
        self._float: torch.dtype | None = None
        # What is called next: of a module that is called twice, each call is a block of its own.
        self._block: Block | None = None

    def __deepcopy__(self, memo: dict) -> Trace:
        return self

    # --- weights -----------------------------------------------------------------------------------------

    def value_of(self, variable: Any) -> torch.Tensor:
        """The torch tensor that holds a Keras variable, in Keras's shape."""
        place = self.tree.variables.get(id(variable))
        if place is None:
            return constant(
                getattr(variable, "_value", variable).numpy()
            )  # not `value`, which asks here
        assert self.root is not None
        return keras_view(self.root, self.tree.entries[place])

    # --- modules -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def running(self, module: nn.Module, forced: bool | None, given: Any) -> Iterator[None]:
        """Make ``module`` the one whose forward runs, on the tracers in ``given``."""
        outermost = not self._modules
        changes = [functools.partial(made, self) for made in (assigned.write, losses.add)]
        if outermost:
            self.root = module
            self._float = _float_of(module, given)
            self._forced = [None]
            tf_control.says_sizes.append(self.tree.says_sizes)
        self._modules.append(module)
        self._forced.append(forced)
        try:
            with (
                patches.installed(self.call, self.value_of, *changes),
                working_float(self._float or torch.float32),
            ):
                yield
        finally:
            self._modules.pop()
            self._forced.pop()
            if outermost:
                self.root = None
                tf_control.says_sizes.pop()
                self._pending.clear()

    def run(self, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        """What ``forward`` of a mirror's module does."""
        layer = self._block or self.tree.layers[module.source_path]
        self._block = None
        forced: bool | None = None
        if self._pending:
            was_args, was_kwargs, forced = self._pending.pop()
            args, kwargs = self._received((args, kwargs), (was_args, was_kwargs))
        else:
            args, kwargs = wrap(args), wrap(kwargs)
        with self.running(module, forced, (args, kwargs)):
            given = (args, kwargs) if self._modules[:-1] else packed(module, args, kwargs)
            result = self._own_call(layer, module, *given)
        self._returned, self._received_as = result, (args, kwargs)
        return unwrap(result)

    def _own_call(self, layer: Layer | Block, module: nn.Module, args: tuple, kwargs: dict) -> Any:
        if isinstance(layer, Block):
            values = dict(zip(layer.inputs, [*args, *kwargs.values()], strict=True))
            self._steps(layer.steps, values)
            made = tuple(values[t] for t in layer.outputs)
            return made if len(made) > 1 else made[0]
        if runs_its_graph(layer):
            return self._functional(layer, [*args, *kwargs.values()])
        if isinstance(layer, Sequential) and type(layer).call is Sequential.call:
            return self._sequence(layer, args[0] if args else next(iter(kwargs.values())))
        parameters = inspect.signature(layer.call).parameters
        mode = Mode(module) if self._forced[-1] is None else self._forced[-1]
        if "training" in parameters:
            kwargs = {**kwargs, "training": mode}
        base = self.tree.bases.get(id(layer))
        with (
            carried_functions.installed(type(layer).call, mode),
            _methods_of_torch(layer),
            super_calls.installed(layer, base, functools.partial(self._extended, layer, base)),
        ):
            return layer.call(*args, **kwargs)

    def _extended(
        self, layer: Layer, base: Any, training: Any, args: tuple, kwargs: dict[str, Any]
    ) -> Any:
        """What ``super().call(…)`` of an author's layer does."""
        forced = self._forced[-1] if isinstance(training, Mode) else bool(training)
        module = self._module(base.path)
        run = LayerCall(layer, module, base.path, forced, _convert, Mode(self._modules[-1]))
        call = base.record.call or (lambda _, *given: module(*given))  # type: ignore[misc]
        return wrap(call(run, *unwrap(args), **unwrap(kwargs)))

    def _functional(self, model: Functional, inputs: list[Any]) -> Any:
        given = [fitted(x, t) for x, t in zip(inputs, model.inputs, strict=True)]
        plan = self.tree.plans.get(id(model))
        values = {id(t): x for t, x in zip(model.inputs, given, strict=True)}
        # Branch by branch; Keras goes through all branches at once, by depth.
        self._steps(steps_of(model) if plan is None else plan.steps, values)
        made = [values[id(t)] for t in model.outputs]
        return unpack_singleton(tree.pack_sequence_as(model._outputs_struct, made))

    def _steps(self, steps: list[Item], values: dict[int, Any]) -> None:
        """Run some steps of a Functional model; ``values`` holds tracers by the ids of the model's tensors."""
        for step in steps:
            if isinstance(step, Block):
                assert self.root is not None
                module = self.root.get_submodule(self.tree.paths[id(step)])
                given = tuple(values[t] for t in step.inputs)
                self._pending.append((given, {}, self._forced[-1]))
                self._block = step
                result = module(*unwrap(given))
                _take_masks((given, {}), self._received_as)
                made = _with_masks(result, self._returned)
                values.update(zip(step.outputs, tree.flatten(made), strict=True))
            elif self.tree.records.get(id(step.operation)) is FREE:
                held = self._module(self.tree.paths[id(step.operation)])
                assert held is not None
                values[step.outputs[0]] = wrap(held())
            else:
                args, kwargs = step.node.arguments.fill_in(values)
                made = tree.flatten(_following(step.operation)(*args, **kwargs))
                values.update(zip(step.outputs, made, strict=False))

    def _sequence(self, model: Sequential, value: Any) -> Any:
        functional = model._functional
        if functional is not None and len(functional.inputs) == 1:
            value = fitted(value, functional.inputs[0])
        for layer in model.layers:
            value = layer(value)
        return value

    # --- calls of layers ---------------------------------------------------------------------------------

    def call(self, layer: Layer, args: tuple, kwargs: dict) -> Any:
        """Call a layer on tracers; this is ``Layer.__call__`` while tracing."""
        args, kwargs = tree.map_structure(_traced, args), tree.map_structure(_traced, dict(kwargs))
        args, kwargs = _by_keyword("training", layer, args, kwargs)
        given = kwargs.get("training")
        forced = self._forced[-1] if given is None or isinstance(given, Mode) else bool(given)
        if layer is self._current_layer():  # a layer that calls itself by `self(x)`
            raise Unsupported(
                [_problem(layer, "a layer's `call` that calls the layer itself has no end")]
            )
        spec = CallSpec(layer._call_signature, layer._call_context_args, args, kwargs)
        previous = _fill_masks(spec, kwargs)
        kwargs.pop("training", None)
        joined = kwargs.get("key_mask")
        if joined is not None and joined is kwargs.get("value_mask"):
            if keras_layers.methods_of(layer):  # Keras's attention, which takes both to hold
                del kwargs["key_mask"]
        known = self.tree.records
        record = known[id(layer)] if id(layer) in known else keras_layers.find(layer)
        if record is not None:
            result = self._leaf(layer, record, forced, args, kwargs)
            self.tree.note_leaf(layer, args, kwargs, forced, result)
        else:
            result = self._composite(layer, forced, args, kwargs)
        if layer.supports_masking:
            layer._set_mask_metadata(spec.first_arg, result, previous)
        return result

    def _current_layer(self) -> Layer | None:
        return self.tree.layers.get(self._modules[-1].source_path) if self._modules else None

    def _module(self, path: str) -> nn.Module | None:
        assert self.root is not None
        if path in self.tree.lent:
            return self.tree.lent[path]
        try:
            found = self.root.get_submodule(path)
        except AttributeError:
            return None
        return None if isinstance(found, Gap) else found

    def _leaf(
        self, layer: Layer, record: Any, forced: bool | None, args: tuple, kwargs: dict
    ) -> Any:
        path = self.tree.paths.get(id(layer))
        module = self._module(path) if path is not None else None
        if path is None:
            own_code = (
                type(layer).__name__ == "Lambda" and not layer.built
            )  # as the `call` that makes it is
            why = None if own_code else keras_layers.refusal(layer)
            if why is None and record.weights is not None:
                why = _NOWHERE
            if why is not None:
                raise Unsupported([_problem(layer, why)])
            module = record.make(layer) if record.make is not None else None
        elif record.weights is not None and module is None:
            raise Unsupported(
                [
                    _problem(
                        layer, "it has no weights yet: call the model once on data, then translate"
                    )
                ]
            )
        run = LayerCall(
            layer, module, path or "", forced, _convert, Mode(self._modules[-1]), self._beside(path)
        )
        first = next(iter(inspect.signature(layer.call).parameters), None)
        if not args and first in kwargs:  # `layer(inputs=x)`
            args, kwargs = (kwargs[first],), {n: v for n, v in kwargs.items() if n != first}
        plain_args, plain_kwargs = unwrap(args), unwrap(kwargs)
        if record.call is None:
            assert module is not None  # a record has one or the other
            return wrap(module(*plain_args))
        made = wrap(record.call(run, *plain_args, **plain_kwargs))
        if record.mask is not None:
            made._keras_mask = record.mask(layer, *args, **kwargs)
        return made

    def _beside(self, path: str | None) -> nn.Module | None:
        """The module of a layer's activation, where it has one of its own."""
        place = self.tree.activations.get(path) if path is not None else None
        return self._module(place) if place is not None else None

    def _composite(self, layer: Layer, forced: bool | None, args: tuple, kwargs: dict) -> Any:
        path = self.tree.paths.get(id(layer))
        if path is None:
            return self._made_in_call(layer, forced, args, kwargs)
        assert self.root is not None
        module = self.root.get_submodule(path)
        if isinstance(layer, (Functional, Sequential)):
            args = tuple(
                flat_inputs(layer, [*args, *(v for k, v in kwargs.items() if k != "mask")])
            )
            kwargs = {}
        # In the order of the signature: two calls of a class by keywords are calls of one class.
        order = {name: i for i, name in enumerate(inspect.signature(type(layer).call).parameters)}
        named = sorted(kwargs.items(), key=lambda item: order.get(item[0], len(order)))
        kwargs = {k: v for k, v in named if v is not None}
        self.tree.note(layer, path, args, kwargs, forced)
        self._pending.append((args, kwargs, forced))
        plain_args, plain_kwargs = tree.map_structure(self._handed_over, (args, kwargs))
        result = module(*unwrap(plain_args), **unwrap(plain_kwargs))
        _take_masks((args, kwargs), self._received_as)
        return _with_masks(result, self._returned)

    def _made_in_call(self, layer: Layer, forced: bool | None, args: tuple, kwargs: dict) -> Any:
        """What a layer gives that a ``call`` makes for the occasion (``Scale(2)(x)``): it has no module.

        Raises Unsupported for one with weights, which would be others at each call.
        """
        if not layer.built and not kwargs and all(isinstance(x, Tracer) for x in args):
            layer.build(*(tuple(x.shape) for x in args))
        if layer._trainable_variables or layer._non_trainable_variables:
            raise Unsupported([_problem(layer, _NOWHERE)])
        self._forced.append(forced)
        try:
            return self._own_call(layer, self._modules[-1], args, kwargs)
        finally:
            self._forced.pop()

    # --- functions that layers are called with --------------------------------------------------------------

    def _handed_over(self, value: Any) -> Any:
        """A function of tracers (a layer, a lambda) as one of torch tensors, so that its calls are seen."""
        if not _is_function(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = _with_masks((args, kwargs), self._given)
            self._returned = value(*args, **kwargs)
            return unwrap(self._returned)

        own = value.call if isinstance(value, Layer) else value
        with contextlib.suppress(TypeError, ValueError):
            call.__signature__ = inspect.signature(own)  # type: ignore[attr-defined]
        return call

    def _received(self, given: Any, was: Any) -> Any:
        """What a layer was called with, as tracers and functions of tracers again."""
        made = _with_masks(given, was)
        flat = zip(tree.flatten(made), tree.flatten(was), strict=True)
        items = [Handed(self, f, own) if _is_function(own) else f for f, own in flat]
        return tree.pack_sequence_as(made, items)

    def call_handed(self, function: Callable, args: tuple, kwargs: dict) -> Any:
        """Call a function that a layer was handed on tracers."""
        self._given = (args, kwargs)
        result = function(*unwrap(args), **unwrap(kwargs))
        return _with_masks(result, self._returned)


def _by_keyword(name: str, layer: Layer, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """A layer's arguments, those from ``name`` on by keyword."""
    names = list(inspect.signature(layer.call).parameters)
    place = names.index(name) if name in names else len(args)
    return args[:place], {**kwargs, **dict(zip(names[place:], args[place:], strict=False))}


class Handed:
    """A function, or a layer, that a layer was called with."""

    def __init__(self, trace: Trace, function: Callable, own: Any) -> None:
        self._trace = trace
        self._function = function
        self._own = own

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._trace.call_handed(self._function, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (type, Tracer))


def _following(operation: Any) -> Callable:
    """An operation of a Functional model, called in the model's mode.

    As in Keras: `fit` and `predict` hand their mode to every layer, whatever `training=` a layer was first called with.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        if isinstance(operation, Layer):
            kwargs.pop("training", None)
        return operation(*args, **kwargs)

    return call


def _problem(layer: Layer, why: str) -> Problem:
    return Problem(type(layer).__name__, author_line(), layer.name, why)


def _convert(function: Callable, *values: Any, **options: Any) -> Any:
    function = tf_calls.instead_of(function)
    return unwrap(function(*wrap(list(values)), **wrap(options)))


def _traced(value: Any) -> Any:
    """A tensor, variable or array that a layer is called with, as a tracer."""
    if isinstance(value, Tracer):
        return value
    held = unwrap(value)
    return Tracer(held) if isinstance(held, torch.Tensor) else value


def _with_masks(value: Any, was: Any) -> Any:
    """Trace a structure of torch tensors, with the masks of the tracers that it was made of."""
    made = wrap(value)
    for tracer, before in zip(tree.flatten(made), tree.flatten(was), strict=True):
        if isinstance(tracer, Tracer) and isinstance(before, Tracer):
            tracer._keras_mask = before._keras_mask
    return made


def _take_masks(given: Any, received: Any) -> None:
    """Take the masks from tensors that lost theirs in a layer: Keras's attention takes those of its inputs.

    In Keras a layer is given the tensors themselves, so that whoever called it sees them without their masks, too.
    """
    for outer, inner in zip(tree.flatten(given), tree.flatten(received), strict=True):
        if isinstance(outer, Tracer) and isinstance(inner, Tracer) and inner._keras_mask is None:
            outer._keras_mask = None


def _fill_masks(spec: CallSpec, kwargs: dict) -> Any:
    """Fill mask arguments from the masks of the tensors, as Keras does; return the first argument's mask."""
    tensors = spec.tensor_arguments_dict
    if len(tensors) == 1 and "mask" in spec.argument_names and spec.arguments_dict["mask"] is None:
        kwargs["mask"] = tree.map_structure(_mask_of, next(iter(tensors.values())))
    elif len(tensors) > 1:
        for name, value in tensors.items():
            wanted = f"{name}_mask"
            if wanted in spec.argument_names and spec.arguments_dict[wanted] is None:
                kwargs[wanted] = tree.map_structure(_mask_of, value)
    if kwargs.get("mask") is not None:
        return kwargs["mask"]
    return tree.map_structure(_mask_of, spec.first_arg)


def _mask_of(value: Any) -> Any:
    return getattr(value, "_keras_mask", None)


def _float_of(module: nn.Module, given: Any) -> torch.dtype | None:
    """The float dtype that a module computes in: its weights' own, else its inputs'."""
    held = (v.value for v in tree.flatten(given) if isinstance(v, Tracer))
    for tensor in (*module.parameters(), *module.buffers(), *held):
        if tensor.dtype.is_floating_point:
            return tensor.dtype
    return None


def keras_view(root: nn.Module, entry: WeightEntry) -> torch.Tensor:
    """A Keras weight in Keras's shape, as torch ops on the mirror's weights."""
    parts = []
    for name in entry.sources:
        path, _, last = name.rpartition(".")
        part = getattr(root.get_submodule(path), last)
        for step in entry.steps:
            part = torch_step(step, part)
        parts.append(part)
    if entry.combine is None:
        return parts[0]
    if entry.combine == "sum":
        return sum(parts[1:], parts[0])
    if entry.combine == "stack":
        return torch.stack(parts)
    return torch.cat(parts, dim=int(entry.combine.partition(":")[2]))


Running.run = staticmethod(lambda module, args, kwargs: module.trace.run(module, args, kwargs))


@contextlib.contextmanager
def _methods_of_torch(layer: Layer) -> Iterator[None]:
    """Let a layer call what PyTorch has for methods of Keras's."""
    found = keras_layers.methods_of(layer)
    for name, function in found.items():
        layer.__dict__[name] = _in_torch(layer, function, getattr(layer, name))
    try:
        yield
    finally:
        for name in found:
            del layer.__dict__[name]


def _in_torch(layer: Layer, function: Callable, own: Callable) -> Callable:
    def call(*args: Any, **kwargs: Any) -> Any:
        made = function(layer, *unwrap(args), **unwrap(kwargs))
        return own(*args, **kwargs) if made is NotImplemented else wrap(made)

    return call
