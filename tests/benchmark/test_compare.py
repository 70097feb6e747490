"""Comparing the pairs: measurements in processes of their own, kept, and what is made of them."""

import copy
import json
import math

import pytest

from diglot import cli
from diglot.benchmark import compare
from diglot.benchmark.compare import Comparer, Plan, score_name
from diglot.benchmark.compare_view import compare_view, rows, tables, write_pages
from diglot.benchmark.figures import FIGURES, compared, ratio_text
from diglot.benchmark.kept import Kept
from diglot.benchmark.timing import time_calls
from diglot.errors import WorkerFailed
from diglot.zoo import find_pair
from diglot.zoo.pair import Setting


@pytest.fixture(scope="session")
def pair():
    """The smallest pair, in so few steps that it takes a moment."""

    short = copy.copy(find_pair("mnist-mlp"))
    found = short.setting("fast")
    recipe = found.recipe.but(batch_size=3000, epochs=3)
    short.settings = {"fast": Setting(found.model, found.data, recipe)}
    return short


@pytest.fixture(scope="session")
def compared_once(pair, tmp_path_factory):
    """(result, folder, titles of what was measured)."""
    folder = tmp_path_factory.mktemp("compare")
    heard = []
    plan = Plan(repeats=1, seconds=0.0)
    comparer = Comparer([pair], plan, folder, lambda who, event: heard.append((who, event["kind"])))
    return comparer.run(), folder, [who for who, kind in heard if kind == "stage"]


pytestmark = pytest.mark.xdist_group("compare")


def test_every_figure_is_measured_in_both(compared_once):
    result, folder, heard = compared_once
    assert result["exit_code"] == 0
    assert len(heard) == 4
    (found,) = result["pairs"]
    assert found["parameters"] == {"torch": 103_270, "keras": 103_270}
    assert found["lines"]["torch"] > 10
    for figure in FIGURES:
        values = found["figures"][figure.name]
        if "predict" in figure.name or "xla" in figure.name:
            assert values["torch"]["median"] is None
            assert "ratio" not in values
        elif "torch compiled" not in found["missing"] or "compiled" not in figure.name:
            assert values["torch"]["median"] > 0, figure.name
            ratio = values["keras"]["median"] / values["torch"]["median"]
            assert math.isclose(values["ratio"]["median"], ratio)
        assert values["keras"]["median"] > 0, figure.name
    assert 0 < found["figures"]["score"]["torch"]["median"] < 1
    assert json.loads((folder / "compare.json").read_text()) == json.loads(json.dumps(result))
    assert not list((folder / "work").rglob("checkpoint*"))


def test_what_was_measured_is_kept_and_one_lost_measurement_is_made_again(compared_once, pair):
    result, folder, _ = compared_once
    plan = Plan(repeats=1, seconds=0.0)
    heard = []
    again = Comparer([pair], plan, folder, lambda who, event: heard.append(who)).run()
    assert heard == []
    assert again == result
    next((folder / "measurements").glob("*torch-0-training.json")).unlink()
    Comparer([pair], plan, folder, lambda who, event: heard.append(who)).run()
    assert "training" in heard[0]
    assert not any("inference" in who for who in heard)


def test_a_comparison_is_a_page_with_pictures(compared_once, tmp_path):
    result, _, _ = compared_once
    page = write_pages(result, tmp_path).read_text()
    assert "time to first step" in page
    assert page.count("<svg") == 2
    assert {path.suffix for path in tmp_path.glob("ratios.*")} == {".svg", ".png"}
    compare_view(result)
    assert all(len(row) == 4 for row in rows(result["pairs"][0]))


def test_a_pair_that_cannot_be_measured_says_why(pair, tmp_path, monkeypatch):
    def fails(*arguments, **options):
        raise WorkerFailed("The worker process ended by signal SIGKILL.")

    monkeypatch.setattr(compare, "TrainingProcess", fails)
    result = Comparer([pair], Plan(repeats=1), tmp_path, lambda who, event: None).run()
    assert result["exit_code"] == 1
    assert "SIGKILL" in tables(result)[0][3][0]
    assert "SIGKILL" in write_pages(result, tmp_path).read_text()
    assert not (tmp_path / "measurements").exists()


def test_ratios_are_of_medians_with_their_spread():
    found = compared([1.0, 2.0, 4.0], [3.0, 4.0, 4.0])
    assert found["ratio"] == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert ratio_text(found) == "2.00 (1.00–3.00)"
    one_sided = compared([None], [3.0])
    assert one_sided["torch"]["median"] is None
    assert ratio_text(one_sided) == "–"


def test_a_kept_result_is_of_one_identity(tmp_path):
    kept = Kept(tmp_path)
    assert kept.measure("a", {"seed": 0}, lambda: {"x": 1}) == {"x": 1}
    assert kept.measure("a", {"seed": 0}, lambda: {"x": 2}) == {"x": 1}
    assert kept.measure("a", {"seed": 1}, lambda: {"x": 3}) == {"x": 3}
    (tmp_path / "a.json").write_text("{half")
    assert kept.get("a", {"seed": 1}) is None


def test_a_call_is_timed_apart_from_the_first():
    calls = []
    found = time_calls(lambda: calls.append(1), 0.0)
    assert found["calls"] == 5
    assert len(calls) == 9
    assert found["first_seconds"] > 0


def test_the_score_is_that_of_the_goal(pair):
    assert score_name(pair, {"loss": 1.0, "precision": 0.5, "accuracy": 0.9}) == "accuracy"
    with pytest.raises(WorkerFailed):
        score_name(pair, {})


def test_a_wrong_name_or_count_is_one_sentence(capsys):
    assert cli.run(["zoo", "compare", "no-such-pair"]) == 2
    assert "The zoo has no 'no-such-pair'" in capsys.readouterr().err
    assert cli.run(["zoo", "compare", "--repeats", "0"]) == 2
    assert cli.run(["zoo", "compare", "static-graph"]) == 2
