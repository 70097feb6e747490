"""SavedModels of Keras models and of plain TensorFlow modules, read without running them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support_tf import agrees, captures, layers, weights_return

from diglot.errors import BadInput, Unsupported
from diglot.frontends.tensorflow_graph import mirror_of, read_saved_model

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")


def randomise(model, seed=0):
    """Random weights, so that nothing hides behind a 1 or a 0."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.standard_normal(weight.shape) * 0.3
        if "variance" in weight.name:
            value = rng.random(weight.shape) + 0.5
        if weight.dtype.startswith("float"):
            weight.assign(value)


def image_model():
    k = keras.layers
    x = image = keras.Input((16, 20, 3), name="image")
    x = k.Conv2D(6, 3, strides=2, padding="same", name="stem")(x)
    x = k.BatchNormalization(name="stem_norm")(x)
    x = k.ReLU()(x)
    y = k.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = k.BatchNormalization(scale=False, center=False, name="plain_norm")(y)
    x = k.Add()([x, k.Activation("silu")(y)])
    x = k.SeparableConv2D(7, 3, name="separable")(x)
    x = k.Conv2DTranspose(5, 3, strides=2, padding="same", name="up")(x)
    x = k.MaxPooling2D(3, 2, padding="same")(x)
    x = k.AveragePooling2D(2, padding="same")(x)
    x = k.LayerNormalization(name="norm")(x)
    x = k.Dense(9, activation="gelu", name="dense")(x)
    x = k.GlobalAveragePooling2D()(x)
    x = k.Dropout(0.2)(x)
    return keras.Model(image, k.Dense(4, activation="softmax", name="head")(x), name="net")


def attention_model():
    k = keras.layers
    x = tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = k.Embedding(30, 8, name="embedding")(x)
    y = k.MultiHeadAttention(2, 4, name="attention")(x, x, use_causal_mask=True)
    x = k.LayerNormalization(name="norm")(x + y)
    y = k.Dense(16, activation=lambda t: keras.activations.gelu(t, approximate=True), name="up")(x)
    return keras.Model(tokens, k.Dense(8, name="down")(y) + x, name="block")


def line_model():
    k = keras.layers
    x = signal = keras.Input((24, 3), name="signal")
    x = k.Conv1D(6, 5, strides=2, padding="same", name="first")(x)
    x = k.Conv1D(8, 3, dilation_rate=2, padding="causal", name="second")(x)
    x = k.BatchNormalization(scale=False, name="norm")(x)
    return keras.Model(signal, k.Dense(3, name="head")(k.GlobalMaxPooling1D()(x)), name="line")


def volume_model():
    k = keras.layers
    x = volume = keras.Input((6, 7, 4, 3), name="volume")
    x = k.Conv3D(5, 3, padding="same", name="stem")(x)
    x = k.Conv3DTranspose(4, 3, strides=2, padding="same", name="up")(x)
    return keras.Model(volume, k.Conv3DTranspose(3, 2, name="last")(x), name="volumes")


def exported(model, folder):
    randomise(model)
    model.export(str(folder), verbose=False)
    return read_saved_model(folder)


EXPECTED = {
    "image": {
        "stem": "Conv2d",
        "stem_norm": "BatchNorm2d",
        "depthwise": "Conv2d",
        "plain_norm": "BatchNorm2d",
        "separable.depthwise": "Conv2d",
        "separable.pointwise": "Conv2d",
        "up": "ConvTranspose2d",
        "norm": "LayerNorm",
        "dense": "Linear",
        "head": "Linear",
    },
    "attention": {
        "embedding": "Embedding",
        "attention.query": "Linear",
        "attention.key": "Linear",
        "attention.value": "Linear",
        "attention.attention_output": "Linear",
        "norm": "LayerNorm",
        "up": "Linear",
        "down": "Linear",
    },
    "line": {"first": "Conv1d", "second": "Conv1d", "norm": "BatchNorm1d", "head": "Linear"},
    "volume": {"stem": "Conv3d", "up": "ConvTranspose3d", "last": "ConvTranspose3d"},
}
MODELS = {
    "image": image_model,
    "attention": attention_model,
    "line": line_model,
    "volume": volume_model,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_keras_model(name, tmp_path):
    model = MODELS[name]()
    mirror = mirror_of(exported(model, tmp_path / "model"))
    assert layers(mirror) == EXPECTED[name]
    agrees(mirror, model(*[x.numpy() for x in mirror.example_inputs]))
    weights_return(mirror, {w.path: w.numpy() for w in model.weights if "seed" not in w.path})
    captures(mirror)


def test_non_trainable_weights_stay_so(tmp_path):
    model = image_model()
    model.get_layer("dense").trainable = False
    mirror = mirror_of(exported(model, tmp_path / "model"))
    frozen = {n for n, p in mirror.module.named_parameters() if not p.requires_grad}
    assert frozen == {"dense.weight", "dense.bias"}


class TwoWays(tf.Module):
    """Two signatures over the same weights, one of them with a shape that is computed."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(3)
        self.table = tf.Variable(rng.standard_normal((6, 4)), dtype=tf.float32, name="table")
        self.scale = tf.Variable(
            rng.standard_normal(4), dtype=tf.float32, name="scale", trainable=False
        )
        self.bias = tf.Variable(rng.standard_normal(6), dtype=tf.float32, name="bias")

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int64, name="ids")])
    def encode(self, ids):
        length = tf.shape(ids)[1]
        places = tf.cast(tf.range(length), tf.float32) / tf.cast(length, tf.float32)
        rows = tf.gather(self.table, ids) * self.scale + places[None, :, None]
        return {"rows": rows, "mean": tf.reduce_mean(rows, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def decode(self, x):
        return tf.nn.softmax(tf.matmul(x, self.table, transpose_b=True) + self.bias)


@pytest.fixture(scope="module")
def two_ways(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "model"
    module = TwoWays()
    tf.saved_model.save(
        module, str(folder), signatures={"encode": module.encode, "decode": module.decode}
    )
    return folder, module


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_signatures_by_name(two_ways, name):
    folder, module = two_ways
    mirror = mirror_of(read_saved_model(folder, name))
    given = [tf.constant(x.numpy()) for x in mirror.example_inputs]
    expected = getattr(module, name)(*given)
    agrees(mirror, {k: v.numpy() for k, v in expected.items()} if name == "encode" else expected)
    captures(mirror)
    if name == "encode":
        assert layers(mirror) == {"table": "Embedding"} or "Embedding" in layers(mirror).values()
        assert not mirror.module.state_dict().keys() & {"bias"}
        assert [e.trainable for e in mirror.entries if e.target == "scale"] == [False]


def test_a_signature_that_is_not_there(two_ways):
    with pytest.raises(BadInput, match="no signature 'train'") as found:
        read_saved_model(two_ways[0], "train")
    assert "decode, encode" in str(found.value)
    with pytest.raises(BadInput, match="serving_default"):
        read_saved_model(two_ways[0])


def test_optimizer_slots_that_tensorflow_no_longer_knows(tmp_path):
    """``tf.saved_model.load`` rebuilds every object of the exporter and fails; the graph is fine."""
    from tensorflow.core.protobuf import saved_model_pb2

    folder = tmp_path / "model"
    model = image_model()
    exported(model, folder)
    path = folder / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    objects = proto.meta_graphs[0].object_graph_def
    variables = [i for i, n in enumerate(objects.nodes) if n.WhichOneof("kind") == "variable"]
    optimizer = objects.nodes.add()
    optimizer.user_object.identifier = "optimizer_of_another_age"
    optimizer.user_object.version.producer = 1
    optimizer.user_object.version.min_consumer = 1
    slot = optimizer.slot_variables.add()
    slot.original_variable_node_id, slot.slot_name = variables[0], "m"
    slot.slot_variable_node_id = variables[1]
    child = objects.nodes[0].children.add()
    child.node_id, child.local_name = len(objects.nodes) - 1, "optimizer"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(folder))
    mirror = mirror_of(read_saved_model(folder))
    agrees(mirror, model(*[x.numpy() for x in mirror.example_inputs]))


def test_damaged_folders(tmp_path):
    folder = tmp_path / "model"
    exported(image_model(), folder)
    path = folder / "saved_model.pb"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="damaged"):
        read_saved_model(folder)
    path.write_bytes(b"not a protobuf at all")
    with pytest.raises(BadInput, match="not a SavedModel"):
        read_saved_model(folder)
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="holds no graph"):
        read_saved_model(folder)
    path.write_bytes(whole)
    data = next((folder / "variables").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"damaged|cannot be read"):
        read_saved_model(folder)
    next((folder / "variables").glob("variables.index")).unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        read_saved_model(folder)
    path.unlink()
    with pytest.raises(BadInput, match="no SavedModel"):
        read_saved_model(folder)


def test_updates_of_variables_are_refused(tmp_path):
    """They run beside what is returned: without a word, the mirror would forget them."""

    class Counting(tf.Module):
        def __init__(self):
            super().__init__()
            self.seen = tf.Variable(0.0, name="seen")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x):
            self.seen.assign_add(1.0)
            return x * 2.0

    module = Counting()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.__call__)
    with pytest.raises(Unsupported, match="AssignAddVariableOp"):
        read_saved_model(tmp_path / "model")


def test_python_and_files_are_refused_by_name(tmp_path):
    """Nothing in a file runs: an op that would is named, with its node."""

    class Sly(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def __call__(self, x):
            secret = tf.io.read_file("/etc/passwd")
            y = tf.numpy_function(lambda v: v, [x], tf.float32)
            return y + tf.cast(tf.strings.length(secret), tf.float32)

    module = Sly()
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=module.__call__)
    with pytest.raises(Unsupported) as found:
        source = read_saved_model(tmp_path / "model")
        mirror_of(source, [torch.ones(3)])
    text = str(found.value)
    assert "ReadFile" in text and "PyFunc" in text


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_one_op(causal, tmp_path):
    k = keras.layers
    x = keras.Input((None, 8), name="x")
    attention = k.MultiHeadAttention(2, 4, name="attention")
    model = keras.Model(x, attention(x, x, use_causal_mask=causal))
    mirror = mirror_of(exported(model, tmp_path / "model"))
    agrees(mirror, model(*[x.numpy() for x in mirror.example_inputs]))
    (op,) = (n for n in captures(mirror).graph.nodes if "scaled_dot_product" in str(n.target))
    assert op.kwargs.get("is_causal", (*op.args, *[False] * 6)[5]) is causal
