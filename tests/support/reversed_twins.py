"""The hand-written pairs the other way round: a Keras model as the source, a PyTorch program of it.

They stand in for translations to PyTorch, so that proof and folder are tested without a writer.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import twins

from diglot.codegen.weights import TO_TORCH
from diglot.runtime import original
from diglot.sources_keras import make_keras
from diglot.translation import Translation

HEAD = '''"""Hand-written twin."""

import math

import torch
import torch.nn.functional as F
from torch import nn


'''
TAIL = """

def build_model(weights=None):
    model = {name}()
    if weights:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights))
    return model
"""


def program(module: torch.nn.Module) -> str:
    """The text of a model.py that defines the module's class."""
    kind = type(module)
    return HEAD + inspect.getsource(kind) + TAIL.format(name=kind.__name__)


def keras_inputs(twin: twins.Twin) -> Any:
    """Example inputs of a twin's Keras model."""
    arrays = []
    for spec, about in zip(twin.weight_map.inputs, twin.info["example_inputs"], strict=True):
        array = np.zeros(about["shape"], about["dtype"])
        arrays.append(array if spec.perm is None else array.transpose(spec.perm))
    if twin.weight_map.structure["inputs"] == "dict":
        return {str(s.name): a for s, a in zip(twin.weight_map.inputs, arrays, strict=True)}
    return arrays[0] if len(arrays) == 1 else arrays


def reversed_twin(twin: twins.Twin, folder: Path, kind: str = "factory") -> Translation:
    """The pair with its Keras model, written to a file in `folder`, as the source.

    `kind`: "factory" (named as file.py:build_model), "archive" (a model whose module can be imported)
    or "live" (a model of a class that only this process knows).
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"keras_{type(twin.source_model).__name__.lower()}"
    file = folder / f"{name}.py"
    file.write_text(twin.source)
    spec = f"{file}:build_model" if kind == "factory" else None
    if kind == "archive":
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        model = importlib.import_module(name).build_model()
        sys.path.remove(str(folder))
    elif kind == "live":
        space = {"__name__": "__main__"}
        exec(compile(twin.source, str(file), "exec"), space)
        model = space["build_model"]()
    else:
        model, _ = make_keras(spec)
    return translation(twin, model, spec)


def translation(twin: twins.Twin, model: Any, spec: str | None = None) -> Translation:
    """The pair, with `model` as its live source that has the PyTorch model's weights."""
    weight_map = twin.weight_map
    root = weight_map.root
    weight_map.entries = [
        replace(e, target=f"{root}.{e.target}" if root else e.target) for e in weight_map.entries
    ]
    weight_map.modules = [
        replace(p, target=f"{root}.{p.target}" if root else p.target, file=None, line=None)
        for p in weight_map.modules
    ]
    weight_map.root, weight_map.direction = None, TO_TORCH
    state = {n: t.detach().clone() for n, t in twin.source_model.state_dict().items()}
    for path, array in weight_map.apply({n: t.numpy() for n, t in state.items()}).items():
        weight_map.variables(model)[path].assign(array)
    described = original.describe(model, keras_inputs(twin), spec)
    info = {**twin.info, "original": described, "created_by": "diglot test"}
    return Translation(program(twin.source_model), weight_map, info, model, weights=state)
