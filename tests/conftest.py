"""What every test needs: the same random numbers in every run, and a torchvision that imports, or none.

Each test, fixture and module draws from a seed made of its own name, so it sees the same numbers
alone, in the whole suite, and in whichever process pytest-xdist gives it to.

Tests of one pytest.mark.xdist_group share what is dear to make, so they run in one process.

timm needs torchvision, whose compiled part fits one build of PyTorch only; transformers looks for
it, too. Where it cannot be imported as it is, its Python files are enough for the tests.
"""

import contextlib
import gc
import os
import random
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Two processes test side by side: PyTorch's threads must not spin while they wait for each other,
# which on busy cores makes a small step ten times slower. Read when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# And what is tested is small: a thread for each process is faster than several that take turns.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# Without torchvision the tests that need it are skipped, and say so.
with contextlib.suppress(ImportError):
    import torchvision_stub  # noqa: F401

import shared_keras
import torch

from diglot import runtime

# Speed is measured in benchmarks: on busy cores drawing an example may take a second.
settings.register_profile("diglot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("diglot")


def _seed(name):
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


_NAME = pytest.StashKey[str]()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    """Keep each test's own name, then let pytest know the ids that pytest-xdist writes for groups.

    pytest-xdist 3.8 appends a test's group to `_nodeid`, which pytest 9.2 no longer reads: the groups are
    torn apart without a word (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    for item in items:
        item.stash[_NAME] = item.nodeid
    result = yield
    for item in items:
        grouped = vars(item).get("_nodeid", item.nodeid)
        if grouped != item.nodeid:
            item._id = type(item._id).parse(grouped)
    return result


@pytest.fixture(scope="session")
def worker():
    """The Keras process that the tests share, which proofs without one of their own then use, too."""
    return shared_keras.keras_worker()


@pytest.fixture
def commands(worker, monkeypatch):
    """Commands that run in the tests' process take the tests' Keras process, and start none."""
    monkeypatch.setattr(runtime, "start_worker", contextlib.ExitStack)


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart(collector):
    _seed(collector.nodeid)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef, request):
    _seed(f"{fixturedef.baseid}::{fixturedef.argname}::{getattr(request, 'param_index', 0)}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    _seed(item.stash[_NAME])


_frozen = set()


def pytest_runtest_teardown():
    """What PyTorch and TensorFlow made when they were imported is no garbage: nobody looks through it again.

    `keras.utils.clear_session` collects garbage, and took 0.3 s among a million such objects.
    """
    heavy = {"torch", "keras", "tensorflow", "transformers"} & sys.modules.keys() - _frozen
    if heavy:
        _frozen.update(heavy)
        gc.collect()
        gc.freeze()
