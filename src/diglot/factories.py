"""Models that the user names by the code that makes them: file.py:factory or package.module:factory.

Literal arguments may follow: net.py:ResNet(depth=18). This imports no framework of its own: the PyTorch
side of a command uses it in its process, the Keras side in another.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from diglot.errors import BadInput, DiglotError

_CALL = re.compile(r"^(?P<name>[^()]+?)(?:\((?P<arguments>.*)\))?$", re.DOTALL)


@dataclass(frozen=True)
class Factory:
    """What the user typed, taken apart; `forms` is what may be typed, for messages."""

    spec: str
    module: str
    call: str
    forms: str

    @classmethod
    def parse(cls, spec: str, forms: str) -> Factory:
        """Split at the colon before the factory (a path may hold others).

        Raises BadInput where there is none.
        """
        head = spec.partition("(")[0]
        at = head.rfind(":")
        if at < 1 or not head[at + 1 :]:
            if (
                at < 0
                and _is_path(head)
                and not head.endswith(".py")
                and not Path(head).expanduser().exists()
            ):
                path = Path(head).expanduser().absolute()
                raise BadInput(
                    f"There is no file or folder {head}.",
                    expected=forms,
                    received=str(path),
                    hint=_near(path),
                )
            raise BadInput(
                "This source is not understood.",
                expected=forms,
                received=spec,
                hint=_missing(head),
            )
        return cls(spec, spec[:at], spec[at + 1 :], forms)

    def make(self, model_class: type) -> tuple[ModuleType, Any]:
        """Import the module and call the factory (unless it is a model already, one of
        `model_class`); gives both. Raises BadInput, with the line of whatever the code raises."""
        if self.module.endswith(".py"):
            module = import_file(self.module)
        else:
            module = import_module(self.module, self.forms)
        name, args, kwargs = parse_call(self.call, self.spec, self.forms)
        target: Any = module
        for part in name.strip().split("."):
            if not hasattr(target, part):
                raise BadInput(
                    f"{self.module} has no {name}.",
                    expected="one of " + ", ".join(_candidates(module))
                    if _candidates(module)
                    else None,
                    received=self.spec,
                )
            target = getattr(target, part)
        if not isinstance(target, model_class) and callable(target):
            return module, self._call(target, args, kwargs)
        if "(" in self.call:
            raise BadInput(f"{self.spec} is not a function, so it takes no arguments.")
        return module, target

    def _call(self, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        with contextlib.suppress(ValueError, TypeError):
            signature = inspect.signature(target)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as error:
                raise BadInput(
                    f"{self.spec} cannot be called like this: {error}.",
                    expected=f"{getattr(target, '__name__', 'factory')}{signature}",
                    hint="give the arguments in the source, e.g. net.py:make(depth=18)",
                ) from error
        with TheirCode(f"Calling {self.spec}"):
            return target(*args, **kwargs)


def _missing(head: str) -> str | None:
    """What a source without a factory lacks."""
    if head.endswith(".py"):
        return f"add the name of a function that returns the model: {head}:make"
    if head and ":" not in head and not Path(head).exists():
        return f"there is no file or folder {head} in {Path.cwd()}"
    return None


def _is_path(text: str) -> bool:
    """Whether a source that names no factory looks like a path, not like a name from a collection."""
    return bool(Path(text).suffix) or text.startswith(("~", ".")) or "/" in text or os.sep in text


def _near(path: Path) -> str | None:
    """What the user may have meant, among what is in the same folder."""
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    names = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=3)
    return f"did you mean {' or '.join(str(folder / name) for name in names)}?" if names else None


def parse_call(text: str, spec: str, forms: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Parse ``name`` or ``name(1, depth=18)``; the arguments must be literals."""
    match = _CALL.match(text.strip())
    if match is None:
        raise BadInput("This source is not understood.", expected=forms, received=spec)
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


class TheirCode(contextlib.AbstractContextManager["TheirCode"]):
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


def _candidates(module: ModuleType) -> list[str]:
    """The functions and nn.Module classes that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", None) == module.__name__
        and not name.startswith("_")
    ]


def import_file(path_text: str) -> ModuleType:
    """Run a Python file as a module of its own name, once. Raises BadInput where it fails."""
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
        with TheirCode(f"Running {path_text}"):
            found.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def import_module(name: str, forms: str) -> ModuleType:
    """Import a module, of the present folder, too. Raises BadInput where there is none, or it fails."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with TheirCode(f"Importing {name}"):
            return importlib.import_module(name)
    except BadInput as error:
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError) and cause.name and name.startswith(cause.name):
            raise BadInput(
                f"There is no module {name}.",
                expected=forms,
                hint="install the package, or run diglot in the folder that holds it",
            ) from cause
        raise
