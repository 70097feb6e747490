"""Arguments of a setting, changed on the command line."""

import pytest

from diglot.errors import BadInput, UsageError
from diglot.training import Recipe
from diglot.zoo import find_exhibit
from diglot.zoo.pair import Options, Setting, read_changes

SETTING = Setting(
    {"width": 8, "rate": 0.5, "softmax": False, "blocks": (2, 2)},
    {"source": "subset", "path": None},
    Recipe(batch_size=4, epochs=2),
)


def test_arguments_change_by_name():
    texts = ["width=16", "rate=0.25", "softmax=true", "blocks=3,4,6,3", "path=a folder", "source=1"]
    changed = SETTING.but(read_changes([*texts, "batch_size=5", "patience=2"]))
    assert changed.model == {"width": 16, "rate": 0.25, "softmax": True, "blocks": [3, 4, 6, 3]}
    assert changed.data == {"source": "1", "path": "a folder"}
    assert changed.recipe == Recipe(batch_size=5, epochs=2, patience=2)
    assert SETTING.model["width"] == 8


@pytest.mark.parametrize(
    "text", ["width=wide", "width=1.5", "width=true", "softmax=1", "blocks=a,b", "rate="]
)
def test_another_kind_of_value_is_refused(text):
    with pytest.raises(UsageError, match="cannot be"):
        SETTING.but(read_changes([text]))


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="no argument 'depth'") as found:
        SETTING.but({"depth": "3"})
    assert "softmax" in str(found.value)
    with pytest.raises(UsageError, match="sets nothing"):
        read_changes(["width"])
    with pytest.raises(BadInput, match="at least one epoch"):
        SETTING.but({"epochs": "0"})


@pytest.mark.parametrize("given", [{"epochs": 0}, {"changes": {"width": "8"}}])
def test_a_study_has_nothing_to_set(given, tmp_path):
    with pytest.raises(UsageError, match="nothing to set"):
        find_exhibit("static-graph").check(Options("fast", tmp_path, **given))
