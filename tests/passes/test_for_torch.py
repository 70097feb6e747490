"""Passes for PyTorch alone: written-out GELUs are one op, and padding before a window is the window's own."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from diglot.frontends.capture import capture
from diglot.ir.hub import target_name


class Computes(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x):
        return self.function(self, x)


def ops(function, *shape):
    hub, _ = capture(Computes(function), torch.randn(*shape), None, "torch")
    return [target_name(n) for n in hub.graph.nodes if n.op == "call_function"], hub


ERF = [
    lambda self, x: 0.5 * x * (1.0 + torch.erf(x / math.sqrt(2.0))),
    lambda self, x: x * (0.5 * (torch.erf(x * 0.7071067811865476) + 1)),
    lambda self, x: x / 2 * (1 + torch.erf(x / 2**0.5)),
]
TANH = [
    lambda self, x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    lambda self, x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
]
OTHERS = [
    lambda self, x: 0.5 * x * (1.0 + torch.erf(x / 1.5)),
    lambda self, x: 0.4 * x * (1.0 + torch.erf(x / math.sqrt(2.0))),
    lambda self, x: 0.5 * x.abs() * (1.0 + torch.erf(x / math.sqrt(2.0))),
    lambda self, x: 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.05 * x**3))),
]


@pytest.mark.parametrize(
    "written, approximate", [*((f, "none") for f in ERF), *((f, "tanh") for f in TANH)]
)
def test_a_gelu_written_out_is_one_op(written, approximate):
    found, hub = ops(written, 3, 5)
    assert [n for n in found if n.startswith("aten")] == ["aten.gelu.default"]
    node = next(n for n in hub.graph.nodes if target_name(n) == "aten.gelu.default")
    assert node.kwargs.get("approximate", "none") == approximate


@pytest.mark.parametrize("written", OTHERS)
def test_what_is_no_gelu_stays(written):
    assert "aten.gelu.default" not in ops(written, 3, 5)[0]


def _last(x):
    return x.permute(0, 3, 1, 2)


MERGED = [
    (lambda self, x: self.conv(F.pad(x, (1, 1, 2, 2))), (2, 3, 9, 12)),
    (lambda self, x: self.conv(_last(F.pad(x, (0, 0, 1, 1, 2, 2)))), (2, 9, 12, 3)),
    (lambda self, x: F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-math.inf), 3, 2), (2, 3, 9, 12)),
]
KEPT = [
    (lambda self, x: self.conv(F.pad(x, (0, 1, 0, 1))), (2, 3, 9, 12)),  # uneven
    (lambda self, x: self.conv(F.pad(x, (1, 1, 1, 1), value=0.5)), (2, 3, 9, 12)),
    (
        lambda self, x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2),
        (2, 3, 9, 12),
    ),  # zeros are no minus infinity
    (lambda self, x: F.max_pool2d(F.pad(x, (2, 2, 2, 2), value=-math.inf), 3, 2), (2, 3, 9, 12)),
]


@pytest.mark.parametrize("written, shape", MERGED)
def test_padding_belongs_to_the_window(written, shape):
    found, _ = ops(written, *shape)
    assert not any("pad" in name for name in found)


@pytest.mark.parametrize("written, shape", KEPT)
def test_other_padding_stays(written, shape):
    assert any("pad" in name for name in ops(written, *shape)[0])


def test_padding_that_is_read_twice_stays():
    def written(self, x):
        padded = F.pad(x, (1, 1, 1, 1))
        return self.conv(padded), padded

    assert any("pad" in name for name in ops(written, 2, 3, 9, 12)[0])


WEIGHT = torch.randn(6, 4)
PRODUCTS = [
    (lambda self, x: (x.reshape(-1, 6) @ WEIGHT).reshape(-1, 5, 4), True),
    (lambda self, x: torch.mm(x.view(-1, 6), WEIGHT).view(x.shape[0], 5, 4), True),
    # Rows that are not the source's own, and others that are read as well.
    (lambda self, x: (x.reshape(-1, 6) @ WEIGHT).reshape(-1, 4, 5), False),
    (lambda self, x: (x.transpose(1, 2).reshape(-1, 6) @ WEIGHT).reshape(-1, 5, 4), False),
    (lambda self, x: (y := x.reshape(-1, 6)) @ WEIGHT @ WEIGHT.T + y, False),
]


@pytest.mark.parametrize("written, one", PRODUCTS)
def test_a_product_between_two_views_is_along_the_last_axis(written, one):
    found, _ = ops(written, 3, 5, 6)
    assert any("view" in n or "reshape" in n for n in found) == (not one)


def turns(found):
    """Whether any op turns axes."""
    return any("permute" in n or "transpose" in n for n in found)


TURNED = [
    (lambda self, x: F.softmax(x.transpose(1, 2), -1).transpose(1, 2), 1),
    (lambda self, x: F.log_softmax(x.permute(1, 2, 0), 2).permute(2, 0, 1), 0),
    (lambda self, x: x.transpose(0, 2).cumsum(1).transpose(2, 0), 1),
    (lambda self, x: F.softmax(x.permute(1, 2, 0), -1).permute(1, 2, 0), None),
    (lambda self, x: F.softmax(y := x.transpose(1, 2), -1).transpose(1, 2) + y.sum(), None),
]


@pytest.mark.parametrize("written, axis", TURNED)
def test_an_op_along_an_axis_that_is_brought_there_and_back(written, axis):
    found, hub = ops(written, 3, 5, 6)
    assert turns(found) == (axis is None)
    if axis is not None:
        along = next(n for n in hub.graph.nodes if "softmax" in str(n.target) or "cumsum" in str(n))
        assert along.args[1] == axis


def skipping(x, mask, steps=True):
    """A recurrent layer that passes over what the mask leaves out, as Keras does."""
    order = torch.argsort((~mask).to(torch.int64), dim=1, stable=True)
    kept = torch.gather(x, 1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    made = F.pad(torch.tanh(kept.cumsum(1)), (0, 0, 1, 0) if steps else (0, 0, 0, 1))
    counted = torch.cumsum(mask.to(torch.int64), dim=1)
    return torch.gather(made, 1, counted.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


SKIPPING = {"diglot.back_in_place.default", "diglot.counted_first.default", "aten.gather.default"}


def counting(self, x, whole=False):
    """A recurrent layer over sequences of some lengths; what follows a sequence is read if ``whole``."""
    mask = torch.arange(x.shape[1]) < (x[..., 0] > 0).sum(1).unsqueeze(1)
    made = skipping(x, mask)
    return made if whole else torch.where(mask.unsqueeze(-1), made, 0.5)


def test_steps_that_are_passed_over_are_two_functions():
    found, _ = ops(lambda self, x: skipping(x, x[..., 0] > 0), 3, 7, 5)
    assert "diglot.counted_first.default" in found and "diglot.back_in_place.default" in found
    assert not any("gather" in n or "argsort" in n for n in found)
    x = torch.randn(3, 7, 5)
    first = torch.ops.diglot.counted_first(x, x[..., 0] > 0)
    again = torch.ops.diglot.back_in_place(torch.tanh(first.cumsum(1)), x[..., 0] > 0)
    assert torch.equal(again, skipping(x, x[..., 0] > 0))
    # Where the steps that count come first they stay, if those alone are read.
    found, _ = ops(counting, 3, 7, 5)
    assert not any(name in found for name in SKIPPING)
    found, _ = ops(lambda self, x: counting(self, x, whole=True), 3, 7, 5)
    assert "diglot.back_in_place.default" in found and "diglot.counted_first.default" not in found
    # Padded behind instead of before, it is something else.
    found, _ = ops(lambda self, x: skipping(x, x[..., 0] > 0, steps=False), 3, 7, 5)
    assert "diglot.back_in_place.default" not in found


@pytest.mark.parametrize("behind", [1, 2])
def test_sequences_that_are_turned_around_by_their_lengths(behind):
    def turned(self, x):
        steps, ends = torch.arange(x.shape[1]), (x[..., 0] > 0).sum(1).unsqueeze(-1)
        order = torch.where(steps < ends, ends - behind - steps, steps)
        return x.gather(1, (order % x.shape[1] if behind > 1 else order).unsqueeze(-1).expand_as(x))

    found, _ = ops(turned, 2, 6, 5)
    assert ("diglot.reverse_sequence.default" in found) == (behind == 1)
    x = torch.randn(2, 6, 5)
    made = torch.ops.diglot.reverse_sequence(x, (x[..., 0] > 0).sum(1))
    assert torch.equal(made, turned(None, x)) == (behind == 1)


BOUNDED = [
    (lambda self, x: F.relu(x).clamp(min=0.0).clamp(max=20.0), ["aten.relu.default", "clamp"]),
    (lambda self, x: torch.clamp_max(torch.clamp_min(x, -1.0), 2.0), ["aten.clamp.default"]),
    (lambda self, x: torch.maximum(F.relu(x), torch.tensor(0.0)), ["aten.relu.default"]),
    (lambda self, x: torch.maximum(F.relu(x), x), ["aten.relu.default", "maximum"]),
    (lambda self, x: x.clamp(min=3.0).clamp(max=2.0), ["clamp", "clamp"]),
    (lambda self, x: F.relu(x).clamp(min=0.5), ["aten.relu.default", "clamp"]),
    (lambda self, x: (y := x.clamp(min=-1.0)).clamp(max=2.0) * y, ["clamp", "clamp", "mul"]),
]


@pytest.mark.parametrize("written, left", BOUNDED)
def test_bounds_that_hold_or_are_one(written, left):
    found, _ = ops(written, 3, 5)
    found = [n for n in found if n.startswith("aten")]
    assert len(found) == len(left)
    assert all(part in name for part, name in zip(left, found, strict=True))


MOVED = [
    (lambda self, x: x.transpose(1, 2).unsqueeze(1).permute(0, 3, 1, 2), 2),
    (lambda self, x: x.unsqueeze(-1).permute(0, 3, 1, 2), 1),
    (lambda self, x: x.permute(2, 0, 1).unsqueeze(0).permute(2, 0, 3, 1), 1),
    (lambda self, x: x.reshape(3, 5, 6, 1).permute(0, 3, 1, 2), 1),
    (lambda self, x: x.unsqueeze(-1).permute(0, 2, 1, 3), None),
    (lambda self, x: x.reshape(3, 6, 5, 1).permute(0, 3, 1, 2), None),
    (lambda self, x: (y := x.transpose(1, 2)).unsqueeze(1).permute(0, 3, 1, 2) + y.sum(), None),
]


@pytest.mark.parametrize("written, axis", MOVED)
def test_a_new_axis_that_others_are_turned_around(written, axis):
    found, hub = ops(written, 3, 5, 6)
    assert turns(found) == (axis is None)
    if axis is not None:
        (new,) = (n for n in hub.graph.nodes if "unsqueeze" in str(n.target))
        assert new.args[1] == axis
        x = torch.randn(3, 5, 6)
        assert torch.equal(x.unsqueeze(axis), written(None, x))


def test_what_is_joined_twice_is_joined_once():
    _, hub = ops(lambda _, x: torch.cat([x, torch.cat([x.exp(), x.sin()], 1)], -1), 3, 5)
    join = [n for n in hub.graph.nodes if target_name(n) == "aten.cat.default"]
    assert [len(n.args[0]) for n in join] == [3]


@pytest.mark.parametrize(
    "function",
    [
        lambda _, x: torch.cat([x, torch.cat([x.exp(), x.sin()], 0).reshape(3, 10)], 1),
        lambda _, x: torch.cat([x, torch.cat([x.exp(), x.sin()], 1)[:, :5]], 0),
    ],
    ids=["turned", "another axis"],
)
def test_what_is_joined_otherwise_stays(function):
    assert ops(function, 3, 5)[0].count("aten.cat.default") == 2


def test_what_is_read_twice_stays():
    def function(_, x):
        y = torch.cat([x, x.sin()], 1)
        return torch.cat([x, y], 1).sum() * y

    assert ops(function, 3, 5)[0].count("aten.cat.default") == 2


@pytest.mark.parametrize("scaled", [lambda _, x: x.sin() * 1.0, lambda _, x: x.sin() / 1])
def test_what_is_multiplied_by_one_is_as_it_was(scaled):
    assert [n for n in ops(scaled, 3, 5)[0] if n.startswith("aten")] == ["aten.sin.default"]


def test_integers_that_become_floats_by_it_do_not():
    found, _ = ops(lambda _, x: x.long() * 1.0, 3, 5)
    assert "aten.mul.Tensor" in found
