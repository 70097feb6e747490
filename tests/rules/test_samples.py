"""Every sample of every rule: translated, and in float64 the same outputs and the same gradients.

A family's samples go through the translator in batches, side by side in one model; when a batch fails it is
halved until the sample at fault stands alone.
"""

import pytest
import samples

from diglot.rules import registry

#: One sample with a size that decides something has its whole batch exported twice: small batches are faster.
BATCH = 8


def _always_refused(rule):
    return rule.refuse is not None and rule.topic == "Randomness"


def _batches():
    """Yield batches of cases, family by family."""
    families = {}
    for rule in registry().values():
        if not _always_refused(rule):
            families.setdefault(rule.family, []).append(rule)
    for family, rules in sorted(families.items()):
        found = samples.cases(rules)
        for start in range(0, len(found), BATCH):
            yield pytest.param(found[start : start + BATCH], id=f"{family}-{start // BATCH + 1}")


@pytest.mark.parametrize("batch", _batches())
def test_same_function(batch, tmp_path):
    """Outputs and gradients agree to 1e-9 of the largest value, with float64 on both sides."""
    wrong = samples.run(batch, tmp_path)
    assert not wrong, "\n".join(f"{case}\n    {what}" for case, what in wrong.items())


@pytest.mark.parametrize(
    "rule", [r for r in registry().values() if _always_refused(r)], ids=lambda rule: rule.op
)
def test_refused(rule, tmp_path):
    """What cannot be the same on both sides is refused, with the reason."""
    for case in samples.cases([rule]):
        (what,) = samples.run([case], tmp_path).values()
        assert rule.op in what
        assert "random numbers" in what
