"""Loops over lists of layers that capture unrolled are loops again."""

import ast

import numpy as np
import pytest
import torch
from torch import nn

import diglot
from diglot.codegen.reroll import reroll
from diglot.codegen.statements import Statement


class Experts(nn.Module):
    def __init__(self, d=6, n=4):
        super().__init__()
        self.gate = nn.Linear(d, n)
        self.experts = nn.ModuleList([nn.Linear(d, d) for _ in range(n)])

    def forward(self, x):
        weights, chosen = torch.topk(self.gate(x).softmax(-1), 2)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mask = (chosen == number).float()
            out = out + (mask * weights).sum(-1, keepdim=True) * expert(x)
        return out


class Pairs(nn.Module):
    def __init__(self, d=6, n=3):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(d, d) for _ in range(n)])
        self.heads = nn.ModuleList([nn.Linear(d, 2) for _ in range(n)])

    def forward(self, x):
        found = []
        for block, head in zip(self.blocks, self.heads, strict=True):
            x = torch.tanh(block(x))
            found.append(head(x))
        return torch.cat(found, dim=-1)


class Heads(nn.Module):
    def __init__(self, d=6, n=3):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(d, 2) for _ in range(n)])

    def forward(self, x):
        out = torch.cat([h(x) for h in self.heads], dim=-1)
        return out * 2


class Summed(nn.Module):
    def __init__(self, d=6, n=3):
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(d, d) for _ in range(n)])

    def forward(self, x):
        return sum(part(x * (i + 2)) for i, part in enumerate(self.parts))


class Step(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.dense = nn.Linear(d, d)

    def forward(self, x):
        return torch.tanh(self.dense(x))


class Residual(nn.Module):
    """What a loop begins with is read after it."""

    def __init__(self, d=6, n=3):
        super().__init__()
        self.first = nn.Linear(d, d)
        self.steps = nn.ModuleList([Step(d) for _ in range(n)])

    def forward(self, x):
        x = self.first(x)
        low = x
        for step in self.steps:
            x = step(x)
        return x - low


LOOPS = {
    Residual: ["for step in self.steps:", "return x - low"],
    Experts: ["for number, expert in enumerate(self.experts):", "ops.equal(chosen, number)"],
    Pairs: ["for block, head in zip(self.blocks, self.heads):", "outputs.append(head(x))"],
    Heads: ["out = ops.concatenate([h(x) for h in self.heads], axis=-1)"],
    Summed: ["sum([part(x * (i + 2)) for i, part in enumerate(self.parts)])"],
}


@pytest.mark.parametrize("cls", LOOPS)
def test_a_loop_is_a_loop_and_computes_the_same(cls):
    model, x = cls().eval(), torch.randn(5, 6)
    translated = diglot.translate(model, x)
    for line in LOOPS[cls]:
        assert line in translated.source
    assert "[0]" not in translated.source
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(np.asarray(translated.model(x.numpy())), expected, atol=1e-5)


def rolled(text, lists):
    body = [Statement(n) for n in ast.parse(text).body]
    inits = [
        (n, ast.parse(f"[f() for _ in range({k})]", mode="eval").body) for n, k in lists.items()
    ]
    made = reroll(body, inits, ["x"])
    return "\n".join(ast.unparse(ast.fix_missing_locations(s.node)) for s in made)


@pytest.mark.parametrize(
    "text",
    [
        "x = self.a[0](x)\ny = self.a[1](x)",  # other names
        "x = self.a[0](x) + 1\nx = self.a[1](x) + 5",  # no progression
        "x = self.a[0](x, self.a[1])\nx = self.a[1](x, self.a[2])",  # two places of one list
        "x = x[0] + x\nx = x[1] + x",  # no list of layers
        "out = self.a[0](x)\nx = f(x)\nout = g([out, self.a[1](x)])",  # x changes in between
    ],
)
def test_what_is_no_loop_stays(text):
    assert rolled(text, {"a": 3}) == text


def test_part_of_a_list_is_a_slice_and_numbers_count_on():
    text = "x = self.a[1](x, 3)\nx = self.a[2](x, 5)\nx = self.a[3](x, 7)"
    wanted = "for i, layer in enumerate(self.a[1:4]):\n    x = layer(x, 2 * i + 3)"
    assert rolled(text, {"a": 5}) == wanted
