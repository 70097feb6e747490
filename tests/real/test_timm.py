"""Models of timm, with random weights and statistics."""

import pytest

pytest.importorskip("timm", reason="timm is not installed: make install does it")

from marking import swept
from real_models import assert_proven, assert_reads_well, run_fresh, translated

# What remains to be transposed in the TensorFlow graph: attention heads, and nothing else.
FACTORIES = {
    "make_resnet18": 0,
    "make_mobilenetv3": 0,
    "make_efficientnet": 0,
    "make_convnext": 0,
    "make_vit": None,
}


CASES = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FACTORIES]


@pytest.mark.parametrize(
    "factory",
    swept(CASES, {"make_mobilenetv3", "make_efficientnet", "make_convnext", "make_resnet18"}),
)
def test_it_is_proven_and_works_in_a_fresh_python(factory):
    result = translated("timm_models", factory)
    assert_proven(result)
    assert_reads_well(result)
    report = run_fresh(result, "outputs", "keras", "graph")
    assert report["keras"] == 0
    if FACTORIES[factory] is not None:
        assert report["graph"].get("Transpose", 0) == FACTORIES[factory]
