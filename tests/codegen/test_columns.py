"""Blocks that are rows of a nested list, and loops of one statement: written as the loops that they are."""

import torch
from in_process import translated
from torch import nn


class FeedForward(nn.Module):
    """A block's second half."""

    def __init__(self, dim, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        return self.net(x)


class Rows(nn.Module):
    """A norm, a layer and a pair of more, for each depth."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [nn.Linear(6, 6), FeedForward(6, 8), nn.ModuleList([nn.Linear(6, 6), nn.Tanh()])]
            )
            for _ in range(3)
        )

    def forward(self, x):
        for mix, ff, (gate, act) in self.layers:
            x = mix(x) + x
            x = ff(x) + x * act(gate(x))
        return x


def test_rows_are_taken_apart_by_the_names_of_the_loop():
    """One list for each place in a row."""
    source = translated(Rows(), torch.randn(2, 5, 6))
    assert (
        "self.mixes" not in source and "self.mixs = [layers.Dense(6) for _ in range(3)]" in source
    )
    assert "for mix, ff, gate in zip(self.mixs, self.ffs, self.gates):" in source


class Halves(nn.Module):
    """Down and up again, under the same names."""

    def __init__(self):
        super().__init__()
        rows = [[nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)]) for _ in range(2)] for _ in "ab"]
        self.downs, self.ups = nn.ModuleList(rows[0]), nn.ModuleList(rows[1])

    def forward(self, x):
        for fc, norm in self.downs:
            x = norm(fc(x))
        for fc, norm in self.ups:
            x = norm(fc(x)) + 1
        return x


def test_two_lists_with_the_same_names_are_told_apart():
    """By the lists' own."""
    source = translated(Halves(), torch.randn(2, 5, 4))
    assert "for down_fc, down_norm in zip(self.down_fcs, self.down_norms):" in source
    assert "for up_fc, up_norm in zip(self.up_fcs, self.up_norms):" in source


class Stages(nn.Module):
    """Rows of equal blocks, run through one by one."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(FeedForward(4, 5) for _ in range(depth)) for depth in (2, 2)
        )

    def forward(self, x):
        for stage in self.stages:
            for block in stage:
                x = x + block(x)
        return x


def test_rows_that_are_run_through_stay_rows():
    """A list for each stage."""
    source = translated(Stages(), torch.randn(2, 5, 4))
    assert "self.stages_0 = [FeedForward() for _ in range(2)]" in source
    assert "for block in self.stages_1:" in source


class Dicts(nn.Module):
    """Rows with names; one statement in the loop."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"conv": nn.Conv1d(4, 4, 5, 2, 2), "norm": nn.BatchNorm1d(4)})
            for _ in range(3)
        )

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(block["norm"](block["conv"](x)))
        return x


def test_rows_with_names_and_the_padding_beside_them():
    """Each column is called after its list and its name."""
    source = translated(Dicts(), torch.randn(2, 4, 17))
    assert "self.block_conv_pads = [layers.ZeroPadding1D(2) for _ in range(3)]" in source
    assert "x = ops.relu(block_norm(block_conv(block_conv_pad(x))))" in source


def halves(x):
    """Sum the features two by two."""
    return x.unflatten(-1, (2, 2)).sum(-1)


class OneStatement(nn.Module):
    """The loop of every MLP."""

    def __init__(self):
        super().__init__()
        self.fcs = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(4) for _ in range(3))

    def forward(self, x):
        for fc, norm in zip(self.fcs, self.norms, strict=True):
            x = torch.relu(norm(fc(x)))
        q, k, v = map(halves, (x, x + 1, x * 2))
        return q * k + v


def test_a_loop_of_one_statement_stays_a_loop():
    """Each turn sets the variable; its layers come in the order of the author's lists."""
    source = translated(OneStatement(), torch.randn(3, 4))
    assert (
        "for fc, norm in zip(self.fcs, self.norms):\n            x = ops.relu(norm(fc(x)))"
        in source
    )


def test_a_tuple_from_map_names_its_parts():
    """``q, k, v = map(…)``."""
    source = translated(OneStatement(), torch.randn(3, 4))
    assert all(f"        {name} = ops." in source for name in "qkv")
