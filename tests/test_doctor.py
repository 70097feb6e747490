"""doctor: what it reports when all is there, and when something is missing."""

import json

import pytest

from diglot import cli, doctor

ANSWERS = {
    "torch": {"version": "2.13.0", "devices": ["NVIDIA H100"]},
    "tensorflow": {"version": "2.21.0", "devices": []},
    "keras": {"version": "3.15.1", "devices": [], "backend": "tensorflow"},
    "torchvision": {"version": "0.28.0", "devices": []},
    "jax": {"version": "0.10.0", "devices": []},
}


@pytest.fixture
def answers(monkeypatch):
    given = dict(ANSWERS)
    monkeypatch.setattr(doctor, "probe", lambda name: given[name])
    return given


def by_name(findings):
    return {check["name"]: check for check in findings["checks"]}


def test_all_is_there(answers):
    findings = doctor.examine()
    checks = by_name(findings)
    assert findings["exit_code"] == 0
    assert checks["torch"]["found"] == "2.13.0, NVIDIA H100"
    assert checks["tensorflow"]["found"] == "2.21.0, CPU only"
    assert checks["keras"]["found"] == "3.15.1, on tensorflow"
    assert "Ready" in findings["summary"]


def test_what_is_needed_and_broken_gives_exit_code_2_and_a_command(answers):
    answers["tensorflow"] = {"error": "ModuleNotFoundError: No module named 'tensorflow'"}
    findings = doctor.examine()
    check = by_name(findings)["tensorflow"]
    assert findings["exit_code"] == 2
    assert check["state"] == "bad" and check["command"] == "pip install -U tensorflow-cpu"
    assert "tensorflow" in findings["summary"]


def test_what_is_optional_is_named_with_its_extra(answers, monkeypatch):
    real = doctor.installed
    optional = ("timm", "jax", "torchvision")
    monkeypatch.setattr(doctor, "installed", lambda n: None if n in optional else real(n))
    findings = doctor.examine()
    checks = by_name(findings)
    assert findings["exit_code"] == 0
    assert checks["timm"]["state"] == "missing"
    assert checks["timm"]["command"] == 'pip install "diglot[timm]"'


def test_a_framework_that_crashes_or_hangs_is_one_line(monkeypatch):
    monkeypatch.setitem(doctor._PROBES, "torch", "raise RuntimeError('no driver')")
    assert doctor.probe("torch")["error"] == "RuntimeError: no driver"
    monkeypatch.setitem(doctor._PROBES, "torch", "import os; os._exit(3)")
    assert "3" in doctor.probe("torch")["error"]
    monkeypatch.setitem(doctor._PROBES, "torch", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.2)
    assert "no answer" in doctor.probe("torch")["error"]


def test_the_command_shows_extras_with_their_brackets(answers, capsys, monkeypatch):
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda n: None if n == "jax" else real(n))
    assert cli.run(["doctor"]) == 0
    assert "diglot[jax]" in capsys.readouterr().out
    assert cli.run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["exit_code"] == 0


def test_a_real_framework_answers():
    answer = doctor.probe("torch")
    assert answer["version"].startswith("2.")
