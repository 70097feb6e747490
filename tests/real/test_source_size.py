"""Generated source is at most 1.3 times as long as a careful hand-written twin."""

import re
from pathlib import Path

import pytest
from real_models import translated

from diglot.zoo.source import code_lines

TWINS = Path(__file__).parents[1] / "golden" / "twins"


def without_class(source, name):
    """`source` without the top-level class `name` and its decorator."""
    kept, count = re.subn(
        rf"^@.*\nclass {name}\b(?:.*\n)(?:(?:[ \t].*)?\n)*", "", source, flags=re.M
    )
    assert count == 1
    return kept


@pytest.mark.parametrize(
    ("module", "factory", "unused"),
    [
        pytest.param("mnist_mlp", "make", None, marks=pytest.mark.xdist_group("mnist")),
        pytest.param("unet", "make", None, marks=pytest.mark.xdist_group("unet")),
        pytest.param(
            "teaching_transformer",
            "make",
            None,
            marks=pytest.mark.xdist_group("teaching_transformer"),
        ),
        # The twin holds both kinds of block; a translation holds the one that its model uses.
        pytest.param("resnet", "make", "Bottleneck", marks=pytest.mark.xdist_group("resnet")),
        pytest.param(
            "resnet", "make_bottleneck", "BasicBlock", marks=pytest.mark.xdist_group("resnet")
        ),
    ],
)
def test_it_is_hardly_longer_than_by_hand(module, factory, unused):
    twin = (TWINS / f"{module}.py").read_text()
    by_hand = code_lines(without_class(twin, unused) if unused else twin)
    ours = code_lines(translated(module, factory).translation.source)
    assert ours <= 1.3 * by_hand, f"{ours} lines, by hand {by_hand}"


def test_lines_of_code_are_what_they_seem():
    source = (
        '"""Doc."""\n\nimport x\n\n\n@d\nclass A:\n    """One.\n\n    Two."""\n\n'
        "    # no\n    a = 1\n\n\nb = 2\n"
    )
    assert code_lines(source) == 5
    assert code_lines(without_class(source, "A")) == 2
