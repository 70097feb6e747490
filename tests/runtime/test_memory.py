"""The peak memory of a process is its own."""

import json
import subprocess
import sys

# In a small process: this one may have held gigabytes, and would have to hold more.
MEASURE = """
import json, subprocess, sys
import numpy as np
from diglot.runtime.memory import peak_memory

before = peak_memory()
held = np.ones((int(before) + 64) * 2**17)  # so many MiB
child = "from diglot.runtime.memory import peak_memory; print(peak_memory())"
inner = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
print(json.dumps([held.nbytes / 2**20, peak_memory(), float(inner.stdout)]))
"""


def test_peak_memory_grows_with_what_is_held_and_is_not_inherited():
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    held, peak, inner = json.loads(done.stdout)
    assert peak >= held
    assert inner < min(held, 120)
