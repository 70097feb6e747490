"""Layers that PyTorch has no form for, or that would run code from a file, each with its reason."""

from __future__ import annotations

from typing import Any

from diglot.frontends.keras_layers.records import layer, refuse


def _run_lambda(run: Any, *values: Any, **options: Any) -> Any:
    options.pop("mask", None)
    return run.apply(run.layer.function, *values, **{**(run.layer.arguments or {}), **options})


layer("Lambda", call=_run_lambda)  # reached only where the user trusts the model
refuse(
    "Lambda",
    "it holds arbitrary Python code: pass trusted=True (--trust) if you know where the model comes from, or write "
    "a layer class",
)
