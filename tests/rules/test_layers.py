"""Rules of layers: which Keras layer is chosen, with which weights, and what is refused."""

import ast
import warnings

import keras
import numpy as np
import pytest
import torch
from one_op import Bench

from diglot import carried
from diglot.codegen.expr import text
from diglot.codegen.opcall import Refusal
from diglot.rules import Sample, registry
from diglot.runtime.keras_exact import set_width

LAYERS = ("linear", "convolution", "normalisation", "embedding")
IMAGE = {"x": "2,4,9,12"}
SEQUENCE = {"x": "3,7,5"}


@pytest.fixture(autouse=True)
def float64():
    """Both frameworks in float64, as in proofs."""
    before = keras.config.floatx()
    set_width("float64")
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    set_width(before)


def bench(op: str, module: str, inputs: dict[str, str], call: str = "m(x)", **options) -> Bench:
    """Write one use of an op with its rule."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Bench(op, Sample(call, inputs, module), **options)


def constructs(made: Bench) -> dict[str, str]:
    """Return the Keras layers that a rule declared."""
    return {key: text(construct) for key, (construct, _) in made.writer.layers.items()}


# --- which layer ------------------------------------------------------------------------------------

CHOICES = [
    ("aten.linear.default", "nn.Linear(5, 7)", {"x": "3,5"}, {"m": "layers.Dense(7)"}),
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 6, 3, padding=1)",
        IMAGE,
        {"m": "layers.Conv2D(6, 3, padding='same')"},
    ),
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 6, 3, stride=2, padding=1)",
        IMAGE,
        {"m_pad": "layers.ZeroPadding2D(1)", "m": "layers.Conv2D(6, 3, strides=2)"},
    ),
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 6, (1, 7), padding=(0, 3), bias=False)",
        IMAGE,
        {"m": "layers.Conv2D(6, (1, 7), padding='same', use_bias=False)"},
    ),
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 8, 3, groups=4)",
        IMAGE,
        {"m": "layers.DepthwiseConv2D(3, depth_multiplier=2)"},
    ),
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 6, 3, groups=2)",
        IMAGE,
        {"m": "layers.Conv2D(6, 3, groups=2)"},
    ),
    (
        "aten.batch_norm.default",
        "nn.BatchNorm2d(4, affine=False)",
        IMAGE,
        {"m": "layers.BatchNormalization(momentum=0.9, epsilon=1e-05, center=False, scale=False)"},
    ),
    (
        "aten.layer_norm.default",
        "nn.LayerNorm((9, 12), eps=1e-6)",
        IMAGE,
        {"m": "layers.LayerNormalization(axis=[-2, -1], epsilon=1e-06)"},
    ),
    (
        "aten.embedding.default",
        "nn.Embedding(7, 4)",
        {"x": "int64[3]<7"},
        {"m": "layers.Embedding(7, 4)"},
    ),
    ("aten.max_pool2d.default", "nn.MaxPool2d(2)", IMAGE, {"m": "layers.MaxPooling2D(2)"}),
    (
        "aten.max_pool2d.default",
        "nn.MaxPool2d(3, 1, 1)",
        IMAGE,
        {"m": "layers.MaxPooling2D(3, strides=1, padding='same')"},
    ),
    (
        "aten.lstm.input",
        "nn.LSTM(5, 4, batch_first=True, num_layers=2)",
        SEQUENCE,
        {"m": "StackedRNN('LSTM', 4, num_layers=2)"},
    ),
]


@pytest.mark.parametrize(("op", "module", "inputs", "expected"), CHOICES, ids=lambda v: str(v)[:40])
def test_a_person_would_choose_this_layer(op, module, inputs, expected):
    assert constructs(bench(op, module, inputs)) == expected


def test_without_a_size_of_its_own_a_strided_dilated_convolution_is_thinned_out():
    made = bench("aten.conv2d.default", "nn.Conv2d(4, 6, 3, stride=2, dilation=2)", IMAGE)
    assert constructs(made) == {"m": "layers.Conv2D(6, 3, dilation_rate=2)"}
    assert made.expression == "self.m(inputs_0)[:, ::2, ::2]"


def test_frozen_statistics_stay_frozen():
    call = "F.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, False)"
    made = bench("aten.batch_norm.default", "nn.BatchNorm2d(4)", IMAGE, call)
    assert made.expression == "self.m(inputs_0, training=False)"
    assert max(made.gaps().values()) <= 1e-9


# --- weights --------------------------------------------------------------------------------------------

SHAPES = [
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 6, (3, 5), groups=2)",
        IMAGE,
        {"m.kernel": (3, 5, 2, 6), "m.bias": (6,)},
    ),
    (
        "aten.conv2d.default",
        "nn.Conv2d(4, 8, (3, 5), groups=4)",
        IMAGE,
        {"m.kernel": (3, 5, 4, 2), "m.bias": (8,)},
    ),
    (
        "aten.conv_transpose2d.input",
        "nn.ConvTranspose2d(4, 6, (3, 5))",
        IMAGE,
        {"m.kernel": (3, 5, 6, 4), "m.bias": (6,)},
    ),
    (
        "aten.gru.input",
        "nn.GRU(5, 4, batch_first=True)",
        SEQUENCE,
        {"m.cell.kernel": (5, 12), "m.cell.recurrent_kernel": (4, 12), "m.cell.bias": (2, 12)},
    ),
    (
        "aten.lstm.input",
        "nn.LSTM(5, 4, batch_first=True, bidirectional=True)",
        SEQUENCE,
        {
            f"m.{way}_layer.cell.{name}": shape
            for way in ("forward", "backward")
            for name, shape in (("kernel", (5, 16)), ("recurrent_kernel", (4, 16)), ("bias", (16,)))
        },
    ),
    (
        "aten.batch_norm.default",
        "nn.BatchNorm2d(4)",
        IMAGE,
        {f"m.{n}": (4,) for n in ("gamma", "beta", "moving_mean", "moving_variance")},
    ),
]


@pytest.mark.parametrize(("op", "module", "inputs", "expected"), SHAPES, ids=lambda v: str(v)[:40])
def test_weights_have_the_layer_s_shapes_and_come_back_exactly(op, module, inputs, expected):
    call = "m(x)[0]" if inputs is SEQUENCE else "m(x)"
    entries = bench(op, module, inputs, call).entries()
    assert {k: tuple(e.shape) for k, e in entries.items()} == expected
    for entry in entries.values():
        sources = [np.random.default_rng(0).normal(size=s) for s in entry.source_shapes]
        target = entry.to_target(sources)
        back = entry.to_source(target, sources)
        assert all(np.array_equal(a, b) for a, b in zip(sources, back, strict=True))


def test_multi_head_attention_splits_the_packed_projection():
    made = bench(
        "diglot.multi_head_attention.default",
        "nn.MultiheadAttention(12, 3, batch_first=True)",
        {"x": "2,5,12"},
        "m(x, x, x)[0]",
    )
    shapes = {k: tuple(e.shape) for k, e in made.entries().items()}
    assert shapes == {
        **{f"m.{n}_dense.kernel": (12, 3, 4) for n in ("query", "key", "value")},
        **{f"m.{n}_dense.bias": (3, 4) for n in ("query", "key", "value")},
        "m.output_dense.kernel": (3, 4, 12),
        "m.output_dense.bias": (12,),
    }


# --- weights that no layer can own --------------------------------------------------------------------------


def _shared():
    for op, rule in registry().items():
        for sample in rule.samples:
            if rule.family in LAYERS and sample.module:
                yield pytest.param(op, sample, id=f"{op}:{sample.module}")


@pytest.mark.parametrize(("op", "sample"), _shared())
def test_a_weight_of_another_module_is_used_as_it_is(op, sample):
    try:
        made = Bench(op, sample, owned=False)
    except Refusal as refusal:
        # Bags are known by the layer that they belong to: alone they are refused, whoever owns them.
        assert "another module" in str(refusal) or op.startswith("aten.embedding_bag")
        return
    gaps = made.gaps()
    assert gaps
    assert max(gaps.values()) <= 1e-9, gaps


# --- what is refused ----------------------------------------------------------------------------------------

REFUSED = [
    ("aten.conv2d.default", "nn.Conv2d(4, 6, 3)", {"x": "4,9,12"}, "m(x)", "no batch axis"),
    (
        "aten.conv_transpose2d.input",
        "nn.ConvTranspose2d(4, 6, 3, dilation=2)",
        IMAGE,
        "m(x)",
        "dilation",
    ),
    (
        "aten.conv_transpose2d.input",
        "nn.ConvTranspose2d(4, 6, 3, groups=2)",
        IMAGE,
        "m(x)",
        "groups",
    ),
    (
        "aten.embedding.default",
        "nn.Embedding(7, 4, scale_grad_by_freq=True)",
        {"x": "int64[3]<7"},
        "m(x)",
        "scale_grad_by_freq",
    ),
    (
        "aten.embedding_bag.padding_idx",
        "nn.EmbeddingBag(7, 4)",
        {"x": "int64[3,5]<7"},
        "m(x)",
        "bags",
    ),
    (
        "aten.instance_norm.default",
        "nn.InstanceNorm2d(4, track_running_stats=True)",
        IMAGE,
        "m(x)",
        "running statistics",
    ),
    ("aten.max_pool2d.default", "nn.MaxPool2d(2, dilation=2)", IMAGE, "m(x)", "dilated"),
    (
        "aten.max_pool2d_with_indices.default",
        "nn.MaxPool2d(2, return_indices=True)",
        IMAGE,
        "m(x)",
        "positions",
    ),
    (
        "aten.lstm.input",
        "nn.LSTM(5, 4, proj_size=3, batch_first=True)",
        SEQUENCE,
        "m(x)[0]",
        "proj_size",
    ),
    (
        "diglot.multi_head_attention.default",
        "nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=True)",
        {"x": "2,5,8"},
        "m(x, x, x)[0]",
        "add_zero_attn",
    ),
    ("aten.dropout.default", "nn.Dropout(1.0)", {"x": "3,5"}, "m(x)", "everything"),
    (
        "aten._upsample_bilinear2d_aa.vec",
        None,
        {"x": "2,3,5,7"},
        "F.interpolate(x, scale_factor=2, mode='bilinear', antialias=True)",
        "antialias",
    ),
]


@pytest.mark.parametrize(("op", "module", "inputs", "call", "reason"), REFUSED)
def test_what_keras_cannot_do_is_refused_with_a_reason(op, module, inputs, call, reason):
    with pytest.raises(Refusal, match=reason):
        bench(op, module, inputs, call)


# --- helpers ----------------------------------------------------------------------------------------------


def test_every_helper_has_a_docstring_and_stands_alone():
    for name in carried.names():
        tree = ast.parse("\n".join(carried.sources({name})))
        assert all(ast.get_docstring(node) for node in tree.body), name
        assert not [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))], name


def test_a_helper_comes_after_what_it_uses():
    made = carried.sources({"scaled_dot_product_attention"})
    assert [t.split("(")[0] for t in made] == [
        "def masked_softmax",
        "def scaled_dot_product_attention",
    ]


CLASSES = [
    ("PaddedEmbedding", {"input_dim": 7, "output_dim": 4, "padding_idx": 2}),
    ("StackedRNN", {"kind": "GRU", "units": 3, "num_layers": 2, "bidirectional": True}),
    ("MultiheadAttention", {"embed_dim": 8, "num_heads": 2, "dropout": 0.1}),
    ("ExactMultiHeadAttention", {"num_heads": 2, "key_dim": 3, "dropout": 0.1}),
    ("PaddedMaxPooling", {"pool_size": 3, "strides": 2, "before": (1, 1), "after": (1, 1)}),
]


@pytest.mark.parametrize(("name", "config"), CLASSES)
def test_a_class_that_models_carry_comes_back_from_its_config(name, config):
    scope = {"keras": keras, "layers": keras.layers, "ops": keras.ops}
    exec("import math\n" + "\n\n".join(carried.sources({name})), scope)
    made = scope[name](**config)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again).__name__ == name
    assert {k: again.get_config()[k] for k in config} == config
