"""Names that a person would choose, and that Python and Keras allow."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Sequence
from typing import Any

#: Attributes of keras.layers.Layer that a sublayer or weight must not hide.
RESERVED_ATTRIBUTES = frozenset(
    """activity_regularizer add_loss add_metric add_variable add_weight autocast build build_from_config built call
    compute_dtype compute_mask compute_output_shape compute_output_spec count_params dtype dtype_policy from_config
    get_build_config get_config get_weights input input_dtype input_spec layers load_own_variables losses metrics
    metrics_variables name non_trainable_variables non_trainable_weights output path quantization_mode quantize
    quantized_build quantized_call rematerialized_call remat_mode save_own_variables set_weights stateful
    stateless_call supports_jit supports_masking supports_mask symbolic_call trainable trainable_variables
    trainable_weights variable_dtype variables weights training""".split()
)
_TAKEN = frozenset({"ops", "layers", "keras", "self", "np", "math", "model", "torch", "nn", "F"})
#: Parameters that Keras fills in by itself.
RESERVED_PARAMETERS = frozenset({"training"})


def common_start(sequences: Sequence[Any]) -> Any:
    """Return what all strings, or all lists, begin with."""
    first, last = min(sequences), max(sequences)
    apart = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(apart, min(len(first), len(last)))]


def identifier(text: str) -> str:
    """Turn any text into a Python identifier."""
    name = re.sub(r"\W+", "_", text).strip("_") or "x"
    return f"n{name}" if name[0].isdigit() else name


def local(name: str) -> str:
    """Return a safe name for a local variable or a parameter."""
    name = identifier(name)
    if keyword.iskeyword(name) or name in _TAKEN or name in RESERVED_PARAMETERS:
        return f"{name}_"
    if hasattr(builtins, name) and name != "input":
        return f"{name}_"
    return "inputs" if name == "input" else name


def attribute(name: str) -> str:
    """Return a safe attribute name on a keras Layer. ``layers`` is only reserved on a Model."""
    name = identifier(name)
    if (
        keyword.iskeyword(name)
        or (name in RESERVED_ATTRIBUTES and name != "layers")
        or name.startswith("__")
    ):
        return f"{name}_"
    return name


def class_name(name: str) -> str:
    """Return a safe class name."""
    name = identifier(name)
    return f"{name}_" if name in ("Layer", "Model", "Sequential") else name


def snake(name: str) -> str:
    """``BasicBlock`` -> ``basic_block``; ``ViT`` and ``MoE`` are one word."""
    name = re.sub(r"^([A-Z][a-z][A-Z])(?=$|\d|_|[A-Z][a-z])", lambda m: m[0].title(), name)
    step = re.sub(r"([^_])([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", step).lower()


def unique(name: str, taken: set[str] | dict) -> str:
    """Return ``name``, or ``name_2``, ``name_3``, … when it is taken."""
    if name not in taken:
        return name
    stem, number = name, 2
    while f"{stem}_{number}" in taken:
        number += 1
    return f"{stem}_{number}"


def singular(name: str) -> str:
    """Return the name of one of several: ``blocks`` -> ``block``; ``layer`` where there is no plural."""
    return name[:-1] if name.endswith("s") and len(name) > 2 else "layer"


def plural(name: str) -> str:
    """Return the name of several: ``block`` -> ``blocks``."""
    return f"{name}s"
