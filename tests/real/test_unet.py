"""A U-Net with ConvTranspose2d, batch norm and skip connections."""

import pytest
from real_models import assert_proven, assert_reads_well, run_fresh, translated

pytestmark = pytest.mark.xdist_group("unet")


def test_it_is_proven():
    assert_proven(translated("unet"))


def test_a_fresh_python_computes_the_same_and_trains():
    report = run_fresh(translated("unet"), "outputs", "keras", "weights", "config", "graph", "fit")
    assert report["keras"] == report["weights"] == report["config"] == 0
    assert "Transpose" not in report["graph"]
    assert report["fit"]["changed"] == report["fit"]["trainable"] > 0


def test_functional_style_is_proven_too():
    assert_proven(translated("unet", style="functional"))


def test_it_reads_well():
    result = translated("unet")
    assert_reads_well(result, "DoubleConv", "Down", "Up", "UNet")
    assert result.translation.source.count("class ") == 4
    assert "Conv2DTranspose" in result.translation.source
