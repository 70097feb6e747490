"""Every pair of the zoo: its two models are one function, and they learn along one path."""

import keras
import numpy as np
import pytest
import torch
from marking import swept

import diglot
from diglot.runtime.exchange import write_arrays
from diglot.training import Job
from diglot.training.keras_loop import given
from diglot.training.torch_loop import set_state, state_of
from diglot.zoo import PAIRS, find_pair
from diglot.zoo.pair import PATH_TOLERANCE
from diglot.zoo.proving import prove_pair
from diglot.zoo.source import code_lines

STEPS = 12  # past the ten that the Transformers warm up


def pairs():
    """Each pair on one worker, so that what is loaded for one test serves the others."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(f"zoo-{name}")) for name in PAIRS]


def torch_model(pair, setting):
    torch.manual_seed(setting.recipe.seed)
    return pair.torch().build_model(**setting.model)


@pytest.mark.parametrize("name", pairs())
def test_the_two_models_are_proven(name, tmp_path, worker):
    pair = find_pair(name)
    proof = prove_pair(pair, pair.setting("fast"), tmp_path)
    assert proof.verdict == "proven", str(proof)


@pytest.mark.parametrize("name", pairs())
def test_nothing_diverges(name):
    """Layer by layer, in this process, with the same weights."""
    pair = find_pair(name)
    setting = pair.setting("fast")
    model = torch_model(pair, setting).eval()
    keras_model = pair.keras().build_model(**setting.model)
    state = state_of(model)
    weight_map = pair.weight_map(state, setting.model)
    variables = weight_map.variables(keras_model)
    for target, array in weight_map.apply(state).items():
        variables[target].assign(array)
    inputs = pair.example(setting.model, np.random.default_rng(3))
    found = diglot.diverge(
        model, keras_model, {name: torch.from_numpy(array) for name, array in inputs.items()}
    )
    assert not found, str(found)
    assert found.compared
    left_out = [row["why"] for row in found.not_compared]
    assert not any("MultiheadAttention of PyTorch" in why for why in left_out)


@pytest.mark.parametrize("name", swept(pairs(), set(PAIRS) - {"mnist-mlp", "dna-tagger"}))
def test_the_same_path(name, tmp_path, files, processes):
    """In float64 and without dropout the losses of the first steps agree."""
    pair = find_pair(name)
    setting = pair.exact(pair.setting("fast"))
    write_arrays(tmp_path / "start.safetensors", state_of(torch_model(pair, setting)))
    data = {**setting.data, **files(pair)[1]}
    losses = {}
    for framework in ("torch", "keras"):
        job = Job(
            pair.task_name,
            framework,
            str(tmp_path / framework),
            str(tmp_path / "start.safetensors"),
            dict(setting.model),
            data,
            setting.recipe,
            dtype="float64",
            limit=STEPS,
            logs=False,
            scored=False,
        )
        losses[framework] = processes(framework).train(job)["history"]["losses"]
    assert len(losses["torch"]) == STEPS
    assert len(set(losses["torch"])) == STEPS
    np.testing.assert_allclose(losses["torch"], losses["keras"], rtol=0, atol=PATH_TOLERANCE)


@pytest.mark.parametrize("name", pairs())
def test_dropout_drops_while_keras_trains(name):
    """`fit` tells a model that it trains only where `call` has the argument: else nothing is dropped."""
    pair = find_pair(name)
    setting = pair.setting("fast")
    if not any(n.startswith("dropout") and rate for n, rate in setting.model.items()):
        pytest.skip("it has no dropout")
    model = pair.keras().build_model(**setting.model)
    pair.keras().compile_model(model, keras.optimizers.SGD(0.0))
    model.run_eagerly = True  # three steps: tracing a graph takes longer
    data = pair.data(**setting.data)
    batch = pair.batch({n: a[:4] for n, a in data.train.items()}, np.random.default_rng(0))
    expected = [batch.targets] if batch.weights is None else [batch.targets, batch.weights]
    losses = set()
    for _ in range(3):
        model.reset_metrics()
        found = model.train_on_batch(given(pair, batch.inputs), *expected, return_dict=True)
        losses.add(float(found["loss"]))
    assert len(losses) == 3


@pytest.mark.parametrize("name", pairs())
def test_the_translation_stands_comparison(name):
    """Diglot's own translation of the PyTorch model is hardly longer than the hand-written Keras."""
    pair = find_pair(name)
    setting = pair.setting("fast")
    inputs = pair.example(setting.model, np.random.default_rng(3))
    translation = diglot.translate(
        torch_model(pair, setting),
        {name: torch.from_numpy(array) for name, array in inputs.items()},
        style=pair.style,
    )
    by_hand, ours = code_lines(pair.keras_source()), code_lines(translation.source)
    assert ours <= 1.3 * by_hand, f"{ours} lines, by hand {by_hand}:\n{translation.source}"


def test_the_translation_of_a_resnet_at_full_size_stands_comparison():
    """A person writes a function for its blocks, and so does Diglot."""
    pair = find_pair("resnet")
    model = pair.torch().build_model(**pair.setting("full").model)
    translation = diglot.translate(model, torch.randn(2, 1, 32, 36), style=pair.style)
    assert code_lines(translation.source) <= 1.3 * code_lines(pair.keras_source())


@pytest.mark.parametrize("name", pairs())
def test_the_translation_to_pytorch_stands_comparison(name):
    """Diglot's own translation of the Keras model is hardly longer than the hand-written PyTorch."""
    pair = find_pair(name)
    setting = pair.setting("fast")
    inputs = given(pair, pair.example(setting.model, np.random.default_rng(3)))
    translation = diglot.translate(pair.keras().build_model(**setting.model), inputs, to="torch")
    by_hand, ours = code_lines(pair.torch_source()), code_lines(translation.source)
    assert ours <= 1.3 * by_hand, f"{ours} lines, by hand {by_hand}:\n{translation.source}"


@pytest.mark.parametrize("name", pairs())
def test_a_pair_is_complete(name):
    """It has a page, both settings and a weight map without gaps, and its data say what they are."""
    pair = find_pair(name)
    assert pair.name == name
    assert set(pair.settings) == {"fast", "full"}
    page = (pair.folder / "README.md").read_text()
    assert page.startswith(f"# {pair.title}")
    for setting in pair.settings.values():
        assert setting.recipe.epochs >= 1
    if pair.faithful:
        faithful = pair.setting("fast", faithful=True)
        pair.torch().build_model(**faithful.model)
        pair.keras().build_model(**faithful.model)
    set_state(
        torch_model(pair, pair.setting("fast")), state_of(torch_model(pair, pair.setting("fast")))
    )
