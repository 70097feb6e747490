"""Every op of the table: TensorFlow against torch, in float64 and float32, and through ``torch.export``."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

tf = pytest.importorskip("tensorflow")

from diglot.frontends.tensorflow.ops import registry  # noqa: E402
from diglot.frontends.tensorflow_graph import mirror_of, read_concrete  # noqa: E402

registry.load()
CASES = [
    pytest.param(record, sample, id=f"{op}-{i}")
    for op, record in registry.TABLE.items()
    for i, sample in enumerate(record.samples)
]


def make_input(text: str, dtype: str, rng: np.random.Generator) -> np.ndarray:
    """An array as a sample describes it."""
    typed = re.fullmatch(r"(int64|bool)\[(.*)\](?:<(\d+))?", text)
    if typed:
        shape = [int(s) for s in typed[2].split(",")]
        if typed[1] == "bool":
            return rng.random(shape) < 0.5
        return rng.integers(0, int(typed[3]), shape)
    shape = [int(s) for s in text.lstrip("+<>").split(",")]
    array = rng.standard_normal(shape)
    if text[0] == "+":
        array = rng.random(shape) + 0.5
    elif text[0] == "<":
        array = rng.random(shape) * 1.6 - 0.8
    elif text[0] == ">":
        array = rng.random(shape) + 1.5
    return array.astype(dtype)


def concrete(sample, arrays):
    specs = [
        tf.TensorSpec(a.shape if sample.fixed else [None, *a.shape[1:]], a.dtype) for a in arrays
    ]
    return tf.function(lambda *xs: sample.build(tf.raw_ops, *xs)).get_concrete_function(*specs)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("record", "sample"), CASES)
def test_op(record, sample, dtype):
    rng = np.random.default_rng(7)
    arrays = [make_input(text, dtype, rng) for text in sample.inputs]
    function = concrete(sample, arrays)
    expected = function(*[tf.constant(a) for a in arrays]).numpy()
    tensors = tuple(torch.from_numpy(a) for a in arrays)
    mirror = mirror_of(read_concrete(function), tensors)
    got = mirror.module(*tensors)
    single = "float32" in (dtype, expected.dtype.name)
    tolerance = 2e-5 if single else 1e-12
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("record", "sample"), [c for c in CASES if str(c.id).endswith("-0")])
def test_exports(record, sample):
    rng = np.random.default_rng(7)
    arrays = [make_input(text, "float32", rng) for text in sample.inputs]
    mirror = mirror_of(read_concrete(concrete(sample, arrays)), arrays)
    tensors = tuple(torch.from_numpy(a) for a in arrays)
    shapes = tuple(dict.fromkeys(d, torch.export.Dim.AUTO) for d in mirror.dynamic)
    program = torch.export.export(mirror.module, tensors, dynamic_shapes=shapes, strict=False)
    got, expected = program.module()(*tensors), mirror.module(*tensors)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
