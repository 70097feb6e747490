"""Rules that write sizes into the program hold for sizes that the translator never saw."""

import pytest
import samples

from diglot.rules import registry

FAMILIES = ("arranging", "creation", "indexing", "shape")


def _rules():
    for rule in registry().values():
        if rule.family in FAMILIES and rule.samples and rule.topic != "Randomness":
            yield pytest.param(rule, id=rule.op)


@pytest.mark.parametrize("rule", _rules())
def test_larger_sizes(rule, tmp_path):
    """Outputs and gradients agree where batch and length are larger than in the example."""
    for case in samples.cases([rule]):
        if not case.convolutional:
            wrong = samples.run_larger(case, tmp_path)
            assert wrong is None, wrong
