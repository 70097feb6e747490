"""A model of two inputs of different rank and a dictionary of outputs."""

import pytest
from real_models import assert_proven, assert_reads_well, run_fresh, translated, weight_map

pytestmark = pytest.mark.xdist_group("two_inputs")


@pytest.mark.parametrize("factory", ["make", "make_keywords"])
def test_it_is_proven_and_works_in_a_fresh_python(factory):
    result = translated("two_inputs", factory)
    assert_proven(result)
    report = run_fresh(result, "outputs", "keras", "config", "fit")
    assert report["keras"] == report["config"] == 0
    assert report["fit"]["changed"] == report["fit"]["trainable"] > 0


def test_the_structure_is_kept():
    by_position = weight_map(translated("two_inputs"))
    by_name = weight_map(translated("two_inputs", "make_keywords"))
    assert by_position["structure"]["inputs"] == "list"
    assert by_name["structure"]["inputs"] == "dict"
    assert [entry["name"] for entry in by_name["inputs"]] == ["image", "features"]
    assert sorted(entry["path"] for entry in by_name["outputs"]) == [["embedding"], ["logits"]]


def test_the_image_is_channels_last_unless_told_otherwise():
    native = weight_map(translated("two_inputs"))["inputs"]
    same = weight_map(translated("two_inputs", io_layout="same"))["inputs"]
    assert native[0]["perm"] == [0, 2, 3, 1] and not native[1]["perm"]
    assert not same[0]["perm"] and not same[1]["perm"]
    assert_proven(translated("two_inputs", io_layout="same"))


def test_it_reads_well():
    assert_reads_well(translated("two_inputs"), "ImageEncoder", "ImageAndFeatures")
