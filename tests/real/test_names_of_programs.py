"""Functional programs and sequences that came from PyTorch have their names there again."""

import importlib

import pytest
import there_and_back
import torch
from torch import nn


def assert_nothing_is_lost(model, inputs, style="layers"):
    back = there_and_back.to_keras_and_back(model, inputs, style)
    assert not there_and_back.state_differences(model, back.model)
    ours, theirs = (there_and_back.outputs(m, inputs) for m in (model, back.model))
    assert there_and_back.largest_gap(ours, theirs) < 1e-9
    return back


FUNCTIONAL = [
    ("resnet.make", "self.layer2 = nn.Sequential("),
    ("extras.make_tuple_output", "self.units = nn.ModuleList("),
    ("extras.make_functional_style", 'self.register_buffer("threshold", '),
    ("extras_vision.make_patches", "self.cls_token = nn.Parameter("),
]


@pytest.mark.parametrize(("name", "held"), FUNCTIONAL)
def test_a_functional_program_goes_back_to_the_names_of_its_source(name, held):
    module, _, function = name.rpartition(".")
    model, inputs = getattr(importlib.import_module(module), function)()
    assert held in assert_nothing_is_lost(model, inputs, "functional").source


SEQUENCES = {
    "a function": [nn.Embedding(9, 4), nn.Dropout(0.1), nn.Linear(4, 2), nn.LogSoftmax(-1)],
    "registered": [nn.Embedding(9, 4), nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2)],
    "nested": [nn.Sequential(nn.Embedding(9, 4), nn.Tanh()), nn.Sequential(nn.Linear(4, 2))],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_sequence_that_is_the_whole_model_keeps_its_numbers(name):
    model, ids = nn.Sequential(*SEQUENCES[name]).eval(), torch.randint(0, 9, (3, 5))
    assert "model = nn.Sequential(" in assert_nothing_is_lost(model, ids).source
