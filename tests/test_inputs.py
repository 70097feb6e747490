"""The grammar of --input, and the examples that come of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diglot.errors import BadInput
from diglot.inputs import (
    DTYPES,
    dynamic_sizes,
    example_sizes,
    make_examples,
    parse_input,
    parse_inputs,
)


def test_numbers_are_fixed_and_names_dynamic():
    spec = parse_input("float32[batch,3,224,224]")
    assert (spec.name, spec.dtype, spec.high) == (None, "float32", None)
    assert spec.sizes == ("batch", 3, 224, 224)
    assert spec.dynamic() == {0: "batch"}


def test_name_range_and_spaces():
    spec = parse_input(" ids = int64 [ batch , length ] < 30522 ")
    assert (spec.name, spec.high, spec.sizes) == ("ids", 30522, ("batch", "length"))
    assert parse_input("float[]").sizes == ()
    assert parse_input("long[n]").dtype == "int64"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("float33[2]", "dtype"),
        ("float32[2", "not understood"),
        ("float32", "not understood"),
        ("float32[2,,3]", "size"),
        ("float32[0,3]", "size"),
        ("float32[-1]", "size"),
        ("float32[2]<5", "range"),
        ("int64[2]<0", "range"),
    ],
)
def test_what_is_wrong_is_said(text, told):
    with pytest.raises(BadInput) as caught:
        parse_input(text)
    assert told in str(caught.value)
    assert text in str(caught.value)


def test_named_and_unnamed_do_not_mix():
    with pytest.raises(BadInput):
        parse_inputs(["a=float32[2]", "float32[2]"])
    with pytest.raises(BadInput):
        parse_inputs(["a=float32[2]", "a=float32[3]"])


def test_the_same_name_is_the_same_size_and_names_differ():
    specs = parse_inputs(["ids=int64[batch,length]<9", "mask=bool[batch,length]", "y=float[m,7]"])
    sizes = example_sizes(specs)
    assert sizes["batch"] == 2
    assert len(set(sizes.values()) | {7}) == len(sizes) + 1
    examples = make_examples(specs)
    assert examples["ids"].shape == examples["mask"].shape
    assert examples["ids"].max() == 8
    assert dynamic_sizes(specs)["ids"] == {0: "batch", 1: "length"}


def test_example_sizes_can_be_given():
    specs = parse_inputs(["float32[batch:4,3,height:32,w]", "float32[batch]"])
    first, second = make_examples(specs)
    assert first.shape == (4, 3, 32, 96) and second.shape == (4,)
    with pytest.raises(BadInput):
        example_sizes(parse_inputs(["float32[b:2]", "float32[b:3]"]))


def test_masks_are_padded_on_the_right():
    mask = make_examples(parse_inputs(["attention_mask=int64[batch:3,length:5]"]))["attention_mask"]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert mask.dtype == torch.int64


class TwoTables(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 4)
        self.kinds = nn.Embedding(3, 4)

    def forward(self, words, kinds):
        return self.words(words) + self.kinds(kinds)


def test_integers_take_the_range_that_the_model_accepts():
    model = TwoTables().train()
    words, kinds = make_examples(parse_inputs(["int64[batch,n]", "int64[batch,n]"]), model)
    assert words.max() == 49 and kinds.max() == 2
    assert model.training and model.words.training
    model(words, kinds)


SIZES = st.lists(st.one_of(st.integers(1, 9).map(str), st.sampled_from(["batch", "n"])), max_size=4)


@given(SIZES, st.sampled_from(DTYPES))
def test_whatever_parses_has_an_example(sizes, dtype):
    specs = parse_inputs([f"{dtype}[{','.join(sizes)}]"])
    example = make_examples(specs)
    assert example.dtype == getattr(torch, dtype)
    assert example.dim() == len(sizes)
    for size, got in zip(sizes, example.shape, strict=True):
        assert not size.isdigit() or int(size) == got


@given(st.text(max_size=30))
def test_any_text_parses_or_is_refused(text):
    try:
        parse_input(text)
    except BadInput as error:
        assert str(error)
