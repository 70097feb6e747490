"""What the tests of the zoo share."""

import contextlib

import pytest

from diglot.training.supervise import TrainingProcess
from diglot.zoo import running
from diglot.zoo.doc_classifier import pair as doc_classifier


@pytest.fixture(scope="session")
def processes():
    """A function that gives the training process of a framework, one for all tests."""
    made = {}

    def get(framework):
        if framework not in made:
            made[framework] = TrainingProcess(framework)
        return made[framework]

    yield get
    for process in made.values():
        process.close()


@pytest.fixture(scope="module")
def lent(processes, worker):
    """Runs take the processes of the tests, and no new ones, whose imports take seconds each time.

    That a process of its own finishes what another began is held by tests/training.
    """

    @contextlib.contextmanager
    def lend(framework, tell=None):
        process = processes(framework)
        process._tell = tell or (lambda event: None)
        yield process

    with pytest.MonkeyPatch.context() as patch:
        for module in (running, doc_classifier):
            patch.setattr(module, "TrainingProcess", lend)
        yield


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """What a pair's processes share, made once for its fast setting: a function that gives their folder
    and more arguments for the pair's data."""
    made = {}

    def make(pair):
        if pair.name not in made:
            folder = tmp_path_factory.mktemp(pair.name)
            setting = pair.setting("fast")
            made[pair.name] = folder, pair.files(setting, folder, lambda who, event: None)
        return made[pair.name]

    return make
