"""A worker process of one framework: JSON lines over pipes, arrays in safetensors files.

The parent never imports the worker's framework. Commands are answered in order; `submit` and
`collect` let the parent compute while the worker does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from diglot.errors import BadInput, MissingExtra, WorkerFailed
from diglot.runtime.exchange import read_arrays, write_arrays

CALL_TIMEOUT = 1800.0
_LOG_LINES = 12


@dataclass
class Reply:
    """What a command gave: JSON-ready values, arrays by name, and how long it took inside."""

    result: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0


class WorkerProcess:
    """One `python -m MODULE` process that answers commands until it is closed.

    Starting returns at once: the framework's import goes on while the caller works, and the first
    `collect` waits for it. Use it as a context manager, or call `close`; a worker that is forgotten
    ends with its parent.
    """

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        """Start the worker. Raises WorkerFailed where no process can be started."""
        self._directory = Path(tempfile.mkdtemp(prefix="diglot-"))
        self._log = self._directory / "log.txt"
        self._pending: deque[int] = deque()
        self._count = 0
        self._buffer = b""
        replies, write_end = os.pipe()
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, str(write_end)],
                    stdin=subprocess.PIPE,
                    # What a framework or the model prints must not reach the caller's stdout.
                    stdout=log,
                    stderr=log,
                    pass_fds=(write_end,),
                    env=_environment(environment or {}),
                    # Ctrl-C is the parent's to handle: it then closes the worker.
                    start_new_session=True,
                )
        except OSError as error:
            os.close(replies)
            shutil.rmtree(self._directory, ignore_errors=True)
            raise WorkerFailed(f"No worker process could be started: {error}.") from error
        finally:
            os.close(write_end)
        self._replies = replies
        self._finalizer = weakref.finalize(self, _end, self._process, replies, self._directory)

    # -- commands -----------------------------------------------------------------------------

    def call(
        self,
        command: str,
        arrays: Mapping[str, np.ndarray] | None = None,
        *,
        timeout: float = CALL_TIMEOUT,
        **parameters: Any,
    ) -> Reply:
        """Send a command and wait for its reply (see `submit`, `collect` for what it raises)."""
        self.submit(command, arrays, **parameters)
        return self.collect(timeout)

    def submit(
        self, command: str, arrays: Mapping[str, np.ndarray] | None = None, **parameters: Any
    ) -> None:
        """Send a command and return; parameters must be JSON-ready.

        Raises WorkerFailed where the worker has ended.
        """
        self._count += 1
        name = None
        if arrays is not None:
            name = str(self._directory / f"to-{self._count}.safetensors")
            write_arrays(name, arrays)
        line = json.dumps(
            {
                "id": self._count,
                "command": command,
                "arrays": name,
                "folder": str(self._directory),
                "parameters": parameters,
            }
        )
        stream = self._process.stdin
        try:
            if stream is None or stream.closed:
                raise BrokenPipeError
            stream.write(line.encode() + b"\n")
            stream.flush()
        except BrokenPipeError:
            raise self._death() from None
        self._pending.append(self._count)

    def collect(self, timeout: float = CALL_TIMEOUT) -> Reply:
        """The reply to the oldest command that is still open.

        Raises WorkerFailed where the command failed in the worker (the worker lives on), where the
        worker ended, or where no reply came within `timeout` seconds (the worker is then ended);
        BadInput and MissingExtra where that is what the worker met.
        """
        if not self._pending:
            raise WorkerFailed("No command is waiting for a reply.")
        try:
            line = self._read_line(timeout)
        except KeyboardInterrupt:
            self.close()
            raise
        number = self._pending.popleft()
        reply = json.loads(line)
        if reply["id"] != number:
            self.close()
            raise WorkerFailed(f"The worker answered command {reply['id']}, not {number}.")
        if "error" in reply:
            raise failure(reply["error"])
        arrays = read_arrays(reply["arrays"], remove=True) if reply["arrays"] else {}
        return Reply(reply["result"], arrays, reply["seconds"])

    def discard(self) -> None:
        """Throw away the replies to all commands that are still open, once they have come."""
        while self._pending:
            with contextlib.suppress(WorkerFailed, BadInput, MissingExtra):
                self.collect()

    def _read_line(self, timeout: float) -> bytes:
        end = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = end - time.monotonic()
            if left <= 0:
                log = self._log_tail()
                self.close()
                raise WorkerFailed(
                    f"The worker process gave no answer within {timeout:.0f} seconds; it was ended."
                    + log,
                    hint="try again on an idle machine, or with a smaller model",
                )
            ready, _, _ = select.select([self._replies], [], [], min(left, 1.0))
            if ready:
                data = os.read(self._replies, 1 << 16)
                if not data:
                    raise self._death()
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    # -- the end ------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def _death(self) -> WorkerFailed:
        """The error for a worker that has ended by itself, its last words included."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.returncode
        how = f"with exit status {code}"
        hint = None
        if code is not None and code < 0:
            how = f"by signal {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                hint = (
                    "the system probably ran out of memory: close other programs, or use a "
                    "smaller model or batch"
                )
        error = WorkerFailed(f"The worker process ended {how}." + self._log_tail(), hint=hint)
        self.close()
        return error

    def _log_tail(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return "".join(f"\n  | {line}" for line in lines[-_LOG_LINES:])

    def close(self) -> None:
        """End the process and remove its temporary files. May be called twice."""
        self._pending.clear()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: the caller's, with this very diglot importable."""
    environment = dict(os.environ)
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # PyTorch's threads would spin while they wait: a small step takes ten times as long where
    # another process wants the cores, too.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.update(extra)
    return environment


def _end(process: subprocess.Popen[bytes], replies: int, directory: Path) -> None:
    """Close a worker: ask by closing its input, then kill."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    with contextlib.suppress(OSError):
        os.close(replies)
    # It holds nothing that must be put away, and an interpreter with TensorFlow ends slowly.
    process.kill()
    process.wait()
    shutil.rmtree(directory, ignore_errors=True)


def failure(error: Mapping[str, Any]) -> Exception:
    """The exception for an error that the worker reported."""
    kind, message = error["type"], error["message"]
    if message.startswith("Exception encountered when calling"):
        # Keras puts its own sentence, in bold, before what was raised.
        message = " ".join(re.sub(r"\x1b\[\d*m", "", message).split())
    if kind == "ModuleNotFoundError" and error.get("name") in ("keras", "tensorflow", "jax"):
        return MissingExtra(error["name"], needed_for="The Keras side of a translation")
    if kind == "BadInput":
        return BadInput(**error["fields"])
    if kind in ("OSError", "PermissionError", "FileNotFoundError"):
        return BadInput(f"The worker process could not use a file: {message}")
    return WorkerFailed(
        f"{error['command']}: {kind}: {message}\n" + "\n".join(error["traceback"]),
    )
