"""What the tests of the zoo share."""

import pytest


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
