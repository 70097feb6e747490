"""Input that cannot be translated: one clear sentence, the right exit code, nothing lost.

These run the command line on the files of tests/models: as a user does, in a process of its own, where the process
counts, and else in this one.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import refused
from marking import swept
from real_models import MODELS, ROOT, translated

import diglot
from diglot import cli
from diglot.errors import DataDependent, Unsupported

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])


def run(*arguments, cwd, prefix=(), code="from diglot.cli import main; main()", timeout=300):
    """One `diglot …`: (exit code, stdout, stderr)."""
    finished = subprocess.run(
        [*prefix, sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return finished.returncode, finished.stdout, finished.stderr


@pytest.fixture
def here(commands, capsys, monkeypatch, tmp_path):
    """One `diglot …` as ``run`` gives it, in this process and with the tests' Keras process: imports take seconds."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run_here(*arguments):
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_here


def line_of(text):
    """The line of tests/models/refused.py that holds `text`."""
    lines = (MODELS / "refused.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def assert_clear(stderr):
    """No traceback, and no "did not expect"."""
    assert "Traceback" not in stderr
    assert "did not expect" not in stderr, stderr


def test_unsupported_operations_are_all_listed_with_their_lines():
    with pytest.raises(Unsupported) as caught:
        diglot.translate(*refused.make_unsupported_ops())
    assert caught.value.exit_code == 3
    places = {problem.where.rsplit("/", 1)[-1] for problem in caught.value.problems}
    assert f"refused.py:{line_of('svdvals')}" in places
    assert f"refused.py:{line_of('rfft')}" in places
    text = str(caught.value)
    assert "svd" in text and "fft" in text


def test_unsupported_operations_write_nothing_and_exit_3(here, tmp_path):
    source = f"{MODELS / 'refused.py'}:make_unsupported_ops"
    code, out, err = run("translate", source, "-o", "out", cwd=tmp_path)
    assert code == 3, err
    assert_clear(err)
    for text in ("svdvals", "rfft"):
        assert f"refused.py:{line_of(text)}" in err
    assert not list(tmp_path.iterdir())
    code, out, _ = here("translate", source, "-o", "out", "--json")
    assert code == 3
    problems = json.loads(out)["error"]["problems"]
    assert len(problems) >= 2 and all(problem["where"] for problem in problems)


def test_a_model_that_branches_on_data_is_refused_with_its_line(here, tmp_path):
    with pytest.raises(DataDependent) as caught:
        diglot.translate(*refused.make_branches_on_data())
    assert f"refused.py:{line_of('if x.sum() > 0')}" in str(caught.value)
    source = f"{MODELS / 'refused.py'}:make_branches_on_data"
    code, _, err = here("translate", source, "-o", "out")
    assert code == 2, err
    assert_clear(err)
    assert f"refused.py:{line_of('if x.sum() > 0')}" in err
    assert not list(tmp_path.iterdir())


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "model.bin", "model.pkl", "model.pt2"])
def test_a_pickle_that_would_run_code_runs_none(here, tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    code, _, err = here("translate", name, "-o", "out")
    assert code == 2, err
    assert_clear(err)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_folder_with_a_pickle_that_would_run_code(here, tmp_path):
    pytest.importorskip("transformers")
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    code, _, err = here("translate", "hf:bert", "-o", "out")
    assert code == 2, err
    assert_clear(err)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("float33[5,28,28]", "float33"),
        ("float32[5,28", "float32[5,28"),
        ("float32[5,27,28]", "mnist_mlp.py"),  # 27 · 28 pixels where the model wants 784
        ("int64[5,28,28]", "mnist_mlp.py"),
    ],
)
def test_a_wrong_input_is_told(here, tmp_path, given, told):
    source = f"{MODELS / 'mnist_mlp.py'}:make"
    code, _, err = here("translate", source, "--input", given, "-o", "out")
    assert code == 2, err
    assert_clear(err)
    assert told in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "package", "extra"),
    swept(
        [("timm:resnet18", "timm", "timm"), ("hf:some/model", "transformers", "hf")],
        {"timm:resnet18"},
    ),
)
def test_a_missing_extra_is_named_with_the_command(tmp_path, source, package, extra):
    code = (
        "import importlib.metadata, sys\n"
        "real = importlib.metadata.version\n"
        "def version(name):\n"
        f"    if name == {package!r}: raise importlib.metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "importlib.metadata.version = version\n"
        f"sys.modules[{package!r}] = None\n"
        "from diglot.cli import main; main()"
    )
    status, _, err = run("translate", source, "-o", "out", cwd=tmp_path, code=code)
    assert status == 2, err
    assert_clear(err)
    assert f"diglot[{extra}]" in err
    assert not list(tmp_path.iterdir())


def test_an_output_folder_that_holds_something_else_is_left_alone(here, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("four years")
    source = f"{MODELS / 'mnist_mlp.py'}:make"
    code, _, err = here("translate", source, "-o", "out")
    assert code == 2, err
    assert_clear(err)
    assert "thesis.txt" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_loses_nothing(tmp_path):
    """A real one: a file system of 300 kB, mounted where only the process sees it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=300k tmpfs {disk} && mkdir {disk}/kept && "
    check = ' ; code=$? ; ls -A "$0" ; exit $code'
    shell = ["unshare", "-rm", "sh", "-c"]
    try:
        possible = subprocess.run([*shell, f"{mount} true"], capture_output=True, timeout=30)
    except FileNotFoundError:
        possible = None
    if possible is None or possible.returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
    # Everything of /tmp that the process needs stays outside: only the output is on the disk.
    command = f'{mount} "$@"{check}'
    source = f"{MODELS / 'mnist_mlp.py'}:make"
    code, out, err = run(
        "translate",
        source,
        "-o",
        disk / "out",
        cwd=tmp_path,
        prefix=[*shell, command, str(disk)],
    )
    assert code == 2, err
    assert_clear(err)
    assert "disk is full" in err
    assert out.split() == ["kept"]


def test_what_does_not_prove_is_kept_and_marked(here, tmp_path):
    """Somebody edits the generated program: `prove` says so, and keeps the files."""
    result = translated("resnet", "make")
    out = tmp_path / "out"
    shutil.copytree(result.directory, out)
    program = out / "model.py"
    source = program.read_text()
    assert "momentum=0.9" in source and "epsilon=1e-05" in source.replace("1e-5", "1e-05")
    program.write_text(source.replace("1e-05", "1e-03").replace("1e-5", "1e-3"))
    code, stdout, err = here("prove", "out", "--json")
    assert code == 1, err
    told = json.loads(stdout)
    assert told["verdict"] == "differs"
    assert json.loads((out / "proof.json").read_text())["verdict"] == "differs"
    assert "bn1" in told["proof"]["first_divergence"]["module"]
    assert {"model.py", "model.weights.h5", "NOT-PROVEN.txt"} <= {p.name for p in out.iterdir()}
