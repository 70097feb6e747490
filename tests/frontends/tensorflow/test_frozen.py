"""TensorFlow 1: graphs built and frozen with ``tf.compat.v1``, and its SavedModels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support_tf import agrees, captures, layers, weights_return

from diglot.errors import BadInput, Unsupported
from diglot.frontends.tensorflow_graph import mirror_of, read_frozen, read_saved_model

tf = pytest.importorskip("tensorflow")
v1 = tf.compat.v1


def conv(x, name, count, rng, strides=1):
    with v1.variable_scope(name):
        shape = (3, 3, int(x.shape[-1]), count)
        kernel = v1.get_variable("kernel", initializer=normal(rng, shape))
        bias = v1.get_variable("bias", initializer=normal(rng, (count,)))
        x = tf.nn.conv2d(x, kernel, strides=[1, strides, strides, 1], padding="SAME")
        return tf.nn.bias_add(x, bias)


def normal(rng, shape):
    return (rng.standard_normal(shape) * 0.4).astype(np.float32)


def norm(x, name, rng, fused, training):
    size = int(x.shape[-1])
    with v1.variable_scope(name):
        gamma = v1.get_variable("gamma", initializer=normal(rng, size))
        beta = v1.get_variable("beta", initializer=normal(rng, size))
        mean = v1.get_variable("moving_mean", initializer=normal(rng, size), trainable=False)
        var = v1.get_variable(
            "moving_variance", initializer=np.abs(normal(rng, size)) + 0.3, trainable=False
        )
        if fused:
            # A learning-phase switch, as Keras and slim wrote it.
            return v1.cond(
                training,
                lambda: v1.nn.fused_batch_norm(x, gamma, beta, epsilon=1e-3, is_training=True)[0],
                lambda: v1.nn.fused_batch_norm(
                    x, gamma, beta, mean, var, epsilon=1e-3, is_training=False
                )[0],
            )
        return tf.nn.batch_normalization(x, mean, var, beta, gamma, 1e-3)


def network(rng):
    """A small residual net with a learning phase, dropout and a switch on the data."""
    image = v1.placeholder(tf.float32, [None, 12, 12, 3], name="image")
    training = v1.placeholder_with_default(False, [], name="training")
    with v1.variable_scope("net"):
        x = tf.nn.relu(norm(conv(image, "stem", 6, rng, 2), "stem_norm", rng, True, training))
        for i in range(2):
            with v1.variable_scope(f"block_{i}"):
                y = tf.nn.relu6(norm(conv(x, "conv", 6, rng), "norm", rng, False, training))
                x = x + y
        x = tf.reduce_mean(x, [1, 2])
        x = v1.cond(training, lambda: tf.nn.dropout(x, rate=0.5), lambda: tf.identity(x))
        with v1.variable_scope("logits"):
            kernel = v1.get_variable("kernel", initializer=normal(rng, (6, 5)))
            bias = v1.get_variable("bias", initializer=normal(rng, 5))
            x = tf.nn.bias_add(tf.matmul(x, kernel), bias)
    x = v1.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0)
    return image, tf.nn.softmax(x, name="probabilities")


def frozen(tmp_path, control_v2):
    (v1.enable_control_flow_v2 if control_v2 else v1.disable_control_flow_v2)()
    try:
        graph = tf.Graph()
        with graph.as_default(), v1.Session(graph=graph) as session:
            image, result = network(np.random.default_rng(5))
            session.run(v1.global_variables_initializer())
            x = np.random.default_rng(6).standard_normal((3, 12, 12, 3)).astype(np.float32)
            expected = session.run(result, {image: x})
            values = {v.op.name: session.run(v) for v in v1.global_variables()}
            definition = v1.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), ["probabilities"]
            )
            v1.saved_model.simple_save(
                session, str(tmp_path / "saved"), {"image": image}, {"probabilities": result}
            )
    finally:
        v1.enable_control_flow_v2()
    path = tmp_path / "net.pb"
    path.write_bytes(definition.SerializeToString())
    return path, x, expected, values


EXPECTED = {
    "stem": "Conv2d",
    "stem_norm": "BatchNorm2d",
    "block_0.conv": "Conv2d",
    "block_0.norm": "BatchNorm2d",
    "block_1.conv": "Conv2d",
    "block_1.norm": "BatchNorm2d",
    "logits": "Linear",
}


@pytest.mark.parametrize("control_v2", [False, True])
def test_frozen_graph(tmp_path, control_v2):
    path, x, expected, values = frozen(tmp_path, control_v2)
    source = read_frozen(path, ["image:0"], ["probabilities:0"])
    mirror = mirror_of(source, [x])
    assert layers(mirror) == EXPECTED
    agrees(mirror, expected)
    weights_return(mirror, values)
    assert all(e.trainable for e in mirror.entries if "moving" not in e.target)
    assert {type(m).__name__ for m in mirror.module.children()} >= {"Block"}
    blocks = [mirror.module.get_submodule(f"block_{i}") for i in range(2)]
    assert type(blocks[0]) is type(blocks[1])
    captures(mirror)


def test_saved_model_of_tensorflow_1(tmp_path):
    _, x, expected, values = frozen(tmp_path, True)
    mirror = mirror_of(read_saved_model(tmp_path / "saved"), [x])
    assert layers(mirror) == EXPECTED
    agrees(mirror, expected)
    weights_return(mirror, values)
    assert {e.target for e in mirror.entries if not e.trainable} == {
        v for v in values if "moving" in v
    }


def test_feeds_and_fetches_inside(tmp_path):
    path, x, _, _ = frozen(tmp_path, True)
    mirror = mirror_of(read_frozen(path, ["image"], ["net/block_0/Relu6"]), [x])
    assert (
        set(layers(mirror)) == {"stem", "stem_norm", "block_0.conv", "block_0.norm"}
        or len(layers(mirror)) == 4
    )
    definition = v1.GraphDef.FromString(path.read_bytes())
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        v1.import_graph_def(definition, name="")
        expected = session.run("net/block_0/Relu6:0", {"image:0": x})
    agrees(mirror, expected)


def test_damaged_graphs(tmp_path):
    path, *_ = frozen(tmp_path, True)
    whole = path.read_bytes()
    with pytest.raises(BadInput, match="no node 'picture'"):
        read_frozen(path, ["picture"], ["probabilities"])
    path.write_bytes(whole[:-100])
    with pytest.raises(BadInput, match="damaged"):
        read_frozen(path)
    definition = v1.GraphDef.FromString(whole)
    node = next(n for n in definition.node if n.op == "Conv2D")
    node.input[1] = "nowhere"
    path.write_bytes(definition.SerializeToString())
    with pytest.raises(BadInput, match="nowhere"):
        read_frozen(path, ["image"], ["probabilities"])
    definition = v1.GraphDef.FromString(whole)
    big = next(n for n in definition.node if n.op == "Const" and "kernel" in n.name)
    big.attr["value"].tensor.tensor_content = b"short"
    path.write_bytes(definition.SerializeToString())
    with pytest.raises(BadInput, match="constant"):
        read_frozen(path, ["image"], ["probabilities"])
    path.write_bytes(b"")
    with pytest.raises(BadInput, match="no node"):
        read_frozen(path)


def test_everything_unsupported_is_listed_at_once(tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        y = v1.py_func(lambda v: v, [x], tf.float32, name="script")
        y.set_shape([None, 3])
        z = tf.unique(tf.reshape(x, [-1]), name="distinct")[0]
        tf.add(tf.reduce_sum(y), tf.reduce_sum(z), name="total")
    path = tmp_path / "sly.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(Unsupported) as found:
        mirror_of(read_frozen(path, ["x"], ["total"]), [torch.ones(2, 3)])
    places = {p.where: p.op for p in found.value.problems}
    assert places == {
        "script": "the TensorFlow op PyFunc",
        "distinct": "the TensorFlow op Unique",
    }


def test_a_graph_that_still_has_variables(tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        w = v1.get_variable("w", [3, 2])
        tf.matmul(x, w, name="y")
    path = tmp_path / "raw.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(BadInput, match="not frozen"):
        read_frozen(path, ["x"], ["y"])


def test_an_output_that_a_node_lacks_is_named_with_those_it_has(tmp_path):
    graph = tf.Graph()
    with graph.as_default():
        image = v1.placeholder(tf.float32, [None, 4], name="image")
        tf.split(tf.nn.relu(image, name="relu"), 2, axis=1, name="halves")
    path = tmp_path / "net.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    with pytest.raises(BadInput, match=r"there is no tensor 'relu:3'.*1 output") as raised:
        read_frozen(path, None, ["relu:3"])
    assert "relu:0" in str(raised.value) and "damaged" not in str(raised.value)
    with pytest.raises(BadInput, match="2 outputs") as raised:
        read_frozen(path, None, ["halves:2"])
    assert "halves:0, halves:1" in str(raised.value)
    assert read_frozen(path, None, ["halves:1"]).graph.outputs[0].index == 1
