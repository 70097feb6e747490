"""Every op of the table: TensorFlow against torch, in float64 and float32, and through ``torch.export``."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

tf = pytest.importorskip("tensorflow")

from diglot.frontends.tensorflow.ops import registry  # noqa: E402
from diglot.frontends.tensorflow_graph import mirror_of, read_concrete  # noqa: E402
from diglot.runtime.graph_eager import Interpreter  # noqa: E402

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


def no_gradient(error):
    """Whether TensorFlow has no gradient for an op."""
    return isinstance(error, LookupError) or "gradient" in str(error).lower()


@pytest.mark.parametrize(("record", "sample"), CASES)
def test_a_graph_saved_in_float32_is_run_in_float64(record, sample):
    """What a proof compares the translation with: TensorFlow's ops, widened, and their gradients."""
    rng = np.random.default_rng(8)
    arrays = [make_input(text, "float64", rng) for text in sample.inputs]
    narrow = [a.astype("float32") if a.dtype.kind == "f" else a for a in arrays]
    function = concrete(sample, narrow)
    definition = function.graph.as_graph_def()
    tensors = [tf.constant(a) for a in arrays]
    feeds = dict(zip([t.name for t in function.inputs], tensors, strict=True))
    with tf.GradientTape() as tape:
        tape.watch([t for t in tensors if t.dtype == tf.float64])
        (result,) = Interpreter(definition, {}).run(feeds, [function.outputs[0].name])
    mirror = mirror_of(read_concrete(function), [torch.from_numpy(a) for a in narrow])
    # In torch the running statistics of a batch norm, which are inputs here, have no gradient.
    watched = 3 if "FusedBatchNorm" in record.op else len(arrays)
    leaves = [
        torch.from_numpy(a).requires_grad_(a.dtype.kind == "f" and i < watched)
        for i, a in enumerate(arrays)
    ]
    got = mirror.module(*[leaf.clone() for leaf in leaves])
    np.testing.assert_allclose(got.detach().numpy(), result.numpy(), rtol=1e-12, atol=1e-12)
    floats = [(a, b) for a, b in zip(tensors, leaves, strict=True) if b.requires_grad]
    if not got.requires_grad or result.dtype != tf.float64:
        return
    weights = rng.standard_normal(result.shape)
    try:
        expected = tape.gradient(
            result, [a for a, _ in floats], weights, tf.UnconnectedGradients.ZERO
        )
    except (LookupError, tf.errors.OpError) as error:
        if no_gradient(error):
            pytest.skip("TensorFlow has no gradient for it")
        raise
    found = torch.autograd.grad(
        got, [b for _, b in floats], torch.from_numpy(weights), materialize_grads=True,
        allow_unused=True,
    )  # fmt: skip
    for ours, theirs in zip(found, expected, strict=True):
        theirs = tf.convert_to_tensor(theirs).numpy()
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-9)
