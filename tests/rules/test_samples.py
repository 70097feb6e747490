"""Every sample of every rule: translated, and in float64 the same outputs and the same gradients.

A family's samples go through the translator in batches, side by side in one model; when a batch fails it is
halved until the sample at fault stands alone.
"""

import pytest
import samples


@pytest.mark.parametrize("batch", samples.batches())
def test_same_function(batch, tmp_path):
    """Outputs and gradients agree to 1e-9 of the largest value, with float64 on both sides."""
    wrong = samples.run(batch, tmp_path)
    assert not wrong, "\n".join(f"{case}\n    {what}" for case, what in wrong.items())


@pytest.mark.parametrize("rule", samples.always_refused(), ids=lambda rule: rule.op)
def test_refused(rule, tmp_path):
    """What cannot be the same on both sides is refused, with the reason."""
    for case in samples.cases([rule]):
        (what,) = samples.run([case], tmp_path).values()
        assert rule.op in what
        assert "random numbers" in what
