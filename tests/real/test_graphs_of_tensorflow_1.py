"""Graphs as TensorFlow 1 wrote them: slim's scopes, BERT's reshapes, loops of single nodes; each frozen and proven."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

import diglot  # noqa: E402
from diglot.errors import Unsupported  # noqa: E402
from diglot.frontends.tensorflow_graph import mirror_of, read_frozen  # noqa: E402
from diglot.runtime import KerasWorker  # noqa: E402

v1 = tf.compat.v1


@pytest.fixture(scope="module")
def worker():
    with KerasWorker() as keras_worker:
        yield keras_worker


def frozen(build, path):
    """A graph with variables of random values, without control flow v2, frozen where it has a node ``y``."""
    v1.disable_control_flow_v2()
    v1.disable_resource_variables()
    try:
        with v1.Graph().as_default() as graph, v1.Session() as session:
            v1.set_random_seed(3)
            build()
            session.run(v1.global_variables_initializer())
            definition = v1.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), ["y"]
            )
    finally:
        v1.enable_control_flow_v2()
        v1.enable_resource_variables()
    path.write_bytes(definition.SerializeToString())
    return read_frozen(path, None, ["y"])


def proven(source, worker):
    translation = diglot.translate(source, to="torch")
    proof = diglot.prove(translation, worker=worker)
    assert proof.verdict == "proven", proof.reason
    return translation


def variable(name, *shape, positive=False):
    low, high = (0.5, 1.5) if positive else (-0.5, 0.5)
    start = v1.random_uniform_initializer(low, high, seed=len(name))
    return v1.get_variable(name, shape, initializer=start, trainable="moving" not in name)


def normalised(x):
    """slim's batch norm without a scale."""
    size = int(x.shape[-1])
    with v1.variable_scope("BatchNorm"):
        mean, shift = variable("moving_mean", size), variable("beta", size)
        power = variable("moving_variance", size, positive=True)
        one = tf.ones([size])
        x = v1.nn.fused_batch_norm(x, one, shift, mean, power, epsilon=1e-3, is_training=False)[0]
    return tf.nn.relu6(x, name="Relu6")


def mobilenet():
    x = v1.placeholder(tf.float32, [None, 16, 16, 3], name="input")
    with v1.variable_scope("MobilenetV1"):
        with v1.variable_scope("Conv2d_0"):
            x = normalised(tf.nn.conv2d(x, variable("weights", 3, 3, 3, 4), 2, "SAME"))
        for i, width in enumerate((6, 8, 8), 1):
            size = int(x.shape[-1])
            with v1.variable_scope(f"Conv2d_{i}_depthwise"):
                kernel = variable("depthwise_weights", 3, 3, size, 1)
                x = normalised(tf.nn.depthwise_conv2d(x, kernel, [1, 1, 1, 1], "SAME"))
            with v1.variable_scope(f"Conv2d_{i}_pointwise"):
                x = normalised(tf.nn.conv2d(x, variable("weights", 1, 1, size, width), 1, "SAME"))
        with v1.variable_scope("Logits"):
            x = tf.nn.avg_pool2d(x, 8, 1, "VALID", name="AvgPool_1a")
            x = tf.nn.conv2d(x, variable("Conv2d_1c_1x1/weights", 1, 1, 8, 5), 1, "SAME")
            x = tf.squeeze(tf.nn.bias_add(x, variable("Conv2d_1c_1x1/biases", 5)), [1, 2])
    tf.nn.softmax(x, name="y")


def test_scopes_that_differ_in_numbers_are_one_class(tmp_path, worker):
    source = proven(frozen(mobilenet, tmp_path / "net.pb"), worker).source
    assert source.count("Conv2dDepthwise(in_channels=") == 3
    assert source.count("Conv2dPointwise(in_channels=") == 3
    assert source.count("(nn.Module)") == 5
    assert "self.BatchNorm = nn.BatchNorm2d(" in source
    assert "self.BatchNorm.weight.requires_grad_(False)" in source  # a constant of the graph
    assert ".flatten(1)" in source and "self.Conv2d_1c_1x1 = nn.Conv2d(8, 5, 1)" in source


def dense(x, name, units):
    with v1.variable_scope(name):
        kernel, bias = variable("kernel", int(x.shape[-1]), units), variable("bias", units)
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def bert():
    ids, mask, kinds = (
        v1.placeholder(tf.int32, [None, None], name=name)
        for name in ("input_ids", "input_mask", "segment_ids")
    )
    with v1.variable_scope("bert"):
        batch, length = tf.shape(ids)[0], tf.shape(ids)[1]
        with v1.variable_scope("embeddings"):
            x = tf.gather(variable("word_embeddings", 20, 8), tf.reshape(ids, [-1]))
            x = tf.reshape(x, [batch, length, 8])
            hot = tf.one_hot(tf.reshape(kinds, [-1]), 2)
            kind = tf.matmul(hot, variable("token_type_embeddings", 2, 8))
            x += tf.reshape(kind, [batch, length, 8])
        x = tf.reshape(x, [-1, 8])
        unseen = (1.0 - tf.cast(tf.reshape(mask, [batch, 1, 1, length]), tf.float32)) * -10000.0
        for i in range(2):
            with v1.variable_scope(f"layer_{i}"):
                with v1.variable_scope("self"):
                    q, k, v = (
                        tf.transpose(
                            tf.reshape(dense(x, name, 8), [batch, length, 2, 4]), [0, 2, 1, 3]
                        )
                        for name in ("query", "key", "value")
                    )
                    scores = tf.matmul(q, k, transpose_b=True) * 0.5 + unseen
                    seen = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
                    seen = tf.reshape(seen, [batch * length, 8])
                with v1.variable_scope("output"):
                    x += dense(seen, "dense", 8)
    tf.reshape(x, [batch, length, 8], name="y")


def test_inputs_whose_sizes_meet_as_products_stay_dynamic(tmp_path, worker):
    source = frozen(bert, tmp_path / "bert.pb")
    assert mirror_of(source).module.equal
    translation = proven(source, worker)
    sizes = [spec.shape for spec in translation.weight_map.inputs]
    assert sizes[0] == sizes[1] == sizes[2] and all(isinstance(s, str) for s in sizes[0])
    assert translation.source.count("= Layer(") == 2
    assert translation.source.count("F.scaled_dot_product_attention(") == 1
    assert "F.softmax" not in translation.source and "attn_mask=" in translation.source


def rows(name, like, size):
    return tf.TensorArray(
        tf.float32, tf.shape(like)[0], element_shape=[None, size], tensor_array_name=name
    )


def dynamic_rnn(lengths=None):
    """What ``tf.nn.dynamic_rnn`` made of a ``BasicLSTMCell``, with or without ``sequence_length``."""
    x = v1.placeholder(tf.float32, [None, None, 3], name="x")
    if lengths is not None:
        lengths = v1.placeholder(tf.int32, [None], name=lengths)
    with v1.variable_scope("rnn"):
        with v1.variable_scope("basic_lstm_cell"):
            kernel, bias = variable("kernel", 3 + 5, 20), variable("bias", 20)
        turned = tf.transpose(x, [1, 0, 2])
        steps, batch = tf.shape(turned)[0], tf.shape(turned)[1]
        given = rows("input_0", turned, 3).unstack(turned)
        start = tf.zeros(tf.stack([batch, 5]))
        zero = tf.zeros(tf.stack([batch, 5]))

        def step(time, made, states):
            c, h = states
            gates = tf.matmul(tf.concat([given.read(time), h], 1), kernel)
            i, j, f, o = tf.split(tf.nn.bias_add(gates, bias), 4, 1)
            c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
            h = tf.tanh(c) * tf.sigmoid(o)
            given_out = h
            if lengths is not None:
                given_out = v1.where(time >= lengths, zero, h)
                c, h = (
                    v1.where(time >= lengths, old, new)
                    for old, new in zip(states, (c, h), strict=True)
                )
            return time + 1, made.write(time, given_out), (c, h)

        longest = steps if lengths is None else tf.reduce_max(lengths)
        bound = tf.minimum(steps, tf.maximum(1, longest))
        state = (tf.constant(0, name="time"), rows("output_0", turned, 5), (start, start))
        _, made, (_, last) = tf.while_loop(
            lambda time, *_: time < bound, step, state, maximum_iterations=steps
        )
        outputs = tf.transpose(made.stack(), [1, 0, 2])
    tf.add(tf.reduce_mean(outputs, 1), last, name="y")


def test_a_dynamic_rnn_is_a_layer(tmp_path, worker):
    translation = proven(frozen(dynamic_rnn, tmp_path / "rnn.pb"), worker)
    assert "self.rnn = nn.LSTM(3, 5, batch_first=True)" in translation.source
    second = translation.model.rnn.bias_hh_l0
    assert second.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10 and not second.requires_grad


def test_a_dynamic_rnn_of_sequences_of_several_lengths_is_a_layer(tmp_path, worker):
    source = frozen(lambda: dynamic_rnn("lengths"), tmp_path / "rnn.pb")
    translation = proven(source, worker)
    assert "self.rnn = nn.LSTM(3, 5, batch_first=True)" in translation.source
    (given,) = [e for e in translation.info["example_inputs"] if e["name"] == "lengths"]
    assert given["max"] > 1


def nested():
    x = v1.placeholder(tf.float32, [None, 4], name="x")
    w = variable("w", 4, 4)

    def outer(i, y):
        inner = [tf.constant(0), y]
        _, y = tf.while_loop(lambda j, _: j < 2, lambda j, y: (j + 1, tf.sin(y @ w)), inner)
        return i + 1, v1.cond(tf.reduce_sum(y) > 0, lambda: y * 0.5, lambda: y + 1.0)

    tf.identity(tf.while_loop(lambda i, _: i < 3, outer, [tf.constant(0), x])[1], name="y")


def styled():
    """A layer of fast style transfer, one of its residual blocks, and FaceNet's last line."""
    x = v1.placeholder(tf.float32, [None, 12, 12, 3], name="image")

    def reflected(x, name, width, size):
        edge = [size // 2] * 2
        x = tf.pad(x, [[0, 0], edge, edge, [0, 0]], "REFLECT")
        with v1.variable_scope(name):
            x = tf.nn.conv2d(x, variable("w", size, size, int(x.shape[-1]), width), 1, "VALID")
        with v1.variable_scope(f"{name}_in"):
            mean, power = tf.nn.moments(x, [1, 2], keepdims=True)
            normal = (x - mean) / (power + 1e-3) ** 0.5
            return variable("scale", width) * normal + variable("shift", width)

    x = tf.nn.relu(reflected(x, "conv", 4, 5))
    x += reflected(tf.nn.relu(reflected(x, "res_a", 4, 3)), "res_b", 4, 3)
    x = tf.reshape(tf.nn.avg_pool2d(x, 12, 12, "VALID"), [-1, 4])
    x = tf.gather(variable("looked/table", 4, 4), tf.argmax(x, 1)) + x + variable("looked/bias", 4)
    tf.nn.l2_normalize(x, 1, 1e-10, name="y")


def test_instance_norms_reflections_and_lengths(tmp_path, worker):
    source = proven(frozen(styled, tmp_path / "style.pb"), worker).source
    assert source.count("nn.InstanceNorm2d(4, affine=True, eps=0.001)") == 3
    assert 'self.conv(F.pad(image, (2, 2, 2, 2), mode="reflect"))' in source
    assert "permute" not in source and "F.avg_pool2d(x + self.res_b_in(res_b), 12)" in source
    assert "return F.normalize(" in source and ", dim=-1, eps=1e-05)" in source


def test_loops_within_loops(tmp_path, worker):
    source = proven(frozen(nested, tmp_path / "loops.pb"), worker).source
    assert source.count("torch.sin(") == 6 and source.count("torch.where(") == 3


def test_a_frame_that_is_no_loop_is_refused(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        entered = tf.raw_ops.Enter(data=x, frame_name="odd")
        tf.identity(tf.raw_ops.Exit(data=tf.sin(entered)), name="y")

    source = frozen(build, tmp_path / "odd.pb")
    with pytest.raises(Unsupported, match=r"Enter.*not built as tf\.while_loop"):
        mirror_of(source, [np.ones((2, 4), np.float32)])


@pytest.mark.parametrize("old", [False, True])
def test_dropout_that_drops_nothing_is_left_out(old, tmp_path):
    """TensorFlow 1 multiplied by ``floor(keep + random)``, later versions choose."""

    def build():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        keep = v1.placeholder_with_default(1.0, [], name="keep")
        if old:
            x = x / keep * tf.floor(keep + v1.random_uniform(tf.shape(x)))
        else:
            x = v1.nn.dropout(x, rate=1.0 - keep)
        tf.matmul(x, variable("w", 4, 3), name="y")

    source = diglot.translate(frozen(build, tmp_path / "net.pb"), to="torch").source
    assert source.count("return ") == 2 and "return self.w(x)" in source
