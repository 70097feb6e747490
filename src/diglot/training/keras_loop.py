"""The Keras half of training: `fit`, with a callback that reports."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from diglot.codegen.weights import settle
from diglot.runtime.exchange import read_arrays
from diglot.runtime.keras_exact import set_width
from diglot.training.checkpoint import below, read_checkpoint, write_checkpoint
from diglot.training.recipe import Recipe
from diglot.training.run import Run
from diglot.training.task import Arrays, Task
from diglot.training.tensorboard import Log, NoLog, open_log


class Batches(keras.utils.PyDataset):
    """The batches of one epoch of a run, from the step where it stands."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run, self.first = run, run.step
        self.end = min((self.first // run.epoch_steps + 1) * run.epoch_steps, run.last)

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        batch = self.run.batch(self.first + index)
        inputs = given(self.run.task, batch.inputs)
        if batch.weights is None:
            return inputs, batch.targets
        return inputs, batch.targets, batch.weights


class Report(keras.callbacks.Callback):
    """Sets the learning rate of each step, and reports its loss."""

    def __init__(self, run: Run, snapshot: Any, log: Log | NoLog) -> None:
        super().__init__()
        self.run, self.snapshot, self.log = run, snapshot, log

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """The metrics start afresh: `fit` reports means over the epoch so far."""
        model: Any = self.model
        model.optimizer.learning_rate = self.run.rate(self.run.step)
        model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """The loss of this step alone."""
        self.run.after_step(float(logs["loss"]), self.snapshot)
        self.log.step(self.run)


def train(run: Run) -> dict[str, Any]:
    """Train, or finish training, and give the figures; model.weights.h5 and model.keras hold the result."""
    job, task = run.job, run.task
    keras.utils.clear_session()  # whatever was trained before in this process
    set_width(job.dtype)
    keras.utils.set_random_seed(job.recipe.seed)
    module = task.keras()
    model = module.build_model(**job.model)
    set_weights(task, model, read_arrays(job.start), job.model)
    module.compile_model(model, make_optimizer(job.recipe))
    model.optimizer.build(model.trainable_variables)
    path = job.folder / "checkpoint.safetensors"
    if (found := read_checkpoint(path, job)) is not None:
        _restore(model, found[0])

    def save() -> None:
        write_checkpoint(path, _snapshot(model), run.metadata())

    def evaluate(inputs: Arrays) -> Any:
        return predict(task, model, inputs)

    run.begin(evaluate, found[1] if found else None)
    with open_log(run) as log:
        report = Report(run, save, log)
        while not run.finished:
            model.fit(Batches(run), epochs=1, shuffle=False, verbose=0, callbacks=[report])
            if run.at_epoch_end():
                run.after_epoch(evaluate, save)
                log.epoch(run)
    save()
    shapes = [tuple(variable.shape) for variable in model.trainable_variables]
    result = run.result(evaluate, model, sum(math.prod(shape) for shape in shapes))
    model.save_weights(str(job.folder / "model.weights.h5"))
    model.save(str(job.folder / "model.keras"))
    return result


def given(task: Task, inputs: Arrays) -> Any:
    """A batch's inputs as the Keras model takes them: one array, or a dict by name."""
    arrays = {
        name: np.ascontiguousarray(array.transpose(task.keras_layout[name]))
        if name in task.keras_layout
        else array
        for name, array in inputs.items()
    }
    return arrays if len(task.inputs) > 1 else next(iter(arrays.values()))


def predict(task: Task, model: Any, inputs: Arrays) -> Any:
    """The outputs of a model in evaluation mode, as arrays in the structure that it returns."""
    return model.predict_on_batch(given(task, inputs))


def set_weights(task: Task, model: Any, state: Arrays, sizes: dict[str, Any]) -> None:
    """Give a Keras model the weights of PyTorch's, through the task's weight map."""
    weight_map = task.weight_map(state, sizes)
    variables = weight_map.variables(model)
    for name, array in weight_map.apply(state).items():
        variables[name].assign(array)
    settle(model)


def make_optimizer(recipe: Recipe) -> Any:
    """The optimizer of a recipe."""
    optimizer = _bare_optimizer(recipe)
    if keras.backend.backend() == "tensorflow":
        _sum_slices(optimizer)
    return optimizer


def _sum_slices(optimizer: Any) -> None:
    """Let an optimizer see the gradient of an embedding as a tensor.

    TensorFlow gives it as one slice for each token, and Keras's Adam squares the slices one by one: the
    second moment of a token that occurs twice in a batch is then made of the sum of the squares, where
    the square of the sum is meant, and training takes another path from the first step on.
    """
    import tensorflow as tf

    apply = optimizer.apply

    def apply_dense(gradients: Any, *arguments: Any, **named: Any) -> Any:
        dense = [None if g is None else tf.convert_to_tensor(g) for g in gradients]
        return apply(dense, *arguments, **named)

    optimizer.apply = apply_dense


def _bare_optimizer(recipe: Recipe) -> Any:
    rate = recipe.learning_rate
    # Keras on TensorFlow casts Python floats by way of float32, in float64 too, unless they come as
    # float64: for Adam's betas an error of 1e-5 in the first steps. In float32 such a number would
    # widen what it meets.
    number = np.float64 if keras.config.floatx() == "float64" else float
    if recipe.optimizer == "sgd":
        return keras.optimizers.SGD(rate, momentum=number(recipe.momentum))
    common = {"beta_1": number(0.9), "beta_2": number(0.999), "epsilon": recipe.epsilon}
    if recipe.optimizer == "adamw":
        return keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **common)
    return keras.optimizers.Adam(rate, **common)


def _snapshot(model: Any) -> Arrays:
    """Everything that the next step depends on, the states of the random generators included."""
    owners = {"model": model.variables, "optimizer": model.optimizer.variables}
    return {
        f"{name}/{index}": np.asarray(ops.convert_to_numpy(variable.value))
        for name, variables in owners.items()
        for index, variable in enumerate(variables)
    }


def _restore(model: Any, arrays: Arrays) -> None:
    for prefix, owner in (("model/", model), ("optimizer/", model.optimizer)):
        for index, array in below(arrays, prefix).items():
            owner.variables[int(index)].assign(array)
