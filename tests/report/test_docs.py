"""The generated pages of docs/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diglot.report import docs


@dataclass
class FakeRule:
    op: str
    keras: object = ""
    torch: str = ""
    layer: object = None
    topic: str = ""
    note: str = ""
    family: str = "math"


RULES = {
    rule.op: rule
    for rule in (
        FakeRule("aten.relu.default", "ops.relu(self)", "F.relu(x)", family="activations"),
        FakeRule("aten.__or__.Tensor", "self | other", "a | b"),
        FakeRule("aten.gelu.default", lambda call: call, "F.gelu(x)", None, "GELU",
                 "Keras defaults\n    to tanh.", "activations"),
    )
}  # fmt: skip


def test_coverage_lists_every_op_by_family():
    text = docs.coverage(RULES)
    assert text.index("## Activations") < text.index("## Math")
    assert all(op in text for op in RULES)
    assert r"`a \| b`" in text  # a bar would end the table's cell
    assert "<function" not in text


def test_false_friends_name_their_tests(tmp_path):
    folder = tmp_path / "tests"
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "test_a.py").write_text(
        'def test_tanh():\n    pins("GELU")\n\n\ndef test_other():\n    """GELU."""\n'
    )
    text = docs.false_friends(RULES, folder)
    assert "## GELU\n\nKeras defaults to tanh.\n" in text
    assert "Pinned by: `tests/rules/test_a.py::test_tanh`\n" in text
    assert "test_other" not in text


def test_check_notices_what_is_stale(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("diglot.rules.registry", lambda: RULES)
    assert docs.main(["--root", str(tmp_path), "--check"]) == 1
    assert "coverage.md is out of date" in capsys.readouterr().err
    assert docs.main(["--root", str(tmp_path)]) == 0
    assert docs.main(["--root", str(tmp_path), "--check"]) == 0
    (tmp_path / "docs" / "coverage.md").write_text("old")
    assert [path.name for path in docs.stale(tmp_path)] == ["coverage.md"]


def test_the_committed_pages_are_up_to_date():
    root = Path(__file__).parents[2]
    assert docs.stale(root) == [], "run: python -m diglot.report.docs"
