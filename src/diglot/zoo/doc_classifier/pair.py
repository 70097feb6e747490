"""doc-classifier: a pretrained sentence encoder, translated for Keras, and a classifier on its features."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.data import News, read_news
from diglot.errors import BadInput
from diglot.runtime.exchange import read_arrays, write_arrays
from diglot.training import Data, Job, Recipe
from diglot.training.job import FRAMEWORK_NAMES, FRAMEWORKS
from diglot.training.supervise import TrainingProcess
from diglot.training.task import Arrays, accuracy
from diglot.zoo.doc_classifier import encoders
from diglot.zoo.pair import Pair, Setting, Tell
from diglot.zoo.weights import Weights

COSINE = 0.999999
_TRAIN, _VALIDATION, _TEST = range(3)


class DocClassifier(Pair):
    """A classifier of BBC News articles."""

    name = "doc-classifier"
    title = "Documents in classes, by a pretrained encoder"
    document = "003"
    inputs = ("features",)
    torch_module = "diglot.zoo.doc_classifier.torch_model"
    keras_module = "diglot.zoo.doc_classifier.keras_model"
    settings: ClassVar = {
        "fast": Setting(
            {"width": 384, "hidden": 512, "classes": 5},
            {"encoder": encoders.PACKAGED, "documents": 200, "length": 48},
            Recipe(batch_size=16, epochs=20),
        ),
        "full": Setting(
            {"width": 384, "hidden": 512, "classes": 5},
            {"encoder": encoders.PACKAGED, "documents": 0, "length": 256},
            Recipe(batch_size=64, epochs=40, patience=2),
        ),
    }
    goals: ClassVar = {"accuracy": 0.97}

    # -- data -----------------------------------------------------------------------------------

    def settle(self, setting: Setting) -> Setting:
        """The classifier is as wide as the encoder's features."""
        data = setting.data
        if data["length"] < 3 or data["documents"] < 0:
            raise BadInput(
                "There is nothing to read.",
                expected="a length of 3 tokens or more, and a number of documents (0: all)",
                received=f"length {data['length']}, documents {data['documents']}",
            )
        width = encoders.width_of(data["encoder"], data["length"])
        return Setting({**setting.model, "width": width}, data, setting.recipe)

    def files(self, setting: Setting, folder: Path, tell: Tell) -> dict[str, Any]:
        """The translated encoder, and the features that both encoders give: computed once."""
        place, length = encoders.place_of(setting.data["encoder"]), setting.data["length"]
        parts = split(articles(setting.data["documents"]))
        store = folder / "features"
        texts = [text for part in parts for text in part.texts]
        encoders.fresh(
            store,
            {
                "encoder": place,
                "length": length,
                "documents": len(texts),
                "classes": parts[0].classes,
            },
        )
        if not (store / "tokenizer.json").is_file():
            encoders.write_tokenizer(place, store / "tokenizer.json")
        if not (store / "encoder").is_dir():
            tell("Translating the encoder for Keras", {"kind": "stage"})
            encoders.translate_encoder(place, store / "encoder")
        arrays, rows = encoders.token_arrays(store / "tokenizer.json", texts, length)
        labels = np.concatenate([part.labels for part in parts])
        kinds = np.repeat(np.arange(len(parts)), [len(part.texts) for part in parts])
        for framework in FRAMEWORKS:
            if (store / f"{framework}.safetensors").is_file():
                continue
            tell(f"{FRAMEWORK_NAMES[framework]}: features from the encoder", {"kind": "stage"})
            with TrainingProcess(framework, lambda event: tell("features", event)) as process:
                found = process.perform(self.task_name, "features", arrays, store=str(store))
            part = store / f"{framework}.part"
            features = found.arrays["features"][rows]
            write_arrays(part, {"features": features, "targets": labels, "part": kinds})
            part.rename(store / f"{framework}.safetensors")
        return {"store": str(store)}

    def data(self, encoder: str, documents: int, length: int, store: str = "") -> Data:
        """Features (n, width) and labels: 80 % to learn from, of which a tenth is for validation, and
        20 % for the test. Both frameworks learn from the features of the encoder in PyTorch."""
        if not store:
            raise BadInput(
                "The documents have no features yet.", hint="diglot zoo run doc-classifier"
            )
        train, validation, test = (rows_of(store, "torch", part) for part in range(3))
        about = {
            "name": "BBC News, every article once",
            "encoder": encoder,
            "tokens": length,
            "train": len(train["targets"]),
            "validation": len(validation["targets"]),
            "test": len(test["targets"]),
        }
        return Data(train, validation, test, about)

    # -- in a process of a framework ------------------------------------------------------------

    def features(self, arrays: Arrays, framework: str, tell: Any, store: str) -> Any:
        """The features (n, width) of token batches, from the framework's own encoder."""
        encoder, module = self._encoder(framework, store)
        if framework == "torch":
            call = encoders.torch_caller(module.SentenceEmbedder(encoder))
        else:
            call = encoders.keras_caller(module.build_embedder(encoder))
        return {}, {"features": encoders.in_batches(call, arrays, tell)}

    def probabilities(self, arrays: Arrays, framework: str, tell: Any, run: str) -> Any:
        """The probabilities (n, classes) of token batches, from a run's encoder and its classifier."""
        encoder, module = self._encoder(framework, str(Path(run) / "features"))
        job = Job.from_dict(json.loads((Path(run) / framework / "job.json").read_text("utf-8")))
        classifier = module.build_model(**job.model)
        if framework == "torch":
            from diglot.training.torch_loop import set_state

            set_state(classifier, read_arrays(job.folder / "weights.safetensors"))
            call = encoders.torch_caller(module.DocumentClassifier(encoder, classifier))
        else:
            classifier.load_weights(job.folder / "model.weights.h5")
            call = encoders.keras_caller(module.build_document_classifier(encoder, classifier))
        return {}, {"probabilities": encoders.in_batches(call, arrays, tell)}

    def _encoder(self, framework: str, store: str) -> tuple[Any, Any]:
        """The encoder, live, and the framework's module of the pair."""
        if framework == "torch":
            return encoders.torch_encoder(key_of(store)["encoder"]), self.torch()
        return encoders.keras_encoder(str(Path(store) / "encoder")), self.keras()

    def extras(self, predict: Callable[[Arrays], Any], model: Any, job: Any) -> dict[str, Any]:
        """End to end: the accuracy on the test documents with the features of the own encoder."""
        rows = rows_of(job.data["store"], job.framework, _TEST)
        right, count = accuracy(predict({"features": rows["features"]}), rows["targets"])
        return {"figures": {"Test accuracy from raw text, own encoder": right / count}}

    def checks(self, setting: Setting) -> list[tuple[bool, str]]:
        """The two encoders give the same features."""
        store = setting.data["store"]
        ours, theirs = (
            read_arrays(Path(store) / f"{f}.safetensors")["features"] for f in FRAMEWORKS
        )
        worst = float(cosines(ours, theirs).min())
        text = (
            f"The encoder that Diglot translated gives the features of the published one for "
            f"{len(ours):,} documents: every cosine ≥ {np.floor(worst * 1e9) / 1e9:.9f} (asked: {COSINE})."
        )
        return [(worst >= COSINE, text)]

    def classify(self, folder: Path, framework: str, texts: list[str]) -> list[dict[str, float]]:
        """Raw texts in, the probability of each class out."""
        if not all(text.strip() for text in texts):
            raise BadInput("An empty text has no class.", expected="a few words at least")
        key = key_of(str(folder / "features"))
        path = folder / "features" / "tokenizer.json"
        arrays, rows = encoders.token_arrays(path, texts, key["length"])
        with TrainingProcess(framework) as process:
            found = process.perform(
                self.task_name, "probabilities", arrays, run=str(folder.resolve())
            )
        table = found.arrays["probabilities"][rows]
        return [dict(zip(key["classes"], map(float, row), strict=True)) for row in table]

    # -- the classifier -------------------------------------------------------------------------

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """Two Dense layers."""
        weights = Weights(state)
        weights.linear("layers.0", "hidden")
        weights.linear("layers.1", "output")
        return weights.map(
            [TensorSpec(("batch", sizes["width"]), name="features")],
            [TensorSpec(("batch", sizes["classes"]))],
        )

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Features of three documents."""
        return {"features": rng.standard_normal((3, model["width"])).astype(np.float32)}


def articles(count: int) -> News:
    """BBC News, every article once; `count` of them, evenly from all classes, where it is not 0."""
    news = read_news("doc-classifier")
    return news if count == 0 else news.evenly(count)


def split(news: News) -> list[News]:
    """For training, validation and test: 72 %, 8 % and 20 %, drawn with seed 0."""
    return news.split(0.72, 0.08, 0.2, seed=0)


def rows_of(store: str, framework: str, part: int) -> Arrays:
    """The features and labels of one part."""
    arrays = read_arrays(Path(store) / f"{framework}.safetensors")
    chosen = arrays["part"] == part
    return {"features": arrays["features"][chosen], "targets": arrays["targets"][chosen]}


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The cosine of each row (n, width) with its counterpart, in float64."""
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in map(np.float64, (ours, theirs))]
    return (unit[0] * unit[1]).sum(axis=1)


def key_of(store: str) -> dict[str, Any]:
    """What the features in a folder were made with. Raises BadInput where there are none."""
    path = Path(store) / "key.json"
    if not path.is_file():
        raise BadInput("This run has no encoder.", where=str(path), hint="run doc-classifier again")
    return json.loads(path.read_text(encoding="utf-8"))


PAIR = DocClassifier()
