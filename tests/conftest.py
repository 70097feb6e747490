"""What every test needs: a torchvision that imports, or none.

timm needs torchvision, whose compiled part fits one build of PyTorch only; transformers looks for
it, too. Where it cannot be imported as it is, its Python files are enough for the tests.
"""

import contextlib
import os

from hypothesis import HealthCheck, settings

# Two processes test side by side: PyTorch's threads must not spin while they wait for each other,
# which on busy cores makes a small step ten times slower. Read when PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Without torchvision the tests that need it are skipped, and say so.
with contextlib.suppress(ImportError):
    import torchvision_stub  # noqa: F401

# Speed is measured in benchmarks: on busy cores drawing an example may take a second.
settings.register_profile("diglot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("diglot")
