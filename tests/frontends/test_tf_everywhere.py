"""TensorFlow's functions in a layer's ``call``, by whatever name the author's module has them.

Each layer is translated and proven; what cannot be translated is refused by name, with its line, and never run.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers

tf = pytest.importorskip("tensorflow")

import tensorflow.compat.v1 as tf1  # noqa: E402
import tensorflow.experimental.numpy as tnp  # noqa: E402
import tensorflow.keras.backend as K  # noqa: E402
import tensorflow.nn as tfnn  # noqa: E402
from tensorflow import reshape, shape  # noqa: E402
from tensorflow.math import reduce_mean, rsqrt  # noqa: E402
from tensorflow.python.ops import array_ops, math_ops  # noqa: E402

import diglot  # noqa: E402
from diglot.errors import Unsupported  # noqa: E402


def layer(call, *weights, build=None):
    """A layer whose ``call`` is a function of the layer and its input; weights by name and shape."""

    class Custom(layers.Layer):
        def build(self, _):
            for name, size in weights:
                setattr(self, name, self.add_weight(shape=size, name=name))
            if build is not None:
                build(self)

        def call(self, x):
            return call(self, x)

    return Custom()


def model_of(made, *size):
    inputs = keras.Input(size or (5, 6))
    return keras.Model(inputs, made(inputs))


def proven(made, worker, *size):
    model = model_of(made, *size)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.4)
    translation = diglot.translate(model, to="torch")
    proof = diglot.prove(translation, worker=worker)
    assert proof.verdict == "proven", proof.reason
    return translation.source


def attention(self, x):
    scores = K.squeeze(K.tanh(K.dot(x, self.w) + self.b), axis=-1)
    y = K.sum(x * K.expand_dims(K.softmax(scores)), axis=1)
    return K.l2_normalize(K.concatenate([y, K.ones_like(y)]), axis=-1) * K.epsilon()


TOTAL = functools.partial(tf.reduce_sum, axis=-1)
NAMES = {
    "functions of the module": (lambda _, x: reshape(x, [-1, shape(x)[1] * 2, 3]) * 2.0,),
    "functions of a namespace": (
        lambda s, x: x * rsqrt(reduce_mean(tf.square(x), axis=-1, keepdims=True) + 1e-6) * s.w,
        ("w", (6,)),
    ),
    "a namespace": (lambda _, x: tfnn.leaky_relu(tfnn.softmax(x) - 0.1, alpha=0.1),),
    "keras.backend": (attention, ("w", (6, 1)), ("b", (5, 1))),
    "experimental.numpy": (lambda _, x: tnp.concatenate([tnp.mean(x, 1), tnp.max(x, 1)], -1),),
    "compat.v1": (lambda _, x: tf1.reduce_max(x, axis=1, keep_dims=True) - tf1.nn.relu(x),),
    "the inside of the package": (
        lambda _, x: array_ops.reshape(math_ops.sqrt(math_ops.square(x) + 1.0), [-1, 30]),
    ),
    "a default and a partial": (lambda _, x, act=tf.nn.elu: TOTAL(act(x)),),
}


@pytest.mark.parametrize("way", NAMES)
def test_by_whatever_name(way, worker):
    call, *weights = NAMES[way]
    proven(layer(call, *weights), worker)


def asserting(_, x):
    tf.debugging.assert_rank(x, 3)
    tf.debugging.assert_greater(x, -1e9)
    tf.Assert(tf.reduce_all(x > -1e9), [x])
    with tf.control_dependencies([tf.debugging.assert_less(x, 1e9)]):
        return tf.identity(x) + tf.cast(tf.is_tensor(x) and x.dtype.is_floating, x.dtype)


@tf.function
def rows(_, x):
    made, state = tf.TensorArray(tf.float32, size=5), tf.zeros_like(x[:, 0])
    for t in tf.range(5):
        state = tf.tanh(x[:, t] * tf.cast(t, tf.float32) + state)
        made = made.write(t, state)
    return tf.transpose(made.stack(), [1, 0, 2])


def chosen(self, x):
    y = tf.switch_case(tf.constant(1), [lambda: x, lambda: self.inner(x)])
    z = tf.case([(tf.reduce_sum(x) > 1.0, lambda: self.inner(y))], default=lambda: -y)
    return tf.while_loop(lambda i, _: i < 2, lambda i, v: (i + 1, self.inner(v)), [0, z])[1]


def closing(self, x):
    middle = tf.reduce_mean(x, [0, 1])
    return tf.map_fn(lambda row: row * middle + self.w, x)


def scanned(self, x):
    given = tf.transpose(x, [1, 0, 2])
    states = tf.scan(lambda h, v: self.inner(v + h), given, initializer=tf.zeros_like(given[0]))
    return tf.concat([states, tf.foldl(lambda a, b: a * 0.5 + b, given)[tf.newaxis]], 0)


def inner(self):
    self.inner = layers.Dense(6)
    self.inner.build((None, 6))


@pytest.mark.parametrize(
    ("call", "weights", "parts", "told"),
    [
        (asserting, [], None, ["return x + 1.0"]),
        (rows, [], None, ["torch.stack(", "x[:, 4] * 4.0"]),
        (chosen, [], inner, ["torch.where(", "self.inner = nn.Linear(6, 6)"]),
        (closing, [("w", (6,))], None, ["return x * middle + self.w"]),
        (lambda _, x: tf.vectorized_map(lambda r: tf.reduce_max(r, 0), x), [], None, ["x.amax("]),
        (
            lambda _, x: tf.map_fn(lambda r: tf.linalg.matmul(r, r, transpose_b=True), x),
            [],
            None,
            ["return x @ x.transpose(-2, -1)"],
        ),
        (scanned, [], inner, ["self.inner("]),
    ],
)
def test_what_takes_functions_is_what_it_says_in_python(call, weights, parts, told, worker):
    source = proven(layer(call, *weights, build=parts), worker)
    assert all(text in source for text in told), source


def spectrum(_, x):
    power = tf.abs(tf.signal.stft(x, 16, 8)) ** 2
    return tf.math.log(power + 1e-6)


def filtered(self, x):
    return tf.signal.irfft(tf.signal.rfft(x) * tf.cast(self.w, tf.complex64))


@pytest.mark.parametrize(
    ("call", "weights", "told"),
    [
        (spectrum, [], ["torch.hann_window(16)", "torch.fft.rfft(x.unfold(-1, 16, 8)"]),
        (filtered, [("w", (33,))], ["torch.fft.irfft("]),
        (lambda _, x: tf.signal.frame(x, 8, 4) * tf.signal.hamming_window(8), [], [".unfold("]),
        (
            lambda _, x: tf.signal.frame(x, 9, 5, pad_end=True, pad_value=-0.5),
            [],
            ["F.pad(x, (0, 5)"],
        ),
        (lambda _, x: tf.abs(tf.signal.stft(x, 16, 8, pad_end=True)), [], ["F.pad(x, (0, 8))"]),
        (lambda _, x: tf.quantization.fake_quant_with_min_max_args(x, -1.5, 1.5), [], ["detach"]),
    ],
)
def test_signals(call, weights, told, worker):
    source = proven(layer(call, *weights), worker, 64)
    assert all(text in source for text in told), source


def test_images_in_float64(worker):
    def resized(_, x):
        x = tf.image.resize(tf.image.flip_left_right(x), [16, 12])
        return x + tf.image.rgb_to_grayscale(x) * tf.convert_to_tensor(np.float32([0.1, 0.2, 0.7]))

    source = proven(layer(resized), worker, 8, 6, 3)
    assert "F.interpolate(" in source


def test_variables_that_keras_knows_nothing_of_are_buffers(worker):
    def make(self):
        rng = np.random.default_rng(1)
        self.held = [tf.Variable(rng.standard_normal((6, 6)).astype("float32")) for _ in range(2)]

    def call(self, x):
        for held in self.held:
            x = tf.tanh(x @ held)
        return x

    source = proven(layer(call, build=make), worker)
    assert 'self.register_buffer("held_0", torch.zeros(6, 6))' in source


def test_a_layer_alone_that_takes_a_list(worker):
    class Scores(layers.Layer):
        def call(self, inputs):
            a, b = inputs
            return tf.einsum("bic,bjc->bij", a, b)

    inputs = [keras.Input((5, 6)), keras.Input((7, 6))]
    translation = diglot.translate(keras.Model(inputs, Scores()(inputs)), to="torch")
    assert diglot.prove(translation, worker=worker).verdict == "proven"


def failing(*_):
    raise AssertionError("this ran")


def python(_, x):
    return tf.ensure_shape(tf.py_function(failing, [x], tf.float32), [None, 5, 6])


def numpy(_, x):
    return tf.ensure_shape(tf.numpy_function(failing, [x], tf.float32), [None, 5, 6])


def straight_through(_, x):
    return tf.custom_gradient(lambda v: (tf.round(v), lambda dy: dy))(x)


def assigned(self, x):
    self.held.assign(tf.reduce_mean(x, [0, 1]))
    return x - self.held


def derived(_, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(x**2)
    return tape.gradient(y, x)


def test_a_variable_is_written_to(worker):
    made = layer(assigned, build=lambda self: setattr(self, "held", tf.Variable(tf.zeros([6]))))
    made.compute_output_spec = lambda x: keras.KerasTensor(x.shape)
    assert "self.held = " in proven(made, worker)


@pytest.mark.parametrize(
    ("call", "what", "size"),
    [
        (python, r"tf\.py_function: it runs Python code", ()),
        (numpy, r"tf\.numpy_function: it runs Python code", ()),
        (straight_through, r"tf\.custom_gradient", ()),
        (derived, r"tf\.GradientTape", ()),
        (lambda _, x: tf.RaggedTensor.from_tensor(x).to_tensor(), "sparse or ragged", ()),
        (
            lambda _, x: tf.nn.ctc_greedy_decoder(tf.transpose(x, [1, 0, 2]), tf.fill([2], 5))[1],
            r"CTCGreedyDecoder: decoding looks for",
            (),
        ),
        (lambda _, x: tf.scan(lambda a, b: a + b, x[0]), "a dynamic size", (None, 6)),
        (
            lambda _, x: tf.while_loop(
                lambda v: tf.reduce_sum(v) < 9.0, lambda v: (v + 1.0,), (x,)
            )[0],
            r"tf\.while_loop: the number of its steps depends on the data",
            (),
        ),
    ],
)
def test_what_cannot_be_translated_is_named_with_its_line(call, what, size):
    def make(self):
        self.held = tf.Variable(tf.zeros([6]))

    made = layer(call, build=make)
    size = size or (5, 6)
    made.compute_output_spec = lambda x: keras.KerasTensor(x.shape)
    with pytest.raises(Unsupported, match=what) as caught:
        diglot.translate(model_of(made, *size), to="torch")
    assert "test_tf_everywhere.py:" in str(caught.value)
