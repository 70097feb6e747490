"""What packages for Keras do: layers that extend Keras's own, images of any size, inputs by name, tables in dicts."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import diglot
from diglot.errors import Unsupported

pytestmark = pytest.mark.xdist_group("extended_layers")


@pytest.fixture
def proven(worker):
    def prove(model, inputs=None):
        made = diglot.translate(model, inputs, to="torch")
        proof = diglot.prove(made, worker=worker)
        assert proof.verdict == "proven", str(proof) + proof.to_json()
        return made

    return prove


def floats(*shape):
    return np.random.default_rng(5).normal(size=shape).astype("float32")


class Residual(layers.Dense):
    def call(self, x):
        return x + super().call(x)


class First(layers.BatchNormalization):
    """As graph networks have it: of several tensors, the first."""

    def build(self, shapes):
        super().build(shapes[0])
        self.input_spec = None

    def call(self, inputs, training=None):
        return super().call(inputs[0], training=training) + inputs[1]


class Still(layers.BatchNormalization):
    def call(self, x):
        return layers.BatchNormalization.call(self, x, training=False)


class Scaled(layers.LayerNormalization):
    def call(self, x):
        return 2 * super().call(x)


class Standardised(layers.Conv2D):
    """It changes what the base computes with."""

    def convolution_op(self, inputs, kernel):
        mean = ops.mean(kernel, axis=[0, 1, 2], keepdims=True)
        return super().convolution_op(inputs, kernel - mean)

    def call(self, x):
        return ops.relu(super().call(x))


class Masked(layers.Dense):
    """It has the weights of the base, and calls it not."""

    def __init__(self, inputs, units):
        super().__init__(units)
        self.mask = {"kernel": ops.convert_to_tensor(np.tri(inputs, units, dtype="float32") * 0.7)}

    def call(self, x):
        return ops.matmul(x, self.kernel * self.mask["kernel"]) + self.bias


class Extended(keras.Model):
    def __init__(self):
        super().__init__()
        self.standardised = Standardised(6, (3, 2))
        self.still = Still()
        self.residual = Residual(6)
        self.first = First()
        self.scaled = Scaled()
        self.masked = Masked(6, 4)

    def call(self, x):
        x = self.residual(self.still(self.standardised(x)))
        return self.masked(self.scaled(self.first([x, x**2])))


def test_a_layer_that_calls_the_one_it_extends_has_it_as_a_layer(proven):
    model = Extended()
    model(floats(3, 7, 4, 5))
    made = proven(model, floats(3, 7, 4, 5))
    assert "return x + self.dense(" in made.source
    assert "self.batch_normalization = nn.BatchNorm2d(6" in made.source
    assert "self.layer_normalization = nn.LayerNorm(6" in made.source
    state = made.model.state_dict()
    assert {"residual.dense.weight", "first.batch_normalization.running_mean"} <= state.keys()
    assert {"standardised.kernel", "masked.kernel"} <= state.keys()  # these have no such layer


class Strided(keras.Model):
    """TensorFlow pads by the size of what it is given; this one was built for 16 steps."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv1D(4, 4, strides=4, padding="same")
        self.pool = layers.MaxPooling1D(3, strides=2, padding="same")

    def call(self, x):
        return self.pool(self.conv(x))


def test_the_padding_of_a_size_holds_for_that_size(proven):
    model = Strided()
    model(floats(2, 16, 3))
    made = proven(model, floats(2, 16, 3))
    assert [size["axis"] for size in made.info["dynamic"].values()] == [0]
    assert "F.pad(self.conv(x), (0, 1), value" in made.source


def test_images_of_any_size_are_padded_by_their_size(proven):
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="first")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.Conv2D(5, 1, strides=2, padding="same", name="narrow")(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", name="deep")(x)
    made = proven(keras.Model(image, layers.GlobalAveragePooling2D()(x)))
    assert "self.first(pad_same(image, (3, 3), (2, 2)))" in made.source.replace("inputs", "image")
    assert made.source.count("pad_same(") == 4 and "nn.Conv2d(4, 5, 1, stride=2)" in made.source
    assert len(made.info["dynamic"]) == 3


class Parity(layers.Layer):
    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        return x * (2.0 if x.shape[1] is None or x.shape[1] % 2 else 3.0)


def test_a_size_that_cannot_stay_open_is_said():
    inputs = keras.Input((None, 3), name="steps")
    model = keras.Model(inputs, Parity()(layers.Dense(4)(inputs)))
    with pytest.warns(UserWarning, match="axis 1 of steps is open in the model"):
        made = diglot.translate(model, to="torch")
    assert "holds for the size 7 alone" in made.info["warnings"][0]


class Named(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs, training=None):
        return self.dense(ops.concatenate([inputs["user"], inputs["film"]], axis=-1))


def test_a_call_that_takes_one_dict_takes_its_tensors_by_name(proven):
    inputs = {"film": floats(2, 4), "user": floats(2, 3)}
    model = Named()
    model(inputs)
    assert "def forward(self, film, user):" in proven(model, inputs).source


class Lengths(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)
        self.unit = layers.UnitNormalization()

    def call(self, x):
        return ops.normalize(self.unit(self.dense(x)), axis=1)


def test_vectors_of_length_one_are_one_function(proven):
    model = Lengths()
    model(floats(2, 5, 3))
    source = proven(model, floats(2, 5, 3)).source
    assert "F.normalize(F.normalize(self.dense(x), dim=-1, eps=1e-06), dim=1, eps=1e-07)" in source


class Norms(layers.Layer):
    def __init__(self, center):
        super().__init__()
        self.norm = layers.GroupNormalization(2, center=center)

    def call(self, x):
        return self.norm(x)


def test_blocks_that_train_other_weights_are_other_classes(proven):
    """PyTorch's group norm has a bias: where Keras's has none it is not trained."""
    inputs = keras.Input((5, 4))
    made = proven(keras.Model(inputs, Norms(False)(layers.Dense(4)(Norms(True)(inputs)))))
    assert made.source.count("class Norms") == 2
    trained = [p.requires_grad for n, p in made.model.named_parameters() if n.endswith("norm.bias")]
    assert sorted(trained) == [False, True]


class Looping(keras.Model):
    """Loops of ``keras.ops``, over sublayers too, and branches that are known."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x):
        x = ops.fori_loop(0, 3, lambda i, y: self.dense(y) + i, x)
        x = ops.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, ops.tanh(y)), (0, x))[1]
        steps = ops.transpose(x, (1, 0, 2))
        last, kept = ops.scan(lambda c, y: (c * 0.5 + y, c), ops.zeros_like(x[:, 0]), steps)
        joined = ops.associative_scan(ops.maximum, x, axis=1, reverse=True)
        chosen = ops.switch(1, [lambda y: y, lambda y: 2 * y], joined)
        each = ops.vectorized_map(lambda row: row * ops.max(row), chosen)
        return (
            last
            + ops.sum(kept, axis=0)
            + ops.sum(each, axis=1)
            + ops.trace(x[:, :4], 0, 1, 2)[:, None]
        )


def test_loops_of_keras_are_written_out(proven):
    model = Looping()
    model(floats(3, 6, 4))
    made = proven(model, floats(3, 6, 4))
    assert [size["axis"] for size in made.info["dynamic"].values()] == [0]


class Scanned(layers.Layer):
    def call(self, x):
        return ops.scan(lambda c, y: (c + y, y), ops.zeros_like(x[0]), x)[0]


def test_a_loop_over_a_size_that_the_model_leaves_open_is_refused():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, Scanned()(ops.transpose(inputs, (1, 0, 2))))
    with pytest.raises(
        Unsupported, match=r"keras.ops.scan: the number of its steps is a dynamic size"
    ):
        diglot.translate(model, to="torch")


class Switched(layers.BatchNormalization):
    """As a widely copied YOLO has it: frozen, it does not train its statistics."""

    def call(self, x, training=False):
        if training is None:
            training = tf.constant(False)
        training = tf.logical_and(training, self.trainable)
        x = super().call(x, training)
        return tf.cond(tf.cast(training, tf.bool), lambda: x + 1.0, lambda: x)


class Margin(layers.Layer):
    """ArcFace compares a one-hot table with a number."""

    def call(self, inputs):
        cosines, labels = inputs
        chosen = tf.one_hot(labels, depth=4) == 1.0
        return tf.where(chosen, cosines - 0.5, cosines) * 64.0


def test_modes_and_comparisons_of_tensorflow(proven):
    inputs, labels = keras.Input((4,)), keras.Input((), dtype="int32")
    frozen = Switched()
    x = frozen(layers.Dense(4)(Switched()(inputs)))
    frozen.trainable = False
    made = proven(keras.Model([inputs, labels], Margin()([x, labels])))
    assert "self.batch_normalization = nn.BatchNorm1d(4" in made.source
    assert "= FrozenBatchNorm(4" in made.source
