"""What of a graph is translated: tensors by name, values for placeholders, the tags of a SavedModel."""

import json

import pytest

tf = pytest.importorskip("tensorflow")

import diglot  # noqa: E402
from diglot.cli import run  # noqa: E402
from diglot.errors import BadInput  # noqa: E402
from diglot.frontends.tensorflow_graph import read_frozen, read_saved_model  # noqa: E402
from diglot.runtime import KerasWorker  # noqa: E402

v1 = tf.compat.v1


@pytest.fixture(scope="module")
def worker():
    with KerasWorker() as keras_worker:
        yield keras_worker


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """A classifier with dropout, frozen and as a SavedModel, whose loss needs labels."""
    folder = tmp_path_factory.mktemp("graphs")
    with v1.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 6], name="x")
        keep = v1.placeholder(tf.float32, name="keep_prob")
        labels = v1.placeholder(tf.int32, [None], name="labels")
        hidden = tf.nn.relu(tf.matmul(x, v1.get_variable("w", [6, 5])), name="hidden")
        hidden = v1.nn.dropout(hidden, keep)
        logits = tf.matmul(hidden, v1.get_variable("v", [5, 3]), name="logits")
        cross = v1.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        tf.reduce_mean(cross, name="loss")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(
            session, str(folder / "saved"), {"x": x, "keep": keep}, {"logits": logits}
        )
        definition = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["logits", "loss"]
        )
    (folder / "frozen.pb").write_bytes(definition.SerializeToString())
    return folder


@pytest.mark.parametrize("kind", ["frozen.pb", "saved"])
def test_a_placeholder_is_given_a_value(kind, graphs, worker):
    """The labels, which only the loss needs, are no input."""
    feeds, fetches = ["keep_prob=1.0"], ["logits"]
    if kind == "saved":
        source = read_saved_model(graphs / kind, feeds=feeds, fetches=fetches)
    else:
        source = read_frozen(graphs / kind, feeds, fetches)
    assert [spec.name for spec in source.inputs] == ["x"]
    translation = diglot.translate(source, to="torch")
    proof = diglot.prove(translation, worker=worker)
    assert proof.verdict == "proven", proof.reason
    assert "rand" not in translation.source.partition("def forward")[2]
    assert translation.source.count("nn.Linear(") == 2


@pytest.mark.parametrize(
    ("feeds", "fetches", "told"),
    [
        (["keep_prob=1.0", "xs"], ["logits"], r"no node 'xs'(?s:.*)placeholders: x, keep_prob"),
        (["keep_prob=1.0"], ["logit"], r"no node 'logit'(?s:.*)did you mean logits\?"),
        (["keep_porb=1.0"], ["logits"], r"did you mean keep_prob\?"),
        (["keep_prob=high"], ["logits"], r"--feed keep_prob=high gives no value"),
        (["keep_prob='high'"], ["logits"], r"a value that --feed gives does not fit"),
        ([], ["logits"], r"keep_prob(?s:.*)--feed keep_prob=1\.0"),
    ],
)
def test_a_name_or_a_value_that_does_not_fit(feeds, fetches, told, graphs):
    with pytest.raises(BadInput, match=told):
        diglot.translate(read_frozen(graphs / "frozen.pb", feeds, fetches), to="torch")


def test_the_command_takes_feeds_and_tags_of_a_saved_model(graphs, tmp_path, capsys):
    saved, out = str(graphs / "saved"), tmp_path / "out"
    ends = ["--tags", "serve", "--feed", "keep_prob=1.0", "--fetch", "logits"]
    assert run(["translate", saved, "-o", str(out), "--to", "torch", "--json", *ends]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "proven"
    record = json.loads((out / "translation.json").read_text())["original"]
    assert record["values"] == {"keep_prob": 1.0} and record["feeds"] == ["x"]
    other = str(tmp_path / "other")
    for more, told in (
        (["--tags", "train"], "no graph with the tags train"),
        (["--signature", "serving_default", "--feed", "x"], "leave out --feed"),
    ):
        assert run(["translate", saved, "-o", other, "--to", "torch", *more]) == 2
        assert told in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "other").exists()
