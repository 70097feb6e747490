"""The time that a model of a pair needs for one example and for a batch, in every mode of its framework.

`measure` runs in a process of its own (see `zoo.ways`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from diglot.benchmark.timing import time_calls
from diglot.runtime.exchange import read_arrays
from diglot.training import Job, Task
from diglot.training.run import Run
from diglot.training.task import find_task, mapped

if TYPE_CHECKING:
    from diglot.runtime.keras_worker import Answer, Arrays

Call = Callable[[], Any]
Mode = tuple[str, Callable[["Arrays"], Call], tuple[type[Exception], ...]]
"""A name, what makes a call from inputs, and the errors that say that the model has no such mode."""


def measure(arrays: Arrays, job: Mapping[str, Any], seconds: float) -> Answer:
    """Time inference for `seconds` a mode and size; gives by mode {"one", "batch": `time_calls`,
    "rows"}, or {"missing": why}. Inputs lie in memory as the framework's tensors."""
    wanted = Job.from_dict(dict(job))
    task = find_task(wanted.task)
    inputs = Run(task, wanted, lambda event: None).batch(0).inputs
    one = mapped(lambda array: array[:1], inputs)
    modes = torch_modes if wanted.framework == "torch" else keras_modes
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="diglot-") as cache:
        # A cache of compiled code would make the first call's time a matter of chance.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        # Processes that compile in the background would take the cores from what is timed.
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        for name, make, errors in modes(task, wanted):
            try:
                timed = {
                    "one": time_calls(make(one), seconds),
                    "batch": time_calls(make(inputs), seconds),
                }
            except errors as error:
                found[name] = {"missing": f"{type(error).__name__}: {_first_line(error)}"}
                continue
            found[name] = {**timed, "rows": len(next(iter(inputs.values())))}
    return found, {}


def torch_modes(task: Task, job: Job) -> Iterator[Mode]:
    """Eager, and by torch.compile where there is a C++ compiler."""
    import torch

    from diglot.training.torch_loop import set_state

    model = task.torch().build_model(**job.model)
    set_state(model, read_arrays(job.start))
    model.eval()

    def caller(function: Callable[..., Any]) -> Callable[[Arrays], Call]:
        def make(inputs: Arrays) -> Call:
            tensors = mapped(torch.as_tensor, inputs)

            def call() -> Any:
                with torch.inference_mode():
                    return function(**tensors)

            return call

        return make

    def compiled(inputs: Arrays) -> Call:
        if not shutil.which(os.environ.get("CXX", "g++")):
            raise RuntimeError("torch.compile needs g++ on a CPU")
        torch._dynamo.reset()
        return caller(torch.compile(model, dynamic=False))(inputs)

    yield "eager", caller(model), ()
    yield "compiled", compiled, (RuntimeError, ValueError, TypeError)


def keras_modes(task: Task, job: Job) -> Iterator[Mode]:
    """Eager, traced by tf.function, compiled by XLA, and by way of `predict`."""
    import tensorflow as tf

    from diglot.training.keras_loop import given, set_weights

    model = task.keras().build_model(**job.model)
    set_weights(task, model, read_arrays(job.start), job.model)

    def caller(function: Callable[..., Any]) -> Callable[[Arrays], Call]:
        def make(inputs: Arrays) -> Call:
            tensors = tf.nest.map_structure(tf.convert_to_tensor, given(task, inputs))
            return lambda: function(tensors)

        return make

    def eager(tensors: Any) -> Any:
        return model(tensors, training=False)

    def predict(inputs: Arrays) -> Call:
        arrays = given(task, inputs)
        return lambda: model.predict(arrays, batch_size=1 << 30, verbose=0)

    errors = (RuntimeError, ValueError, TypeError, tf.errors.OpError)
    yield "eager", caller(eager), ()
    yield "compiled", caller(tf.function(eager)), ()
    yield "xla", caller(tf.function(eager, jit_compile=True)), errors
    yield "predict", predict, errors


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else ""
