"""What an import loads: no framework before it is needed. Counted in modules, not in seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
HEAVY = ("torch", "tensorflow", "keras", "jax", "transformers", "timm", "h5py", "safetensors")


def loaded_by(statement):
    """Which heavy packages a fresh Python has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*[n for n in {HEAVY!r} if n in sys.modules], sep=',')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [name for name in done.stdout.strip().split(",") if name]


@pytest.mark.parametrize(
    "statement",
    [
        "import diglot",
        "import diglot; diglot.__version__; dir(diglot)",
        "import diglot.cli",
        "from diglot.rules import registry; assert registry()",
        "import diglot.runtime",
        "import diglot.report.pages",
        "import diglot.workflow, diglot.sources, diglot.inputs, diglot.pretrained, diglot.archive",
    ],
)
def test_import_loads_no_framework(statement):
    assert loaded_by(statement) == []


@pytest.mark.parametrize("arguments", [["--help"], ["translate", "--help"], ["--version"]])
def test_help_loads_no_framework(arguments):
    assert (
        loaded_by(
            f"from diglot.cli import run; sys.stdout = sys.stderr; run({arguments!r})"
            "; sys.stdout = sys.__stdout__"
        )
        == []
    )
