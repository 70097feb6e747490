"""ResNets with torchvision's names, random statistics: ResNet-50, and small ones in both styles."""

import pytest
from real_models import assert_proven, assert_reads_well, run_fresh, translated, weight_map

pytestmark = pytest.mark.xdist_group("resnet")

# The layout is moved into the weights: nothing is left to transpose at run time.
TRANSPOSING = {"Transpose", "ConjugateTranspose", "BatchToSpaceND", "SpaceToBatchND"}


@pytest.mark.sweep
def test_full_size_is_proven_without_a_transpose():
    result = translated("resnet", "make50")
    assert_proven(result)
    report = run_fresh(result, "outputs", "keras", "graph")
    assert report["keras"] == 0
    assert not TRANSPOSING & report["graph"].keys()
    assert report["graph"]["Conv2D"] == 53


# Bottlenecks as layers are in the full size; basic blocks have no statement that they have not.
@pytest.mark.parametrize(
    ("factory", "style"),
    [
        ("make", "layers"),
        pytest.param("make_bottleneck", "functional", marks=pytest.mark.sweep),
    ],
)
def test_small_ones_are_proven_and_trainable(factory, style):
    result = translated("resnet", factory, style=style)
    assert_proven(result)
    report = run_fresh(result, "outputs", "keras", "weights", "config", "graph", "fit")
    assert report["keras"] == report["weights"] == report["config"] == 0
    assert not TRANSPOSING & report["graph"].keys()
    assert report["graph"]["Conv2D"] == {"make": 14, "make_bottleneck": 20}[factory]
    assert report["fit"]["changed"] == report["fit"]["trainable"] > 0
    assert report["fit"]["loss"][-1] < report["fit"]["loss"][0]


def test_the_source_keeps_classes_and_stages():
    result = translated("resnet", "make", style="layers")
    assert_reads_well(result, "BasicBlock", "ResNet")
    assert "Bottleneck" not in result.translation.source
    names = [entry["source"] for entry in weight_map(result)["modules"]]
    assert {"layer1.0.conv1", "layer2.1.bn2", "layer2.0.downsample"} <= set(names)


def test_functional_style_is_one_model():
    source = translated("resnet", "make", style="functional").translation.source
    assert "class " not in source
    assert "keras.Model(" in source


def test_trained_weights_return_under_torchvisions_names():
    result = translated("resnet", "make", style="layers")
    sources = {source for entry in weight_map(result)["entries"] for source in entry["sources"]}
    counters = {name for name in result.model.state_dict() if name.endswith("num_batches_tracked")}
    assert sources == result.model.state_dict().keys() - counters
