"""The studies of the zoo: ways to do one thing, compared."""

import json

import numpy as np
import pytest
from marking import swept

from diglot.zoo import STUDIES, Options, find_exhibit
from diglot.zoo.static_graph import lazy_graph
from diglot.zoo.static_graph.picture import levels


@pytest.fixture(scope="session")
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
    "name",
    swept(
        [pytest.param(n, marks=pytest.mark.xdist_group(f"zoo-{n}")) for n in STUDIES],
        {"static-graph", "training-steps"},
    ),
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


@pytest.mark.sweep
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


@pytest.mark.sweep
@pytest.mark.xdist_group("zoo-static-graph")
def test_seven_ways_give_the_same_numbers(ran):
    result, folder = ran("static-graph")
    ran_ways = [row for row in result["ways"] if "missing" not in row]
    assert len(ran_ways) >= 6
    for row in ran_ways:
        assert row["small"] == 14.0
        assert row["gap"] == 0.0
        assert row["large_seconds"] > 0
    graphs = [row["graph"] for row in ran_ways if row["graph"]]
    assert all(len(graph) >= 5 for graph in graphs)
    assert (folder / "graphs.svg").stat().st_size > 5000


def test_a_constant_needs_its_case_in_the_evaluator():
    compute, graph = lazy_graph.build()
    assert compute(3, 4) == 14
    assert [operation for _, operation, _ in graph].count("constant") == 1
    assert lazy_graph.run(lazy_graph.placeholder("x") + 2, {"x": 5}) == 7
    with pytest.raises(KeyError):
        lazy_graph.run(lazy_graph.placeholder("x"), {})


def test_levels_put_a_node_below_its_inputs():
    graph = [("x", "placeholder", []), ("y", "placeholder", []), ("s", "add", ["x", "y"])]
    assert levels([*graph, ("z", "multiply", ["s", "x"])]) == {"x": 0, "y": 0, "s": 1, "z": 2}
