"""What is not trained is said once, by the outermost module of which nothing is."""

import keras
import numpy as np
import pytest
import torch
from keras import layers

import diglot


class Unit(layers.Layer):
    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.up = layers.Dense(width, "relu")
        self.norm = layers.LayerNormalization()

    def call(self, x):
        return self.norm(self.up(x))


class Stack(keras.Model):
    def __init__(self):
        super().__init__()
        self.units = [Unit(5) for _ in range(3)]
        self.first, self.second = layers.Dense(5), layers.Dense(5)
        self.head = layers.Dense(2)

    def call(self, x):
        for unit in self.units:
            x = unit(x)
        return self.head(self.second(self.first(x)))


def stack(*frozen):
    model = Stack()
    model(np.ones((2, 5), "float32"))
    for name in frozen:
        owner, _, place = name.partition(".")
        held = getattr(model, owner)
        for layer in held if isinstance(held, list) and not place else [held]:
            (layer[int(place)] if place else layer).trainable = False
    return model


CASES = {
    ("units",): ["self.units.requires_grad_(False)"],
    ("units.0", "units.1"): [
        "self.units[0].requires_grad_(False)",
        "self.units[1].requires_grad_(False)",
    ],
    ("first", "units.2"): [
        "self.units[2].requires_grad_(False)",
        "self.first.requires_grad_(False)",
    ],
    ("units", "first", "second", "head"): ["self.requires_grad_(False)"],
}


@pytest.mark.parametrize("frozen", CASES, ids=" ".join)
def test_a_frozen_part_is_frozen_where_it_is_made(frozen):
    model = stack(*frozen)
    made = diglot.translate(model, np.ones((3, 5), "float32"), to="torch")
    said = [line.strip() for line in made.source.splitlines() if "requires_grad_" in line]
    assert said == CASES[frozen]
    assert made.source.count("class Unit(") == 1
    trained = sum(p.requires_grad for p in made.model.parameters())
    assert trained == len(model.trainable_weights)
    back = diglot.translate(made.model, torch.ones(3, 5))
    assert len(back.model.trainable_weights) == trained
