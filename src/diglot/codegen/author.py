"""What the author wrote: the statement behind a node, the name it was assigned to, constructor arguments.

Reads source text through :mod:`linecache`; nothing is imported or run.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import linecache
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import torch

from diglot.ir.hub import Frame

_TORCH = Path(torch.__file__).parent
_FRAME = re.compile(r'File "(?P<file>.+?)", line (?P<line>\d+), in (?P<function>\S+)')


def frames(stack_trace: str | None) -> list[Frame]:
    """Parse ``node.meta['stack_trace']``, outermost frame first."""
    if not stack_trace:
        return []
    return [
        Frame(m["file"], int(m["line"]), m["function"])
        for m in _FRAME.finditer(stack_trace)
        if not m["file"].startswith("torch/")
    ]


def is_of_torch(frame: Frame) -> bool:
    """Tell whether a line is PyTorch's own."""
    return Path(frame.file).is_relative_to(_TORCH)


@functools.lru_cache(maxsize=256)
def _statements(file: str) -> list[ast.stmt]:
    source = "".join(linecache.getlines(file))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    simple = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
    return [node for node in ast.walk(tree) if isinstance(node, simple)]


@functools.lru_cache(maxsize=8192)
def statement(file: str, line: int) -> ast.stmt | None:
    """Return the innermost simple statement that covers a line."""
    best = None
    for node in _statements(file):
        if node.lineno <= line <= (node.end_lineno or node.lineno):
            if best is None or node.lineno >= best.lineno:
                best = node
    return best


def start(frame: Frame) -> Frame:
    """Return the frame at the first line of its statement: a call's arguments may stand on later lines."""
    found = statement(frame.file, frame.line)
    return dataclasses.replace(frame, line=found.lineno) if found is not None else frame


def _plain(target: ast.expr) -> str | None:
    if isinstance(target, ast.Name):
        return target.id
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        return target.attr.lstrip("_")
    return None


def assigned_names(frame: Frame) -> list[str | None] | None:
    """Return the names that the statement at a frame assigns, or ``None`` when it assigns nothing."""
    if frame.function == "<lambda>":
        return None  # the statement assigns the function
    found = statement(frame.file, frame.line)
    if isinstance(found, ast.Assign):
        target = found.targets[0]
        if isinstance(target, (ast.Tuple, ast.List)):
            return [_plain(e) for e in target.elts]
        return [_plain(target)]
    if isinstance(found, (ast.AugAssign, ast.AnnAssign)):
        return [_plain(found.target)]
    return None


def parallel_names(frame: Frame) -> list[str] | None:
    """Return the names of a statement that sets several at once: ``a, b = f(x), g(x)``, ``a, b = map(f, xs)``."""
    found = statement(frame.file, frame.line)
    if not isinstance(found, ast.Assign):
        return None
    target, value = found.targets[0], found.value
    if not isinstance(target, ast.Tuple):
        return None
    if isinstance(value, ast.Tuple):
        if len(target.elts) != len(value.elts):
            return None
    elif not (_called(value, "map") or isinstance(value, (ast.ListComp, ast.GeneratorExp))):
        return None
    names = [_plain(e) for e in target.elts]
    return [n for n in names if n] if all(names) else None


def part_names(frame: Frame) -> list[str | None]:
    """Return the names of a statement that takes a tuple apart, nested ones in order: ``out, (h, c) = …``."""
    found = statement(frame.file, frame.line)

    def leaves(target: ast.expr) -> list[str | None]:
        if isinstance(target, (ast.Tuple, ast.List)):
            return [name for element in target.elts for name in leaves(element)]
        return [_plain(target)]

    return leaves(found.targets[0]) if isinstance(found, ast.Assign) else []


def first_argument(frame: Frame) -> str | None:
    """Return the variable that the outermost call of a statement takes first: ``features`` of ``layer(features)``."""
    for node in ast.walk(statement(frame.file, frame.line) or ast.Pass()):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Name):
            return node.args[0].id
    return None


def is_return(frame: Frame) -> bool:
    """Tell whether the statement at a frame returns its value."""
    return isinstance(statement(frame.file, frame.line), ast.Return)


@functools.lru_cache(maxsize=512)
def copies(file: str, first: int, last: int) -> dict[str, list[str]]:
    """Return ``{name: [names that were set to it by a bare "a = name"]}`` between two lines."""
    found: dict[str, list[str]] = {}
    for node in _statements(file):
        if (
            first <= node.lineno <= last
            and isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Name)
        ):
            target = _plain(node.targets[0])
            if target:
                found.setdefault(node.value.id, []).append(target)
    return found


def written_class(cls: type) -> type:
    """Return the class that the author wrote: a mirror's is that of the Keras layer it stands for."""
    return getattr(cls, "source_class", cls)


def has_own_body(cls: type) -> bool:
    """Tell whether the author wrote what a module does: a Functional model's class only says how it is put together."""
    methods = [getattr(written_class(cls), name, None) for name in ("forward", "call")]
    return any(m is not None and not m.__module__.startswith(("keras.", "torch.")) for m in methods)


@functools.lru_cache(maxsize=512)
def class_location(cls: type) -> tuple[str, int, int] | None:
    """Return ``(file, first line, last line)`` of a class, or ``None`` where there is no source."""
    cls = written_class(cls)
    if cls.__module__.startswith(
        "keras."
    ):  # a Functional model has a class that nobody wrote for it
        return None
    try:
        lines, first = inspect.getsourcelines(cls)
        file = inspect.getsourcefile(cls)
    except (OSError, TypeError):
        return None
    return (file or "", first, first + len(lines) - 1)


@functools.lru_cache(maxsize=512)
def _init_tree(cls: type) -> ast.FunctionDef | None:
    try:
        source = textwrap.dedent(inspect.getsource(written_class(cls).__init__))
        node = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    return node if isinstance(node, ast.FunctionDef) else None


@functools.lru_cache(maxsize=512)
def constructor_parameters(cls: type) -> tuple[str, ...]:
    """Return the names of a class's constructor parameters."""
    tree = _init_tree(cls)
    if tree is None:
        return ()
    args = [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs]
    return tuple(a.arg for a in args[1:])


@functools.lru_cache(maxsize=2048)
def filled_with(cls: type, attribute: str) -> str | None:
    """Return ``ones`` or ``zeros`` where a constructor fills a parameter or a buffer with them."""
    for base in written_class(cls).__mro__:
        for node in ast.walk(_init_tree(base) or ast.Pass()):
            given = _given_tensor(node, attribute)
            inner = given.args[0] if isinstance(given, ast.Call) and given.args else given
            for value in (given, inner):
                function = value.func if isinstance(value, ast.Call) else None
                name = getattr(function, "attr", getattr(function, "id", ""))
                if name.removesuffix("_like") in ("ones", "zeros"):
                    return name.removesuffix("_like")
    return None


def _given_tensor(node: ast.AST, attribute: str) -> ast.expr | None:
    """Return the value of ``self.attribute = value`` or ``self.register_buffer("attribute", value)``."""
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        named = isinstance(target, ast.Attribute) and target.attr == attribute
        return node.value if named else None
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    if node.func.attr not in ("register_buffer", "register_parameter") or len(node.args) < 2:
        return None
    name = node.args[0]
    return node.args[1] if isinstance(name, ast.Constant) and name.value == attribute else None


@functools.lru_cache(maxsize=512)
def loop_counts(cls: type) -> tuple[str, ...]:
    """Return the constructor parameters that a constructor loops to: ``range(num_layers)``."""
    found = []
    for node in ast.walk(_init_tree(cls) or ast.Pass()):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range" and node.args:
            last = node.args[-1] if len(node.args) < 3 else node.args[1]
            if isinstance(last, ast.Name) and last.id in constructor_parameters(cls):
                found.append(last.id)
    return tuple(dict.fromkeys(found))


@functools.lru_cache(maxsize=512)
def _layer_arguments(cls: type) -> dict[str, tuple[str, tuple[tuple[str, str], ...]]]:
    """Return ``{attribute: (layer class, ((layer parameter or position, expression), …))}`` of a constructor."""
    tree = _init_tree(cls)
    found: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {}
    for node in ast.walk(tree) if tree else ():
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)):
            continue
        target = node.targets[0]
        if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
            continue
        function = node.value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        pairs = [(str(i), ast.unparse(a)) for i, a in enumerate(node.value.args)]
        pairs += [(k.arg, ast.unparse(k.value)) for k in node.value.keywords if k.arg]
        found[target.attr] = (name, tuple(pairs))
    return found


@functools.lru_cache(maxsize=2048)
def slot_expression(cls: type, attribute: str, slot: str) -> str | None:
    """Return what a constructor passes to a layer: ``planes`` for ``out_channels`` of ``self.conv1``.

    Follows one small helper function (``conv3x3(inplanes, planes, stride)``) of the class's own module.
    """
    found = _layer_arguments(cls).get(attribute)
    if found is None:
        return None
    name, pairs = found
    given = dict(pairs)
    layer = getattr(torch.nn, name, None)
    if layer is not None:
        return _slot(given, constructor_parameters(layer), slot)
    helper = getattr(sys.modules.get(cls.__module__), name, None)
    made = _returned_call(helper) if inspect.isfunction(helper) else None
    if made is None:
        return None
    layer_name, inner, parameters = made
    layer = getattr(torch.nn, layer_name, None)
    expression = _slot(inner, constructor_parameters(layer), slot) if layer is not None else None
    return _slot(given, parameters, expression) if expression in parameters else None


def _slot(given: dict[str, str], parameters: tuple[str, ...], slot: str) -> str | None:
    if slot in given:
        return given[slot]
    return given.get(str(parameters.index(slot))) if slot in parameters else None


def _returned_call(function: Any) -> tuple[str, dict[str, str], tuple[str, ...]] | None:
    """Return ``(layer, {slot: expression}, parameters)`` of a function that returns one layer."""
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None
    if not isinstance(node, ast.FunctionDef):
        return None
    last = node.body[-1]
    if not (isinstance(last, ast.Return) and isinstance(last.value, ast.Call)):
        return None
    call = last.value
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    pairs = {str(i): ast.unparse(a) for i, a in enumerate(call.args)}
    pairs |= {k.arg: ast.unparse(k.value) for k in call.keywords if k.arg}
    return name, pairs, tuple(a.arg for a in node.args.args)


def written_object(module: Any) -> Any:
    """Return the object that the author's constructor made: a mirror's is the Keras layer."""
    return getattr(module, "source_layer", module)


def constructor_values(module: Any) -> dict[str, Any]:
    """Infer the plain arguments that a module was built with.

    From attributes of the same name, and from what its constructor passes on to torch.nn layers
    (``self.linear_1 = nn.Linear(d_model, d_ff)`` and ``linear_1.in_features`` give ``d_model``).
    """
    module = written_object(module)
    cls = type(module)
    parameters = constructor_parameters(cls)
    values: dict[str, Any] = {}
    for name in parameters:
        value = module.__dict__.get(name)
        if isinstance(value, (bool, int, float)):
            values[name] = value
    for attribute, (_, pairs) in _layer_arguments(cls).items():
        layer = getattr(module, attribute, None)
        if layer is None or not type(layer).__module__.startswith(("torch.nn", "keras.")):
            continue
        slots = constructor_parameters(type(layer))
        for slot, expression in pairs:
            name = slots[int(slot)] if slot.isdigit() and int(slot) < len(slots) else slot
            value = getattr(layer, name, None)
            if expression in parameters and expression not in values:
                if isinstance(value, (tuple, list)) and len(set(value)) == 1:
                    value = value[0]
                if isinstance(value, (bool, int, float)):
                    values[expression] = value
    return values


@functools.lru_cache(maxsize=256)
def _loops(file: str) -> list[ast.For]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.For)]


def loop_variable(frame: Frame) -> str | None:
    """Return the variable of the innermost ``for`` around a line (``for i, layer in …`` gives ``layer``).

    None for that of a ``range``, which is a number and no layer.
    """
    best: ast.For | None = None
    for node in _loops(frame.file):
        if node.lineno <= frame.line <= (node.end_lineno or node.lineno):
            if best is None or node.lineno >= best.lineno:
                best = node
    if best is None or _called(best.iter, "range"):
        return None
    target = best.target.elts[-1] if isinstance(best.target, ast.Tuple) else best.target
    return target.id if isinstance(target, ast.Name) else None


def is_looped(frame: Frame) -> bool:
    """Tell whether the statement at a frame is in the body of a ``for`` loop."""
    return any(
        node.body[0].lineno <= frame.line <= (node.end_lineno or node.lineno)
        for node in _loops(frame.file)
    )


def loop_names(frame: Frame) -> dict[str, str]:
    """Return the variables of the innermost loop around a line, by the attribute that each runs over.

    ``for i, (a, b) in enumerate(zip(self.xs, self.ys))`` gives ``{"#": "i", "xs": "a", "ys": "b"}``; the
    variable of anything but an attribute is under ``""``.
    """
    best: Any = None
    for node in [*_loops(frame.file), *_comprehensions(frame.file)]:
        first, last = node.lineno, node.end_lineno or node.lineno
        if first <= frame.line <= last and (best is None or first >= best.lineno):
            best = node
    if best is None:
        return {}
    loop = best if isinstance(best, ast.For) else best.generators[0]
    found: dict[str, str] = {}
    target, over = loop.target, loop.iter
    if _called(over, "enumerate") and isinstance(target, ast.Tuple) and len(target.elts) == 2:
        if isinstance(target.elts[0], ast.Name):
            found["#"] = target.elts[0].id
        target, over = target.elts[1], over.args[0]
    pairs = [(target, over)]
    if _called(over, "zip") and isinstance(target, ast.Tuple):
        pairs = list(zip(target.elts, over.args, strict=False))
    for variable, sequence in pairs:
        if isinstance(variable, ast.Name):
            found[sequence.attr if isinstance(sequence, ast.Attribute) else ""] = variable.id
    return found


def _class_loops(cls: type | None) -> list[tuple[ast.expr, ast.expr]]:
    """Return the target of each loop and comprehension of a class (or a base of it), and what it runs over."""
    found: list[tuple[ast.expr, ast.expr]] = []
    for base in cls.__mro__ if cls is not None else ():
        file, first, last = class_location(base) or ("", 0, 0)
        if base.__module__.startswith("torch.") or not file:
            continue
        for node in [*_loops(file), *_comprehensions(file)]:
            if first <= node.lineno <= last:
                loops = [node] if isinstance(node, ast.For) else node.generators
                found += [(loop.target, loop.iter) for loop in loops]
    return found


def row_of_loop(cls: type, attribute: str) -> ast.expr | None:
    """Return the variables that a loop over a list attribute gives to each item: ``a, b`` of ``for a, b in self.xs``.

    ``enumerate``, ``zip`` and ``reversed`` are looked through.
    """

    def item(target: ast.expr, over: ast.expr) -> ast.expr | None:
        if isinstance(over, ast.Attribute):
            return target if over.attr == attribute else None
        if _called(over, "reversed") and over.args:
            return item(target, over.args[0])
        parts = target.elts if isinstance(target, ast.Tuple) else []
        if _called(over, "enumerate") and len(parts) == 2:
            return item(parts[1], over.args[0])
        pairs = zip(parts, over.args, strict=False) if _called(over, "zip") else ()
        return next((t for p, o in pairs if (t := item(p, o)) is not None), None)

    found = [item(target, over) for target, over in _class_loops(cls)]
    return next((target for target in found if target is not None), None)


def runs_over(cls: type | None, variable: str) -> bool:
    """Tell whether a loop of a class runs over a variable: ``for block in stage``."""
    return any(isinstance(over, ast.Name) and over.id == variable for _, over in _class_loops(cls))


def _called(node: ast.expr, function: str) -> bool:
    return (
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == function and bool(node.args)
    )


@functools.lru_cache(maxsize=256)
def _comprehensions(file: str) -> list[Any]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return []
    kinds = (ast.ListComp, ast.GeneratorExp)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]
