"""Layers that torch.nn has no form for, or that would run code from a file, each with its reason."""

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
refuse(
    "RandomCrop AutoContrast CutMix Equalization MixUp ContrastLimitedAdaptiveHistogramEqualization",
    "such a step belongs before the model, where PyTorch has it, too (torchvision.transforms): take the layer out",
)
refuse(
    "StringLookup TextVectorization Hashing HashedCrossing",
    "PyTorch has no tensors of text: do this step in Python (its vocabulary is layer.get_vocabulary()) and "
    "translate the rest of the model, which takes ids",
)
refuse(
    "MaxNumBoundingBoxes",
    "boxes are a dict of ragged data: do this step in Python before the model",
)
refuse("JaxLayer FlaxLayer", "it runs JAX functions, which are no Keras ops")
refuse("TFSMLayer", "it holds a SavedModel: translate that one (diglot translate DIRECTORY)")
refuse("TorchModuleWrapper", "it holds a PyTorch module already")
