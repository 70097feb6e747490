"""Hugging Face models: small configurations, random weights."""

import pytest

pytest.importorskip("transformers", reason='transformers is not installed: pip install ".[hf]"')

from marking import swept
from real_models import assert_proven, assert_reads_well, run_fresh, translated

FACTORIES = {
    "make_bert": ("BertLayer", "BertSelfAttention", "BertEmbeddings"),
    "make_roberta": ("RobertaLayer", "RobertaClassificationHead"),
    "make_gpt2": ("GPT2Block", "GPT2Attention", "GPT2MLP"),
    "make_t5": ("T5Block", "T5LayerNorm", "T5Attention"),
    "make_llama": ("LlamaDecoderLayer", "LlamaAttention", "LlamaMLP"),
    "make_vit": ("ViTLayer", "ViTEmbeddings"),
}
CASES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FACTORIES]


@pytest.mark.parametrize("factory", swept(CASES, {"make_t5", "make_roberta"}))
def test_it_is_proven(factory):
    assert_proven(translated("hugging_face", factory))


@pytest.mark.parametrize("factory", swept(CASES, FACTORIES.keys() - {"make_bert"}))
def test_a_fresh_python_computes_the_same_and_trains(factory):
    result = translated("hugging_face", factory)
    report = run_fresh(result, "outputs", "keras", "config", "fit")
    assert report["keras"] == report["config"] == 0
    assert report["fit"]["changed"] >= 0.9 * report["fit"]["trainable"] > 0


@pytest.mark.parametrize("factory", swept(CASES, {"make_t5"}))
def test_it_reads_well(factory):
    assert_reads_well(translated("hugging_face", factory), *FACTORIES[factory])
