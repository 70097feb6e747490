"""Parts of a lowered graph that are layers of ``torch.nn``: found by what they compute, not by their names."""

from __future__ import annotations

from diglot.frontends.tensorflow.lowering import Lowered
from diglot.frontends.tensorflow.recognise import (
    activation,
    attention,
    convolution,
    dropout,
    embedding,
    linear,
    normalisation,
)
from diglot.frontends.tensorflow.recognise.finder import Finder


def run(lowered: Lowered) -> None:
    """Replace what is recognised by nodes of op ``Layer`` (or of one op of the table), in place."""
    for step in (
        dropout.find,
        embedding.find,
        convolution.find,
        linear.find,
        normalisation.find,
        activation.find,
        attention.find,
    ):
        step(Finder(lowered))
