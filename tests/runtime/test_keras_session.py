"""What a session keeps of the model that it built last, and what it reads again."""

import shutil

import numpy as np
import pytest
import twins

from diglot.runtime.keras_exact import set_width
from diglot.runtime.keras_session import KerasSession


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return twins.mlp().write(tmp_path_factory.mktemp("mlp") / "out").directory


@pytest.fixture
def folder(written, tmp_path):
    yield shutil.copytree(written, tmp_path / "out")
    set_width("float32")


def first_weight(session):
    return next(iter(session.get_weights().items()))


def test_the_same_program_keeps_its_layers_and_reads_its_weights_again(folder):
    session = KerasSession()
    session.load(str(folder), "float32")
    model, (name, stored) = session.model, first_weight(session)
    session.set_weights({name: stored + 1})
    session.load(str(folder), "float32")
    assert session.model is model
    np.testing.assert_array_equal(first_weight(session)[1], stored)


@pytest.mark.parametrize("change", ["program", "width", "no weights"])
def test_anything_else_is_built_afresh(folder, change):
    session = KerasSession()
    session.load(str(folder), "float32")
    model = session.model
    if change == "program":
        path = folder / "model.py"
        path.write_text(path.read_text() + "\n# edited\n")
    session.load(str(folder), "float64" if change == "width" else "float32", change != "no weights")
    assert session.model is not model


def test_a_program_that_failed_is_not_taken_for_built(folder):
    session = KerasSession()
    session.load(str(folder), "float32")
    path, good = folder / "model.py", (folder / "model.py").read_text()
    path.write_text("raise OSError\n")
    with pytest.raises(OSError):
        session.load(str(folder), "float32")
    path.write_text(good)
    session.load(str(folder), "float32")
    assert session.problems == {}
