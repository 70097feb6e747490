"""`diverge` on live models that nobody mapped to each other: matched, compared, and explained."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest
import torch
import twins

from diglot.parity.diverge import diverge


def keras_twin(twin: twins.Twin, edits=()):
    """The live Keras model of a twin, with the source's weights, after textual edits."""
    for old, new in edits:
        twin.replace(old, new)
    namespace: dict = {"__name__": "twin"}
    exec(compile(twin.source, "twin.py", "exec"), namespace)
    model = namespace["build_model"]()
    arrays = twin.target_arrays()
    for target, variable in twin.weight_map.variables(model).items():
        variable.assign(arrays[target])
    return model


CASES = {
    "mlp": (twins.mlp, torch.randn(4, 7)),
    "cnn": (twins.cnn, torch.randn(2, 3, 11, 14)),
    "tagger": (twins.tagger, torch.randint(0, 11, (3, 6))),
    "attention": (
        twins.attention,
        {"x": torch.randn(2, 5, 8), "mask": torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equal_models_do_not_diverge(name):
    make, inputs = CASES[name]
    twin = make()
    result = diverge(twin.source_model, keras_twin(twin), inputs)
    assert not result and result.module == "", str(result)
    assert max(result.outputs) < 2e-5
    matched = {(row["source"], row["target"].rpartition(".")[2]) for row in result.compared}
    with_weights = {e.sources[0].rpartition(".")[0] for e in twin.weight_map.entries}
    assert with_weights <= {source for source, _ in matched}
    assert "no divergence" in str(result)


FAULTS = {
    "eps": ("mlp", [("epsilon=1e-5, momentum", "epsilon=1e-3, momentum")], "bn", "eps"),
    "layer norm eps": (
        "mlp",
        [("LayerNormalization(epsilon=1e-5)", "LayerNormalization()")],
        "norm",
        "eps",
    ),
    "gelu": (
        "mlp",
        [("x * 0.5 * (ops.erf(x / 2**0.5) + 1.0)", "ops.gelu(x, approximate=True)")],
        "act",
        "GELU",
    ),
    "padding": (
        "cnn",
        [
            ("layers.ZeroPadding2D(1)", "layers.Identity()"),
            ("strides=2)", "strides=2, padding='same')"),
        ],
        "conv1",
        "padding",
    ),
    "between layers": ("cnn", [("self.conv2(ops.relu(x))", "self.conv2(x)")], "conv2", ""),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_and_named(name):
    twin_name, edits, module, cause = FAULTS[name]
    make, inputs = CASES[twin_name]
    if twin_name == "cnn":
        inputs = torch.randn(2, 3, 12, 14)
    twin = make()
    result = diverge(twin.source_model, keras_twin(twin, edits), inputs)
    assert result and result.module == module, str(result)
    assert cause in result.likely_cause
    assert result.file is None or result.file.endswith("twins.py")
    if name == "between layers":
        assert "between bn and it" in result.where
    assert result.to_json()


def test_a_weight_that_was_copied_untransposed():
    twin = twins.mlp()
    model = keras_twin(twin)
    square = twin.weight_map.variables(model)["square.kernel"]
    square.assign(np.asarray(square).T)
    result = diverge(twin.source_model, model, CASES["mlp"][1])
    assert result.module == "square" and "transposed" in result.likely_cause


def test_the_models_are_left_as_they_were():
    twin = twins.mlp()
    before = {name: tensor.clone() for name, tensor in twin.source_model.state_dict().items()}
    diverge(twin.source_model, keras_twin(twin), CASES["mlp"][1])
    assert twin.source_model.training
    for name, tensor in twin.source_model.state_dict().items():
        assert torch.equal(tensor, before[name])
