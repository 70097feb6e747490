"""Likely causes of a difference: hypotheses tried on the numbers, then settings compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from diglot.parity.tolerances import relative

CLOSE = 1e-6
"""A variant that comes this near to the translation's figures is taken for the cause."""

# PyTorch attribute -> Keras attribute, for settings that are told apart by reading them.
_SETTINGS = {
    "eps": "epsilon",
    "negative_slope": "negative_slope",
    "approximate": "approximate",
    "num_heads": "num_heads",
    "groups": "groups",
}


def weight_cause(expected: np.ndarray, found: np.ndarray | None, note: str = "") -> str:
    """Why a weight in the target is not what the map makes of the source's."""
    if found is None:
        what = "the Keras model has no such weight"
        return f"{what}: {note}" if note and note != "missing" else what
    if found.size == expected.size:
        if not found.any():
            return "the weight is zero in the translation: it was not filled"
        if expected.ndim == 2 and relative(expected.T, found.reshape(expected.T.shape)) < CLOSE:
            return "the weight is transposed"
        for axis in range(expected.ndim):
            if relative(np.flip(expected, axis), found.reshape(expected.shape)) < CLOSE:
                return f"the weight is reversed along axis {axis}"
        if relative(np.sort(expected, axis=None), np.sort(found, axis=None)) < CLOSE:
            return "the weight holds the right numbers in another order: a wrong transposition"
    ratio = _ratio(expected, found)
    if ratio is not None:
        return f"the weight is {ratio:.6g} times what it should be"
    return "the weight holds other numbers than the source's"


def momentum_cause(
    before: np.ndarray, source: np.ndarray, target: np.ndarray, momentum: float
) -> str:
    """Why a running mean or variance moved differently; `momentum` is PyTorch's."""
    step = source - before
    if momentum and np.abs(step).max() > 0:
        moved = target - before
        if not np.abs(moved).max():
            return "the running statistics are not updated in the translation"
        ratio = _ratio(step, moved, loose=0.5)
        if ratio is not None:
            weight = momentum * ratio
            return (
                f"batch norm momentum: the new batch weighs {weight:.3g} in the translation and "
                f"{momentum:g} in PyTorch, where Keras needs momentum {1 - momentum:g}"
            )
    return "the running statistics are updated in another way"


def output_cause(source: list[np.ndarray], target: list[np.ndarray]) -> str:
    """What the numbers themselves say of two outputs that should be equal."""
    for a, b in zip(source, target, strict=False):
        if a.shape != b.shape:
            return (
                f"the shapes differ, {list(a.shape)} in PyTorch and {list(b.shape)} in Keras: "
                "padding, strides or a reshape"
            )
        if a.dtype.kind not in "fc" or relative(a, b) <= CLOSE * 1e-4:
            continue
        if not np.isfinite(b).all() and np.isfinite(a).all():
            return "the translation gives NaN or infinity"
        if relative(a, b) < 1e-5:
            return "something computes in float32 here, or in an approximate formula"
        if relative(np.sort(a, axis=None), np.sort(b, axis=None)) < CLOSE:
            return "the right numbers in another order: axes are swapped or mixed up in a reshape"
        ratio = _ratio(a, b)
        if ratio is not None:
            return f"a factor: the translation gives {ratio:.6g} times PyTorch's output"
        offset = b - a
        if a.ndim >= 2 and offset.size:
            for axis in range(1, a.ndim):
                lead = np.moveaxis(offset, axis, 0).reshape(a.shape[axis], -1)
                if np.ptp(lead, axis=1).max() < CLOSE * np.abs(offset).max():
                    return f"a constant is added along axis {axis}: a bias is missing or doubled"
    return ""


def settings_cause(module: Any, described: dict[str, Any]) -> str:
    """Settings in which a PyTorch module and its Keras layer, as described, disagree."""
    settings = described.get("settings") or {}
    differing = []
    for ours, theirs in _SETTINGS.items():
        a, b = getattr(module, ours, None), settings.get(theirs)
        if isinstance(a, (int, float)) and isinstance(b, (int, float)) and a != b:
            differing.append(f"{theirs} is {b:g} in Keras, {ours} is {a:g} in PyTorch")
    has_bias = getattr(module, "bias", None) is not None
    if "use_bias" in settings and hasattr(module, "bias") and has_bias != settings["use_bias"]:
        differing.append("one side has a bias and the other has none")
    return "; ".join(differing)


def _ratio(a: np.ndarray, b: np.ndarray, loose: float = CLOSE) -> float | None:
    """c where b = c * a within `loose`, else None (also where c is 1)."""
    if a.shape != b.shape or not np.abs(a).max():
        return None
    place = np.unravel_index(int(np.abs(a).argmax()), a.shape)
    ratio = float(b[place] / a[place])
    if abs(ratio - 1) < CLOSE or not np.isfinite(ratio) or ratio == 0:
        return None
    scale = np.abs(b).max()
    return ratio if np.abs(b - ratio * a).max() <= loose * scale else None
