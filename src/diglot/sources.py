"""What the user names, loaded: a PyTorch model, example inputs for it and which sizes are dynamic.

    net.py:make                   a function that returns a model or (model, example_inputs),
    package.module:make           an nn.Module class, or an nn.Module; literal arguments may follow:
    net.py:ResNet(depth=18)
    timm:resnet18                 random weights; timm:resnet18(pretrained=True) fetches them
    hf:DIRECTORY or hf:ORG/NAME   a Hugging Face model with its weights
    model.pt2                     a program saved by torch.export.save

Nothing that a file pickles is ever executed.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

from diglot import inputs as input_specs
from diglot.errors import BadInput, DiglotError

if TYPE_CHECKING:
    from torch import nn

_FORMS = "file.py:factory, package.module:factory, timm:NAME, hf:DIRECTORY_OR_ID or model.pt2"
_CALL = re.compile(r"^(?P<name>[^()]+?)(?:\((?P<arguments>.*)\))?$", re.DOTALL)


@dataclass
class LoadedSource:
    """A source, ready for ``diglot.translate``.

    ``example_inputs`` is a tensor, a tuple, or a dict of keyword arguments; ``dynamic`` maps an
    input's name (its position, as a str, where it has none) to {axis: name of the size}, or is None
    where the sizes are to be guessed. ``spec`` is what the user typed.
    """

    model: nn.Module
    example_inputs: Any
    dynamic: dict[str, dict[int, str]] | None
    spec: str
    name: str


def load_source(spec: str, inputs: Sequence[str] = ()) -> LoadedSource:
    """Load what ``spec`` names. ``inputs`` are ``--input`` texts; they replace its own examples.

    Raises :class:`BadInput` with one sentence for whatever cannot be loaded, and
    :class:`~diglot.errors.MissingExtra` where an optional package is needed.
    """
    wanted = input_specs.parse_inputs(inputs)
    source = _dispatch(spec, needs_examples=not wanted)
    if wanted:
        source.example_inputs = input_specs.make_examples(wanted, source.model)
        source.dynamic = input_specs.dynamic_sizes(wanted)
    _try_out(source, inputs)
    return source


def _try_out(source: LoadedSource, inputs: Sequence[str]) -> None:
    """Call the model once, so that inputs that do not fit are told before any work is done.

    Exporting runs on shapes alone, which lets some wrong dtypes pass.
    """
    import torch

    model = source.model
    modes = {module: module.training for module in model.modules()}
    generator = torch.random.get_rng_state()
    given = " ".join(f'--input "{text}"' for text in inputs) or "its example inputs"
    hint = "shapes, dtypes and names must be those that the model's forward takes"
    try:
        model.eval()
        with (
            torch.no_grad(),
            _TheirCode(f"The model, called with {given},", hint),
        ):
            input_specs.call(model, source.example_inputs)
    finally:
        torch.random.set_rng_state(generator)
        for module, mode in modes.items():
            module.training = mode


def _dispatch(spec: str, needs_examples: bool) -> LoadedSource:
    scheme, _, rest = spec.partition(":")
    if scheme == "timm" and rest:
        from diglot import pretrained

        name, args, kwargs = _parse_call(rest, spec)
        if args:
            raise BadInput("timm models take keyword arguments only.", received=spec)
        return LoadedSource(*pretrained.load_timm(name, kwargs), spec=spec, name=name)
    if scheme == "hf" and rest:
        from diglot import pretrained

        model, examples, dynamic = pretrained.load_hf(rest, needs_examples)
        return LoadedSource(model, examples, dynamic, spec, type(model).__name__)
    suffix = Path(spec).suffix.lower()
    if suffix == ".pt2":
        return _load_pt2(spec)
    if suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
        raise BadInput(
            f"{spec} holds pickled weights or objects, not a program.",
            expected=_FORMS,
            hint="write a function that builds the model and loads these weights with"
            " torch.load(…, weights_only=True), and name it as file.py:function",
        )
    module_name, colon, call = _split_factory(spec)
    if not colon:
        raise BadInput(
            "This source is not understood.",
            expected=_FORMS,
            received=spec,
            hint=f"add the name of a function that returns the model: {spec}:make"
            if spec.endswith(".py")
            else None,
        )
    return _load_factory(spec, module_name, call, needs_examples)


def _split_factory(spec: str) -> tuple[str, str, str]:
    """Split ``file.py:factory(args)`` at the colon before the factory (a path may hold others)."""
    head = spec.partition("(")[0]
    at = head.rfind(":")
    if at < 1 or not head[at + 1 :]:
        return spec, "", ""
    return spec[:at], ":", spec[at + 1 :]


def _parse_call(text: str, spec: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Parse ``name`` or ``name(1, depth=18)``; the arguments must be literals."""
    match = _CALL.match(text.strip())
    if match is None:
        raise BadInput("This source is not understood.", expected=_FORMS, received=spec)
    if match["arguments"] is None:
        return match["name"], [], {}
    try:
        call = ast.parse(f"f({match['arguments']})", mode="eval").body
        assert isinstance(call, ast.Call)
        args = [ast.literal_eval(node) for node in call.args]
        kwargs = {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg}
    except (SyntaxError, ValueError) as error:
        raise BadInput(
            "The arguments in this source are not plain Python values.",
            expected='numbers, strings, lists, e.g. net.py:make(18, name="a")',
            received=spec,
        ) from error
    return match["name"], args, kwargs


class _TheirCode(contextlib.AbstractContextManager["_TheirCode"]):
    """Whatever the user's code raises becomes one :class:`BadInput` that names the line."""

    def __init__(self, doing: str, hint: str | None = None) -> None:
        self.doing = doing
        self.hint = hint or "fix it, or run it in Python to see the whole traceback"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, SystemExit):
            raise BadInput(f"{self.doing} ended the program (sys.exit).") from error
        if not isinstance(error, Exception) or isinstance(error, DiglotError):
            return
        if isinstance(error, SyntaxError) and error.filename:
            where = f"{error.filename}:{error.lineno}"
        else:
            own = str(Path(__file__).parent)
            frames = [f for f in traceback.extract_tb(trace) if not f.filename.startswith("<")]
            theirs = [
                f
                for f in frames
                if not f.filename.startswith(own) and "/site-packages/" not in f.filename
            ]
            where = f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else None
        text = " ".join(str(error).split())
        raise BadInput(
            f"{self.doing} raised an error.",
            where=where,
            received=f"{type(error).__name__}: {text}" if text else type(error).__name__,
            hint=self.hint,
        ) from error


def _load_factory(
    spec: str, module_name: str, call_text: str, needs_examples: bool
) -> LoadedSource:
    module = _import_file(module_name) if module_name.endswith(".py") else _import(module_name)
    name, args, kwargs = _parse_call(call_text, spec)
    target: Any = module
    for part in name.strip().split("."):
        if not hasattr(target, part):
            raise BadInput(
                f"{module_name} has no {name}.",
                expected="one of " + ", ".join(_candidates(module))
                if _candidates(module)
                else None,
                received=spec,
            )
        target = getattr(target, part)
    called = "(" in call_text
    made = _make(target, spec, args, kwargs, called)
    model, examples = _split_made(made, spec)
    if examples is None:
        examples = _own_examples(module)
    if examples is None and needs_examples:
        raise BadInput(
            f"{spec} brings no example inputs.",
            expected="a factory that returns (model, example_inputs), example_inputs in the file,"
            " or --input",
            hint='add e.g. --input "float32[batch,3,224,224]"',
        )
    return LoadedSource(model, examples, None, spec, type(model).__name__)


def _candidates(module: ModuleType) -> list[str]:
    """The functions and nn.Module classes that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", None) == module.__name__
        and not name.startswith("_")
    ]


def _import_file(path_text: str) -> ModuleType:
    path = Path(path_text).expanduser()
    if not path.is_file():
        raise BadInput(f"There is no file {path_text}.", received=str(path.resolve()))
    folder = str(path.resolve().parent)
    # The folder comes first, as for `python file.py`, so that the file finds its neighbours.
    if sys.path[:1] != [folder]:
        sys.path.insert(0, folder)
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(path.resolve()):
            return loaded
        name = f"diglot_source_{name}"  # never take the place of a module that is in use
    found = importlib.util.spec_from_file_location(name, path.resolve())
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # inspect and dataclasses look a class's module up here
    try:
        with _TheirCode(f"Running {path_text}"):
            found.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with _TheirCode(f"Importing {name}"):
            return importlib.import_module(name)
    except BadInput as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and name.startswith(cause.name):
            raise BadInput(
                f"There is no module {name}.",
                expected=_FORMS,
                hint="install the package, or run diglot in the folder that holds it",
            ) from cause
        raise


def _make(target: Any, spec: str, args: list[Any], kwargs: dict[str, Any], called: bool) -> Any:
    from torch import nn

    is_model = isinstance(target, nn.Module)
    if not is_model and callable(target):
        with contextlib.suppress(ValueError, TypeError):
            signature = inspect.signature(target)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise BadInput(
                    f"{spec} cannot be called like this: {error}.",
                    expected=f"{getattr(target, '__name__', 'factory')}{signature}",
                    hint="give the arguments in the source, e.g. net.py:make(depth=18)",
                ) from error
        with _TheirCode(f"Calling {spec}"):
            return target(*args, **kwargs)
    if called:
        raise BadInput(f"{spec} is not a function, so it takes no arguments.")
    return target


def _split_made(made: Any, spec: str) -> tuple[nn.Module, Any]:
    """A factory's result as (model, example inputs or None)."""
    from torch import nn

    if isinstance(made, nn.Module):
        return made, None
    if isinstance(made, (tuple, list)) and made and isinstance(made[0], nn.Module):
        if len(made) == 2:
            return made[0], made[1]
        raise BadInput(
            f"{spec} returned {len(made)} things.",
            expected="a model, or (model, example_inputs) with a tuple or dict of several inputs",
        )
    raise BadInput(
        f"{spec} made no PyTorch model.",
        expected="an nn.Module, or (nn.Module, example_inputs)",
        received=type(made).__name__,
    )


def _own_examples(module: ModuleType) -> Any:
    """``example_inputs`` of the file: a value, or a function without arguments that makes it."""
    examples = getattr(module, "example_inputs", None)
    if callable(examples) and not hasattr(examples, "shape"):
        with _TheirCode(f"Calling {module.__name__}.example_inputs"):
            return examples()
    return examples


def _load_pt2(spec: str) -> LoadedSource:
    from diglot import archive

    path = Path(spec).expanduser()
    model, examples, dynamic = archive.load_program(path)
    return LoadedSource(model, examples, dynamic, spec, path.stem)
