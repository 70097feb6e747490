"""Backbones of keras-hub: from a config, from a preset's folder, and those whose layers call TensorFlow themselves."""

import importlib.util
import json

import numpy as np
import pytest

import diglot
from diglot import cli
from diglot.errors import BadInput
from diglot.sources_keras import load_keras_source

pytestmark = [
    pytest.mark.usefixtures("commands"),
    pytest.mark.skipif(
        importlib.util.find_spec("keras_hub") is None, reason="keras-hub is not installed ([hub])"
    ),
]
SIZES = "vocabulary_size=50, num_layers=2, hidden_dim=16, intermediate_dim=24"
GROUPED = f"{SIZES}, num_query_heads=4, num_key_value_heads=2"


def _text():
    rng = np.random.default_rng(0)
    mask = np.ones((2, 7), "int32")
    mask[1, 5:] = 0
    return {"token_ids": rng.integers(1, 50, (2, 7)).astype("int32"), "padding_mask": mask}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (f"hub:GPT2Backbone({SIZES}, num_heads=2, max_sequence_length=32)", "approximate='tanh'"),
        (f"hub:LlamaBackbone({GROUPED})", "torch.rsqrt(var + 1e-06)"),
        # Its sliding window is tf.linalg.band_part.
        (f"hub:Qwen3Backbone({GROUPED}, head_dim=8, sliding_window_size=4)", "F.silu"),
    ],
)
def test_a_backbone_is_proven(spec, says):
    """Caches, masks and rotary positions that are made inside; constants keep their digits."""
    translation = diglot.translate(load_keras_source(spec).model, _text(), to="torch")
    assert says in translation.source.replace('"', "'")
    assert "0.35355338" not in translation.source  # 8**-0.5 by way of float32
    assert diglot.prove(translation, thorough=False, steps=1).verdict == "proven"


def test_a_presets_folder(tmp_path, capsys):
    """What keras-hub itself has saved is loaded with its weights, from the command line, too."""
    sizes = "patch_size=(8, 8), num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12"
    made = load_keras_source(f"hub:ViTBackbone(image_shape=(16, 16, 3), {sizes})").model
    made.save_to_preset(str(tmp_path / "vit"))
    model = load_keras_source(f"hub:{tmp_path / 'vit'}").model
    for ours, theirs in zip(model.weights, made.weights, strict=True):
        assert np.array_equal(ours.numpy(), theirs.numpy())
    given = [f"hub:{tmp_path / 'vit'}", "--to", "torch", "-o", str(tmp_path / "out"), "--json"]
    assert cli.run(["translate", *given]) == 0
    assert json.loads(capsys.readouterr().out)["proof"]["verdict"] == "proven"
    (tmp_path / "vit" / "config.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        load_keras_source(f"hub:{tmp_path / 'vit'}")


def _classifier(models):
    sizes = dict(vocabulary_size=50, num_layers=1, hidden_dim=16, intermediate_dim=24)
    backbone = models.BertBackbone(**sizes, num_heads=2, max_sequence_length=12)
    return models.BertTextClassifier(backbone=backbone, num_classes=3)


def _language_model(models):
    sizes = dict(vocabulary_size=9, num_layers=1, hidden_dim=16, intermediate_dim=24)
    backbone = models.GPT2Backbone(**sizes, num_heads=2, max_sequence_length=12)
    vocabulary = dict.fromkeys(["<|endoftext|>", *"airport"])
    tokenizer = models.GPT2Tokenizer({word: i for i, word in enumerate(vocabulary)}, [])
    preprocessor = models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=10)
    return models.GPT2CausalLM(backbone=backbone, preprocessor=preprocessor)


@pytest.mark.parametrize(
    ("make", "head"), [(_classifier, "self.logits"), (_language_model, "token_embedding.weight")]
)
def test_a_presets_task(make, head, tmp_path, capsys):
    """A backbone with its head. The example inputs, made up, have rows in which all is padding."""
    import keras_hub

    made = make(keras_hub.models)
    made.save_to_preset(str(tmp_path / "task"))
    out = tmp_path / "out"
    given = [f"hub:{tmp_path / 'task'}", "--to", "torch", "-o", str(out), "--json"]
    assert cli.run(["translate", *given]) == 0
    assert json.loads(capsys.readouterr().out)["proof"]["verdict"] == "proven"
    assert head in (out / "model.py").read_text()


def _damage(name, change):
    def damage(folder):
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def _renamed(old, new):
    return lambda content: content.replace(old.encode(), new.encode())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "model.weights.h5").unlink(), "raised an error"),
        (_damage("config.json", lambda content: b"[1]"), "damaged: its config is no model's"),
        (_damage("config.json", _renamed("BertBackbone", "Nothing")), "no class registered"),
        (_damage("task.json", lambda content: content[:99]), "its JSON cannot be read"),
        (_damage("task.json", _renamed("BertTextClassifier", "Dense")), "names no task"),
        (_damage("model.weights.h5", lambda content: content[: len(content) // 2]), "cannot be read"),
        (_damage("task.weights.h5", lambda content: content[:999]), "cannot be read"),
    ],
)  # fmt: skip
def test_a_damaged_preset_is_refused(damage, says, tmp_path, capsys):
    """In one error, with nothing written."""
    import keras_hub

    _classifier(keras_hub.models).save_to_preset(str(tmp_path / "task"))
    damage(tmp_path / "task")
    given = [f"hub:{tmp_path / 'task'}", "--to", "torch", "-o", str(tmp_path / "out")]
    assert cli.run(["translate", *given]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert says in error and error.count("✗") <= 2, error
    assert not (tmp_path / "out").exists()
