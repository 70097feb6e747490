"""Measurements that need a GPU, each made in a process of its own. Frameworks are imported where they
are used: only one of them may be in a process."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diglot.runtime.keras_worker import Answer, Arrays


def torch_device(arrays: Arrays) -> Answer:
    """Where a fresh layer's weights lie."""
    from torch import nn

    device = nn.Linear(2, 2).weight.device
    return {"device": str(device), "gpu": device.type != "cpu"}, {}


def keras_device(arrays: Arrays) -> Answer:
    """Where a fresh layer's weights lie."""
    import keras

    layer: Any = keras.layers.Dense(2)
    layer.build((None, 2))
    device = str(layer.kernel.value.device)
    return {"device": device, "gpu": "GPU" in device}, {}


def memory_taken(arrays: Arrays, growth: bool) -> Answer:
    """The share of the GPU's memory that is gone after TensorFlow has made one small tensor."""
    import tensorflow as tf

    before, total = nvidia_smi("memory.used,memory.total")
    if growth:
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)
    held = tf.ones((8,)) + 1
    after, _ = nvidia_smi("memory.used,memory.total")
    return {
        "share": (after - before) / total,
        "total_mib": total,
        "sum": float(tf.reduce_sum(held)),
    }, {}


def torch_utilisation(arrays: Arrays, seconds: float) -> Answer:
    """The GPU's utilisation while PyTorch trains large Linear layers."""
    import torch
    from torch import nn

    model = nn.Sequential(*[nn.Linear(4096, 4096) for _ in range(4)]).cuda()
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    x = torch.randn(4096, 4096, device="cuda")

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        torch.cuda.synchronize()

    return {"percent": utilisation(step, seconds)}, {}


def keras_utilisation(arrays: Arrays, seconds: float) -> Answer:
    """The GPU's utilisation while Keras trains large Dense layers."""
    import keras
    import tensorflow as tf

    layers = [keras.layers.Dense(4096) for _ in range(4)]
    model = keras.Sequential([keras.Input((4096,)), *layers])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    x = tf.random.normal((4096, 4096))
    return {"percent": utilisation(lambda: model.train_on_batch(x, x), seconds)}, {}


def utilisation(step: Callable[[], Any], seconds: float) -> float:
    """The median of the GPU's utilisation, in percent, while `step` runs again and again."""
    step()
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            seen.append(nvidia_smi("utilization.gpu")[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        step()
    done.set()
    watcher.join()
    return statistics.median(seen)


def nvidia_smi(fields: str) -> list[float]:
    """The numbers that nvidia-smi gives of the first GPU. Raises BadInput where it gives none."""
    from diglot.errors import BadInput

    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return [float(value) for value in done.stdout.splitlines()[0].split(",")]
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError) as error:
        raise BadInput("nvidia-smi tells nothing of a GPU.", received=str(error)) from error
