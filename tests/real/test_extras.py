"""What real models do and translators tend to miss, one small model each."""

import extras
import extras_text
import extras_vision
import pytest
from real_models import assert_proven, assert_reads_well, run_fresh, translated

CASES = [
    pytest.param(
        module.__name__,
        name,
        id=name.removeprefix("make_"),
        marks=pytest.mark.xdist_group(name),
    )
    for module in (extras, extras_text, extras_vision)
    for name in vars(module)
    if name.startswith("make_")
]


@pytest.mark.parametrize(("module", "factory"), CASES)
def test_it_is_proven(module, factory):
    assert_proven(translated(module, factory))


@pytest.mark.parametrize(("module", "factory"), CASES)
def test_a_fresh_python_computes_the_same(module, factory):
    result = translated(module, factory)
    report = run_fresh(result, "outputs", "keras")
    assert report["keras"] == 0
    assert_reads_well(result)


@pytest.mark.xdist_group("make_tied")
@pytest.mark.parametrize("factory", ["make_tied", "make_tied_by_function"])
def test_a_tied_weight_is_one_weight(factory):
    """One matrix, trained through both of its uses."""
    result = translated("extras_text", factory)
    report = run_fresh(result, "fit")
    assert report["fit"]["changed"] == report["fit"]["trainable"]
    own = {parameter.data_ptr(): parameter for parameter in result.model.parameters()}
    assert report["parameters"] == sum(parameter.numel() for parameter in own.values())


@pytest.mark.xdist_group("make_convnext")
def test_no_transpose_between_the_permutes_of_a_convnext():
    report = run_fresh(translated("extras_vision", "make_convnext"), "graph")
    assert "Transpose" not in report["graph"]
    assert report["graph"].get("DepthwiseConv2dNative") == 2


@pytest.mark.xdist_group("make_called_twice")
def test_a_block_called_three_times_is_one_block():
    result = translated("extras", "make_called_twice")
    own = sum(parameter.numel() for parameter in result.model.parameters())
    assert run_fresh(result)["parameters"] == own
