"""An LSTM and a GRU text classifier."""

import pytest
from real_models import assert_proven, assert_reads_well, run_fresh, translated, weight_map

pytestmark = pytest.mark.xdist_group("text_rnn")

FACTORIES = {
    "make_lstm": "LSTMClassifier",
    "make_gru": "GRUClassifier",
    "make_mean_pool": "MeanPoolLSTM",
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_it_is_proven(factory):
    assert_proven(translated("text_rnn", factory))


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_fresh_python_computes_the_same_and_trains(factory):
    report = run_fresh(translated("text_rnn", factory), "outputs", "keras", "config", "fit")
    assert report["keras"] == report["config"] == 0
    assert report["fit"]["changed"] == report["fit"]["trainable"] > 0


@pytest.mark.parametrize("factory", FACTORIES)
def test_it_reads_well(factory):
    assert_reads_well(translated("text_rnn", factory), FACTORIES[factory])
    source = translated("text_rnn", factory).translation.source
    assert ("GRU" if factory == "make_gru" else "LSTM") in source


@pytest.mark.parametrize("factory", FACTORIES)
def test_texts_of_any_length_go_in(factory):
    (shape,) = (entry["shape"] for entry in weight_map(translated("text_rnn", factory))["inputs"])
    assert len({*shape}) == 2 and all(isinstance(size, str) for size in shape)
