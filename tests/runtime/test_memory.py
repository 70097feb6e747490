"""The peak memory of a process is its own."""

import subprocess
import sys

import numpy as np

from diglot.runtime.memory import peak_memory


def test_peak_memory_grows_with_what_is_held_and_is_not_inherited():
    before = peak_memory()
    size = int(before) + 64
    held = np.ones(size * 2**17)  # so many MiB
    assert peak_memory() >= size
    code = "from diglot.runtime.memory import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < min(held.nbytes / 2**20, 120)
