"""Measurements on Keras and TensorFlow, each made in a process of its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from diglot.benchmark.timing import time_calls

if TYPE_CHECKING:
    from diglot.runtime.keras_worker import Answer, Arrays


class Watched(keras.Model):
    """A Dense layer, and how often its `call` ran with what."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(4)
        self.calls, self.values = 0, True

    def start(self) -> None:
        """Build, for which Keras runs `call` as well, and forget that."""
        self.build((8, 3))
        self.calls, self.values = 0, True

    def call(self, x: Any) -> Any:
        """Count, and see whether there are values."""
        self.calls += 1
        x = self.dense(x)
        self.values = self.values and hasattr(x, "numpy")
        return x


def calls_of_call(arrays: Arrays, steps: int) -> Answer:
    """How often `call` runs in so many steps of fit, of fit with run_eagerly, and of calls; whether it
    sees values; and the seconds that fit takes."""
    rows = np.ones((steps * 8, 3), np.float32)
    targets = np.zeros((steps * 8, 4), np.float32)
    found: dict[str, Any] = {}
    for name, eagerly in (("fit", False), ("eager_fit", True)):
        model: Any = Watched()
        # "auto" would add XLA's compilation where there is a GPU.
        model.compile("sgd", "mse", run_eagerly=eagerly, jit_compile=False)
        model.start()
        started = time.perf_counter()
        model.fit(rows, targets, batch_size=8, verbose=0)
        seconds = time.perf_counter() - started
        found[name] = {"calls": model.calls, "values": model.values, "seconds": seconds}
    model = Watched()
    model.start()
    for _ in range(steps):
        model(tf.ones((8, 3)))
    found["direct"] = {"calls": model.calls, "values": model.values}
    return found, {}


def convolution(arrays: Arrays, batch: int, size: int, channels: int, seconds: float) -> Answer:
    """The time of a convolution of 3×3 in NHWC, and whether NCHW runs and trains."""
    images = tf.random.normal((batch, size, size, channels))
    kernel = tf.random.normal((3, 3, channels, channels))
    turned = tf.transpose(images, (0, 3, 1, 2))

    @tf.function
    def last(x: Any) -> Any:
        return tf.nn.conv2d(x, kernel, 1, "SAME")

    @tf.function
    def first(x: Any) -> Any:
        return tf.nn.conv2d(x, kernel, 1, "SAME", data_format="NCHW")

    @tf.function
    def gradient(x: Any) -> Any:
        return tf.gradients(first(x), x)

    found: dict[str, Any] = {"NHWC": time_calls(lambda: last(images), seconds)["median_seconds"]}
    for name, function in (("NCHW", first), ("NCHW gradient", gradient)):
        try:
            found[name] = time_calls(lambda f=function: f(turned), seconds)["median_seconds"]
        except (tf.errors.OpError, ValueError) as error:
            found[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"
    return found, {}


def old_code(arrays: Arrays) -> Answer:
    """What becomes of TensorFlow 1's and Keras 2's idioms: None where one runs, else the error."""

    def session() -> None:
        x = tf.placeholder(tf.float32)
        with tf.Session() as running:
            running.run(x * 2, {x: 3})

    def compatible_session() -> None:
        v1 = tf.compat.v1
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float32)
            with v1.Session() as running:
                if running.run(x * 2, {x: 3}) != 6:
                    raise ValueError("3 · 2 is not 6")

    def tensorflow_function() -> None:
        keras.Model(x := keras.Input((3,)), tf.reduce_mean(x, axis=-1))

    def backend_function() -> None:
        keras.backend.mean(np.ones((2, 3)))

    def saved_model() -> None:
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save("/nonexistent/folder")

    attempts = {
        "tf.placeholder and tf.Session": session,
        "tf.compat.v1": compatible_session,
        "a TensorFlow function in a Functional model": tensorflow_function,
        "keras.backend.mean": backend_function,
        "model.save of a folder": saved_model,
    }
    found: dict[str, Any] = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            found[name] = None
        except (AttributeError, ValueError, TypeError) as error:
            found[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
    return found, {}


def fused_by_xla(arrays: Arrays) -> Answer:
    """The operations of z = (x + y) · 2 as traced, and how many steps XLA's program makes of them."""

    @tf.function(jit_compile=True)
    def compute(x: Any, y: Any) -> Any:
        return (x + y) * 2.0

    x = tf.ones((1000,))
    program = compute.experimental_get_compiler_ir(x, x)(stage="optimized_hlo")
    entry = program[program.index("ENTRY") :]
    steps = [line for line in entry.splitlines() if " fusion(" in line or " call(" in line]
    operations = compute.get_concrete_function(x, x).graph.get_operations()
    arithmetic = [o.type for o in operations if o.type in ("AddV2", "Mul")]
    return {"operations": len(arithmetic), "steps": len(steps)}, {}
