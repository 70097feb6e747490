"""Keras models become PyTorch programs: proven, trainable, exportable; and round trips lose nothing."""

import importlib
import inspect
import re

import keras
import numpy as np
import pytest
import there_and_back
import torch
from keras import layers, ops
from keras_models import blocks, cnn, residual, towers

import diglot

pytestmark = pytest.mark.usefixtures("worker")  # of the proofs

# -- the zoo's hand-written Keras models ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist_mlp", "dna_tagger", "decoder_only", "encoder_only"])
def test_the_zoos_keras_models_are_proven(name):
    pair = importlib.import_module(f"diglot.zoo.{name}.pair").PAIR
    sizes = pair.settings["fast"].model
    module = importlib.import_module(f"diglot.zoo.{name}.keras_model")
    example = pair.example(sizes, np.random.default_rng(0))
    given = example if len(example) > 1 else next(iter(example.values()))
    translation = diglot.translate(module.build_model(**sizes), given, to="torch")
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.to_json()[:3000]


# -- an image classifier, as one would write it ---------------------------------------------------------


def test_a_sequential_reads_as_pytorch():
    source = diglot.translate(cnn(), to="torch").source
    assert "permute" not in source
    assert "nn.Conv2d(3, 8, 3, padding=1),\n        nn.ReLU(),\n        nn.MaxPool2d(2)," in source
    assert "nn.BatchNorm2d(16, eps=0.001, momentum=0.01)" in source


def test_the_program_stands_alone(tmp_path):
    """Without diglot: built, filled by ``load_state_dict``, exported, compiled; the same numbers."""
    model = cnn()
    for weight in model.weights:
        weight.assign(
            np.random.default_rng(3).uniform(0.2, 0.9, weight.shape) - 0.4 * (weight.ndim > 1)
        )
    translation = diglot.translate(model, to="torch")
    translation.save(tmp_path / "out")
    assert "diglot" not in translation.source.split('"""', 2)[2]
    scope = {}
    exec((tmp_path / "out" / "model.py").read_text(), scope)
    network = scope["build_model"](str(tmp_path / "out" / "model.safetensors")).eval()
    images = np.random.default_rng(0).normal(size=(5, 12, 15, 3)).astype("float32")
    expected = np.asarray(model(images))
    given = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.no_grad():
        np.testing.assert_allclose(network(given).numpy(), expected, rtol=1e-4, atol=1e-6)
        exported = torch.export.export(network, (given,)).module()
        np.testing.assert_allclose(exported(given).numpy(), expected, rtol=1e-4, atol=1e-6)
        compiled = torch.compile(network, fullgraph=True, backend="eager")
        np.testing.assert_allclose(compiled(given).numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_boundary_can_stay_channels_last():
    model = cnn()
    images = np.random.default_rng(0).normal(size=(5, 12, 15, 3)).astype("float32")
    network = diglot.translate(model, to="torch", io_layout="same").model
    with torch.no_grad():
        found = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, np.asarray(model(images)), rtol=1e-4, atol=1e-6)


def test_training_goes_on_in_pytorch():
    """Trained with fit, then ten steps of the same optimizer on the same batches in both."""
    rng = np.random.default_rng(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="tanh"),
            layers.BatchNormalization(),
            layers.Dense(3),
        ]
    )
    rows, labels = rng.normal(size=(320, 6)).astype("float32"), rng.integers(0, 3, 320)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(rows[:160], labels[:160], batch_size=16, epochs=2, shuffle=False, verbose=0)
    network = diglot.translate(model, to="torch").model.train()
    theirs = [
        model.train_on_batch(rows[i : i + 16], labels[i : i + 16]) for i in range(160, 320, 16)
    ]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    ours = []
    for i in range(160, 320, 16):
        value = torch.nn.functional.cross_entropy(
            network(torch.from_numpy(rows[i : i + 16])), torch.from_numpy(labels[i : i + 16])
        )
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        ours.append(float(value.detach()))
    given = [float(np.ravel(value)[0]) for value in theirs]
    np.testing.assert_allclose(ours, given, rtol=2e-5)


# -- an author's own layers -----------------------------------------------------------------------------


class Attention(layers.Layer):
    def __init__(self, dim, heads, **kwargs):
        super().__init__(**kwargs)
        self.dim, self.heads = dim, heads
        self.qkv = layers.Dense(3 * dim)
        self.out = layers.Dense(dim)
        self.drop = layers.Dropout(0.1)

    def call(self, x):
        length = ops.shape(x)[1]
        qkv = ops.reshape(self.qkv(x), (-1, length, 3, self.heads, self.dim // self.heads))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), axis=0)
        scores = ops.matmul(q, ops.swapaxes(k, -1, -2)) / self.dim**0.5
        weights = self.drop(ops.softmax(scores, axis=-1))
        context = ops.transpose(ops.matmul(weights, v), (0, 2, 1, 3))
        return self.out(ops.reshape(context, (-1, length, self.dim)))


class Block(layers.Layer):
    def __init__(self, dim, heads, **kwargs):
        super().__init__(**kwargs)
        self.norm1 = layers.LayerNormalization()
        self.attention = Attention(dim, heads)
        self.norm2 = layers.LayerNormalization()
        self.mlp = keras.Sequential([layers.Dense(4 * dim, activation="gelu"), layers.Dense(dim)])

    def call(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(keras.Model):
    def __init__(self, vocab, dim, heads, depth, length):
        super().__init__()
        self.tokens = layers.Embedding(vocab, dim)
        self.positions = layers.Embedding(length, dim)
        self.blocks = [Block(dim, heads) for _ in range(depth)]
        self.norm = layers.LayerNormalization()
        self.head = layers.Dense(vocab, use_bias=False)

    def call(self, ids):
        x = self.tokens(ids) + self.positions(ops.arange(ops.shape(ids)[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


@pytest.fixture(scope="module")
def gpt():
    model = GPT(50, 16, 4, 3, 40)
    ids = np.random.default_rng(0).integers(0, 50, (2, 7))
    model(ids)
    return diglot.translate(model, ids, to="torch")


def test_an_authors_layers_keep_their_names_and_their_loop(gpt):
    source = gpt.source
    assert "self.blocks = nn.ModuleList([Block() for _ in range(3)])" in source
    assert "        for block in self.blocks:\n            x = block(x)\n" in source
    assert "        scores = q @ k.transpose(-2, -1)" in source
    assert "nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))" in source
    own = "".join(inspect.getsource(c) for c in (Attention, Block, GPT))
    classes = source[source.index("class ") : source.index("def build_model")]
    assert _lines(classes) <= 1.3 * _lines(own)


def _lines(text):
    return sum(1 for line in text.splitlines() if line.strip())


def test_it_is_proven(gpt):
    proof = diglot.prove(gpt)
    assert proof.verdict == "proven", proof.to_json()[:3000]


# -- round trips ----------------------------------------------------------------------------------------

ROUND_TRIPS = [
    "mnist_mlp.make",
    "resnet.make",
    "unet.make",
    "two_inputs.make",
    "extras.make_called_twice",
    "extras.make_conv1d",
    "extras.make_in_place",
    "extras.make_module_dict",
    "extras.make_functional_style",
    "extras_text.make_einsum",
    "extras_text.make_tied",
    "extras_text.make_masked_mean",
    "extras_vision.make_squeeze_excite",
    "extras_vision.make_conv3d",
    "extras_vision.make_patches",
    "extras_vision.make_shuffle",
    "extras_vision.make_autoencoder",
    "text_rnn.make_gru",
    "text_rnn.make_mean_pool",
    "torch_transformers.make_encoder_only",
    "torch_transformers.make_gpt",
    "torch_transformers.make_attention_pooling",
]


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_there_and_back(name):
    """The same function, the same names and shapes in the state dict, and weights bit for bit."""
    module, _, function = name.rpartition(".")
    model, inputs = getattr(importlib.import_module(module), function)()
    back = there_and_back.to_keras_and_back(model, inputs)
    before, after = model.state_dict(), back.model.state_dict()
    assert set(before) == set(after)
    for key, value in before.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(value, after[key]), key
    pairs = zip(
        there_and_back.outputs(model, inputs),
        there_and_back.outputs(back.model, inputs),
        strict=True,
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(theirs, ours, rtol=1e-9, atol=1e-12)


def test_patches_are_turned_once_where_they_become_a_sequence():
    model, inputs = importlib.import_module("extras_vision").make_patches()
    source = there_and_back.to_keras_and_back(model, inputs).source
    assert "x = self.patch_embed(images).flatten(2).transpose(1, 2)" in source
    assert source.count("transpose") == 3  # and two that the author wrote


def test_a_masked_encoder_hands_its_states_on():
    """Padding before, within and after a sentence is passed over, and a state is that of its last word."""
    source, target = (keras.Input((None,), dtype="int32", name=n) for n in ("source", "target"))
    embedded = layers.Embedding(30, 12, mask_zero=True)(source)
    _, *states = layers.LSTM(16, return_state=True, name="encoder")(embedded)
    embedded = layers.Embedding(33, 12)(target)
    sequence = layers.LSTM(16, return_sequences=True, name="decoder")(embedded, states)
    model = keras.Model([source, target], layers.Dense(33, name="head")(sequence))
    translation = diglot.translate(model, to="torch")
    assert "_, (h, c) = self.encoder(\n            nn.utils.rnn.pack_padded_sequence(" in (
        translation.source
    )
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.to_json()[:3000]


def test_a_stateful_layer_goes_on_where_it_ended():
    inputs = keras.Input((5, 3), batch_size=4)
    outputs = layers.Dense(2)(layers.GRU(6, stateful=True, return_sequences=True)(inputs))
    model = keras.Model(inputs, outputs)
    translation = diglot.translate(model, to="torch")
    assert "output, h = self.rnn(x, self.h.unsqueeze(0))" in translation.source
    assert "self.h = h.squeeze(0).detach()" in translation.source
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.to_json()[:3000]
    steps = np.random.default_rng(0).normal(size=(3, 4, 5, 3)).astype("float32")
    for step in steps:  # each from the state that the one before has left
        ours = translation.model(torch.from_numpy(step)).detach().numpy()
        np.testing.assert_allclose(ours, model(step), rtol=1e-4, atol=1e-6)


def test_what_a_layer_does_in_training_alone_is_left_out_and_said_so():
    model = keras.Sequential(
        [
            keras.Input((12, 15, 3)),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(4, 3),
            layers.LeakyReLU(negative_slope=0.2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    with pytest.warns(UserWarning, match=r"RandomFlip\) is left out; in training alone it changes"):
        translation = diglot.translate(model, to="torch")
    proof = diglot.prove(translation)
    assert proof.verdict == "proven", proof.to_json()[:3000]
    left = [item["what"] for item in proof.not_compared if "is left out" in item["why"]]
    assert len(left) == 1 and left[0].endswith("(RandomFlip) in training mode")
    assert not any(check.mode == "train" and check.count for check in proof.checks)


class Mixer(layers.Layer):
    """Its parts have automatic names, which are others when it is loaded; its scale has many digits."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(6)])

    def call(self, x):
        real, imaginary = ops.fft2((x, ops.zeros_like(x)))
        return self.inner(real * ops.cast(7**-0.5, x.dtype)) + imaginary


def test_parts_of_an_authors_layer_are_found_by_their_places():
    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, layers.Dense(2)(Mixer()(inputs)))
    proof = diglot.prove(diglot.translate(model, to="torch"))
    assert proof.verdict == "proven", proof.to_json()[:3000]


def test_a_functional_model_comes_back_with_its_layers_names():
    model = residual()
    network = diglot.translate(model, to="torch").model
    back = diglot.translate(network, torch.randn(2, 3, 16, 21), style="functional").model
    named = [layer.name for layer in model.layers if layer.weights]
    assert [layer.name for layer in back.layers if layer.weights] == named
    assert [w.path for w in back.weights] == [w.path for w in model.weights]
    for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    images = np.random.default_rng(0).normal(size=(3, 16, 21, 3)).astype("float32")
    np.testing.assert_allclose(back(images), model(images), rtol=1e-5, atol=1e-6)


def test_a_functional_model_comes_back_as_one_where_nobody_says_otherwise():
    model = residual()
    network, images = diglot.translate(model, to="torch").model, torch.randn(2, 3, 16, 21)
    back = diglot.translate(network, images)
    assert back.info["style"] == "functional"
    assert back.model.name == "little"
    assert [w.path for w in back.model.weights] == [w.path for w in model.weights]
    classes = diglot.translate(network, images, style="layers")
    assert "class Little(layers.Layer):" in classes.source


class Named(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.out = layers.Dense(5), layers.Dense(2)

    def call(self, x):
        return self.out(ops.relu(self.hidden(x)))


def test_a_model_has_the_name_that_its_author_gave_it():
    keras.backend.clear_session()  # which counts automatic names
    model = Named(name="scorer")
    model(np.zeros((2, 4), "float32"))
    network = diglot.translate(model, np.zeros((2, 4), "float32"), to="torch").model
    keras.backend.clear_session()
    back = diglot.translate(network, torch.randn(2, 4))
    assert back.info["style"] == "layers"
    theirs = [w.path.removeprefix("scorer/") for w in model.weights]
    assert [w.path.removeprefix("scorer/") for w in back.model.weights] == theirs
    assert back.model.name == "scorer"


BACK_AGAIN = {
    "blocks": (lambda: blocks(["up"] * 3), torch.arange(14).view(2, 7)),
    "blocks that are not named alike": (lambda: blocks(["up", "wide"]), torch.arange(14).view(2, 7)),
    "nested": (towers, torch.randn(2, 7)),
    "automatic names": (lambda: keras.Sequential([keras.Input((7,)), layers.Dense(3)]), torch.randn(2, 7)),
}  # fmt: skip


def with_weights(model):
    """The layers with weights, by name, those of models in it included."""
    nested = [with_weights(part) for part in model.layers if isinstance(part, keras.Model)]
    own = {part.name: part for part in model.layers if part.weights and not hasattr(part, "layers")}
    return {name: part for found in (own, *nested) for name, part in found.items()}


@pytest.mark.parametrize("name", BACK_AGAIN)
def test_layers_have_their_names_in_blocks_and_nested_models(name):
    """Where a function's layers could not be named as they were, they are written out."""
    make, example = BACK_AGAIN[name]
    model = make()
    network = diglot.translate(model, to="torch").model
    back = diglot.translate(network, example, style="functional")
    ours, theirs = with_weights(back.model), with_weights(model)
    if name == "blocks":
        assert 'transformer_block(x, name="block2")' in back.source
    assert set(ours) == set(theirs)
    for layer in ours:
        for a, b in zip(ours[layer].get_weights(), theirs[layer].get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        back.model(example.numpy()), model(example.numpy()), rtol=1e-4, atol=1e-5
    )


def test_a_subclassed_model_comes_back_with_its_attributes(gpt):
    ids = np.random.default_rng(0).integers(0, 50, (2, 7))
    back = diglot.translate(gpt.model, torch.from_numpy(ids))
    theirs = gpt.weight_map.variables(gpt.source_model)
    ours = back.weight_map.variables(back.model)
    numbered = re.compile(r"mlp\.layers\.\d")  # where the author gave no name
    assert {numbered.sub("mlp", n) for n in ours} == {numbered.sub("mlp", n) for n in theirs}
    for name in set(ours) & set(theirs):
        np.testing.assert_array_equal(ours[name].numpy(), theirs[name].numpy())
    np.testing.assert_allclose(back.model(ids), gpt.source_model(ids), rtol=1e-4, atol=1e-5)


def test_weights_go_back_into_keras():
    """push: what PyTorch trained is what Keras computes with."""
    model = cnn()
    translation = diglot.translate(model, to="torch")
    with torch.no_grad():
        for parameter in translation.model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    translation.push()
    images = np.random.default_rng(0).normal(size=(4, 12, 15, 3)).astype("float32")
    with torch.no_grad():
        ours = translation.model.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(np.asarray(model(images)), ours, rtol=1e-4, atol=1e-6)
