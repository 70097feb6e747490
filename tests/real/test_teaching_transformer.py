"""The encoder-decoder Transformer of teaching code."""

import pytest
from real_models import assert_proven, assert_reads_well, run_fresh, translated, weight_map

pytestmark = pytest.mark.xdist_group("teaching_transformer")

CLASSES = (
    "InputEmbeddings",
    "PositionalEncoding",
    "LayerNormalization",
    "FeedForwardBlock",
    "MultiHeadAttentionBlock",
    "EncoderBlock",
    "Encoder",
    "DecoderBlock",
    "Decoder",
    "ProjectionLayer",
    "Transformer",
)


def test_it_is_proven():
    assert_proven(translated("teaching_transformer"))


@pytest.mark.sweep
def test_it_is_a_keras_model_in_its_own_right():
    report = run_fresh(
        translated("teaching_transformer"), "outputs", "keras", "weights", "config", "fit"
    )
    assert report["keras"] == report["weights"] == report["config"] == 0
    assert report["fit"]["changed"] == report["fit"]["trainable"] > 0
    assert report["fit"]["loss"][-1] < report["fit"]["loss"][0]


def test_it_reads_like_the_original():
    result = translated("teaching_transformer")
    assert_reads_well(result, *CLASSES)
    source = result.translation.source
    for name in ("self_attention_block", "residual_connections", "attention_scores", "w_q", "pe"):
        assert name in source, f"the author's {name} is gone"
    assert " for " in source and "range(" in source, "the blocks are not made in a loop"


def test_the_sinusoids_are_a_buffer():
    entries = weight_map(translated("teaching_transformer"))["entries"]
    kinds = {source: entry["kind"] for entry in entries for source in entry["sources"]}
    assert kinds["src_pos.pe"] == kinds["tgt_pos.pe"] == "buffer"
    assert all(not entry["trainable"] for entry in entries if entry["kind"] == "buffer")


def test_lengths_stay_dynamic():
    inputs = weight_map(translated("teaching_transformer"))["inputs"]
    (src, tgt, src_mask, tgt_mask) = (entry["shape"] for entry in inputs)
    assert all(isinstance(size, str) for size in (*src, *tgt))
    assert src[1] == src_mask[3] and tgt[1] == tgt_mask[2] == tgt_mask[3]
    assert src[1] != tgt[1]
