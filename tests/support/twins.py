"""Hand-written pairs: a torch module and its Keras source, with the map between them.

They stand in for translations, so that the worker and the proof are tested without a translator,
and so that faults can be planted in either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diglot.codegen.weights import ModulePair, TensorSpec, WeightEntry, WeightMap
from diglot.runtime import KerasWorker, materialise

HEAD = '''"""Hand-written twin."""

import keras
from keras import layers, ops

'''


def entry(target: str, source: str, shape: tuple[int, ...], perm=None, buffer=False) -> WeightEntry:
    """One source, at most permuted; `shape` is the source's."""
    steps = [("permute", list(perm))] if perm else []
    return WeightEntry(
        target=target,
        sources=[source],
        shape=[shape[i] for i in perm] if perm else shape,
        source_shapes=[shape],
        steps=steps,
        trainable=not buffer,
        kind="buffer" if buffer else "parameter",
    )


def norm_entries(name: str, size: int) -> list[WeightEntry]:
    """The four weights of a batch norm of the same name on both sides."""
    return [
        entry(f"{name}.gamma", f"{name}.weight", (size,)),
        entry(f"{name}.beta", f"{name}.bias", (size,)),
        entry(f"{name}.moving_mean", f"{name}.running_mean", (size,), buffer=True),
        entry(f"{name}.moving_variance", f"{name}.running_var", (size,), buffer=True),
    ]


@dataclass
class Twin:
    """A pair; looks like a `Translation` to the proof once `write` has given it a directory."""

    source_model: nn.Module
    source: str
    weight_map: WeightMap
    info: dict[str, Any]
    directory: Path | None = None
    exported: Any = None
    extra: dict[str, Any] = field(default_factory=dict)

    def target_arrays(self):
        state = {n: t.detach().numpy() for n, t in self.source_model.state_dict().items()}
        return self.weight_map.apply(state)

    def write(self, directory: Path, worker: KerasWorker | None = None) -> Twin:
        """Write the folder that `Translation.save` would."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.py").write_text(self.source)
        (directory / "translation.json").write_text(json.dumps(self.info))
        self.weight_map.save(directory / "weight_map.json")
        materialise(directory, self.target_arrays(), worker)
        self.directory = directory
        return self

    def replace(self, old: str, new: str) -> Twin:
        """Plant a fault in the Keras source."""
        assert old in self.source, old
        self.source = self.source.replace(old, new)
        return self


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(7, 10)
        self.bn = nn.BatchNorm1d(10)
        self.act = nn.GELU()
        self.drop = nn.Dropout(0.3)
        self.square = nn.Linear(10, 10)
        self.norm = nn.LayerNorm(10)
        self.fc2 = nn.Linear(10, 3)

    def forward(self, x):
        x = self.drop(self.act(self.bn(self.fc1(x))))
        return self.fc2(self.norm(self.square(x)))


MLP = (
    HEAD
    + """
@keras.saving.register_keras_serializable("twins")
class Mlp(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.fc1 = layers.Dense(10)
        self.bn = layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
        self.act = layers.Activation(lambda x: x * 0.5 * (ops.erf(x / 2**0.5) + 1.0))
        self.drop = layers.Dropout(0.3)
        self.square = layers.Dense(10)
        self.norm = layers.LayerNormalization(epsilon=1e-5)
        self.fc2 = layers.Dense(3)

    def build(self, shape):
        self.fc1.build(shape)
        for layer in (self.bn, self.act, self.drop, self.square, self.norm, self.fc2):
            layer.build((shape[0], 10))

    def call(self, x, training=False):
        x = self.bn(self.fc1(x), training=training)
        x = self.drop(self.act(x), training=training)
        return self.fc2(self.norm(self.square(x)))


def build_model(weights=None):
    x = keras.Input((7,), name="x")
    model = keras.Model(x, Mlp(name="mlp")(x))
    if weights:
        model.load_weights(weights)
    return model
"""
)


def example(name: str, shape: list[int], dtype: str = "float32", low=-3.0, high=3.0):
    return {"name": name, "shape": shape, "dtype": dtype, "min": low, "max": high}


def pairs(names: str, classes: dict[str, str], source_file: str = "net.py") -> list[ModulePair]:
    return [
        ModulePair(n, n, classes.get(n, "?"), classes.get(n, "?"), source_file, 10 + i)
        for i, n in enumerate(names.split())
    ]


def mlp() -> Twin:
    torch.manual_seed(0)
    weights = WeightMap(
        entries=[
            entry("fc1.kernel", "fc1.weight", (10, 7), (1, 0)),
            entry("fc1.bias", "fc1.bias", (10,)),
            *norm_entries("bn", 10),
            entry("square.kernel", "square.weight", (10, 10), (1, 0)),
            entry("square.bias", "square.bias", (10,)),
            entry("norm.gamma", "norm.weight", (10,)),
            entry("norm.beta", "norm.bias", (10,)),
            entry("fc2.kernel", "fc2.weight", (3, 10), (1, 0)),
            entry("fc2.bias", "fc2.bias", (3,)),
        ],
        root="mlp",
        unmapped=[{"source": "bn.num_batches_tracked", "why": "Keras counts no batches"}],
        inputs=[TensorSpec(name="x", shape=("s0", 7))],
        outputs=[TensorSpec(shape=("s0", 3))],
        modules=pairs("fc1 bn act drop square norm fc2", {"bn": "BatchNorm1d"}),
    )
    info = {
        "format": 1,
        "name": "Mlp",
        "dynamic": {
            "s0": {"name": "batch", "min": 1, "max": None, "input": "x", "axis": 0, "example": 2}
        },
        "example_inputs": [example("x", [2, 7])],
    }
    return Twin(Mlp(), MLP, weights, info)


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.fc = nn.Linear(6, 5)

    def forward(self, image):
        x = torch.relu(self.bn(self.conv1(image)))
        return self.fc(self.conv2(x).mean((2, 3)))


CNN = (
    HEAD
    + """
@keras.saving.register_keras_serializable("twins")
class Cnn(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.pad = layers.ZeroPadding2D(1)
        self.conv1 = layers.Conv2D(4, 3, strides=2)
        self.bn = layers.BatchNormalization(epsilon=1e-5, momentum=0.9)
        self.conv2 = layers.Conv2D(6, 3, padding="same", use_bias=False)
        self.fc = layers.Dense(5)

    def build(self, shape):
        self.pad.build(shape)
        self.conv1.build((shape[0], None, None, 3))
        self.bn.build((shape[0], None, None, 4))
        self.conv2.build((shape[0], None, None, 4))
        self.fc.build((shape[0], 6))

    def call(self, image, training=False):
        x = self.bn(self.conv1(self.pad(image)), training=training)
        return self.fc(ops.mean(self.conv2(ops.relu(x)), axis=(1, 2)))


def build_model(weights=None):
    image = keras.Input((None, None, 3), name="image")
    model = keras.Model(image, Cnn(name="cnn")(image))
    if weights:
        model.load_weights(weights)
    return model
"""
)


def cnn() -> Twin:
    torch.manual_seed(1)
    weights = WeightMap(
        entries=[
            entry("conv1.kernel", "conv1.weight", (4, 3, 3, 3), (2, 3, 1, 0)),
            entry("conv1.bias", "conv1.bias", (4,)),
            *norm_entries("bn", 4),
            entry("conv2.kernel", "conv2.weight", (6, 4, 3, 3), (2, 3, 1, 0)),
            entry("fc.kernel", "fc.weight", (5, 6), (1, 0)),
            entry("fc.bias", "fc.bias", (5,)),
        ],
        root="cnn",
        unmapped=[{"source": "bn.num_batches_tracked", "why": "Keras counts no batches"}],
        inputs=[TensorSpec(name="image", shape=("s0", 3, "s1", "s2"), perm=(0, 2, 3, 1))],
        outputs=[TensorSpec(shape=("s0", 5))],
        modules=[
            ModulePair(name, name, kind, kind, "net.py", line, outputs=(perm,))
            for name, kind, line, perm in (
                ("conv1", "Conv2d", 5, (0, 2, 3, 1)),
                ("bn", "BatchNorm2d", 6, (0, 2, 3, 1)),
                ("conv2", "Conv2d", 7, (0, 2, 3, 1)),
                ("fc", "Linear", 8, None),
            )
        ],
    )
    dynamic = {
        f"s{i}": {"name": n, "min": 1, "max": None, "input": "image", "axis": a, "example": e}
        for i, (n, a, e) in enumerate((("batch", 0, 2), ("height", 2, 16), ("width", 3, 24)))
    }
    info = {
        "format": 1,
        "name": "Cnn",
        "dynamic": dynamic,
        "example_inputs": [example("image", [2, 3, 16, 24])],
    }
    return Twin(Cnn(), CNN, weights, info)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 5, batch_first=True)
        self.head = nn.Linear(5, 4)

    def forward(self, tokens):
        x, _ = self.lstm(self.embed(tokens))
        return self.head(x)


TAGGER = (
    HEAD
    + """
@keras.saving.register_keras_serializable("twins")
class Tagger(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = layers.Embedding(11, 6)
        self.lstm = layers.LSTM(5, return_sequences=True)
        self.head = layers.Dense(4)

    def build(self, shape):
        self.embed.build(shape)
        self.lstm.build((*shape, 6))
        self.head.build((*shape, 5))

    def call(self, tokens, training=False):
        keep = ops.cast(ops.not_equal(tokens, 0), self.compute_dtype)[..., None]
        x = self.embed(tokens)
        x = x * keep
        return self.head(self.lstm(x, training=training))


def build_model(weights=None):
    tokens = keras.Input((None,), dtype="int64", name="tokens")
    model = keras.Model(tokens, Tagger(name="tagger")(tokens))
    if weights:
        model.load_weights(weights)
    return model
"""
)


def tagger() -> Twin:
    torch.manual_seed(2)
    weights = WeightMap(
        entries=[
            entry("embed.embeddings", "embed.weight", (11, 6)),
            entry("lstm.cell.kernel", "lstm.weight_ih_l0", (20, 6), (1, 0)),
            entry("lstm.cell.recurrent_kernel", "lstm.weight_hh_l0", (20, 5), (1, 0)),
            WeightEntry(
                target="lstm.cell.bias",
                sources=["lstm.bias_ih_l0", "lstm.bias_hh_l0"],
                shape=[20],
                source_shapes=[[20], [20]],
                combine="sum",
            ),
            entry("head.kernel", "head.weight", (4, 5), (1, 0)),
            entry("head.bias", "head.bias", (4,)),
        ],
        root="tagger",
        inputs=[TensorSpec(name="tokens", shape=("s0", "s1"), dtype="int64")],
        outputs=[TensorSpec(shape=("s0", "s1", 4))],
        modules=pairs("lstm head", {"lstm": "LSTM"}),
    )
    dynamic = {
        f"s{i}": {"name": n, "min": 1, "max": None, "input": "tokens", "axis": i, "example": e}
        for i, (n, e) in enumerate((("batch", 2), ("length", 9)))
    }
    info = {
        "format": 1,
        "name": "Tagger",
        "dynamic": dynamic,
        "example_inputs": [example("tokens", [2, 9], "int64", 0, 10)],
    }
    return Twin(Tagger(), TAGGER, weights, info)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(8, 8)
        self.key = nn.Linear(8, 8)
        self.value = nn.Linear(8, 8)

    def forward(self, x, mask=None):
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 8**0.5
        scores = scores.masked_fill(mask[:, None, :] == 0, -1e9)
        weights = scores.softmax(-1)
        self.scores = scores
        return {"mixed": weights @ self.value(x), "weights": weights}


ATTENTION = (
    HEAD
    + """
@keras.saving.register_keras_serializable("twins")
class Attention(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.query = layers.Dense(8)
        self.key = layers.Dense(8)
        self.value = layers.Dense(8)

    def build(self, x_shape, mask_shape=None):
        for layer in (self.query, self.key, self.value):
            layer.build(x_shape)

    def call(self, x, mask):
        scores = ops.matmul(self.query(x), ops.transpose(self.key(x), (0, 2, 1))) / 8**0.5
        scores = ops.where(ops.equal(mask[:, None, :], 0), -1e9, scores)
        weights = ops.softmax(scores, axis=-1)
        return {"mixed": ops.matmul(weights, self.value(x)), "weights": weights}


def build_model(weights=None):
    x = keras.Input((None, 8), name="x")
    mask = keras.Input((None,), dtype="int64", name="mask")
    outputs = Attention(name="attention")(x, mask)
    model = keras.Model({"x": x, "mask": mask}, outputs)
    if weights:
        model.load_weights(weights)
    return model
"""
)


def attention() -> Twin:
    torch.manual_seed(3)
    entries = []
    for name in ("query", "key", "value"):
        entries.append(entry(f"{name}.kernel", f"{name}.weight", (8, 8), (1, 0)))
        entries.append(entry(f"{name}.bias", f"{name}.bias", (8,)))
    modules = pairs("query key value", {})
    modules.append(ModulePair("", "", "Attention", "Attention", "net.py", 30, outputs=(None, None)))
    weights = WeightMap(
        entries=entries,
        root="attention",
        inputs=[
            TensorSpec(name="x", shape=("s0", "s1", 8)),
            TensorSpec(name="mask", shape=("s0", "s1"), dtype="int64"),
        ],
        outputs=[
            TensorSpec(path=("mixed",), shape=("s0", "s1", 8)),
            TensorSpec(path=("weights",), shape=("s0", "s1", "s1")),
        ],
        structure={
            "inputs": "dict",
            "outputs": ["dict", {"mixed": "tensor", "weights": "tensor"}],
        },
        modules=modules,
    )
    dynamic = {
        f"s{i}": {"name": n, "min": 1, "max": None, "input": "x", "axis": i, "example": e}
        for i, (n, e) in enumerate((("batch", 2), ("length", 6)))
    }
    info = {
        "format": 1,
        "name": "Attention",
        "dynamic": dynamic,
        "example_inputs": [example("x", [2, 6, 8]), example("mask", [2, 6], "int64", 0, 1)],
    }
    return Twin(Attention(), ATTENTION, weights, info)
