"""Keras -> PyTorch -> Keras: the Keras models of the tests and the zoo, and what must come back of each.

A layer of Keras's own is a model of that layer alone (``layers.GRU.3``: a sample of its record).
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras_applications
import mirrors
import numpy as np

from diglot.frontends import keras_layers
from diglot.zoo import PAIRS, find_pair

Factory = Callable[[], tuple[Any, Any]]
TESTS = Path(__file__).resolve().parent.parent
sys.path += [str(TESTS / "real"), str(TESTS / "frontends")]


def _ids(*shape: int, below: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, below, shape).astype("int32")


def _of(file: str, make: Callable[[Any], Any], inputs: Any = None) -> Factory:
    """A model that a test builds: ``make`` is given the test's module."""

    def factory() -> tuple[Any, Any]:
        model = make(importlib.import_module(file))
        if inputs is not None:
            model(inputs)
        mirrors.move_vectors(model)
        return model, inputs

    return factory


def _of_zoo(name: str) -> Factory:
    def make() -> tuple[Any, Any]:
        pair = find_pair(name)
        sizes = pair.setting("fast").model
        example = pair.example(sizes, np.random.default_rng(0))
        model = pair.keras().build_model(**sizes)
        example = {n: np.moveaxis(x, 1, -1) if x.ndim == 4 else x for n, x in example.items()}
        return model, example if len(example) > 1 else next(iter(example.values()))

    return make


def _of_layer(sample: Any) -> tuple[Any, Any]:
    import keras

    rng = np.random.default_rng(1)
    layer = sample.make(keras)
    values = [mirrors.array(text, rng, "float32") for text in sample.inputs]
    inputs = [
        keras.Input(v.shape[1:], dtype=str(v.dtype), name=f"in_{i}") for i, v in enumerate(values)
    ]
    given = inputs[0] if len(inputs) == 1 else inputs
    outputs = sample.call(layer, *inputs) if sample.call is not None else layer(given)
    model = keras.Model(inputs, outputs)
    mirrors.move_vectors(model)
    return model, values[0] if len(values) == 1 else values


def _of_layers() -> dict[str, Factory]:
    keras_layers.load()
    records = {n: r.samples for n, r in keras_layers.TABLE.items()} | keras_layers.OWN_CALL
    return {
        f"layers.{name}.{index}": functools.partial(_of_layer, sample)
        for name, samples in sorted(records.items())
        for index, sample in enumerate(samples)
    }


_WORDS = _ids(2, 7, below=9)
MODELS: dict[str, Factory] = {
    "cnn": _of("keras_models", lambda m: m.cnn()),
    "residual": _of("keras_models", lambda m: m.residual()),
    "blocks": _of("keras_models", lambda m: m.blocks(["up"] * 3)),
    "unlike_blocks": _of("keras_models", lambda m: m.blocks(["up", "wide"])),
    "towers": _of("keras_models", lambda m: m.towers()),
    "gpt": _of("test_to_torch", lambda m: m.GPT(50, 16, 4, 3, 40), _WORDS),
    "named": _of("test_to_torch", lambda m: m.Named(name="scorer"), np.ones((2, 4), "float32")),
    "image_model": _of("test_keras_models", lambda m: m.image_model()),
    "net": _of("test_keras_models", lambda m: m.Net(), _WORDS),
    "resnet": _of("test_keras_blocks", lambda m: m.resnet()),
    "vision_transformer": _of("test_keras_blocks", lambda m: m.vision_transformer()),
    "unet": _of("test_keras_blocks", lambda m: m.unet()),
    **{f"zoo.{name}": _of_zoo(name) for name in PAIRS},
    **{
        f"applications.{name}": keras_applications.MODELS[name]
        for name in ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny")
    },
    **_of_layers(),
}
