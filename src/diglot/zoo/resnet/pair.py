"""resnet: residual networks on MNIST or a folder of images, batch norm's statistics and all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.data import load_mnist, mnist_subset
from diglot.data.images import classes_of, read_images
from diglot.errors import BadInput
from diglot.training import Data, Recipe
from diglot.training.task import Arrays
from diglot.zoo.pair import Pair, Setting
from diglot.zoo.weights import Weights

_NHWC = (0, 2, 3, 1)


class ResNetPair(Pair):
    """A classifier of images."""

    name = "resnet"
    title = "Residual networks on images"
    document = "004"
    inputs = ("images",)
    torch_module = "diglot.zoo.resnet.torch_model"
    keras_module = "diglot.zoo.resnet.keras_model"
    keras_layout: ClassVar = {"images": _NHWC}
    own_data = "a folder that holds one folder of images for each class"
    settings: ClassVar = {
        "fast": Setting(
            {"blocks": (1, 1), "bottleneck": False, "width": 16, "channels": 1, "classes": 10},
            {"source": "subset", "path": None, "size": 32, "rows": 3000},
            Recipe(batch_size=50, epochs=2, learning_rate=5e-3),
        ),
        "full": Setting(
            {
                "blocks": (2, 2, 2, 2),
                "bottleneck": False,
                "width": 64,
                "channels": 1,
                "classes": 10,
            },
            {"source": "full", "path": None, "size": 32, "rows": 20000},
            Recipe(batch_size=128, epochs=1, schedule="cosine", warmup=50),
        ),
    }
    goals: ClassVar = {"accuracy": 0.97}

    def settle(self, setting: Setting) -> Setting:
        """A folder of images has as many classes as it has folders, and three channels."""
        model, data = dict(setting.model), setting.data
        if min(model["blocks"], default=0) < 1 or model["width"] < 1:
            raise BadInput("A residual network has a block in every stage, and a width.")
        if data["path"] is not None:
            model |= {"classes": len(classes_of(str(data["path"]))), "channels": 3}
        return Setting(model, data, setting.recipe)

    def data(self, source: str, path: str | None, size: int, rows: int) -> Data:
        """Images (n, channels, size, size) in [0, 1]; `rows` of those to learn from, where it is not 0.

        MNIST (source "subset" or "full"), with black around its 28×28 pixels; or the images in `path`,
        split 72 : 8 : 20 with seed 0.
        """
        if path is None:
            parts, name = _mnist(source, size), f"MNIST ({source}), {size}×{size}"
        else:
            parts, name = _folder(str(path), size), f"{path}, {size}×{size}"
        train, validation, test = parts
        if rows:
            train = {key: array[:rows] for key, array in train.items()}
        about = {
            "name": name,
            "train": len(train["targets"]),
            "validation": len(validation["targets"]),
            "test": len(test["targets"]),
        }
        return Data(train, validation, test, about)

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """The names are the same on both sides: what a weight is says its shape."""
        weights = Weights(state)
        for name in [key.removesuffix(".weight") for key in state if key.endswith(".weight")]:
            if state[f"{name}.weight"].ndim == 4:
                weights.conv2d(name, name)
            elif f"{name}.running_mean" in state:
                weights.batch_norm(name, name)
            else:
                weights.linear(name, name)
        images = ("batch", sizes["channels"], "height", "width")
        return weights.map(
            [TensorSpec(images, perm=_NHWC, name="images")],
            [TensorSpec(("batch", sizes["classes"]))],
        )

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three random images."""
        return {"images": rng.random((3, model["channels"], 33, 36), dtype=np.float32)}

    def limits(self, model: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
        """Each stage halves the image; batch norm cannot learn from one value of a channel."""
        least = 2 * 2 ** (len(model["blocks"]) + 1)
        return {"batch": (2, None), "height": (least, None), "width": (least, None)}


def _mnist(source: str, size: int) -> list[Arrays]:
    if source not in ("subset", "full"):
        raise BadInput("No such data.", expected="subset or full", received=source)
    if size < 28:
        raise BadInput(
            "MNIST's images are larger.", expected="a size of 28 or more", received=str(size)
        )
    mnist = mnist_subset() if source == "subset" else load_mnist()
    before = (size - 28) // 2
    border = ((0, 0), (before, size - 28 - before), (before, size - 28 - before))

    def rows(images: np.ndarray, labels: np.ndarray) -> Arrays:
        scaled = np.pad(images, border)[:, None].astype(np.float32) / 255
        return {"images": scaled, "targets": labels.astype(np.int64)}

    held_out = len(mnist.train_labels) // 10
    return [
        rows(mnist.train_images[:-held_out], mnist.train_labels[:-held_out]),
        rows(mnist.train_images[-held_out:], mnist.train_labels[-held_out:]),
        rows(mnist.test_images, mnist.test_labels),
    ]


def _folder(path: str, size: int) -> list[Arrays]:
    images, labels = read_images(path, size)
    order = np.random.default_rng(0).permutation(len(labels))
    ends = np.round(np.array([0.72, 0.8]) * len(order)).astype(int)
    return [
        {"images": images[part].astype(np.float32) / 255, "targets": labels[part]}
        for part in np.split(order, ends)
    ]


PAIR = ResNetPair()
