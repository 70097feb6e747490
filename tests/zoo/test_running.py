"""`diglot zoo run` from end to end, on the smallest pair."""

import json
import re
import xml.etree.ElementTree as ET

import pytest
from PIL import Image

from diglot.cli import run
from diglot.zoo import proving
from diglot.zoo.proving import prove_pair

pytestmark = [pytest.mark.xdist_group("zoo-mnist-mlp"), pytest.mark.usefixtures("lent")]

COMMAND = ["zoo", "run", "mnist-mlp", "--epochs", "1", "--faithful", "--json", "-o"]


def test_a_run_leaves_figures_curves_and_a_page(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    proofs = []  # one serves both commands

    def prove_once(*arguments):
        proofs[:] = proofs or [prove_pair(*arguments)]
        return proofs[0]

    monkeypatch.setattr(proving, "prove_pair", prove_once)
    assert run([*COMMAND, str(folder)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads((folder / "result.json").read_text())
    assert said["proof"]["verdict"] == "proven"
    assert said["same_path"]["agrees"]
    assert 0 < said["same_path"]["gap"] <= 1e-6
    runs = said["runs"]
    assert set(runs) == {"torch", "keras", "torch-faithful", "keras-faithful"}
    assert {run["parameters"] for run in runs.values()} == {103_270}
    # A softmax of a softmax: the loss stays high, and PyTorch says nothing.
    assert runs["torch-faithful"]["history"]["losses"][-1] > 1.46
    assert runs["torch"]["history"]["losses"][-1] < 0.8
    assert runs["torch"]["test"]["accuracy"] > runs["torch-faithful"]["test"]["accuracy"]
    assert abs(runs["torch"]["test"]["accuracy"] - runs["keras"]["test"]["accuracy"]) < 0.02
    assert said["translation"]["lines"] <= 1.3 * said["translation"]["by_hand"]

    assert ET.parse(folder / "curves.svg").getroot().tag.endswith("svg")
    with Image.open(folder / "curves.png") as picture:
        assert picture.size[0] > 1000
    page = (folder / "page.html").read_text()
    assert "proven" in page
    assert "class MLP(nn.Module)" in _text(page)
    assert list((folder / "torch" / "tensorboard").glob("events*"))
    assert list((folder / "keras" / "tensorboard").glob("events*"))

    # The same command again has nothing left to train, and says the same.
    assert run([*COMMAND, str(folder)]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["runs"]["torch"]["resumed_at"] == again["runs"]["torch"]["steps"]
    assert again["runs"]["keras"]["history"] == runs["keras"]["history"]
    assert again["runs"]["keras"]["test"] == runs["keras"]["test"]


def _text(page: str) -> str:
    return re.sub(r"<[^>]+>", "", page)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist-mlpp"], "no 'mnist-mlpp'"),
        (["mnist-mlp", "--epochs", "0"], "at least one epoch"),
        (["training-steps", "--faithful"], "nothing for --faithful"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(arguments, said, tmp_path, capsys):
    assert run(["zoo", "run", *arguments, "-o", str(tmp_path / "run")]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert said in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()
