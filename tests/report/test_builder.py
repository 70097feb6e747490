"""The builder function of a Keras model, on the page beside what its lines became."""

import textwrap

import pytest

import diglot
from diglot.sources_keras import load_keras_source

NET = textwrap.dedent(
    """
    import keras
    from keras import layers


    class Scale(layers.Layer):
        def build(self, shape):
            self.norm = layers.LayerNormalization()

        def call(self, x):
            return self.norm(x) * 2.0


    def block(x, count):
        y = layers.Conv2D(count, 3, padding="same", use_bias=False)(x)
        y = layers.BatchNormalization()(y)
        y = layers.Conv2D(count, 3, padding="same")(layers.ReLU()(y))
        return layers.ReLU()(layers.add([x, y]))


    def make():
        image = keras.Input((12, 12, 3), name="image")
        x = layers.Conv2D(8, 3, padding="same", name="stem")(image)
        for _ in range(3):
            x = block(x, 8)
        x = Scale(name="scale")(layers.GlobalAveragePooling2D()(x))
        head = keras.Sequential(
            [
                layers.Dense(12, activation="relu"),
                layers.Dense(4),
            ],
            name="head",
        )
        return keras.Model(image, head(x), name="small")


    def made_elsewhere():
        return keras.applications.MobileNetV2(
            input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=4
        )
    """
).lstrip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    (folder / "net.py").write_text(NET)
    return folder


def test_the_builder_stands_beside_the_program(folder):
    file = str(folder / "net.py")
    made = diglot.translate(load_keras_source(f"{file}:make").model, to="torch")
    assert set(made.info["sources"]) == {file}
    theirs, ours = NET.splitlines(), made.source.splitlines()
    pairs = {
        (theirs[p["source_line"] - 1].strip(), ours[p["target_line"] - 1].split(" = ")[0].strip())
        for p in made.info["lines"]
    }
    assert ('x = layers.Conv2D(8, 3, padding="same", name="stem")(image)', "self.stem") in pairs
    assert ("layers.Dense(4),", "self.head") in pairs
    norm = [name for line, name in pairs if line == "y = layers.BatchNormalization()(y)"]
    assert any(name.startswith("self.") for name in norm)
    spans = {
        record["target_class"]: theirs[record["source_lines"][0] - 1]
        for record in made.info["classes"]
    }
    assert spans["Small"] == "def make():"
    assert spans["Scale"] == "class Scale(layers.Layer):"
    assert "def block(x, count):" in spans.values()
    made.save(folder / "out")
    page = (folder / "out" / "pages.html").read_text()
    assert "net.py" in page and "small.py" not in page


def test_a_model_that_a_library_builds_is_shown_as_what_it_amounts_to(folder):
    from diglot.frontends.keras_tracing.authored import authored

    model = load_keras_source(f"{folder / 'net.py'}:made_elsewhere").model
    assert authored(model, {layer.name: layer for layer in model.layers}) is None


def test_what_nobody_watched_has_no_lines():
    import keras

    from diglot.frontends.keras_tracing.authored import authored

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert authored(model, {"0": model.layers[0]}) is None
