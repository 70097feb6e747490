"""Output folders: whole or not at all, and never in the place of anything else."""

import errno
import json

import pytest

from diglot.errors import BadInput, UsageError
from diglot.output import MARK, check_output, is_full_disk, is_translation, mark, staged


def write_translation(folder, text="first"):
    (folder / "translation.json").write_text(json.dumps({"created_by": "diglot 0.1.0"}))
    (folder / "model.py").write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_appears_when_all_is_done(tmp_path):
    out = tmp_path / "deep" / "out"
    with staged(out) as stage:
        write_translation(stage)
        assert not out.exists()
        assert stage.parent == out.parent
    assert is_translation(out)
    assert names(out.parent) == ["out"]
    assert out.stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), BadInput("x")])
def test_nothing_is_left_when_it_fails(tmp_path, error):
    out = tmp_path / "out"
    with pytest.raises(type(error)), staged(out) as stage:
        write_translation(stage)
        raise error
    assert names(tmp_path) == []


def test_an_earlier_translation_is_replaced_and_survives_a_failure(tmp_path):
    out = tmp_path / "out"
    with staged(out) as stage:
        write_translation(stage, "first")
    with pytest.raises(ValueError), staged(out) as stage:
        write_translation(stage, "broken")
        raise ValueError
    assert (out / "model.py").read_text() == "first"
    with staged(out) as stage:
        write_translation(stage, "second")
    assert (out / "model.py").read_text() == "second"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("beside_a_translation", [False, True])
def test_something_else_is_refused_and_left_alone(tmp_path, beside_a_translation):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("four years")
    if beside_a_translation:
        write_translation(out)
    before = names(out)
    with pytest.raises(UsageError) as caught, staged(out):
        raise AssertionError("it must be refused before the work is done")
    assert "thesis.txt" in str(caught.value)
    assert names(out) == before


def test_force_moves_it_aside_whole(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("four years")
    with staged(out, force=True) as stage:
        write_translation(stage)
    assert is_translation(out)
    assert (tmp_path / "out.old-1" / "thesis.txt").read_text() == "four years"


def test_a_file_or_a_link_is_no_output(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(UsageError):
            check_output(tmp_path / name)


def test_a_full_disk_is_one_sentence(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(BadInput) as caught, staged(out) as stage:
        (stage / "model.py").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "disk is full" in str(caught.value)
    assert names(tmp_path) == []


def test_h5py_tells_of_a_full_disk_in_its_text_only():
    assert is_full_disk(RuntimeError("write failed: errno = 28, 'No space left on device'"))
    wrapped = ValueError("could not save")
    wrapped.__cause__ = OSError(errno.ENOSPC, "x")
    assert is_full_disk(wrapped)
    assert not is_full_disk(ValueError("x"))


def test_what_is_not_proven_is_marked_and_a_proof_takes_the_mark_away(tmp_path):
    first = {"module": "layer1.0", "file": "net.py", "line": 7, "likely_cause": "another eps"}
    mark(tmp_path, {"verdict": "differs", "first_divergence": first})
    text = (tmp_path / MARK).read_text()
    assert "layer1.0 (net.py:7)" in text and "another eps" in text
    mark(tmp_path, {"verdict": "proven"})
    assert names(tmp_path) == []
