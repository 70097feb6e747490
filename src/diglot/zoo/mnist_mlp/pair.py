"""mnist-mlp: the smallest system, and the classic trap of a softmax before CrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.data import load_mnist, mnist_subset
from diglot.errors import BadInput
from diglot.training import Batch, Data, Recipe
from diglot.training.task import Arrays, Scores, accuracy, cross_entropy
from diglot.zoo.pair import Pair, Setting
from diglot.zoo.weights import Weights


class MnistMlp(Pair):
    """A classifier of 28×28 digits."""

    name = "mnist-mlp"
    title = "A small MLP on MNIST"
    document = "001"
    inputs = ("images",)
    torch_module = "diglot.zoo.mnist_mlp.torch_model"
    keras_module = "diglot.zoo.mnist_mlp.keras_model"
    settings: ClassVar = {
        "fast": Setting({}, {"source": "subset"}, Recipe(batch_size=100, epochs=4)),
        "full": Setting({}, {"source": "full"}, Recipe(batch_size=100, epochs=10)),
    }
    goals: ClassVar = {"accuracy": 0.975}
    faithful: ClassVar = {"softmax": True}
    faithful_note = (
        "The model returns probabilities. CrossEntropyLoss applies a softmax of its own to them, so "
        "PyTorch trains on a softmax of a softmax, whose loss cannot fall below 1.46; Keras is told "
        "that it gets probabilities and does not."
    )

    def data(self, source: str = "subset") -> Data:
        """Images (n, 28, 28) in [0, 1]; a tenth of the training set is for validation."""
        if source not in ("subset", "full"):
            raise BadInput("No such data.", expected="subset or full", received=source)
        mnist = mnist_subset() if source == "subset" else load_mnist()
        images, labels = _scaled(mnist.train_images), mnist.train_labels.astype(np.int64)
        held_out = len(images) // 10
        train = {"images": images[:-held_out], "targets": labels[:-held_out]}
        validation = {"images": images[-held_out:], "targets": labels[-held_out:]}
        test = {"images": _scaled(mnist.test_images), "targets": mnist.test_labels.astype(np.int64)}
        about = {
            "name": f"MNIST ({source})",
            "train": len(train["targets"]),
            "validation": held_out,
            "test": len(test["targets"]),
        }
        return Data(train, validation, test, about)

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """Three Dense layers."""
        weights = Weights(state)
        for index, name in enumerate(("hidden1", "hidden2", "output")):
            weights.linear(f"layers.{index + 1}", name)
        return weights.map(
            [TensorSpec(("batch", 28, 28), name="images")], [TensorSpec(("batch", 10))]
        )

    def score(self, outputs: Any, batch: Batch) -> Scores:
        """Cross-entropy and accuracy."""
        return {
            "loss": cross_entropy(_logits(outputs), batch.targets),
            "accuracy": accuracy(outputs, batch.targets),
        }

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three random images."""
        return {"images": rng.random((3, 28, 28), dtype=np.float32)}


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 255


def _logits(outputs: np.ndarray) -> np.ndarray:
    """Probabilities as logits, so that the loss of both kinds of model means the same."""
    sums = outputs.sum(axis=-1)
    if (outputs >= 0).all() and np.allclose(sums, 1, atol=1e-3):
        return np.log(np.maximum(outputs, 1e-30))
    return outputs


PAIR = MnistMlp()
