"""The DNA pairs: their files, and what is particular to them."""

import itertools
import json

import keras
import numpy as np
import pytest
import torch

from diglot.cli import run
from diglot.data.dna import EOS, PAD, SOS, tokenise
from diglot.errors import BadInput
from diglot.training import Batch, Recipe
from diglot.training.task import total
from diglot.zoo import find_pair
from diglot.zoo.dna_data import load_parts
from diglot.zoo.dna_seq2seq import keras_data, keras_decoding, torch_data, torch_decoding
from diglot.zoo.dna_seq2seq.pair import Decoder, sequence_accuracy, token_accuracy
from diglot.zoo.drawing import draw_attention

TAGGER = find_pair("dna-tagger")
SEQ2SEQ = find_pair("dna-seq2seq")


def test_the_simulator_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "dna.csv"
    command = ["zoo", "simulate-dna", str(path), "--count", "12", "--length", "20", "--json"]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 12
    first = path.read_text()
    assert len(first.splitlines()) == 13
    assert run(command) == 0
    assert path.read_text() == first
    assert run([*command, "--substitution", "2"]) == 2
    assert "no probability" in capsys.readouterr().out


def test_data_of_ones_own(tmp_path, capsys):
    path = tmp_path / "dna.csv"
    path.write_text("ancestor,descendant\n" + "ACGT,ATGT\n" * 30)
    data = TAGGER.data(maxlen=8, path=str(path))
    assert len(data.train["targets"]) == 24
    assert data.train["targets"][0].tolist() == [1, 4, 3, 4, 0, 0, 0, 0]
    path.write_text("ancestor,descendant\nACGT,ATGT\n")
    with pytest.raises(BadInput, match="too few pairs"):
        TAGGER.data(maxlen=8, path=str(path))
    out = ["-o", str(tmp_path / "out")]
    assert run(["zoo", "run", "mnist-mlp", "--data", str(path), *out]) == 2
    assert "its own data only" in capsys.readouterr().err
    path.write_text("ancestor,descendant\nACGT,ATNT\n")
    assert run(["zoo", "run", "dna-tagger", "--data", str(path), *out]) == 2
    error = capsys.readouterr().err
    assert "letter that is no base" in error
    assert "line 2, letter 3" in error.replace("\n", "")


def test_precision_and_recall_are_those_of_keras():
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(6, 9, 5)).astype(np.float32) * 2
    targets = rng.integers(1, 5, (6, 9))
    weights = (rng.random((6, 9)) > 0.3).astype(np.float32)
    batch = Batch({"ancestor": rng.integers(1, 5, (6, 9))}, targets, weights)
    found = total([TAGGER.score(outputs, batch)])
    probabilities = keras.ops.softmax(outputs)
    one_hot = np.eye(5)[targets]
    for name, metric in (
        ("precision", keras.metrics.Precision()),
        ("recall", keras.metrics.Recall()),
    ):
        metric.update_state(
            one_hot, probabilities, sample_weight=np.repeat(weights[..., None], 5, -1)
        )
        assert found[name] == pytest.approx(float(metric.result()), abs=1e-6)


def test_the_data_need_a_look_at_the_neighbour():
    """Copying does worse than the rule, and the rule is what there is to reach."""
    about = TAGGER.data(**TAGGER.setting("full").data).about
    assert about["accuracy_by_copying"] < 0.93
    assert about["accuracy_by_rule"] > TAGGER.goals["accuracy"]


def test_padding_changes_nothing():
    """A base's tag is the same however much padding follows."""
    sizes = TAGGER.setting("fast").model
    model = TAGGER.torch().build_model(**sizes).eval()
    keras_model = TAGGER.keras().build_model(**sizes)
    tokens = np.random.default_rng(0).integers(1, 5, (2, 9))
    padded = np.pad(tokens, ((0, 0), (0, 4)))
    with torch.no_grad():
        short, long = (model(torch.from_numpy(array)).numpy() for array in (tokens, padded))
    np.testing.assert_allclose(short, long[:, :9], atol=1e-5)
    short, long = (keras_model.predict_on_batch(array) for array in (tokens, padded))
    np.testing.assert_allclose(short, long[:, :9], atol=1e-5)


def test_the_tagger_is_saved_and_loaded(tmp_path):
    """`.keras` without custom objects, and a state dict."""
    sizes = TAGGER.setting("fast").model
    tokens = np.random.default_rng(0).integers(1, 5, (2, 9))
    model = TAGGER.keras().build_model(**sizes)
    TAGGER.keras().compile_model(model, "adam")
    model.train_on_batch(tokens, tokens, sample_weight=np.ones(tokens.shape))
    model.save(tmp_path / "tagger.keras")
    loaded = keras.models.load_model(tmp_path / "tagger.keras")
    np.testing.assert_array_equal(loaded(tokens), model(tokens))
    model, loaded = (TAGGER.torch().build_model(**sizes).eval() for _ in range(2))
    torch.save(model.state_dict(), tmp_path / "tagger.pt")
    loaded.load_state_dict(torch.load(tmp_path / "tagger.pt"))
    assert torch.equal(loaded(torch.from_numpy(tokens)), model(torch.from_numpy(tokens)))


def test_a_token_that_occurs_twice_has_one_gradient():
    """Adam's second moment of an embedding is that of the summed gradient, in `fit`, too."""
    from diglot.training.keras_loop import make_optimizer

    optimizer = make_optimizer(Recipe(batch_size=1, epochs=1))
    embedding = keras.layers.Embedding(3, 2)
    model = keras.Sequential([embedding, keras.layers.Flatten()])
    model.compile(optimizer, loss=lambda targets, outputs: keras.ops.sum(outputs))
    model.train_on_batch(np.array([[1, 1, 1, 2]]), np.zeros((1, 8)))
    (velocity,) = optimizer._velocities
    np.testing.assert_allclose(
        velocity, 0.001 * np.array([[0, 0], [9, 9], [1, 1]]), rtol=1e-4, atol=1e-9
    )


@pytest.fixture(scope="module")
def seq2seq():
    """The PyTorch and the Keras Transformer with the same weights, which end some sequences early."""
    from diglot.training.keras_loop import set_weights
    from diglot.training.torch_loop import state_of

    sizes = SEQ2SEQ.setting("fast").model
    torch.manual_seed(5)
    model = SEQ2SEQ.torch().build_model(**sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.projection_layer.proj.bias[PAD] -= 9.0
        model.projection_layer.proj.bias[EOS] -= 1.0
    keras_model = SEQ2SEQ.keras().build_model(**sizes)
    set_weights(SEQ2SEQ, keras_model, state_of(model), sizes)
    return model, keras_model


def sources():
    parts, _ = load_parts(longest=10, shortest=6, count=200)
    return parts["test"]


def test_greedy_decoding_is_the_same_and_takes_the_likeliest_token(seq2seq):
    model, keras_model = seq2seq
    src = tokenise([ancestor for ancestor, _ in sources()], 10)
    found = torch_decoding.greedy(model, torch.from_numpy(src), 13)
    np.testing.assert_array_equal(keras_decoding.greedy(keras_model, src, 13), found)
    assert len({tuple(row) for row in found.tolist()}) > 4
    lengths = (found != PAD).sum(1)
    assert lengths.min() < lengths.max()
    for row, (ancestor, _) in zip(found.tolist(), sources(), strict=True):
        tgt = [SOS]
        while len(tgt) <= 13 and tgt[-1] != EOS:
            with torch.no_grad():
                logits = model(torch.from_numpy(tokenise([ancestor], 10)), torch.tensor([tgt]))
            tgt.append(int(logits[0, -1].argmax()))
        assert row == tgt[1:] + [PAD] * (len(row) - len(tgt) + 1)


def log_likelihood(model, src, tokens):
    """Of a sequence that ends with EOS, as the model has it."""
    tgt = torch.tensor([[SOS, *tokens[:-1]]])
    with torch.no_grad():
        logits = model(torch.from_numpy(src)[None], tgt).log_softmax(-1)[0]
    return float(logits[range(len(tokens)), tokens].sum())


def test_beam_decoding_is_the_same_and_finds_what_is_likelier(seq2seq):
    model, keras_model = seq2seq
    better = 0
    for ancestor, _ in sources():
        src = tokenise([ancestor], len(ancestor))[0]
        beam = torch_decoding.beam(model, torch.from_numpy(src), 13).tolist()
        assert keras_decoding.beam(keras_model, src, 13).tolist() == beam
        # A beam of one is greedy decoding.
        greedy = torch_decoding.greedy(model, torch.from_numpy(src)[None], 13)[0].tolist()
        assert torch_decoding.beam(model, torch.from_numpy(src), 13, width=1).tolist() == greedy
        if EOS in greedy and beam != greedy:
            better += 1
            assert log_likelihood(model, src, beam) > log_likelihood(model, src, greedy)
    assert better


def test_a_wide_beam_finds_the_likeliest_of_all(seq2seq):
    """Against all sequences of up to three tokens."""
    model, _ = seq2seq
    src = tokenise(["ACGTTA"], 6)[0]
    tokens = [token for token in range(7) if token != EOS]
    every = [(*start, EOS) for n in range(3) for start in itertools.product(tokens, repeat=n)]
    best = max(every, key=lambda sequence: log_likelihood(model, src, list(sequence)))
    found = torch_decoding.beam(model, torch.from_numpy(src), 3, width=50)
    assert found.tolist() == list(best)


def test_both_pipelines_give_the_same_batches():
    pairs = sources()
    ours = list(torch_data.batches(pairs, 8))
    theirs = list(keras_data.batches(pairs, 8))
    assert len(ours) == len(theirs) == 3
    for (src, tgt, targets), (inputs, keras_targets) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(src, inputs["src"])
        np.testing.assert_array_equal(tgt, inputs["tgt"])
        np.testing.assert_array_equal(targets, keras_targets)
    rows = SEQ2SEQ.data(longest=10, shortest=6, count=200).test
    width = src.shape[1], targets.shape[1]
    np.testing.assert_array_equal(src, rows["src"][16:, : width[0]])
    np.testing.assert_array_equal(targets, rows["targets"][16:, : width[1]])
    assert len(list(torch_data.batches(pairs, 8, shuffle=True))) == 3
    assert len(list(keras_data.batches(pairs, 8, shuffle=True))) == 3


def test_attention_looks_where_it_may(seq2seq):
    """The same in both; rows add up to one, and the decoder's is causal."""
    found = [
        Decoder(model, framework, 13).attention("ACGTTA", "ATGTA")
        for model, framework in zip(seq2seq, ("torch", "keras"), strict=True)
    ]
    for kind, shape in (("encoder", (6, 6)), ("decoder", (6, 6)), ("cross", (6, 6))):
        ours, theirs = (arrays[kind] for arrays in found)
        assert ours.shape == (1, 2, *shape)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_allclose(ours.sum(-1), 1, atol=1e-5)
    decoder, encoder = found[0]["decoder"], found[0]["encoder"]
    assert not np.triu(decoder, 1).any()
    assert np.triu(encoder, 1).any()


def test_the_transformer_is_saved_and_loaded(seq2seq, tmp_path):
    _, model = seq2seq
    inputs = {"src": tokenise(["ACGT"], 6), "tgt": tokenise(["ACG"], 5, start=True)}
    model.save(tmp_path / "transformer.keras")
    loaded = keras.models.load_model(tmp_path / "transformer.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))


def test_accuracies_of_decoded_sequences():
    assert sequence_accuracy(["AC", "GT"], ["AC", "GA"]) == 0.5
    assert token_accuracy(["AC", "GTA"], ["AC", "GA"]) == pytest.approx(3 / 5)


def test_attention_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    rows = {"PyTorch, layer 1": rng.random((2, 3, 4)), "Keras, layer 1": rng.random((1, 3, 4))}
    draw_attention(tmp_path / "attention", rows, list("ACG"), list("ACGT"), "Cross")
    text = (tmp_path / "attention.svg").read_text()
    assert "PyTorch, layer 1" in text
    assert text.count("head 1") == 2
    assert text.count("head 2") == 1
    assert (tmp_path / "attention.png").stat().st_size > 1000
