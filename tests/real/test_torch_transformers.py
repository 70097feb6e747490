"""Models made of nn.TransformerEncoder, nn.TransformerDecoder and nn.MultiheadAttention."""

import pytest
from marking import swept
from real_models import assert_proven, assert_reads_well, run_fresh, translated, weight_map

pytestmark = pytest.mark.xdist_group("torch_transformers")

FACTORIES = {
    "make_encoder_only": "EncoderOnlyTransformer",
    "make_encoder_only_norm_first": "EncoderOnlyTransformer",
    "make_decoder_only": "DecoderOnlyTransformer",
    "make_gpt": "CausalLanguageModel",
    "make_encoder_decoder": "EncoderDecoderTransformer",
    "make_sequence_first": "SequenceFirstTransformer",
    "make_attention_pooling": "AttentionPooling",
}


@pytest.mark.parametrize("factory", swept(FACTORIES, {"make_encoder_only", "make_decoder_only"}))
def test_it_is_proven(factory):
    assert_proven(translated("torch_transformers", factory))


# One that has all parts.
@pytest.mark.parametrize("factory", swept(FACTORIES, FACTORIES.keys() - {"make_encoder_decoder"}))
def test_a_fresh_python_computes_the_same(factory):
    report = run_fresh(translated("torch_transformers", factory), "outputs", "keras", "config")
    assert report["keras"] == report["config"] == 0


@pytest.mark.parametrize(
    "factory", swept(["make_encoder_only", "make_decoder_only"], {"make_encoder_only"})
)
def test_it_trains(factory):
    fit = run_fresh(translated("torch_transformers", factory), "fit")["fit"]
    # The bias of the keys adds the same number to all scores of a row: softmax ignores it.
    layers = 2 if factory == "make_encoder_only" else 4
    assert fit["changed"] >= fit["trainable"] - layers > 0


@pytest.mark.parametrize("factory", FACTORIES)
def test_it_reads_well(factory):
    assert_reads_well(translated("torch_transformers", factory), FACTORIES[factory])


def test_length_and_batch_are_dynamic():
    result = translated("torch_transformers", "make_encoder_decoder")
    src, tgt = (entry["shape"] for entry in weight_map(result)["inputs"])
    assert src[0] == tgt[0] and len({*src, *tgt}) == 3
    assert all(isinstance(size, str) for size in (*src, *tgt))
