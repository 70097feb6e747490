"""Blocks of a graph: what a Functional model repeats is classes, as it is where the live model is translated."""

import re

import keras
import numpy as np
import pytest
from keras import layers

tf = pytest.importorskip("tensorflow")

import diglot  # noqa: E402

pytestmark = pytest.mark.usefixtures("commands")


def unit(x, filters, name, stride=1):
    """A residual unit of Keras's applications: a projection where sizes change."""
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, strides=stride, name=f"{name}_0_conv")(x)
        shortcut = layers.BatchNormalization(name=f"{name}_0_bn")(shortcut)
    y = layers.Conv2D(filters // 2, 1, strides=stride, name=f"{name}_1_conv")(x)
    y = layers.BatchNormalization(name=f"{name}_1_bn")(y)
    y = layers.Activation("relu", name=f"{name}_1_relu")(y)
    y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_2_conv")(y)
    y = layers.BatchNormalization(name=f"{name}_2_bn")(y)
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.Activation("relu", name=f"{name}_out")(y)


def residual():
    inputs = keras.Input((9, 12, 3), name="images")
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    for stage, (filters, stride, count) in enumerate([(8, 1, 2), (10, 2, 3)], 1):
        for block in range(1, count + 1):
            x = unit(x, filters, f"stage{stage}_block{block}", stride if block == 1 else 1)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


def unnamed():
    """Names that Keras gives say nothing; what repeats does."""
    inputs = keras.Input((7, 6))
    x = inputs
    for _ in range(3):
        y = layers.LayerNormalization()(x)
        y = layers.Dense(11, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(6)(y)])
    return keras.Model(inputs, layers.Dense(2)(x))


def scaled():
    """Each block holds a weight that is no layer's in PyTorch."""

    class Scale(layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(shape=(shape[-1],), initializer="uniform", name="gamma")

        def call(self, x):
            return x * self.gamma

    inputs = keras.Input((7, 6))
    x = inputs
    for i in range(3):
        y = layers.LayerNormalization(name=f"block_{i}_norm")(x)
        y = layers.Dense(11, activation="relu", name=f"block_{i}_up")(y)
        y = Scale(name=f"block_{i}_scale")(layers.Dense(6, name=f"block_{i}_down")(y))
        x = layers.Add(name=f"block_{i}_add")([x, y])
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def graph_of(model, path):
    model.export(path, verbose=False)
    return diglot.translate(str(path), to="torch")


def classes(source):
    """The classes of a program with their statements, without the model's own name and what a file does not say."""
    text = source[source.index("class ") : source.index("def build_model")]
    text = re.sub(r", momentum=[\d.e-]+", "", text)
    last = re.findall(r"^class (\w+)", text, re.M)[-1]
    return (
        text.replace(last, "Model")
        .replace("keras_tensor", "inputs")
        .replace("input)", "inputs)")
        .splitlines()
    )


@pytest.mark.parametrize("make", [residual, unnamed])
def test_a_graph_reads_as_the_live_model_does(make, tmp_path, worker):
    keras.utils.set_random_seed(1)
    model = make()
    translation = graph_of(model, tmp_path / "saved")
    live = diglot.translate(model, to="torch")
    assert classes(translation.source) == classes(live.source)
    assert len(classes(translation.source)) < 50
    proof = diglot.prove(translation, worker=worker)
    assert proof.verdict == "proven", proof.reason


def test_weights_of_blocks_go_by_the_names_of_their_layers(tmp_path, worker):
    translation = graph_of(scaled(), tmp_path / "saved")
    assert "self.scale = nn.Parameter(" in translation.source
    names = list(translation.weights)
    assert {"blocks.0.scale", "blocks.1.up.weight", "blocks.2.norm.bias"} <= set(names)
    assert translation.source.count("class ") == 2
    assert diglot.prove(translation, worker=worker).verdict == "proven"


class Parts(tf.Module):
    """Two parts, each with a scope; what stands between their layers has none."""

    def __init__(self):
        super().__init__()
        generator = tf.random.Generator.from_seed(2)
        shapes = {"up": [6, 8], "down": [8, 6]}
        self.kernels = [
            {
                n: tf.Variable(generator.normal(s), name=f"part_{i}/{n}/kernel")
                for n, s in shapes.items()
            }
            for i in range(2)
        ]

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 6], tf.float32)])
    def run(self, x):
        for i, kernels in enumerate(self.kernels):
            with tf.name_scope(f"part_{i}/up"):
                y = tf.matmul(x, kernels["up"])
            y = tf.transpose(tf.reshape(tf.nn.silu(y), [-1, 4, 2, 4]), [0, 2, 1, 3])
            y = tf.transpose(tf.exp(-y * y), [0, 2, 1, 3])
            with tf.name_scope(f"part_{i}/down"):
                x = tf.matmul(tf.reshape(y, [-1, 4, 8]), kernels["down"])
        return x


def test_ops_between_the_layers_of_a_scope_are_in_it(tmp_path, worker):
    model = Parts()
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures=model.run)
    translation = diglot.translate(str(tmp_path / "saved"), to="torch")
    assert "return self.part_1(self.part_0(x))" in translation.source
    assert translation.source.count("torch.exp") == 1
    assert {"part_0.up.weight", "part_1.down.weight"} <= set(translation.weights)
    assert diglot.prove(translation, worker=worker).verdict == "proven"


class Octaves(tf.Module):
    """Filters that are numbers of the program, as a constant-Q transform has them, on sound that is halved."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(3)
        self.low = rng.normal(size=(1, 1, 6)).astype("float32")
        self.tones = rng.normal(size=(2, 5, 1, 8)).astype("float32")
        self.gain = tf.Variable(rng.normal(size=(15, 1)).astype("float32"), name="gain")

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32)])
    def run(self, x):
        x = x[:, tf.newaxis, :]
        found = []
        for _ in range(3):
            found.insert(0, self.of_octave(x, 2 ** (3 - len(found))))
            padded = tf.transpose(tf.pad(x, [[0, 0], [0, 0], [2, 2]]), [0, 2, 1])
            halved = tf.nn.conv1d(padded, np.transpose(self.low, [2, 1, 0]), 2, "VALID")
            x = tf.transpose(halved, [0, 2, 1])
        whole = found[-1]
        for each in found[-2::-1]:
            whole = tf.concat([each, whole], 1)
        return whole * 1.0 * self.gain

    def of_octave(self, x, hop):
        x = tf.transpose(tf.pad(x, [[0, 0], [0, 0], [4, 4]], "REFLECT"), [0, 2, 1])
        real, imaginary = (
            tf.nn.conv1d(x, tf.transpose(kernels, [2, 1, 0]), hop, "VALID")
            for kernels in self.tones
        )
        return tf.transpose(tf.sqrt(real**2 + imaginary**2 + 1e-6), [0, 2, 1])


def test_filters_that_are_numbers_are_convolutions_of_sound(tmp_path, worker):
    model = Octaves()
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures=model.run)
    translation = diglot.translate(str(tmp_path / "saved"), to="torch")
    source = translation.source
    assert source.count(" = nn.Conv1d(1, 1, 6, stride=2, padding=2, bias=False)") == 2
    assert "Conv2d" not in source and "transpose" not in source and "permute" not in source
    assert source.count("torch.cat(") == 1 and "* 1.0" not in source
    assert diglot.prove(translation, worker=worker).verdict == "proven"
