"""The errors that a person can meet.

Every message answers four questions: what was expected, what was received, where (a source line
wherever there is one), and what to do. ``str(error)`` is plain text without markup; the command
line prints it and exits with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

EXIT_PROVEN = 0
EXIT_DIFFERS = 1
EXIT_BAD_INPUT = 2
EXIT_UNSUPPORTED = 3
EXIT_INTERRUPTED = 130


class DiglotError(Exception):
    """Base of every error that Diglot raises on purpose.

    ``message`` is one sentence. The optional fields are printed below it, one line each, in the
    order where, expected, received, hint.
    """

    exit_code: int = EXIT_BAD_INPUT

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        received: str | None = None,
        where: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.received = received
        self.where = where
        self.hint = hint

    def details(self) -> list[tuple[str, str]]:
        """The fields that are set, as (label, text) pairs in the order of printing."""
        pairs = (
            ("where", self.where),
            ("expected", self.expected),
            ("received", self.received),
            ("what to do", self.hint),
        )
        return [(label, text) for label, text in pairs if text]

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  {label}: {text}" for label, text in self.details()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, object]:
        """The error as JSON-ready values: what ``--json`` prints under ``"error"``."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "expected": self.expected,
            "received": self.received,
            "hint": self.hint,
        }


class UsageError(DiglotError):
    """A command or a function was called in a way that cannot work."""


class BadInput(DiglotError):
    """Something the user named (a model, a file, a folder, an input) cannot be used."""


class DataDependent(BadInput):
    """The model branches on the values of its tensors, so no single program describes it."""


class MissingExtra(BadInput):
    """An optional package is needed and is not installed.

    ``package`` is what is missing (``transformers``), ``extra`` the Diglot extra that installs it
    (``hf``).
    """

    def __init__(self, package: str, extra: str | None = None, *, needed_for: str) -> None:
        self.package = package
        self.extra = extra
        self.command = f'pip install "diglot[{extra}]"' if extra else f"pip install {package}"
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed.",
            hint=f"run: {self.command}",
        )

    def to_dict(self) -> dict[str, object]:
        return super().to_dict() | {"package": self.package, "command": self.command}


class WorkerFailed(DiglotError):
    """A framework's worker process died or answered with an error."""


@dataclass(frozen=True)
class Problem:
    """One thing that cannot be translated.

    ``op`` names it (``aten.nonzero.default``), ``where`` the source line (``net.py:42``),
    ``module`` the path of the module that holds it (``encoder.layer.0``, empty for the root) and
    ``hint`` what to do instead.
    """

    op: str
    where: str
    module: str
    hint: str

    def __str__(self) -> str:
        place = f" in {self.module}" if self.module else ""
        tail = f": {self.hint}" if self.hint else ""
        return f"{self.where or '<unknown line>'}: {self.op}{place}{tail}"


class Unsupported(DiglotError):
    """The model uses things that Diglot cannot translate.

    ``problems`` holds all of them, never only the first.
    """

    exit_code = EXIT_UNSUPPORTED

    def __init__(self, problems: Sequence[Problem]) -> None:
        # A problem that was reported twice is one problem to the person who has to change the line.
        self.problems: list[Problem] = list(dict.fromkeys(problems))
        grouped = self.by_line()
        thing = "thing" if len(grouped) == 1 else "things"
        lines = [f"{len(grouped)} {thing} in this model cannot be translated; nothing was written:"]
        for first, *others in grouped:
            more = f" (and in {len(others)} more modules)" if others else ""
            lines.append(f"  {first}{more}")
        super().__init__("\n".join(lines))

    def by_line(self) -> list[list[Problem]]:
        """The problems in groups that agree in all but the module: what one change would mend."""
        groups: dict[tuple[str, str, str], list[Problem]] = {}
        for problem in self.problems:
            groups.setdefault((problem.op, problem.where, problem.hint), []).append(problem)
        return list(groups.values())

    def to_dict(self) -> dict[str, object]:
        return super().to_dict() | {"problems": [asdict(problem) for problem in self.problems]}
