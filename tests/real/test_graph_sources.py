"""TensorFlow's graphs of every kind, from their files to a proof: what other people's exports look like."""

import json
import shutil

import keras
import numpy as np
import pytest
from keras import layers

tf = pytest.importorskip("tensorflow")

import diglot  # noqa: E402
from diglot.cli import run  # noqa: E402
from diglot.errors import BadInput  # noqa: E402
from diglot.frontends.tensorflow_graph import read_frozen, read_saved_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("commands")


def proven(source, worker):
    translation = diglot.translate(source, to="torch")
    proof = diglot.prove(translation, worker=worker, steps=10)
    assert proof.verdict == "proven", proof.reason
    kinds = {check.kind for check in proof.checks if check.dtype == "float64"}
    assert kinds >= {"outputs", "gradients", "steps"}
    return translation


class Several(tf.Module):
    def __init__(self):
        super().__init__()
        generator = tf.random.Generator.from_seed(1)
        self.w = tf.Variable(generator.normal([6, 4]), name="w")
        self.b = tf.Variable(generator.normal([4]), name="b")
        self.table = tf.Variable(generator.normal([9, 6]), name="table")

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32)])
    def score(self, x):
        logits = tf.matmul(x, self.w) + self.b
        return {"scores": tf.nn.softmax(logits), "logits": logits}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def embed(self, ids):
        return {"vectors": tf.nn.gelu(tf.gather(self.table, ids) @ self.w)}

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32)])
    def choose(self, x):
        return tf.cond(tf.reduce_mean(x) > 0, lambda: tf.tanh(x @ self.w), lambda: x @ self.w * 0.7)

    @tf.function(input_signature=[tf.TensorSpec([None, 6], tf.float32)])
    def repeat(self, x):
        def step(i, y):
            return i + 1, tf.sin(y) / 3.0

        return tf.while_loop(lambda i, _: i < 4, step, [tf.constant(0), x @ self.w])[1]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    place, model = tmp_path_factory.mktemp("several"), Several()
    both = {"score": model.score, "embed": model.embed}
    tf.saved_model.save(model, str(place / "two"), signatures=both)
    tf.saved_model.save(model, str(place / "choose"), signatures=model.choose)
    tf.saved_model.save(model, str(place / "repeat"), signatures=model.repeat)
    return place


def test_a_signature_is_chosen_by_name(several, tmp_path, worker, capsys):
    with pytest.raises(BadInput, match="embed, score"):
        read_saved_model(several / "two")
    translation = proven(read_saved_model(several / "two", "score"), worker)
    assert "nn.Linear(6, 4)" in translation.source
    command = ["translate", str(several / "two"), "-o", str(tmp_path / "out"), "--json"]
    assert run(command) == 2 and not (tmp_path / "out").exists()
    assert "embed, score" in capsys.readouterr().out
    assert run([*command, "--signature", "embed"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "proven"
    assert "F.gelu(" in (tmp_path / "out" / "model.py").read_text()


def test_branches_and_loops(several, worker):
    assert "torch.where" in proven(read_saved_model(several / "choose"), worker).source
    assert proven(read_saved_model(several / "repeat"), worker).source.count("torch.sin") == 4


def exported(model, path):
    rng = np.random.default_rng(2)
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) * 0.3)
        if "variance" in weight.path:
            weight.assign(rng.random(weight.shape) + 0.5)
    model.export(str(path), verbose=False)
    return read_saved_model(path)


def test_a_keras_model_saved_as_an_object(tmp_path, worker):
    """Each of its variables has two handles in the file; the signature reads those that are not restored."""
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4), layers.BatchNormalization()])
    tf.saved_model.save(model, str(tmp_path / "m"))
    proven(read_saved_model(tmp_path / "m"), worker)


def test_recurrent_layers_with_a_mask(tmp_path, worker):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(11, 6, mask_zero=True),
            layers.LSTM(5, return_sequences=True),
            layers.Bidirectional(layers.GRU(4)),
        ]
    )
    translation = proven(exported(model, tmp_path / "m"), worker)
    assert "nn.LSTM(6, 5" in translation.source


def test_dilated_convolutions_are_convolutions(tmp_path, worker):
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.Conv1D(8, 2, dilation_rate=2, padding="causal", activation="relu"),
            layers.Conv1D(7, 3, dilation_rate=4, padding="same"),
            layers.BatchNormalization(),
        ]
    )
    source = proven(exported(model, tmp_path / "m"), worker).source
    assert "nn.Conv1d(8, 7, 3, padding=4, dilation=4)" in source
    assert "nn.ZeroPad1d((2, 0))" in source


class Scaled(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale


def test_a_weight_may_be_one_number(tmp_path, worker):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3), Scaled()])
    translation = proven(exported(model, tmp_path / "m"), worker)
    assert [list(v.shape) for v in translation.weights.values()].count([]) == 1


def test_convolutions_in_groups_are_proven(tmp_path, worker):
    """TensorFlow has no gradient of them on a CPU."""
    model = keras.Sequential(
        [
            keras.Input((8, 9, 4)),
            layers.Conv2D(6, 3, groups=2, strides=2, padding="same", activation="relu"),
            layers.Conv2D(9, 2, groups=3, dilation_rate=2),
        ]
    )
    source = proven(exported(model, tmp_path / "m"), worker).source
    assert "groups=2" in source and "dilation=2, groups=3" in source


def test_a_model_that_is_called_again_is_one_module(tmp_path, worker):
    x = first = keras.Input((9, 3))
    x = layers.MaxPooling1D()(layers.Conv1D(5, 3, activation="gelu")(x))
    x = layers.Conv1D(7, 2)(x)
    x = layers.GlobalMaxPooling1D()(keras.activations.gelu(x))
    encoder = keras.Model(first, [layers.Dense(4)(x), x], name="encoder")
    rnn = layers.Bidirectional(layers.LSTM(2), name="reader")
    a, b = keras.Input((9, 3)), keras.Input((9, 3))
    (left, pooled), (right, _) = encoder(a), encoder(b)
    joined = layers.concatenate([left - right, pooled, rnn(a) * rnn(b)])
    translation = proven(exported(keras.Model([a, b], joined), tmp_path / "m"), worker)
    source = translation.source
    assert source.count("(nn.Module)") == 3
    assert source.count("self.encoder(") == source.count("self.reader(") == 2
    assert "F.gelu(x).amax(dim=-1)" in source
    assert "unsqueeze" not in source
    assert {name.split(".")[0] for name in translation.weights} == {"encoder", "reader"}


class Block(layers.Layer):
    """Its layers are built when it is first called: their variables are all called after the block."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.supports_masking = True
        self.attention = layers.MultiHeadAttention(2, width // 2)
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.wide, self.narrow = layers.Dense(2 * width, activation="gelu"), layers.Dense(width)

    def call(self, x, mask=None):
        x = self.norms[0](x + self.attention(x, x, use_causal_mask=mask is None))
        return self.norms[1](x + self.narrow(self.wide(x)))


@pytest.mark.parametrize(("length", "masked"), [(12, False), (None, True)])
def test_blocks_of_ones_own_are_classes_with_names_of_their_layers(
    length, masked, tmp_path, worker
):
    x = first = keras.Input((length,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=masked)(x)
    for _ in range(2):
        x = Block(8)(x)
    model = keras.Model(first, layers.Dense(3)(x))
    translation = proven(exported(model, tmp_path / "m"), worker)
    source = translation.source
    assert source.count("(nn.Module)") == 3 and "class Block(" in source
    assert source.count("nn.LayerNorm(8") == 2 and "self.layer_normalization_1(x + " in source
    assert "self.query = nn.Linear(8, 8)" in source
    assert ("is_causal=True" in source) is not masked
    assert ("attn_mask=" in source) is masked and "einsum" not in source


def test_a_residual_block_keeps_what_it_adds_in_x(tmp_path, worker):
    x = first = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 1)(x)
    y = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(y))
    model = keras.Model(first, layers.GlobalAveragePooling2D()(layers.add([x, y])))
    source = proven(exported(model, tmp_path / "m"), worker).source
    assert "y = self.batch_normalization" in source and "(x + y).mean(dim=(2, 3))" in source


def test_lengths_stay_open_where_short_ones_would_be_one_step(tmp_path, worker):
    ids = keras.Input((None,), name="ids")
    x = layers.MaxPooling1D(2)(layers.Embedding(11, 6)(ids))
    x = layers.Conv1D(5, 3, dilation_rate=2, padding="same", activation="relu")(x)
    x = layers.Conv1D(5, 3, dilation_rate=3, padding="same")(layers.AveragePooling1D(2)(x))
    model = keras.Model(ids, layers.GlobalMaxPooling1D()(x))
    translation = proven(exported(model, tmp_path / "m"), worker)
    assert "dilation=3" in translation.source
    assert "F.max_pool1d(self." in translation.source
    assert "F.avg_pool1d(" in translation.source and "unsqueeze" not in translation.source
    assert 1 in [about["axis"] for about in translation.info["dynamic"].values()]
    (given,) = translation.info["example_inputs"]
    assert (given["min"], given["max"]) == (0, 10)  # all of the table


def test_what_float64_lacks_in_tensorflow_is_still_proven(tmp_path, worker):
    model = keras.Sequential(
        [
            keras.Input((8, 10, 3)),
            layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
            layers.BatchNormalization(),
            layers.LeakyReLU(0.1),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
        ]
    )
    proven(exported(model, tmp_path / "m"), worker)


class Filters(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable(tf.random.Generator.from_seed(1).normal([5, 4]), name="w")

    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32)])
    def __call__(self, x):
        lengths = tf.constant([3, 7, 11, 13, 17])
        return {
            "y": tf.tanh(x * tf.sqrt(tf.cast(lengths, tf.float32)) / tf.math.log(10.0)) @ self.w
        }


def test_a_table_made_of_constants_has_the_digits_that_the_translation_keeps(tmp_path, worker):
    made = Filters()
    tf.saved_model.save(made, str(tmp_path / "m"), signatures=made.__call__)
    proven(read_saved_model(tmp_path / "m"), worker)
    # Keras's own constants reach the function that reads them as its arguments.
    scaled = layers.Normalization(mean=[1.5, 2.0, 0.3], variance=[2.0, 3.0, 5.0])
    model = keras.Sequential([keras.Input((3,)), scaled, layers.Dense(4)])
    assert "normalization_maximum" in proven(exported(model, tmp_path / "n"), worker).source


def test_slots_that_tensorflow_does_not_know(tmp_path, worker):
    """What an optimizer of an older Keras leaves in a SavedModel: TensorFlow refuses to load it."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="tanh")])
    exported(model, tmp_path / "m")
    path = tmp_path / "m" / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    objects = saved.meta_graphs[0].object_graph_def
    variables = [i for i, n in enumerate(objects.nodes) if n.WhichOneof("kind") == "variable"]
    optimizer = objects.nodes.add()
    optimizer.user_object.identifier = "_generic_user_object"
    slot = optimizer.slot_variables.add()
    slot.original_variable_node_id, slot.slot_variable_node_id = variables[:2]
    slot.slot_name = "momentum"
    link = objects.nodes[0].children.add()
    link.node_id, link.local_name = len(objects.nodes) - 1, "optimizer"
    path.write_bytes(saved.SerializeToString())
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(tmp_path / "m"))
    proven(read_saved_model(tmp_path / "m"), worker)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """What `sess.run(output, feed_dict={…})` ran: variables, a batch norm, a placeholder with a default."""
    v1 = tf.compat.v1
    with v1.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 12, 12, 2], name="images")
        keep = v1.placeholder_with_default(1.0, [], name="keep")
        normal = v1.random_normal_initializer(seed=1)
        positive = v1.random_uniform_initializer(0.5, 1.0, seed=1)
        with v1.variable_scope("conv1"):
            kernel = v1.get_variable("kernel", [3, 3, 2, 5], initializer=normal)
            bias = v1.get_variable("bias", [5], initializer=normal)
            y = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, 2, "SAME"), bias))
        with v1.variable_scope("bn"):
            scale, variance = (v1.get_variable(n, [5], initializer=positive) for n in ("g", "v"))
            shift, mean = (v1.get_variable(n, [5], initializer=normal) for n in ("b", "m"))
            y = v1.nn.fused_batch_norm(y, scale, shift, mean, variance, is_training=False)[0]
        y = tf.reshape(tf.nn.max_pool2d(y, 2, 2, "SAME"), [-1, 45]) * keep
        with v1.variable_scope("fc"):
            w = v1.get_variable("w", [45, 3], initializer=normal)
            logits = tf.add(tf.matmul(y, w), 0.1, name="logits")
            tf.nn.softmax(logits, name="probabilities")
        session.run(v1.global_variables_initializer())
        definition = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["fc/probabilities"]
        )
    path = tmp_path_factory.mktemp("frozen") / "net.pb"
    path.write_bytes(definition.SerializeToString())
    return path


def test_a_frozen_graph_between_its_feeds_and_fetches(frozen, tmp_path, worker, capsys):
    source = proven(read_frozen(frozen, ["images:0"], ["fc/logits:0"]), worker).source
    assert "nn.BatchNorm2d(5" in source and "softmax" not in source
    command = ["translate", str(frozen), "-o", str(tmp_path / "out"), "--json"]
    ends = ["--feed", "images", "--fetch", "fc/probabilities", "--fetch", "fc/logits"]
    assert run([*command, *ends]) == 0
    assert "softmax" in (tmp_path / "out" / "model.py").read_text()
    assert run([*command, "--feed", "image", "--force"]) == 2
    assert "placeholders: images" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_refused_and_nothing_is_written(frozen, tmp_path, damage, capsys):
    data = frozen.read_bytes()
    bad = {"cut": data[: len(data) // 2], "flipped": bytes(b ^ 0x5A for b in data), "empty": b""}
    (tmp_path / "net.pb").write_bytes(bad[damage])
    out = tmp_path / "out"
    assert run(["translate", str(tmp_path / "net.pb"), "-o", str(out)]) == 2 and not out.exists()
    shown = capsys.readouterr().err
    assert "net.pb" in shown and "Traceback" not in shown


def test_a_graph_that_would_write_a_file_is_not_run(tmp_path):
    """A control input brings in what no output reads."""
    from tensorflow.core.framework import graph_pb2

    from diglot.runtime.graph_files import refuse_effects

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [2], name="x")
        written = tf.raw_ops.WriteFile(filename=str(tmp_path / "harm"), contents="harm")
        with tf.control_dependencies([written]):
            tf.identity(x, name="y")
    definition = graph_pb2.GraphDef.FromString(graph.as_graph_def().SerializeToString())
    with pytest.raises(BadInput, match="WriteFile"):
        refuse_effects(definition, ["y:0"])


class Live(tf.Module):
    def __init__(self):
        super().__init__()
        generator = tf.random.Generator.from_seed(2)
        self.w = tf.Variable(generator.normal([4, 3]), name="w")
        self.other = tf.Variable(generator.normal([3]), name="w")  # TensorFlow allows a name twice
        self.fixed = tf.Variable(generator.normal([3]), name="fixed", trainable=False)
        self.constant = generator.normal([3])

    @tf.function
    def nested(self, x, y):
        product = x @ self.w
        return {
            "a": {"b": tf.nn.relu(product + self.other), "c": [y * self.fixed, y + self.constant]},
            "d": tf.reduce_mean(product, 1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def several(self, x):
        return tf.tanh(x @ self.w), x * 0.5


def test_a_live_function_is_proven_from_what_is_written_of_it(tmp_path, worker):
    live = Live()
    specs = [tf.TensorSpec([None, n], tf.float32) for n in (4, 3)]
    translation = proven(live.nested.get_concrete_function(*specs), worker)
    assert '"c": [y * self.fixed, y + self.numbers]},' in translation.source
    trained = {e.target: e.trainable for e in translation.weight_map.entries}
    assert trained == {"w": True, "w__1": True, "fixed": False}
    translation.save(tmp_path / "out")
    del translation
    assert diglot.prove(diglot.load(tmp_path / "out"), worker=worker).verdict == "proven"


def test_a_function_with_a_signature_needs_no_other(worker):
    live = Live()
    assert "return [torch.tanh(self.w(x)), x * 0.5]" in proven(live.several, worker).source
    with pytest.raises(BadInput, match="get_concrete_function"):
        diglot.translate(live.nested, to="torch")


def test_a_graph_with_other_tags_and_an_id_beyond_its_table(several, tmp_path, worker):
    from tensorflow.core.protobuf import saved_model_pb2

    folder = shutil.copytree(several / "two", tmp_path / "m")
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].meta_info_def.tags.append("gpu")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    source = read_saved_model(folder, "embed")
    proven(source, worker)
    with pytest.raises(BadInput, match=r"within their tables.*ids"):
        diglot.translate(source, [np.full((2, 3), 9)], to="torch")
