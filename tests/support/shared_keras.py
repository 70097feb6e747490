"""One Keras process for all tests of a Python process: its imports take seconds."""

import atexit
import functools

from diglot.runtime import KerasWorker, start_worker


@functools.cache
def keras_worker() -> KerasWorker:
    """The process, started when it is first asked for. Proofs that are given no worker use it, too, from then on."""
    worker = start_worker()
    atexit.register(worker.close)
    return worker
