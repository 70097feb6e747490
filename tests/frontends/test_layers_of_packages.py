"""What layers and models do in packages of other people's: options beside the inputs, layers made in a ``call``,
variables of TensorFlow's own, numbers counted in floats."""

import keras
import numpy as np
import pytest
import there_and_back
from keras import layers, ops

tf = pytest.importorskip("tensorflow")

import diglot  # noqa: E402
from diglot.errors import Unsupported  # noqa: E402

pytestmark = pytest.mark.xdist_group("layers_of_packages")


def numbers(*shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


@pytest.fixture
def proven(worker):
    def prove(model, inputs=None):
        made = diglot.translate(model, inputs, to="torch")
        proof = diglot.prove(made, worker=worker)
        assert proof.verdict == "proven", str(proof) + proof.to_json()
        return made

    return prove


class Graph(keras.Model):
    def __init__(self):
        super().__init__()
        self.d = layers.Dense(3)

    def mixed(self, values, adjacency, as_dict):
        made = self.d(ops.matmul(adjacency, values))
        return {"predictions": made} if as_dict else made


class OfADict(Graph):
    def call(self, inputs, training=None, return_dict=False):
        return self.mixed(inputs["values"], inputs["adjacency"], return_dict)


class OfAList(Graph):
    def call(self, inputs, training=None, return_dict=False):
        values, adjacency = inputs
        return self.mixed(values, adjacency, return_dict)


class OfTwo(Graph):
    def call(self, values, adjacency=None, return_dict=False):
        return self.mixed(values, adjacency, return_dict)


def test_an_option_with_a_default_is_no_input(proven):
    values, adjacency = numbers(2, 5, 4), numbers(5, 5)
    said = "def forward(self, {}):"
    by_name = proven(OfADict(), {"values": values, "adjacency": adjacency})
    assert said.format("values, adjacency") in by_name.source
    assert said.format("inputs_0, inputs_1") in proven(OfAList(), [values, adjacency]).source
    assert said.format("values, adjacency") in proven(OfTwo(), [values, adjacency]).source


class First(layers.Layer):
    """No weights: whoever needs it makes it."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def call(self, x):
        return ops.concatenate([x, x[..., : self.count]], axis=-1)


class MakesLayers(keras.Model):
    def __init__(self):
        super().__init__()
        self.d = layers.Dense(3)

    def call(self, x):
        x = First(2)(x)
        x = layers.Lambda(lambda t: t * 2)(x)
        return self.d(layers.Add()([x, x * x]))


class MakesWeights(keras.Model):
    def call(self, x):
        return layers.Dense(3)(x)


def test_layers_without_weights_may_be_made_in_a_call(proven):
    made = proven(MakesLayers(), numbers(2, 5, 4))
    assert "torch.cat([x, x[:, :, :2]], dim=-1)" in made.source
    with pytest.raises(Unsupported, match="it has weights, but is no attribute of the model"):
        diglot.translate(MakesWeights(), numbers(2, 4), to="torch")


class Spline(layers.Layer):
    def build(self, shape):
        self.grid = tf.Variable(tf.linspace(-1.0, 1.0, 6), trainable=False, name="grid")
        self.w = self.add_weight(shape=(5, shape[-1]), name="w")

    def call(self, x):
        low, high = self.grid[:-1], self.grid[1:]
        return tf.einsum("bij,ji->bi", (x[..., None] - low) / (high - low), self.w) + self.grid[0]


def test_variables_of_tensorflow_are_buffers(proven):
    made = proven(keras.Sequential([keras.Input((4,)), Spline()]))
    assert 'self.register_buffer("grid", torch.zeros(6))' in made.source
    assert "self.grid[1:]" in made.source and "constant" not in made.source
    assert list(made.model.state_dict()) == ["0.w", "0.grid"]


class Positions(layers.Layer):
    def call(self, x):
        steps = tf.range(tf.shape(x)[1], dtype=tf.float32)[:, tf.newaxis]
        angles = steps / tf.pow(100.0, tf.range(3, dtype=tf.float32))
        return x + tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)


def test_a_range_of_floats_is_as_long_as_its_size(proven):
    made = proven(keras.Sequential([keras.Input((None, 6)), Positions(), layers.Dense(3)]))
    assert "torch.arange(x.shape[1], dtype=torch.float32, device=x.device)" in made.source
    assert not made.info["warnings"]


class Correlation(layers.Layer):
    """Autocorrelation by FFT, and rows picked by a number that the map counts."""

    def call(self, x):
        spectrum = tf.signal.rfft(tf.transpose(x, [0, 2, 1]))
        found = tf.signal.irfft(spectrum * tf.math.conj(spectrum), fft_length=[tf.shape(x)[1]])
        best, places = tf.math.top_k(found, k=3)

        def one(i):
            moved = tf.gather(found, places[..., i : i + 1], axis=-1, batch_dims=-1)
            return moved * tf.expand_dims(best[..., i], -1)

        return tf.reduce_sum(tf.map_fn(one, tf.range(3), fn_output_signature=tf.float32), axis=0)


def test_a_map_over_numbers_may_use_them_as_places(proven):
    made = proven(keras.Sequential([keras.Input((8, 6)), Correlation()]))
    assert ".conj()" in made.source


class Recurrence(keras.Model):
    def __init__(self):
        super().__init__()
        self.d = layers.Dense(4)

    def call(self, x):
        x = self.d(x)
        rows = tf.TensorArray(x.dtype, size=tf.shape(x)[1])

        def step(i, state, rows):
            state = tf.tanh(state + x[:, i, :])
            return i + 1, state, rows.write(i, state)

        _, _, rows = tf.while_loop(
            lambda i, *_: i < tf.shape(x)[1], step, (tf.constant(0), tf.zeros_like(x[:, 0]), rows)
        )
        return tf.transpose(rows.stack(), [1, 0, 2])


def test_a_loop_as_long_as_the_example_where_the_model_leaves_no_size_open(proven):
    made = proven(Recurrence(), numbers(2, 3, 5))
    assert made.source.count("torch.tanh(") == 3


class PassesTheMode(layers.Layer):
    def __init__(self):
        super().__init__()
        self.d = layers.Dense(4)
        self.o = layers.Dropout(0.5)

    def call(self, x, training=None, scale=2.0):
        return self.o(self.d(x), training=training) * scale


class ByPosition(keras.Model):
    def __init__(self):
        super().__init__()
        self.part = PassesTheMode()

    def call(self, x, training=None):
        return self.part(x, training, scale=3.0)


def test_the_mode_may_be_passed_by_position():
    """Keras itself takes it so in a plain call only, so that there is no proof of it."""
    made = diglot.translate(ByPosition(), numbers(2, 5), to="torch")
    assert "return self.o(self.d(x)) * 3" in made.source


class Encoder(layers.Layer):
    """As vit-keras has it: the parts' names say which of the blocks they are in."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, shape):
        self.mlp = keras.Sequential(
            [
                layers.Dense(self.width, name=f"{self.name}_Dense_0"),
                layers.Activation("tanh"),
                layers.Dropout(0.1),
                layers.Dense(shape[-1], name=f"{self.name}_Dense_1"),
                layers.Dropout(0.1),
            ],
            name="MlpBlock_3",
        )
        self.mlp.build(shape)

    def call(self, x):
        return x + self.mlp(x)


def encoders():
    x = inputs = keras.Input((5,))
    for number in range(3):
        x = Encoder(7, name=f"Transformer_encoderblock_{number}")(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def test_models_that_layers_make_for_themselves_are_one_class(proven):
    made = proven(encoders())
    assert made.source.count("(nn.Module)") == 3, made.source
    assert "self.Dense_1(self.dropout(torch.tanh(self.Dense_0(inputs))))" in made.source


def test_they_come_back_under_their_names():
    model = encoders()
    _, back, inputs = there_and_back.to_torch_and_back(model)
    ours, theirs = (there_and_back.keras_outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-6
    assert not there_and_back.keras_differences(model, back.model)


class FixedDropout(layers.Dropout):
    """Of the package efficientnet: a method that Keras had before this one."""

    def _get_noise_shape(self, inputs):
        return tuple(self.noise_shape)


class DropPath(layers.Layer):
    def __init__(self, drop_path):
        super().__init__()
        self.drop_path = drop_path
        self.d = layers.Dense(4)

    def call(self, x, training=None):
        x = self.d(inputs=x)  # by keyword
        if training:
            kept = 1 - self.drop_path
            drawn = kept + tf.random.uniform((tf.shape(x)[0], 1, 1), 0, 1)
            return x / kept * tf.floor(drawn)
        return x


class SharedNoise(DropPath):
    def call(self, x, training=None):
        x = self.d(x)
        if training:
            x = tf.nn.dropout(x, self.drop_path, noise_shape=[tf.shape(x)[0], 1, 1])
        return x


@pytest.mark.parametrize(
    "make", [lambda: FixedDropout(0.3, noise_shape=(None, 1, 1)), lambda: DropPath(0.3)]
)
def test_stochastic_depth_of_other_peoples_is_a_drop_path(proven, make):
    inputs = keras.Input((3, 4))
    made = proven(keras.Model(inputs, inputs + make()(layers.Dense(4)(inputs))))
    assert "DropPath(0.3)" in made.source, made.source


def test_noise_that_is_shared_is_dropout(proven):
    made = proven(keras.Sequential([keras.Input((3, 5)), SharedNoise(0.3)]))
    assert "torch.rand" not in made.source and "F.dropout(" in made.source


class Squeeze(layers.Layer):
    def call(self, x):
        return ops.squeeze(x, axis=2)


def test_gradients_of_a_batch_norm_one_pixel_wide_are_right(proven):
    """PyTorch 2.13 has them wrong after ``squeeze(-1).transpose(1, 2)``; what is written in its place is not."""
    x = inputs = keras.Input((None, 5, 2))
    x = layers.BatchNormalization()(layers.Conv2D(4, (1, 5))(x))
    x = Squeeze()(layers.ReLU()(x))
    source = proven(keras.Model(inputs, layers.GRU(3, reset_after=False)(x))).source
    assert "flatten(-2).transpose(1, 2)" in source


def test_a_model_within_a_model_is_given_whole_numbers_where_it_wants_them(proven):
    ids = keras.Input((6,), dtype="int64")
    inner = keras.Model(ids, layers.Dense(4)(ops.one_hot(ids, 5)), name="encoder")
    inputs = keras.Input((6,))
    made = proven(keras.Model(inputs, layers.Dense(2)(inner(inputs))))
    assert made.info["example_inputs"][0]["dtype"].startswith("int")
    scaled = proven(keras.Model(inputs, inner(layers.Rescaling(3.0)(inputs))))
    assert ".long()" in scaled.source or "torch.int64" in scaled.source


class Dilated(layers.Layer):
    """A residual block of a temporal network, whose second result is the network's own."""

    def __init__(self, width, rate, **kwargs):
        super().__init__(**kwargs)
        self.steps = [
            layer
            for _ in range(2)
            for layer in (
                layers.Conv1D(width, 3, dilation_rate=rate, padding="causal"),
                layers.Activation("relu"),
            )
        ]
        self.width, self.match = width, None

    def build(self, shape):
        self.match = layers.Conv1D(self.width, 1) if shape[-1] != self.width else None
        super().build(shape)

    def call(self, x):
        y = x
        for step in self.steps:
            y = step(y)
        shortcut = self.match(x) if self.match is not None else x
        return ops.relu(shortcut + y), y


class Temporal(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [Dilated(width, rate) for rate in (1, 2, 4)]

    def call(self, x):
        skips = []
        for block in self.blocks:
            x, skip = block(x)
            skips.append(skip)
        x = layers.add(skips)
        return x[:, tf.shape(x)[1] // 2, :]


def test_a_temporal_network_is_one_class_of_blocks_that_turns_nothing(proven):
    inputs = keras.Input((None, 3), name="inputs")
    model = keras.Model(inputs, layers.Dense(2, name="head")(Temporal(6, name="tcn")(inputs)))
    source = proven(model).source
    assert source.count("(nn.Module)") == 3
    assert "transpose" not in source and "permute" not in source
    assert "return x[:, :, x.shape[2] // 2]" in source
    assert "nn.Conv1d(in_channels, 6, 1) if match else nn.Identity()" in source


class ShortTimeSpectrum(layers.Layer):
    """A layer whose result is complex, as kapre's STFT is."""

    def call(self, x):
        frames = tf.signal.stft(tf.squeeze(x, -1), 16, 8, fft_length=16, pad_end=True)
        return tf.expand_dims(frames, -1)


class Magnitude(layers.Layer):
    def call(self, x):
        return tf.abs(x)


def test_a_layer_may_give_complex_numbers(proven):
    x = keras.Input((100, 1))
    power = layers.Rescaling(0.5)(Magnitude()(ShortTimeSpectrum()(x)))
    model = keras.Model(x, layers.Dense(3)(layers.Flatten()(power)))
    made = proven(model)
    assert "torch.fft" in made.source
