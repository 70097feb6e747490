"""PyTorch -> hub, through ``torch.export`` in training mode.

Training mode keeps dropout and batch norm. Sizes are dynamic: the batch and, for token ids and sequences, the
length; the user can name others. Source: https://docs.pytorch.org/docs/stable/export.html
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx.proxy import TracerBase

from diglot.errors import BadInput, DataDependent, DiglotError
from diglot.frontends import (
    attention,
    modes,
    packing,
    plain_data,
    reassigned,
    recurrent,
    refused,
    same_padding,
    unconditional,
)
from diglot.frontends.guards import guarded_axes
from diglot.frontends.marks import Marker
from diglot.frontends.multiples import multiples


def normalise_inputs(example_inputs: Any) -> tuple[str, list[str] | None, list[Any]]:
    """Return ``(structure, names, values)`` for a tensor, a tuple or a dict of keyword arguments."""
    if isinstance(example_inputs, torch.Tensor):
        return "single", None, [example_inputs]
    if isinstance(example_inputs, Mapping):
        return "dict", [str(k) for k in example_inputs], list(example_inputs.values())
    if isinstance(example_inputs, Sequence) and not isinstance(example_inputs, str):
        values = list(example_inputs)
        return ("single" if len(values) == 1 else "list"), None, values
    if hasattr(example_inputs, "__array__"):
        return "single", None, [torch.as_tensor(example_inputs)]
    raise BadInput(
        "example_inputs: expected a tensor, a tuple of tensors or a dict of keyword arguments",
        received=type(example_inputs).__name__,
        hint="pass what you would pass to the model, e.g. torch.randn(2, 3, 224, 224)",
    )


def _as_tensors(values: list[Any]) -> list[Any]:
    return [
        torch.as_tensor(v) if hasattr(v, "__array__") and not torch.is_tensor(v) else v
        for v in values
    ]


def _is_dynamic_axis(tensor: torch.Tensor, axis: int) -> bool:
    """Guess whether a size may vary: the batch always; lengths of ids, sequences and masks; never an image's."""
    if axis == 0:
        return True
    if not tensor.dtype.is_floating_point:
        return tensor.dim() <= 4
    return tensor.dim() == 3 and axis == 1


def _grow(tensor: torch.Tensor, sizes: dict[int, int]) -> torch.Tensor:
    """Repeat a tensor along axes of size 1, which ``torch.export`` would take for fixed."""
    for axis, size in sizes.items():
        if tensor.shape[axis] == 1:
            tensor = torch.cat([tensor] * size, dim=axis)
    return tensor


def dynamic_shapes(
    names: list[str], values: list[Any], dynamic: Mapping[str, Any] | Sequence[Any] | None
) -> tuple[list[Any], list[Any]]:
    """Return the example values (grown from size 1 where dynamic) and one ``dynamic_shapes`` entry for each.

    ``dynamic`` is ``{input name: {axis: "length" | True}}``; ``None`` guesses, and ``{}`` fixes every size.
    """
    specs: list[Any] = []
    grown: list[Any] = []
    for position, (name, value) in enumerate(zip(names, values, strict=True)):
        if not torch.is_tensor(value):
            specs.append(None)
            grown.append(value)
            continue
        if dynamic is None:
            axes = {a for a in range(value.dim()) if _is_dynamic_axis(value, a)}
        else:
            given = _given(dynamic, name, position)
            axes = {a % value.dim() for a in given} if value.dim() else set()
        if dynamic is None:  # a leading 1 beside longer batches is broadcasting, not a batch
            batch = max((v.shape[0] for v in values if torch.is_tensor(v) and v.dim()), default=1)
            axes = {a for a in axes if value.shape[a] != 1 or (a == 0 and batch == 1)}
        elif any(value.shape[a] == 1 for a in axes):
            axes = set(axes)
        specs.append(dict.fromkeys(sorted(axes), Dim.AUTO))
        grown.append(_grow(value, dict.fromkeys(axes, 2)))
    return grown, specs


def _given(dynamic: Mapping[str, Any] | Sequence[Any], name: str, position: int) -> dict[int, Any]:
    if isinstance(dynamic, Mapping):
        given = dynamic.get(name, dynamic.get(str(position), {}))
    else:
        given = dynamic[position] if position < len(dynamic) else {}
    if isinstance(given, (list, tuple, set)):
        given = dict.fromkeys(given, True)
    return dict(given or {})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's advice for export developers away from the user."""
    loggers = [logging.getLogger(n) for n in ("torch.export", "torch.fx", "torch._export", "torch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)  # what goes wrong is told as a BadInput
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _author_frames() -> Iterator[None]:
    """Record every frame of the author's own code, helper functions included.

    torch.export keeps only frames named ``forward``, which loses the variable names inside helpers such as
    ``apply_rotary_pos_emb``. Those of the program that asked for the translation are none of the model's.
    """
    original = TracerBase._filter_traceback_frames

    def keep(self: TracerBase, summary: traceback.StackSummary) -> traceback.StackSummary:
        frames = list(summary)
        if any(_KERAS in f.filename and f.name == "_set_mask_metadata" for f in frames):
            frames = []  # the mask of a result: what the author named is the result
        starts = [i for i, f in enumerate(frames) if (f.filename, f.name) == _START]
        inside = frames[starts[-1] :] if starts else frames
        return traceback.StackSummary.from_list([f for f in inside if not _is_library(f.filename)])

    TracerBase._filter_traceback_frames = keep  # type: ignore[method-assign]
    try:
        yield
    finally:
        TracerBase._filter_traceback_frames = original  # type: ignore[method-assign]


#: The function below from which the model is run.
_START = (__file__, "_run_export")
_TORCH = str(Path(torch.__file__).parent) + os.sep
_DIGLOT = str(Path(__file__).parent.parent) + os.sep
_KERAS = f"{os.sep}keras{os.sep}src{os.sep}"
#: torch.nn modules that are written out as classes keep their lines, too.
_SHOWN = (
    *(_TORCH + name for name in ("nn/modules/transformer.py", "nn/modules/container.py")),
    _DIGLOT + "zoo/",  # models as anybody writes them
)


def _is_library(filename: str) -> bool:
    return (
        (filename.startswith((_TORCH, _DIGLOT)) and not filename.startswith(_SHOWN))
        or filename.startswith("<")
        or _KERAS in filename
    )


@contextlib.contextmanager
def _attributes_kept(model: nn.Module) -> Iterator[None]:
    """Put back plain attributes that ``forward`` assigns (``self.attention_scores = …``), and hooks that it adds.

    ``torch.export`` refuses to see tensors appear on modules; here they are forgotten after each call. Hooks go with
    the attribute that says they are there: transformers would add them a second time.
    """
    before = {module: dict(module.__dict__) for module in model.modules()}
    hooks = {module: {k: dict(v) for k, v in module.__dict__.items() if "_hooks" in k and isinstance(v, dict)}
             for module in model.modules()}  # fmt: skip
    training = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, attributes in before.items():
            module.__dict__.clear()
            module.__dict__.update(attributes)
            for name, registered in hooks[module].items():
                module.__dict__[name].clear()
                module.__dict__[name].update(registered)
            module.training = training[module]


def parameter_names(model: nn.Module, count: int) -> list[str]:
    """Return the names of the first ``count`` parameters of ``forward``."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = [f"input_{i}" for i in range(len(names), count)]
    return (names + rest)[:count]


def export(
    model: nn.Module, example_inputs: Any, dynamic: Any = None
) -> tuple[ExportedProgram, Marker, str, list[str], list[Any]]:
    """Export a model in training mode with marks.

    Returns the program, the marker with its call records, the input structure, the inputs' names and the
    example values that were used. Raises :class:`BadInput` when the inputs do not fit or the model branches on data.
    """
    structure, names, values = normalise_inputs(example_inputs)
    values = _as_tensors(values)
    names = names or parameter_names(model, len(values))
    values, specs = dynamic_shapes(names, values, dynamic)
    args, kwargs, shapes = (), {}, tuple(specs)
    if structure == "dict":
        kwargs, shapes = dict(zip(names, values, strict=True)), dict(zip(names, specs, strict=True))
    else:
        args = tuple(values)
    refused.check(model)
    marker = Marker(model)
    before = {module: module.training for module in model.modules()}
    try:
        model.train()
        with (
            _quiet(),
            _author_frames(),
            attention.as_one_node(),
            recurrent.of_any_length(),
            packing.as_padded(),
            same_padding.as_one_op(model),
            _attributes_kept(model),
            reassigned.written(model),
            marker.installed(),
            modes.watched(model) as decisions,
        ):
            program = _run_export(model, args, kwargs, shapes)
            fixed = guarded_axes(program, names, values)
            if fixed:
                with marker.paused():
                    marker.multiples = multiples(program, model, structure, names, values)
                fixed -= marker.multiples.keys()
            if fixed:
                marker.multiples.clear()
                # The model decides something by these sizes: one program can only hold one of its ways.
                specs = [
                    {a: d for a, d in (spec or {}).items() if (name, a) not in fixed}
                    for name, spec in zip(names, specs, strict=True)
                ]
                shapes = (
                    dict(zip(names, specs, strict=True)) if structure == "dict" else tuple(specs)
                )
                marker.restart()
                program = _run_export(model, args, kwargs, shapes)
            if decisions:
                lines = list(decisions)
                model.eval()
                with marker.apart():
                    evaluation = _run_export(model, args, kwargs, shapes)
                modes.merge(program, evaluation, lines)
                marker.forget_unmarked(program.graph_module.graph)
    finally:
        for module, mode in before.items():
            module.training = mode
    return program, marker, structure, names, values


def _run_export(model: nn.Module, args: tuple, kwargs: dict, shapes: Any) -> ExportedProgram:
    from torch._dynamo.exc import UserError
    from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

    try:
        with plain_data.AsDetached(), unconditional.seen():
            return torch.export.export(
                model,
                args,
                kwargs,
                dynamic_shapes=shapes,
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=False,
            )
    except GuardOnDataDependentSymNode as error:
        raise DataDependent(
            "the model branches on the values of a tensor, which no single program can hold",
            received=_first_line(error),
            where=_user_line(error),
            hint="replace the Python `if` by torch.where, or translate the parts on either side of it",
        ) from error
    except UserError as error:
        raise BadInput(
            "torch.export could not capture the model",
            received=_first_line(error),
            where=_user_line(error),
            hint="check the example inputs and the dynamic sizes",
        ) from error
    except DiglotError:
        raise  # one that says what is wrong, whatever else it is
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        AssertionError,
        KeyError,
    ) as error:
        raise BadInput(
            "the model failed on the example inputs",
            received=f"{type(error).__name__}: {_first_line(error)}",
            where=_user_line(error),
            hint="run model(*example_inputs) yourself; shapes, dtypes and argument names must fit",
        ) from error


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _user_line(error: BaseException) -> str | None:
    """Return ``file:line`` of the innermost frame that is not a library's."""
    place = None
    for frame in traceback.extract_tb(error.__traceback__):
        if "/torch/" not in frame.filename and "/diglot/" not in frame.filename:
            place = f"{frame.filename}:{frame.lineno}"
    return place
