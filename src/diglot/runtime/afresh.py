"""Generated files, imported."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType

from diglot.errors import BadInput

_numbers = itertools.count(1)


def import_afresh(path: Path) -> ModuleType:
    """Run a generated file as a module of a name that was never used: the file may have been written anew, and
    its classes read Keras's float type when they are made. Raises BadInput where there is no file, and whatever
    the file raises.
    """
    name = f"diglot_generated_{next(_numbers)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise BadInput(
            f"There is no {path.name}.", where=str(path), hint="translate again, into this folder"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes look their module up, pickles and inspect do as well
    spec.loader.exec_module(module)
    return module
