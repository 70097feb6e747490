"""Invariants of the rules: each has samples and a spelling, speaks of real ops, and notes known false friends."""

import ast
import re
from pathlib import Path

import pytest
import torch

from diglot import carried
from diglot.rules import registry
from diglot.rules.registry import LAYOUTS, Rule, register

RULES = list(registry().values())
#: Ops of the layout pass and of the captured recurrent layers' packed sequences: no sample can call them alone.
INTERNAL = {"diglot.passes.layout.assign.relayout"}


def overload(op: str):
    """The torch overload of a rule's name, or None."""
    space, _, rest = op.partition(".")
    packet, _, name = rest.rpartition(".")
    return getattr(getattr(getattr(torch.ops, space), packet, None), name, None)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.op)
def test_rule(rule):
    """A rule names an op of torch, its spelling, and at least one sample with sizes that tell axes apart."""
    if rule.op in INTERNAL:
        return
    if not rule.op.startswith("diglot."):
        assert overload(rule.op) is not None, "torch has no such op"
    assert rule.torch, "no PyTorch spelling"
    assert rule.layout in LAYOUTS
    assert bool(rule.topic) or not rule.note, "a note needs the false friend's topic"
    if isinstance(rule.keras, str):
        ast.parse(rule.keras, mode="eval")


def documented_topics() -> set[str]:
    """The first column of the false friends' table."""
    text = Path(__file__).with_name("false_friends.txt").read_text(encoding="utf-8")
    return {line.strip() for line in text.splitlines() if line.strip()}


def test_topics_are_known():
    """A note's topic is a row of the list of false friends."""
    known = documented_topics()
    unknown = {rule.topic for rule in RULES if rule.topic} - known
    assert not unknown


def test_samples_meet_their_rule():
    """Only overloads that other ops stand for have no sample of their own."""
    without = {rule.op for rule in RULES if not rule.samples}
    siblings = {rule.op.rpartition(".")[0] for rule in RULES if rule.samples}
    alone = {op for op in without if op.rpartition(".")[0] not in siblings}
    assert alone <= INTERNAL | NO_SAMPLE


#: Always refused, or reached only from inside torch.nn's own modules and Diglot's own passes.
NO_SAMPLE = {
    "aten._pack_padded_sequence.default",
    "aten._upsample_bicubic2d_aa.default",
    "aten._upsample_bicubic2d_aa.vec",
    "aten._upsample_bilinear2d_aa.default",
    "aten._upsample_bilinear2d_aa.vec",
    "aten.embedding_bag.default",
    "aten.embedding_bag.padding_idx",
    "aten.native_channel_shuffle.default",
    "diglot.by_mode.default",  # tests/parity/test_modes.py
    "diglot.always_dropout.default",  # tests/parity/test_modes.py
    "diglot.back_in_place.default",  # tests/passes/test_for_torch.py
    "diglot.counted_first.default",  # tests/passes/test_for_torch.py
    "diglot.reverse_sequence.default",  # tests/passes/test_for_torch.py
    "diglot.normalize.default",  # tests/passes/test_for_torch.py
    "diglot.pad_same.default",  # tests/passes/test_same_padding.py
    "diglot.pool_same.default",  # tests/passes/test_same_padding.py
    "diglot.assign.default",  # tests/real/test_to_torch.py
    "diglot.conv_lstm.default",  # tests/frontends/test_keras_layers.py
    "diglot.masked_batch_norm.default",  # tests/frontends/test_keras_layers.py
    "diglot.recurrent_layer.default",  # tests/frontends/test_keras_layers.py
    "diglot.dense.default",
    "diglot.keras_layer.default",  # tests/real/test_kept_layers.py
    "diglot.last_states.default",  # tests/passes/test_last_states.py
    "diglot.step_mask.default",  # tests/parity/test_packed.py
    "diglot.trim_steps.default",  # tests/parity/test_packed.py
    "diglot.row_dropout.default",  # tests/passes/test_stochastic_depth.py
}


def test_inputs_tell_axes_apart():
    """No float input has the same size twice (a swapped axis would not be seen), save for square matrices."""
    repeated = []
    for rule in RULES:
        for sample in rule.samples:
            for spec in sample.inputs.values():
                sizes = [
                    s for s in re.sub(r"\w+\[|\]|<.*", "", spec).split(",") if s not in ("", "1")
                ]
                if len(set(sizes)) < len(sizes):
                    repeated.append((rule.op, spec))
    assert len({op for op, _ in repeated}) <= 12, repeated


def test_registering_twice_is_an_error():
    """Two families cannot claim one op."""
    with pytest.raises(ValueError, match="registered twice"):
        register("diglot.rules.other", Rule("aten.relu.default", "ops.relu(self)"))


def test_an_unknown_layout_is_an_error():
    """A layout is one of the known words."""
    with pytest.raises(ValueError, match="layout"):
        register("diglot.rules.other", Rule("aten.none.default", "self", layout="sideways"))


@pytest.mark.parametrize("name", carried.names())
def test_carried_code(name):
    """What a generated module carries is documented, imports nothing by itself and does not know Diglot."""
    text = carried.source(name)
    tree = ast.parse(text).body[0]
    assert ast.get_docstring(tree)
    assert "diglot" not in text
    assert not any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.walk(tree))
