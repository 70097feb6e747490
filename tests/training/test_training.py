"""Training processes: killed runs resume to the same curve, and what cannot be is said in a sentence."""

import itertools
import json

import numpy as np
import pytest
import torch
from marking import swept

from diglot.errors import BadInput, WorkerFailed
from diglot.runtime.exchange import write_arrays
from diglot.training import Job, Recipe
from diglot.training.supervise import TrainingProcess
from diglot.training.torch_loop import state_of
from diglot.zoo import find_pair

STEPS = 130  # more than one epoch of 108


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The weights to start from."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    write_arrays(path, state_of(find_pair("mnist-mlp").torch().build_model()))
    return path


def job(framework, directory, start, **changes):
    pair = find_pair("mnist-mlp")
    recipe = Recipe(batch_size=100, epochs=2, schedule="cosine", warmup=10)
    values = {"recipe": recipe, "limit": STEPS, **changes}
    return Job(
        pair.task_name, framework, str(directory), str(start), {}, {"source": "subset"}, **values
    )


@pytest.mark.parametrize("framework", swept(["torch", "keras"], {"torch"}))
def test_a_killed_run_resumes_to_the_same_curve(framework, tmp_path, start):
    killed = job(framework, tmp_path / "killed", start, checkpoint_seconds=0.0)
    process = TrainingProcess(framework)

    def kill(event):
        if event["kind"] == "step" and event["step"] > 5:
            process._process.kill()

    process._tell = kill
    with process, pytest.raises(WorkerFailed):
        process.train(killed)
    assert not (tmp_path / "killed" / "history.json").exists()
    with TrainingProcess(framework) as process:
        resumed = process.train(killed)
        whole = process.train(job(framework, tmp_path / "whole", start))
    assert 0 < resumed["resumed_at"] < STEPS
    assert resumed["history"]["losses"] == whole["history"]["losses"]
    assert resumed["history"]["epochs"] == whole["history"]["epochs"]
    assert resumed["test"] == whole["test"]
    assert json.loads((tmp_path / "killed" / "history.json").read_text()) == resumed["history"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "at least one epoch"),
        ({"batch_size": 0}, "at least one row"),
        ({"learning_rate": -1.0}, "learning rate"),
        ({"optimizer": "lion"}, "No such optimizer"),
        ({"weight_decay": 0.1}, "adamw"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, said):
    with pytest.raises(BadInput, match=said):
        Recipe(**{"batch_size": 10, "epochs": 1, **changes})


def test_a_loss_that_is_no_number_stops_training(tmp_path, start):
    recipe = Recipe(batch_size=100, epochs=1, optimizer="sgd", learning_rate=1e30)
    with TrainingProcess("torch") as process, pytest.raises(BadInput, match="diverged"):
        process.train(job("torch", tmp_path, start, recipe=recipe, limit=20))


def test_rates():
    recipe = Recipe(batch_size=1, epochs=1, learning_rate=2.0, schedule="cosine", warmup=4)
    rates = [recipe.rate(step, 104) for step in range(105)]
    np.testing.assert_allclose(rates[:5], [0.5, 1.0, 1.5, 2.0, 2.0])
    assert all(a >= b for a, b in itertools.pairwise(rates[4:]))
    np.testing.assert_allclose([rates[54], rates[104]], [1.1, 0.2])
