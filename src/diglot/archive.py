"""``.pt2`` files, read without running anything that they pickle.

``torch.export.load`` unpickles example inputs and unusual constants with full rights, and hands the
file's size expressions to sympy, which evaluates them as Python. Here every pickle is read with
``weights_only=True`` and every expression is checked to be arithmetic first.
"""

from __future__ import annotations

import ast
import contextlib
import json
import logging
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.errors import BadInput

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

#: The functions of sympy that a size can hold; its classes (Symbol, FloorDiv, …) start upper-case.
_FUNCTIONS = frozenset({"floor", "ceiling", "sqrt", "log", "exp", "oo", "true", "false"})
_SIZE_SYNTAX = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Call,
    ast.keyword,
    ast.Constant,
    ast.Name,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.expr_context,
)


def load_program(path: Path) -> tuple[nn.Module, Any, dict[str, dict[int, str]]]:
    """Return the program's module, its example inputs and its dynamic sizes by input name.

    Raises :class:`BadInput` for a file that is missing, is no program, or would run code.
    """
    with _quiet():
        return _load(path)


def _load(path: Path) -> tuple[nn.Module, Any, dict[str, dict[int, str]]]:
    from diglot.rebuild import rebuild

    program = load_exported(path)
    names = list(program.graph_signature.user_inputs)
    if program.example_inputs is None:
        raise BadInput(f"{path} holds no example inputs.", hint="pass --input")
    args, kwargs = program.example_inputs
    examples: Any = {**dict(zip(names, args, strict=False)), **kwargs} if kwargs else tuple(args)
    if isinstance(examples, tuple) and len(examples) == 1:
        examples = examples[0]
    return rebuild(program), examples, _dynamic(program, names)


def _dynamic(program: ExportedProgram, names: list[Any]) -> dict[str, dict[int, str]]:
    import torch

    sizes: dict[str, dict[int, str]] = {}
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and node.name in names and isinstance(value, torch.Tensor):
            shape = enumerate(value.shape)
            dynamic = {axis: str(size) for axis, size in shape if not isinstance(size, int)}
            sizes[node.name] = dynamic
            sizes[str(names.index(node.name))] = dynamic
    return sizes


def load_exported(path: Path, *, own: bool = False) -> ExportedProgram:
    """``torch.export.load``, but nothing in the file can run.

    ``own``: the file is the record that a translation keeps of its source, with Diglot's own ops.
    """
    import torch

    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    _check_expressions(path, own)
    try:
        with _nothing_runs():
            return torch.export.load(path)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path} was refused: reading it would run code that is pickled inside.",
            received=" ".join(str(error).split())[:200],
            hint="save it again with torch.export.save and plain tensors as example inputs",
        ) from error
    except (RuntimeError, ValueError, KeyError, AssertionError, OSError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read as a torch.export program.",
            received=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            hint="save it again with torch.export.save, with the PyTorch that is installed here",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's notes for export developers away from the user; errors are told by us."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _nothing_runs() -> Iterator[None]:
    """While this is entered, torch.load unpickles tensors and plain containers only."""
    import torch
    from torch.export.pt2_archive import _package

    load, loader = torch.load, _package.pickle

    def safe(file: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs["weights_only"] = True
        return load(file, *args, **kwargs)

    class Refuses:
        """Stands in for the pickle module where torch unpickles constants without asking."""

        def __getattr__(self, name: str) -> Any:
            if name in ("loads", "load", "Unpickler"):
                raise pickle.UnpicklingError("the file holds pickled Python objects")
            return getattr(pickle, name)

    torch.load = safe
    _package.pickle = Refuses()  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = load
        _package.pickle = loader


def _check_expressions(path: Path, own: bool) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [
                archive.read(name)
                for name in archive.namelist()
                if name.endswith(".json") and "extra/" not in name
            ]
    except (zipfile.BadZipFile, OSError) as error:
        raise BadInput(f"{path} is not a torch.export program.", received=str(error)) from error
    for text in texts:
        if b"torch.ops.diglot." in text and not own:
            raise BadInput(
                f"{path} is the record of its source that a translation keeps, not a source.",
                hint=f"diglot prove {path.parent}, or translate what it was translated from",
            )
        try:
            content = json.loads(text)
        except ValueError as error:
            raise BadInput(f"{path} is damaged: its JSON cannot be read.") from error
        for expression in _expressions(content):
            if not _is_arithmetic(expression):
                raise BadInput(
                    f"{path} was refused: a size in it is not arithmetic.",
                    received=expression[:200],
                )


def _is_arithmetic(expression: str) -> bool:
    """Whether sympy can evaluate the expression without calling anything but sympy's own."""
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except (SyntaxError, ValueError):
        return False
    for node in nodes:
        if not isinstance(node, _SIZE_SYNTAX):
            return False
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if not (name[:1].isupper() or name in _FUNCTIONS):
                return False
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and (not text.isidentifier() or "__" in text):
            return False
    return not any(isinstance(node, ast.Name) and "__" in node.id for node in nodes)


def _expressions(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "expr_str" and isinstance(value, str):
                yield value
            else:
                yield from _expressions(value)
    elif isinstance(content, list):
        for value in content:
            yield from _expressions(value)
