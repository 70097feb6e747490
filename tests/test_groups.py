"""Tests that share what is dear to make run in one process, however many there are."""

import os

import pytest

pytestmark = pytest.mark.xdist_group("groups")


@pytest.mark.parametrize("index", range(4))
def test_a_group_stays_in_one_process(index, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all processes
    with (folder / "processes-of-a-group").open("a+") as file:
        file.write(f"{os.getpid()}\n")
        file.seek(0)
        assert len(set(file)) == 1
