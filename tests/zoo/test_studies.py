"""The studies of the zoo: ways to do one thing, compared."""

import json

import numpy as np
import pytest

from diglot.zoo import STUDIES, Options, find_exhibit


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Run a study once; gives its result and its folder."""
    done = {}

    def run(name):
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            options = Options("fast", folder)
            done[name] = find_exhibit(name).run(options, lambda who, event: None), folder
        return done[name]

    return run


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.xdist_group(f"zoo-{n}")) for n in STUDIES]
)
def test_a_study_agrees_and_leaves_a_page(name, ran):
    study = find_exhibit(name)
    result, folder = ran(name)
    assert result["exit_code"] == 0
    assert json.loads((folder / "result.json").read_text()) == json.loads(json.dumps(result))
    page = (folder / "page.html").read_text()
    assert study.title in page
    assert (study.folder / "README.md").read_text().startswith(f"# {study.title}")
    study.view(result)


@pytest.mark.xdist_group("zoo-training-steps")
def test_five_ways_take_the_same_steps(ran):
    result, _ = ran("training-steps")
    assert len(result["ways"]) == 5
    for row in result["ways"]:
        assert row["weight_gap"] <= 1e-9, row
        assert row["loss_gap"] <= 1e-9, row
        assert row["moved"] > 1e-3
    start = find_exhibit("training-steps").arrays(20, 0)
    assert all(array.dtype == np.float64 for array in start.values())
