"""The command line: arguments, exit codes, JSON and messages. Models are stand-ins here.

tests/real runs it on real ones.
"""

import contextlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import diglot
from diglot import cli, runtime, workflow
from diglot.errors import BadInput, Problem, Unsupported

NET = """
import torch
from torch import nn

def make():
    print("a line on stdout")
    return nn.Linear(4, 3), torch.ones(2, 4)
"""


class StandInProof:
    def __init__(self, verdict):
        self.verdict = verdict

    def to_json(self):
        first = {"module": "fc", "file": "net.py", "line": 3, "likely_cause": "a transposed weight"}
        return json.dumps(
            {
                "verdict": self.verdict,
                "first_divergence": first if self.verdict == "differs" else None,
                "checks": [{"kind": "outputs", "dtype": "float64", "worst": 1e-15}],
            }
        )


class StandInTranslation:
    def __init__(self):
        self.info = {"created_by": "diglot 0.1.0", "name": "Net", "source": {}}

    def save(self, directory):
        directory = Path(directory)
        directory.mkdir(exist_ok=True)
        (directory / "model.py").write_text("import keras\n")
        (directory / "translation.json").write_text(json.dumps(self.info))
        (directory / "weight_map.json").write_text('{"entries": [], "unmapped": []}')


@pytest.fixture
def core(monkeypatch, tmp_path):
    """diglot.translate, prove and load as stand-ins; the verdict can be set."""
    settings = {"verdict": "proven", "error": None, "seen": {}}

    def translate(model, example_inputs, **options):
        if settings["error"]:
            raise settings["error"]
        settings["seen"] = options
        return StandInTranslation()

    def prove(translation, progress=None, **options):
        settings["seen"] |= options
        if progress:
            progress("outputs")
        return StandInProof(settings["verdict"])

    monkeypatch.setattr(runtime, "start_worker", lambda: contextlib.ExitStack())
    monkeypatch.setattr(diglot, "translate", translate, raising=False)
    monkeypatch.setattr(diglot, "prove", prove, raising=False)
    monkeypatch.setattr(diglot, "load", lambda directory: StandInTranslation(), raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_net.py").write_text(NET)
    yield settings
    sys.modules.pop("cli_net", None)


def outcome(capsys, *arguments):
    """(exit code, stdout, stderr) of one command line."""
    code = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def test_translate_writes_proves_and_tells(core, capsys, tmp_path):
    code, _, err = outcome(capsys, "translate", "cli_net.py:make", "-o", "out")
    assert code == 0
    assert "PROVEN" in err and "diglot show out" in err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.py", "proof.json", "pages.html", "translation.json"} <= names
    assert "NOT-PROVEN.txt" not in names
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_json_is_one_object_whatever_the_model_file_prints(core, capsys):
    code, out, err = outcome(capsys, "translate", "cli_net.py:make", "-o", "out", "--json")
    result = json.loads(out)
    assert code == result["exit_code"] == 0
    assert result["verdict"] == "proven" and result["proof"]["verdict"] == "proven"
    assert "model.py" in result["files"] and result["timings"]
    assert "a line on stdout" in err


def test_options_reach_the_library(core, capsys):
    arguments = ["--style", "functional", "--io-layout", "same", "--input", "float32[batch,4]"]
    code, *_ = outcome(capsys, "translate", "cli_net.py:make", "-o", "out", *arguments)
    assert code == 0
    seen = core["seen"]
    assert (seen["style"], seen["io_layout"], seen["to"]) == ("functional", "same", "keras")
    assert seen["dynamic"] == {"0": {0: "batch"}}


@pytest.mark.parametrize("verdict", ["differs", "unproven"])
def test_what_does_not_prove_is_kept_marked_and_exits_1(core, capsys, tmp_path, verdict):
    core["verdict"] = verdict
    code, _, err = outcome(capsys, "translate", "cli_net.py:make", "-o", "out")
    assert code == 1
    assert verdict.upper() in err and "NOT-PROVEN.txt" in err
    mark = (tmp_path / "out" / "NOT-PROVEN.txt").read_text()
    assert verdict in mark
    if verdict == "differs":
        assert "net.py:3" in mark and "a transposed weight" in err


def test_unsupported_lists_everything_exits_3_and_writes_nothing(core, capsys, tmp_path):
    core["error"] = Unsupported([Problem(f"aten.op{i}", f"n.py:{i}", "m", "") for i in (1, 2)])
    code, _, err = outcome(capsys, "translate", "cli_net.py:make", "-o", "out")
    assert code == 3
    assert all(text in err for text in ("aten.op1", "n.py:1", "aten.op2", "n.py:2"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["cli_net.py"]
    code, out, _ = outcome(capsys, "translate", "cli_net.py:make", "-o", "out", "--json")
    assert code == 3
    assert [p["where"] for p in json.loads(out)["error"]["problems"]] == ["n.py:1", "n.py:2"]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BadInput("One sentence.", hint="do that"), 2, "do that"),
        (ZeroDivisionError("odd"), 2, "DIGLOT_DEBUG=1"),
        (OSError(28, "No space left on device"), 2, "disk is full"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_an_error_is_one_message_and_nothing_is_left(core, capsys, tmp_path, error, code, told):
    core["error"] = error
    got, _, err = outcome(capsys, "translate", "cli_net.py:make", "-o", "out")
    assert got == code
    assert told in " ".join(err.split())
    got, out, _ = outcome(capsys, "translate", "cli_net.py:make", "-o", "out", "--json")
    assert got == json.loads(out)["exit_code"] == code
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["cli_net.py"]


def test_debugging_shows_the_traceback(core, capsys, monkeypatch):
    monkeypatch.setenv("DIGLOT_DEBUG", "1")
    core["error"] = ZeroDivisionError("odd")
    assert cli.run(["translate", "cli_net.py:make", "-o", "out"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["translate"],
        ["translate", "cli_net.py:make"],
        ["translate", "cli_net.py:make", "-o", "out", "--style", "baroque"],
        ["translate", "cli_net.py:make", "-o", "out", "--input", "float33[2]"],
        ["translate", "cli_net.py:nothing", "-o", "out"],
        ["translate", "cli_net.py:make", "-o", "cli_net.py"],
        ["prove", "."],
        ["show", "no-such-folder"],
        ["nonsense"],
        ["prove", "out", "--steps", "-1"],
    ],
)
def test_bad_usage_exits_2_with_a_sentence(core, capsys, arguments):
    code, _, err = outcome(capsys, *arguments)
    assert code == 2 and err.strip()
    code, out, _ = outcome(capsys, *arguments, "--json")
    assert code == 2
    assert json.loads(out)["error"]["message"]


def test_help_exits_0(capsys):
    for arguments in (["--help"], ["translate", "-h"], ["--version"]):
        code, out, _ = outcome(capsys, *arguments)
        assert code == 0 and out


def test_the_package_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["diglot", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("diglot", run_name="__main__")
    assert not stop.value.code and diglot.__version__ in capsys.readouterr().out


def test_prove_rewrites_the_proof_and_the_mark(core, capsys, tmp_path):
    outcome(capsys, "translate", "cli_net.py:make", "-o", "out")
    core["verdict"] = "differs"
    code, out, _ = outcome(capsys, "prove", "out", "--json", "--seed", "5", "--steps", "1")
    assert code == 1 and json.loads(out)["verdict"] == "differs"
    assert (core["seen"]["seed"], core["seen"]["steps"]) == (5, 1)
    assert (tmp_path / "out" / "NOT-PROVEN.txt").exists()
    core["verdict"] = "proven"
    code, *_ = outcome(capsys, "prove", "out")
    assert code == 0
    assert not (tmp_path / "out" / "NOT-PROVEN.txt").exists()


def test_show_prints_the_pages_or_the_source(core, capsys, tmp_path):
    outcome(capsys, "translate", "cli_net.py:make", "-o", "out")
    code, out, _ = outcome(capsys, "show", "out")
    assert code == 0 and out.strip() == str(tmp_path / "out" / "pages.html")
    code, out, _ = outcome(capsys, "show", "out", "--source")
    assert (code, out) == (0, "import keras\n")
    code, out, _ = outcome(capsys, "show", "out", "--json")
    assert code == 0 and json.loads(out)["verdict"] == "proven"


RULES = [
    {
        "op": "aten.gelu.default",
        "torch": "F.gelu",
        "keras": "ops.gelu",
        "note": "tanh",
        "layout": "",
    },
    {"op": "aten.relu.default", "torch": "F.relu", "keras": "ops.relu", "note": "", "layout": ""},
]


def test_rules_are_listed(capsys, monkeypatch):
    monkeypatch.setattr(workflow, "find_rules", lambda text: RULES)
    code, out, _ = outcome(capsys, "rules")
    assert code == 0 and "aten.gelu.default" in out and "ops.relu" in out
    code, out, _ = outcome(capsys, "rules", "gelu", "--json")
    assert json.loads(out)["rules"] == RULES


def test_json_is_one_object_for_what_c_writes_to_stdout_too(tmp_path):
    """At the level of file descriptors, in a process of its own."""
    code = (
        "import os\nfrom diglot.cli_output import only_json\n"
        "with only_json(True) as emit:\n"
        "    os.write(1, b'noise'); print('noise'); emit({'a': 1})\n"
    )
    source = str(Path(cli.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"a": 1}
    assert done.stderr.count("noise") == 2
