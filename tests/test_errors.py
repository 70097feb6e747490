"""Errors: what they print, what they carry, and their exit codes."""

import json

import pytest

from diglot import errors
from diglot.errors import BadInput, DiglotError, MissingExtra, Problem, Unsupported, UsageError

PROBLEMS = [
    Problem("aten.linalg_svdvals.default", "net.py:7", "", "compute it outside the model"),
    Problem("aten.fft_rfft.default", "net.py:9", "encoder.layer.0", ""),
]


def test_text_holds_every_field_that_is_set_and_no_other():
    error = BadInput("No.", expected="a", received="b", where="net.py:3", hint="do c")
    assert str(error).splitlines() == [
        "No.",
        "  where: net.py:3",
        "  expected: a",
        "  received: b",
        "  what to do: do c",
    ]
    assert str(BadInput("No.")) == "No."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DiglotError("x"), 2),
        (UsageError("x"), 2),
        (BadInput("x"), 2),
        (errors.DataDependent("x"), 2),
        (MissingExtra("timm", "timm", needed_for="timm:x"), 2),
        (Unsupported(PROBLEMS), 3),
    ],
)
def test_exit_codes(error, code):
    assert error.exit_code == code
    assert json.dumps(error.to_dict())


def test_unsupported_lists_all_of_them_each_once():
    error = Unsupported([*PROBLEMS, PROBLEMS[0]])
    assert error.problems == PROBLEMS
    lines = str(error).splitlines()
    assert lines[0].startswith("2 things") and len(lines) == 3
    assert "net.py:7: aten.linalg_svdvals.default: compute it outside the model" in lines[1]
    assert "net.py:9: aten.fft_rfft.default in encoder.layer.0" in lines[2]
    assert [p["op"] for p in error.to_dict()["problems"]] == [p.op for p in PROBLEMS]


def test_missing_extra_names_the_command():
    assert 'pip install "diglot[hf]"' in str(MissingExtra("transformers", "hf", needed_for="hf:x"))
    assert "pip install thing" in str(MissingExtra("thing", needed_for="The demo"))


def test_the_same_line_of_many_modules_is_one_thing():
    problems = [Problem("aten.fft", "net.py:7", f"layer.{i}", "") for i in range(6)]
    error = Unsupported(problems)
    assert len(error.problems) == 6
    assert str(error).splitlines()[0].startswith("1 thing ")
    assert "layer.0 (and in 5 more modules)" in str(error)
