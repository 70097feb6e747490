"""training-steps: one step written five ways, and the weights that each arrives at."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diglot.data import mnist_subset
from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, MissingExtra
from diglot.zoo.machine import describe_machine
from diglot.zoo.pair import Exhibit, Options, Tell
from diglot.zoo.studies import finish, study_view
from diglot.zoo.ways import call_way

if TYPE_CHECKING:
    from rich.console import Group

    from diglot.runtime.keras_worker import Answer, Arrays

TOLERANCE = 1e-9
STEPS = 10

# Title, module, and the backend of Keras that it runs on.
WAYS = (
    ("PyTorch: zero_grad, backward, step", "torch_loop", None),
    ("TensorFlow: GradientTape", "gradient_tape", "tensorflow"),
    ("Keras: train_step overridden", "train_step", "tensorflow"),
    ("Keras: compile and fit", "fit", "tensorflow"),
    ("Keras on JAX: compile and fit", "fit", "jax"),
)


class TrainingSteps(Exhibit):
    """A regressor with 784-32-10 units on real digits, squared error, SGD with momentum."""

    name = "training-steps"
    title = "One training step, five ways"
    document = "004"
    settings: ClassVar = {"fast": {"batch": 20}, "full": {"batch": 500}}

    def run(self, options: Options, tell: Tell) -> dict[str, Any]:
        """Take the steps every way, in float64, and compare weights and losses with PyTorch's."""
        arrays = self.arrays(self.settings[options.setting]["batch"], options.seed)
        rows: list[dict[str, Any]] = []
        first: dict[str, Any] = {}
        for title, module, backend in WAYS:
            tell(title, {"kind": "stage"})
            row: dict[str, Any] = {"way": title, "file": f"{module}.py"}
            rows.append(row)
            way = f"{__name__}:take"
            try:
                reply = call_way(
                    way,
                    arrays,
                    backend=backend,
                    width="float64",
                    module=module,
                    rate=0.05,
                    momentum=0.9,
                )
            except MissingExtra as error:
                row["missing"] = str(error)
                continue
            first = first or {"losses": reply.result["losses"], "weights": reply.arrays}
            row["loss"] = reply.result["losses"][-1]
            row["loss_gap"] = _gap(reply.result["losses"], first["losses"])
            row["weight_gap"] = max(
                _gap(reply.arrays[name], array) for name, array in first["weights"].items()
            )
            moved = _gap(first["weights"]["hidden.kernel"], arrays["hidden.kernel"])
            row["moved"] = moved
        same = all(row.get("weight_gap", 0.0) <= TOLERANCE for row in rows)
        result = {
            "exit_code": EXIT_PROVEN if same else EXIT_DIFFERS,
            "pair": self.name,
            "title": self.title,
            "setting": options.setting,
            "steps": STEPS,
            "tolerance": TOLERANCE,
            "ways": rows,
            "machine": describe_machine(),
        }
        files = ("torch_loop.py", "gradient_tape.py", "train_step.py", "fit.py")
        finish(self, result, options.directory, _table(result), _verdicts(result), files)
        return result

    def arrays(self, batch: int, seed: int) -> Arrays:
        """Start weights, and for every step a batch of images (steps, batch, 784) and one-hot targets."""
        rng = np.random.default_rng(seed)
        mnist = mnist_subset()
        count = STEPS * batch
        images = mnist.train_images[:count].reshape(STEPS, batch, 784) / 255.0
        targets = np.eye(10)[mnist.train_labels[:count]].reshape(STEPS, batch, 10)
        return {
            "hidden.kernel": rng.normal(0, 784**-0.5, (784, 32)),
            "hidden.bias": rng.normal(0, 0.1, 32),
            "output.kernel": rng.normal(0, 32**-0.5, (32, 10)),
            "output.bias": rng.normal(0, 0.1, 10),
            "images": images,
            "targets": targets,
        }

    def view(self, result: Mapping[str, Any]) -> Group:
        """The table, and the verdict."""
        return study_view(_table(result), _verdicts(result))


def _table(result: Mapping[str, Any]) -> list[list[str]]:
    """Way, file, last loss, and how far the weights are from the first way's."""
    rows = [["way", "file", "last loss", "weights differ by"]]
    for row in result["ways"]:
        figures = ["–", row.get("missing", "").partition("\n")[0]]
        if "missing" not in row:
            figures = [f"{row['loss']:.12f}", f"{row['weight_gap']:.1e}"]
        rows.append([row["way"], row["file"], *figures])
    return rows


def _verdicts(result: Mapping[str, Any]) -> list[tuple[bool, str]]:
    text = f"The same weights after {result['steps']} steps in float64, within {TOLERANCE:.0e}."
    return [(result["exit_code"] == EXIT_PROVEN, text)]


def _gap(a: Any, b: Any) -> float:
    return float(np.max(np.abs(np.subtract(a, b))))


def take(arrays: Arrays, module: str, rate: float, momentum: float) -> Answer:
    """One way's steps, in the process of its own."""
    names = ("hidden.kernel", "hidden.bias", "output.kernel", "output.bias")
    way = importlib.import_module(f"{__package__}.{module}")
    start = {name: arrays[name] for name in names}
    if module != "torch_loop":
        # Keras on TensorFlow casts a Python float by way of float32, in float64 too: 0.9 would be
        # off by 3e-8, and the weights by 5e-9 after ten steps.
        momentum = np.float64(momentum)
    losses, weights = way.train(start, arrays["images"], arrays["targets"], rate, momentum)
    return {"losses": losses}, weights


STUDY = TrainingSteps()
