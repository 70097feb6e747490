"""The guide: the document's twelve tasks, and reasons that cite what is measured."""

import json

import pytest

from diglot import cli
from diglot.benchmark.claims import IDS
from diglot.benchmark.figures import FIGURES
from diglot.benchmark.guide import BOTH, DECODER, ENCODER, SECTIONS, TASKS, find_advice, guide_page

CITED = {*IDS, "score", *(figure.name for figure in FIGURES)}


def test_it_covers_the_twelve_tasks():
    assert [a.take for a in TASKS] == [ENCODER] * 4 + [DECODER] * 4 + [BOTH] * 4
    assert len({a.want for a in TASKS}) == 12


@pytest.mark.parametrize("title", list(SECTIONS))
def test_every_reason_cites_what_is_measured(title):
    for advice in SECTIONS[title]:
        assert advice.reason.endswith(".")
        assert advice.cites
        assert set(advice.cites) <= CITED, advice


def test_it_is_asked_for_one_task(capsys):
    assert cli.run(["guide", "summaris", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["guide"]
    ((advice,),) = found.values()
    assert advice["take"] == BOTH
    assert cli.run(["guide"]) == 0
    shown = capsys.readouterr().out
    assert "chat" in shown
    assert cli.run(["guide", "knitting"]) == 2
    assert "text classification" in capsys.readouterr().err


def test_the_page_holds_everything():
    page = guide_page()
    assert all(advice.want in page for advice in sum(find_advice(None).values(), ()))
