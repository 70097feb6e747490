"""The Functional program that stands beside a translation where nobody wrote a source."""

import importlib

import keras
import numpy as np
import pytest
from keras import layers, ops

import diglot
from diglot.frontends.keras_tracing.listing import listing


def functional():
    left, right = keras.Input((16, 12, 3), name="left"), keras.Input((5,), name="right")
    x = layers.Conv2D(8, (3, 5), padding="same", use_bias=False, name="conv1")(left)
    x = layers.ReLU()(layers.BatchNormalization(epsilon=1e-5)(x))
    tower = keras.Sequential(
        [layers.Dense(6, "relu"), layers.Dropout(0.2), layers.Dense(8)], name="tower"
    )
    x = layers.Add()([layers.GlobalAveragePooling2D()(x), tower(right)])
    outputs = layers.Dense(2, activation="softmax", name="head")(ops.tanh(x) * 2.0)
    return keras.Model([left, right], outputs, name="both")


def sequential():
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(5, activation="gelu"),
            layers.LayerNormalization(),
            layers.Dropout(0.25),
            layers.Dense(5),
            layers.Dense(2),
        ],
        name="mlp",
    )


def zoo_resnet():
    build = importlib.import_module("diglot.zoo.resnet.keras_model").build_model
    return build((1, 1), width=4, classes=3)


@pytest.mark.parametrize("make", [functional, sequential, zoo_resnet], ids=lambda f: f.__name__)
def test_it_builds_the_same_model(make):
    model = make()
    made = listing(model)
    scope = {}
    exec(made.text, scope)
    again = scope["model"]
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    again.set_weights(model.get_weights())
    rng = np.random.default_rng(0)
    given = [
        rng.normal(size=(2, *(s or 33 for s in t.shape[1:]))).astype("float32")
        for t in model.inputs
    ]
    np.testing.assert_allclose(
        np.asarray(again(given if len(given) > 1 else given[0])),
        np.asarray(model(given if len(given) > 1 else given[0])),
        rtol=1e-5,
        atol=1e-6,
    )


def test_an_authors_own_model_has_a_source_of_its_own():
    class Own(keras.Model):
        def call(self, x):
            return x

    assert listing(Own()) is None


def test_the_pages_show_it_with_lines_that_belong_together(tmp_path):
    translation = diglot.translate(functional(), to="torch")
    lines = translation.source.splitlines()
    theirs = translation.info["sources"]["both.py"]["text"].splitlines()
    pairs = [
        (theirs[p["source_line"] - 1], lines[p["target_line"] - 1])
        for p in translation.info["lines"]
    ]
    conv = [ours.strip() for other, ours in pairs if 'name="conv1"' in other]
    assert conv[0].startswith("self.conv1 = nn.Conv2d(3, 8, (3, 5)")
    assert any("self.conv1(left)" in line for line in conv[1:])
    assert any(
        "layers.Dropout(0.2)" in other and "nn.Dropout(0.2)" in ours for other, ours in pairs
    )
    translation.save(tmp_path / "out")
    page = (tmp_path / "out" / "pages.html").read_text()
    assert "both.py" in page and page.count('class="ln linked"') > 10


def test_a_sequential_stands_beside_its_items():
    translation = diglot.translate(sequential(), to="torch")
    lines = translation.source.splitlines()
    theirs = translation.info["sources"]["mlp.py"]["text"].splitlines()
    pairs = {
        (theirs[p["source_line"] - 1].strip(), lines[p["target_line"] - 1].strip())
        for p in translation.info["lines"]
    }
    assert ('layers.Dense(5, activation="gelu"),', "nn.Linear(7, 5),") in pairs
    assert ("layers.Dropout(0.25),", "nn.Dropout(0.25),") in pairs
