"""Sizes and inputs for proofs."""

import copy

import numpy as np
import pytest

from diglot.codegen.weights import TensorSpec
from diglot.errors import BadInput
from diglot.parity.inputs import choose_sizes, evaluate, fallback_sizes, make_inputs


def dynamic(*rows):
    keys = ("name", "axis", "input", "example", "min", "max")
    return {f"s{i}": dict(zip(keys, row, strict=True)) for i, row in enumerate(rows)}


TEXT = {
    "dynamic": dynamic(("batch", 0, "ids", 2, 1, None), ("length", 1, "ids", 9, 1, 8)),
    "example_inputs": [{"name": "ids", "shape": [2, 9], "dtype": "int64", "min": 3, "max": 50}],
}
IMAGE = {
    "dynamic": dynamic(
        ("batch", 0, "x", 2, 1, None), ("h", 2, "x", 224, 32, None), ("w", 3, "x", 224, 32, None)
    ),
    "example_inputs": [{"name": "x", "shape": [2, 3, 224, 224], "dtype": "float32"}],
}


def test_sizes_are_small_odd_and_even_and_never_all_equal():
    sets = choose_sizes(TEXT)
    assert [s["s0"] for s in sets] == [2, 3, 1]
    lengths = [s["s1"] for s in sets]
    assert {n % 2 for n in lengths} == {0, 1} and max(lengths) <= 8
    assert all(len(set(s.values())) == len(s) for s in sets)


def test_images_are_about_half_as_large_and_not_square():
    for sizes in choose_sizes(IMAGE)[:2]:
        assert 112 <= sizes["s1"] < sizes["s2"] < 130


def test_a_length_that_is_never_short_is_not_one_length_thrice():
    text = {"dynamic": dynamic(("batch", 0, "x", 2, 1, None), ("length", 1, "x", 112, 100, None))}
    assert [sizes["s1"] for sizes in choose_sizes(text)] == [100, 103, 104]


def test_sizes_are_multiples_of_what_they_must_be():
    image = copy.deepcopy(IMAGE)
    for symbol in ("s1", "s2"):
        image["dynamic"][symbol] |= {"multiple": 32, "min": 63}
    for sizes in choose_sizes(image):
        assert sizes["s1"] % 32 == sizes["s2"] % 32 == 0 and sizes["s1"] >= 64
    image["dynamic"]["s1"] |= {"min": 65, "example": 64}
    assert choose_sizes(image)[0]["s1"] == 96


def test_nothing_dynamic_gives_one_set():
    assert choose_sizes({}) == [{}]


def test_fallbacks_are_the_example():
    assert fallback_sizes(IMAGE, {"s0": 3, "s1": 115, "s2": 116}) == [
        {"s0": 3, "s1": 224, "s2": 224},
        {"s0": 2, "s1": 224, "s2": 224},
    ]


def test_sizes_may_be_arithmetic():
    assert evaluate("2*s0 + 1", {"s0": 4}) == 9
    assert evaluate("(s0 - 1)//2", {"s0": 8}) == 3
    with pytest.raises(BadInput):
        evaluate("__import__('os')", {})
    with pytest.raises(BadInput):
        evaluate("s1", {"s0": 4})


def made(spec, about, sizes=None, seed=0, variant=0):
    return make_inputs([spec], [{"name": spec.name, **about}], sizes or {}, seed, variant)[0]


def test_tokens_stay_in_the_vocabulary():
    spec = TensorSpec(name="ids", shape=("s0", "s1"), dtype="int64")
    ids = made(spec, {"min": 3, "max": 5}, {"s0": 40, "s1": 7})
    assert ids.shape == (40, 7) and ids.dtype == np.int64
    assert set(np.unique(ids)) == {3, 4, 5}


def test_the_same_seed_gives_the_same_inputs():
    spec = TensorSpec(name="x", shape=(3, 4))
    np.testing.assert_array_equal(made(spec, {}, seed=5), made(spec, {}, seed=5))
    assert np.abs(made(spec, {}, seed=5) - made(spec, {}, seed=6)).max() > 0.1


@pytest.mark.parametrize("first", [0, 1])
def test_masks_keep_the_first_position_and_part_of_each_row(first):
    spec = TensorSpec(name="attention_mask", shape=(50, 6), dtype="int64")
    mask = made(spec, {"min": 0, "max": 1, "first": first})
    assert (mask[:, 0] == first).all() and (mask[:, -1] != first).all()
    other = made(spec, {"min": 0, "max": 1, "first": first}, variant=1)
    np.testing.assert_array_equal(other, 1 - mask)


def test_square_masks_are_causal_and_float_masks_add():
    square = made(TensorSpec(name="m", shape=(5, 5), dtype="bool"), {"first": False})
    assert (square == ~np.tril(np.ones((5, 5), bool))).all()
    added = made(TensorSpec(name="m", shape=(5, 5)), {"min": float("-inf"), "max": 0.0})
    assert set(np.unique(added)) == {0.0, -np.inf} and (added[:, 0] == 0).all()


def test_floats_keep_a_positive_range():
    x = made(TensorSpec(name="x", shape=(100,)), {"min": 0.0, "max": 1.0})
    assert x.min() >= 0 and x.max() <= 1 and x.std() > 0.1
