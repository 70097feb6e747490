"""The worker process: builds, saves, runs and reports; and says what happened when it dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import twins

from diglot.errors import BadInput, UsageError, WorkerFailed
from diglot.runtime import KerasWorker, materialise

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def worker():
    with KerasWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def cnn(worker, tmp_path_factory):
    return twins.cnn().write(tmp_path_factory.mktemp("cnn") / "out", worker)


def test_starting_imports_no_framework():
    code = (
        "import sys, diglot.runtime as r, diglot.parity; w = r.start_worker(); "
        "bad = {'torch', 'keras', 'tensorflow'} & set(sys.modules); w.close(); sys.exit(bool(bad))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SOURCE)})


def test_versions(worker):
    versions = worker.call("ping").result
    assert versions["backend"] == "tensorflow" and versions["keras"].startswith("3.")


def test_saved_files_load_without_diglot(cnn):
    assert {p.name for p in cnn.directory.iterdir()} == {
        "model.py",
        "model.keras",
        "model.weights.h5",
        "weight_map.json",
        "translation.json",
    }
    code = (
        f"import sys; sys.path.insert(0, {str(cnn.directory)!r})\n"
        "import keras, model\n"
        "a = model.build_model('model.weights.h5'); b = keras.models.load_model('model.keras')\n"
        "assert len(a.weights) == len(b.weights) == 9\n"
        "assert all((x.numpy() == y.numpy()).all() for x, y in zip(a.weights, b.weights))\n"
        "assert 'diglot' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": "", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=cnn.directory, env=environment, timeout=120
    )


def test_run_in_both_widths(worker, cnn):
    image = np.random.default_rng(0).standard_normal((2, 3, 9, 12))
    results = {}
    for floatx in ("float32", "float64"):
        loaded = worker.load(cnn.directory, floatx)
        assert loaded["problems"] == {} and loaded["extra"] == []
        arrays = worker.call("get").arrays
        np.testing.assert_array_equal(
            arrays["conv1.kernel"], cnn.target_arrays()["conv1.kernel"].astype(floatx)
        )
        results[floatx] = worker.call(
            "run", {"input:0": image.astype(floatx)}, training=False, seed=1
        ).arrays
        assert results[floatx]["output:0"].dtype == floatx
    np.testing.assert_allclose(
        results["float32"]["output:0"], results["float64"]["output:0"], rtol=1e-4, atol=1e-5
    )
    got = results["float64"]
    assert got["input_grad:0"].shape == (2, 3, 9, 12)
    assert got["grad:conv1.kernel"].shape == (3, 3, 3, 4)
    assert got["module:conv1:0:0"].shape == (2, 5, 6, 4)
    assert got["order"].tolist() == [0, 1, 2, 3]


def test_no_transpose_in_the_graph(worker, cnn):
    worker.load(cnn.directory)
    counts = worker.graph_ops()
    assert counts["Conv2D"] == 2 and counts["Transpose"] == 0


def test_an_error_names_the_command_and_the_worker_lives_on(worker, tmp_path):
    with pytest.raises(BadInput):
        worker.load(tmp_path)
    twin = twins.mlp()
    (tmp_path / "model.py").write_text(twin.source.replace("layers.Dense(10)", "layers.Dens(10)"))
    twin.weight_map.save(tmp_path / "weight_map.json")
    with pytest.raises(WorkerFailed, match=r"load: AttributeError: .*Dens"):
        worker.load(tmp_path)
    assert worker.call("ping").result["python"]


def test_materialise_refuses_a_map_that_does_not_fit(worker, tmp_path):
    twin = twins.mlp().replace("layers.Dense(3)", "layers.Dense(3, use_bias=False)")
    (tmp_path / "model.py").write_text(twin.source)
    twin.weight_map.save(tmp_path / "weight_map.json")
    with pytest.raises(BadInput, match=r"fc2\.bias"):
        materialise(tmp_path, twin.target_arrays(), worker)
    assert not list(tmp_path.glob("*.h5")) and not list(tmp_path.glob("*.keras"))


def test_death_is_reported_with_its_cause():
    worker = KerasWorker()
    worker.submit("ping")
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerFailed, match="by signal SIGKILL") as caught:
        worker.collect()
    assert "memory" in caught.value.hint
    with pytest.raises(WorkerFailed):
        worker.call("ping")


def test_timeout_ends_the_worker():
    worker = KerasWorker()
    with pytest.raises(WorkerFailed, match="no answer within 0 seconds"):
        worker.call("ping", timeout=0.2)
    assert not worker.alive


def test_a_forgotten_worker_ends_with_its_parent():
    code = (
        "import os, diglot.runtime as r\n"
        "w = r.start_worker(); w.call('ping'); print(w.pid, flush=True); os._exit(0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCE)},
        timeout=120,
    )
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()


def test_unknown_backend():
    with pytest.raises(UsageError, match="no backend 'mxnet'"):
        KerasWorker("mxnet")
