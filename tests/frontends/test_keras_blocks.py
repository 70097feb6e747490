"""What repeats in a Functional model is a class of the PyTorch program: as a person would have written it."""

from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from keras import layers

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs

GOLDEN = Path(__file__).parents[1] / "golden" / "to_torch"


def check(model, name):
    """The program is as in the golden file, and computes what Keras computes."""
    translation = diglot.translate(model, to="torch")
    assert translation.source == (GOLDEN / f"{name}.py").read_text()
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.to_json()[:3000]


def conv(x, filters, size, stride=1, activation=True):
    x = layers.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation("relu")(x) if activation else x


def resnet():
    """Blocks without a name, with a projection where the size changes."""
    images = keras.Input((32, 32, 3), name="images")
    x = conv(images, 8, 3)
    for filters in (8, 16, 32):
        for _ in range(2):
            shortcut = x
            if filters != x.shape[-1]:
                shortcut = conv(x, filters, 1, activation=False)
            x = conv(x, filters, 3)
            x = conv(x, filters, 3, activation=False)
            x = layers.Add()([x, shortcut])
            x = layers.Activation("relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(10, activation="softmax")(x), name="resnet")


def vision_transformer():
    """The blocks of keras.io's example, and its head of dense layers."""
    patches = keras.Input((16, 48), name="patches")
    x = layers.Dense(16)(patches)
    for _ in range(4):
        x1 = layers.LayerNormalization(epsilon=1e-6)(x)
        attention = layers.MultiHeadAttention(num_heads=2, key_dim=8)(x1, x1)
        x2 = layers.Add()([attention, x])
        x3 = layers.LayerNormalization(epsilon=1e-6)(x2)
        for units in (32, 16):
            x3 = layers.Dense(units, activation="gelu")(x3)
            x3 = layers.Dropout(0.1)(x3)
        x = layers.Add()([x3, x2])
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(patches, layers.Dense(10)(x), name="vit")


def unet():
    """A block that is called on the way down and on the way up, with skips around it."""

    def block(x, filters):
        return conv(conv(x, filters, 3), filters, 3)

    images = x = keras.Input((32, 32, 3), name="images")
    skips = []
    for filters in (8, 16, 32):
        x = block(x, filters)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, 64)
    for filters, skip in zip((32, 16, 8), reversed(skips), strict=True):
        x = layers.Conv2DTranspose(filters, 2, strides=2)(x)
        x = block(layers.Concatenate()([x, skip]), filters)
    return keras.Model(images, layers.Conv2D(2, 1, activation="softmax")(x), name="unet")


@pytest.mark.parametrize("make", [resnet, vision_transformer, unet], ids=lambda f: f.__name__)
def test_a_repeated_part_is_a_class(make):
    keras.backend.clear_session()
    check(make(), make.__name__)


def test_names_say_where_a_block_begins_and_what_it_is_called():
    """An inverted bottleneck: some pad, some have a shortcut, the first does not widen; it is one class."""

    def block(x, filters, stride, name, expand=True):
        inputs = x
        if expand:
            x = layers.Conv2D(24, 1, use_bias=False, name=f"{name}_expand")(x)
            x = layers.BatchNormalization(name=f"{name}_expand_bn")(x)
            x = layers.ReLU(name=f"{name}_expand_relu")(x)
        if stride == 2:
            x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
        padding = "same" if stride == 1 else "valid"
        x = layers.DepthwiseConv2D(3, stride, padding, use_bias=False, name=f"{name}_depthwise")(x)
        x = layers.BatchNormalization(name=f"{name}_depthwise_bn")(x)
        x = layers.ReLU(name=f"{name}_relu")(x)
        x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project")(x)
        x = layers.BatchNormalization(name=f"{name}_project_bn")(x)
        if stride == 1 and inputs.shape[-1] == filters:
            x = layers.Add(name=f"{name}_add")([inputs, x])
        return x

    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem_conv")(images)
    x = block(x, 8, 1, "block1a", expand=False)
    for stage, filters in ((2, 12), (3, 16)):
        for letter in "abc":
            x = block(x, filters, 2 if letter == "a" else 1, f"block{stage}{letter}")
    x = layers.GlobalAveragePooling2D()(x)
    translation = diglot.translate(
        keras.Model(images, layers.Dense(3)(x), name="mobile"), to="torch"
    )
    source = translation.source
    assert source.count("nn.Module") == 2, source
    assert "else nn.Identity()" in source and "F.pad(" in source
    assert "return x + out if self.residual else out" in source
    assert "self.block2 = nn.Sequential(" in source and "self.block1a = " in source
    by_layer = {e.target: e.sources[0] for e in translation.weight_map.entries}
    assert by_layer["block2b_project.kernel"] == "block2.1.project.weight"
    assert by_layer["stem_conv.kernel"] == "stem_conv.weight"
    assert diglot.prove(translation).verdict == "proven"


@pytest.mark.parametrize("first", [True, False])
def test_a_shortcut_that_some_lack_is_added_to_the_right_value(first):
    """Whichever way round the sum stands, and with dropout before it."""

    def block(x, filters):
        inputs = x
        x = layers.BatchNormalization()(layers.Conv2D(12, 1, activation="relu")(x))
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(x))
        if inputs.shape[-1] == filters:
            x = layers.Dropout(0.2, noise_shape=(None, 1, 1, 1))(x)
            x = layers.Add()([inputs, x] if first else [x, inputs])
        return x

    x = images = keras.Input((9, 11, 4))
    for filters in (4, 6, 6, 8, 8):
        x = block(x, filters)
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    translation = diglot.translate(model, to="torch")
    assert translation.source.count("class ResidualBlock") == 1, translation.source
    assert diglot.prove(translation).verdict == "proven", translation.source


def test_blocks_that_grow_count_on():
    """Densely connected layers, each wider than the one before, are a comprehension."""
    x = inputs = keras.Input((12, 12, 8))
    for _ in range(5):
        grown = layers.Activation("relu")(layers.BatchNormalization()(x))
        grown = layers.Conv2D(4, 3, padding="same")(grown)
        x = layers.Concatenate()([x, grown])
    x = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    source = diglot.translate(keras.Model(inputs, x), to="torch").source
    assert "nn.Sequential(*[DenseLayer(in_channels=8 + 4 * i) for i in range(5)])" in source


def test_blocks_of_two_inputs_are_called_in_a_loop():
    queries, memory = keras.Input((7, 16), name="queries"), keras.Input((5, 16), name="memory")
    x = queries
    for _ in range(3):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, memory))
        x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, "relu")(x)))
    model = keras.Model([queries, memory], layers.Dense(3)(x))
    translation = diglot.translate(model, to="torch")
    assert "def forward(self, x, context):" in translation.source
    assert "for transformer_block in self.transformer_blocks:" in translation.source
    assert diglot.prove(translation).verdict == "proven"


@pytest.mark.parametrize("shared", [True, False])
def test_what_does_not_repeat_or_is_called_twice_stays_in_one_class(shared):
    left, right = keras.Input((24,), name="left"), keras.Input((24,), name="right")
    if shared:  # a tower for two inputs: its layers are no block's own
        tower = [layers.Dense(16, "relu"), layers.Dense(16, "relu"), layers.Dense(8)]
        both = []
        for x in (left, right):
            for layer in tower:
                x = layer(x)
            both.append(x)
        outputs = both[0] - both[1]
    else:
        outputs = layers.Dense(8)(left) * layers.Dense(8, "sigmoid")(right)
    source = diglot.translate(keras.Model([left, right], outputs), to="torch").source
    assert source.count("nn.Module") == 1


def test_masks_go_through():
    """Where a mask takes part, the program is right whether or not there are blocks."""
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(30, 8, mask_zero=True)(ids)
    for _ in range(3):
        x = layers.Add()([x, layers.LSTM(8, return_sequences=True)(layers.LayerNormalization()(x))])
    model = keras.Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))
    network = diglot.translate(model, to="torch").model.eval()
    given = np.array([[3, 4, 5, 0, 0], [1, 2, 0, 0, 0], [5, 6, 7, 8, 9]])
    with torch.no_grad():
        found = network(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(found, np.asarray(model(given)), rtol=1e-4, atol=1e-5)


def test_blocks_that_pad_their_input_and_blocks_that_do_not_are_one_class():
    """What is read twice behind the convolution hides nothing of the padding before it."""

    def block(x, filters, size, stride=1):
        if stride > 1:
            x = layers.ZeroPadding2D(((1, 0), (1, 0)))(x)
        padding = "valid" if stride > 1 else "same"
        x = layers.Conv2D(filters, size, strides=stride, padding=padding, use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.Multiply()([x, layers.Activation("sigmoid")(x)])

    images = x = keras.Input((12, 9, 3))
    for filters, size, stride in [(6, 3, 1), (8, 3, 2), (5, 1, 1), (7, 3, 1), (9, 3, 2)]:
        x = block(x, filters, size, stride)
    model = keras.Model(images, layers.Dense(2)(layers.Flatten()(x)))
    translation = diglot.translate(model, to="torch")
    assert translation.source.count("class ") == 2, translation.source
    assert "F.pad(x, self.pad)" in translation.source
    assert "(1, 0, 1, 0)" in translation.source
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.reason
