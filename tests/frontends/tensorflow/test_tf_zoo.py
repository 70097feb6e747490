"""A SavedModel of every Keras model of the zoo, read back as torch modules and proven."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from support_tf import agrees, weights_return

import diglot
from diglot.frontends.tensorflow_graph import mirror_of, read_saved_model

pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs

_SMALL = {"d_model": 16, "num_heads": 4, "num_layers": 2, "d_ff": 24, "max_length": 32}
MODELS = {
    "mnist_mlp": {},
    "resnet": {"blocks": (1, 2), "width": 8, "classes": 10},
    "encoder_only": {"vocab_size": 20, **_SMALL},
    "decoder_only": {"vocab_size": 20, **_SMALL},
    "encoder_decoder": {"vocab_size": 20, **_SMALL},
    "dna_seq2seq": {
        "vocab_size": 9, "seq_len": 32, "d_model": 16, "num_layers": 2, "h": 4, "d_ff": 24,
    },
    "dna_tagger": {
        "maxlen": 32, "vocab_size": 9, "embed_dim": 16, "num_heads": 4, "ff_dim": 24,
        "num_transformer_blocks": 2,
    },
    "doc_classifier": {"width": 24, "hidden": 16},
}  # fmt: skip


def randomise(model):
    rng = np.random.default_rng(4)
    for weight in model.weights:
        if weight.dtype.startswith("float"):
            weight.assign(rng.standard_normal(weight.shape) * 0.2)
        if "variance" in weight.path:
            weight.assign(rng.random(weight.shape) + 0.5)


def given(source, batch=3, length=7):
    """Arrays for the inputs of a graph, by name, with padding at the end of ids."""
    rng = np.random.default_rng(5)
    arrays = {}
    for spec in source.inputs:
        shape = [s or (length if i else batch) for i, s in enumerate(spec.shape)]
        if spec.dtype == "bool":
            arrays[spec.name] = np.arange(length) < rng.integers(3, length, (batch, 1))
        elif "int" in spec.dtype or spec.shape == (None, None):  # ids that Keras exports as floats
            array = rng.integers(1, 2 if "segment" in spec.name else 8, shape)
            array[-1, -2:] = 0
            arrays[spec.name] = array.astype(spec.dtype)
        else:
            arrays[spec.name] = rng.standard_normal(shape).astype("float32")
    return arrays


SOME = ("mnist_mlp", "resnet")


@pytest.mark.parametrize(
    "name", [*SOME, *(pytest.param(n, marks=pytest.mark.sweep) for n in MODELS if n not in SOME)]
)
def test_zoo(name, tmp_path):
    module = importlib.import_module(f"diglot.zoo.{name}.keras_model")
    model = module.build_model(**MODELS[name])
    randomise(model)
    model.export(str(tmp_path / name), verbose=False)
    source = read_saved_model(tmp_path / name)
    arrays = given(source)
    mirror = mirror_of(source, list(arrays.values()))
    expected = model(arrays if len(arrays) > 1 else next(iter(arrays.values())))
    inputs = [torch.from_numpy(a) for a in arrays.values()]
    inputs = [t.long() if t.dtype == torch.int32 else t for t in inputs]
    agrees(mirror, dict(expected) if isinstance(expected, dict) else expected, inputs)
    trained = {e.target for e in mirror.entries}
    weights_return(mirror, {w.path: w.numpy() for w in model.weights if w.path in trained})
    translation = diglot.translate(source, list(arrays.values()), to="torch")
    assert diglot.prove(translation).verdict == "proven"
