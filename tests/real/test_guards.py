"""A program holds one way of a branch: sizes that decide one are fixed, or refused where they are met."""

import numpy as np
import pytest
import torch
from torch import nn

import diglot
from diglot.errors import Unsupported


class Parity(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] % 2 == 0 else x * 3


class Short(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] > 10 else x + 1


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2 if 2 * x.shape[1] > 21 else x + 1


class Quarter(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] // 4 != 1 else x + 1


class Half(nn.Module):
    def forward(self, x):
        return x * 2 if (x.shape[1] + 1) // 2 > 4 else x + 1


class Square(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[1] * x.shape[1] > 100 else x + 1


class Ten(nn.Module):
    def forward(self, x):
        return x * 2 if 2 * x.shape[1] == 20 else x + 1


class Longer(nn.Module):
    def forward(self, x, y):
        return x.mean(1) if x.shape[1] > y.shape[1] else y.mean(1)


class Positions(nn.Module):
    """A table of twelve positions: cut, and beside what has the whole length or alone."""

    def __init__(self, use):
        super().__init__()
        self.use = use
        self.table = nn.Parameter(torch.randn(1, 12, 5))
        self.embedding = nn.Embedding(12, 5)
        self.register_buffer("ids", torch.arange(12)[None], persistent=False)
        self.register_buffer("causal", torch.ones(12, 12).tril())

    def forward(self, x):
        length = x.shape[1]
        if self.use == "added":
            return x + self.table[:, :length]
        if self.use == "mask":
            scores = x @ x.transpose(1, 2)
            return scores.masked_fill(self.causal[None, :length, :length] == 0, -1e9)
        if self.use == "alone":
            return x.mean(1) + self.table[:, :length].mean(1)
        return x + self.embedding(self.ids[:, :length])


class FirstRows(nn.Module):
    """PyTorch's own code compares 5 * length with 40, which decides a stride and nothing else."""

    def forward(self, x):
        return x[:, :8] * 2


def numbers(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype("float32")


def call(translation, module, *inputs):
    """Check that the translation computes what the module does."""
    with torch.no_grad():
        expected = module(*map(torch.from_numpy, inputs)).numpy()
    given = inputs[0] if len(inputs) == 1 else list(inputs)
    np.testing.assert_allclose(np.asarray(translation.model(given)), expected, 1e-4, 1e-5)


def test_a_size_that_decides_a_branch_is_fixed():
    translation = diglot.translate(Parity(), torch.randn(2, 6, 5))
    assert translation.info["dynamic"].keys() == {
        k for k, v in translation.info["dynamic"].items() if v["axis"] == 0
    }
    with pytest.raises(ValueError, match="expected shape"):
        translation.model(torch.randn(2, 13, 5).numpy())


@pytest.mark.parametrize("module", [Quarter(), Half(), Square()], ids=["quarter", "half", "square"])
def test_a_size_is_fixed_where_shorter_ones_take_another_way(module):
    translation = diglot.translate(module, torch.randn(2, 20, 5))
    call(translation, module, numbers(3, 20, 5))
    with pytest.raises(ValueError, match=r"expected shape|expected at least"):
        translation.model(numbers(2, 5, 5))


def test_two_sizes_that_are_compared_are_fixed():
    module = Longer()
    translation = diglot.translate(module, (torch.randn(2, 6, 5), torch.randn(2, 4, 5)))
    call(translation, module, numbers(3, 6, 5), numbers(3, 4, 5))
    with pytest.raises(ValueError, match="expected shape"):
        translation.model([numbers(2, 4, 5), numbers(2, 6, 5)])


def test_a_limit_is_stated_where_the_model_is_built():
    translation = diglot.translate(Short(), torch.randn(2, 6, 5))
    assert "``x`` holds at most 10 along axis 1" in translation.source
    (limit,) = [v["max"] for v in translation.info["dynamic"].values() if v["axis"] == 1]
    assert limit == 10


@pytest.mark.parametrize("kind", [Short, Doubled])
def test_a_size_beyond_a_limit_is_refused(kind):
    module = kind()
    low = diglot.translate(module, torch.randn(2, 6, 5))
    call(low, module, numbers(3, 10, 5))
    with pytest.raises(ValueError, match="x: expected at most 10 along axis 1, received 11"):
        low.model(numbers(3, 11, 5))
    with pytest.raises(ValueError, match="at most 10"):
        low.model.predict(numbers(3, 11, 5), verbose=0)
    high = diglot.translate(module, torch.randn(2, 16, 5))
    call(high, module, numbers(3, 11, 5))
    with pytest.raises(ValueError, match="x: expected at least 11 along axis 1, received 10"):
        high.model(numbers(3, 10, 5))


def test_a_single_size_that_takes_another_way_is_refused():
    module = Ten()
    translation = diglot.translate(module, torch.randn(2, 6, 5))
    call(translation, module, numbers(3, 9, 5))
    with pytest.raises(ValueError, match="any size but 10 along axis 1"):
        translation.model(numbers(3, 10, 5))


def test_the_axis_of_a_limit_is_the_axis_of_the_program():
    class Tall(nn.Module):
        def forward(self, image):
            return image * 2 if image.shape[2] > 10 else nn.functional.max_pool2d(image, 3, 1, 1)

    translation = diglot.translate(
        Tall(), torch.randn(2, 3, 8, 9), dynamic={"image": {0: "b", 2: "h"}}
    )
    assert "``image`` holds at most 10 along axis 1" in translation.source
    with pytest.raises(ValueError, match="image: expected at most 10 along axis 1, received 11"):
        translation.model(numbers(2, 11, 9, 3))


def test_a_sequential_model_refuses_too():
    module = nn.Sequential(nn.Linear(5, 5), Short())
    translation = diglot.translate(module, torch.randn(2, 6, 5))
    call(translation, module, numbers(3, 10, 5))
    with pytest.raises(ValueError, match="at most 10"):
        translation.model(numbers(3, 11, 5))


@pytest.mark.parametrize(
    ("use", "checked"), [("added", False), ("mask", False), ("alone", True), ("ids", True)]
)
def test_a_table_that_is_too_short_fails_by_itself_or_is_checked(use, checked):
    """Whichever it is, nothing comes out for 13 positions; only what fails anyway has no check."""
    module = Positions(use)
    translation = diglot.translate(module, torch.randn(2, 6, 5))
    assert ("raise ValueError" in translation.source) is checked
    call(translation, module, numbers(3, 12, 5))
    with pytest.raises(Exception, match=r"at most 12|ncompatible shapes|must be equal|broadcast"):
        translation.model(numbers(3, 13, 5))


def test_strides_that_pytorch_compares_fix_nothing():
    module = FirstRows()
    translation = diglot.translate(module, torch.randn(2, 16, 5))
    call(translation, module, numbers(3, 9, 5))


def test_what_is_broadcast_fixes_nothing():
    """That two sizes are one, or one of them 1, holds where they are one."""

    class Masked(nn.Module):
        def forward(self, x, mask):
            return x + mask.expand(x.shape[0], x.shape[1])[..., None]

    translation = diglot.translate(Masked(), (torch.randn(2, 6, 5), torch.ones(2, 6).int()))
    x, mask = numbers(3, 9, 5), np.ones((3, 9), "int32")
    np.testing.assert_allclose(translation.model([x, mask]), x + mask[..., None], rtol=1e-6)


def test_a_functional_model_says_that_it_cannot_refuse_a_batch():
    class Small(nn.Module):
        def forward(self, x):
            return x * 2 if x.shape[0] > 10 else x + 1

    with pytest.raises(Unsupported, match="x: at most 10 along axis 0"):
        diglot.translate(Small(), torch.randn(2, 6, 5), style="functional")
    fixed = diglot.translate(Short(), torch.randn(2, 6, 5), style="functional")
    with pytest.raises(ValueError, match="expected shape"):
        fixed.model(numbers(2, 11, 5))
