"""What the tests of the zoo share."""

import pytest

from diglot.runtime import start_worker
from diglot.training.supervise import TrainingProcess


@pytest.fixture(scope="session")
def keras_worker():
    """The Keras process of all proofs: its imports take seconds."""
    with start_worker() as worker:
        yield worker


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
