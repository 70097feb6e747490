"""The command line: arguments in, calls out.

Results go to stdout (with ``--json`` exactly one JSON object), progress and prose to stderr. Exit
codes: 0 proven or done, 1 differs or not proven, 2 bad input, 3 unsupported, 130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer
from rich.console import Console

from diglot.cli_output import Json, only_json, stderr, stdout
from diglot.cli_zoo import zoo_app
from diglot.errors import (
    EXIT_DIFFERS,
    EXIT_INTERRUPTED,
    EXIT_PROVEN,
    BadInput,
    DiglotError,
    UsageError,
)

app = typer.Typer(
    name="diglot",
    help="The same neural network on facing pages: PyTorch to Keras 3 source, with a proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
# typer carries its own copy of click, whose errors have no public name of their own.
_UsageProblem: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

app.add_typer(zoo_app, name="zoo")


Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="An input, once for each: [NAME=]DTYPE[SIZE,…][<HIGH]. Numbers are fixed sizes, "
        'names dynamic ones: "float32[batch,3,224,224]", "ids=int64[batch,length]<30522".',
        metavar="SPEC",
    ),
]


class Target(StrEnum):
    keras = "keras"
    torch = "torch"


class Style(StrEnum):
    layers = "layers"
    functional = "functional"


class Layout(StrEnum):
    native = "native"
    same = "same"


class Backend(StrEnum):
    tensorflow = "tensorflow"
    jax = "jax"
    torch = "torch"


def main() -> None:
    """The console script."""
    # Read when PyTorch is loaded: its threads then wait without spinning, and leave the cores to the
    # Keras process beside it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # TensorFlow's notes on the machine, which nobody asked for.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; nothing but ``SystemExit`` leaves this."""
    return guarded(
        lambda: int(app(arguments, prog_name="diglot", standalone_mode=False) or 0),
        as_json="--json" in arguments,
    )


def guarded(action: Callable[[], int], as_json: bool = False) -> int:
    """Run ``action`` and return its exit code; an error becomes one message and its exit code."""
    if not debugging():
        warnings.filterwarnings("ignore")
    guard = _Guard(as_json)
    with guard:
        guard.code = action()
        if guard.code == EXIT_INTERRUPTED:  # typer has turned the exception into this code
            raise KeyboardInterrupt
    return guard.code


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("DIGLOT_DEBUG", "") not in ("", "0")


class _Guard:
    """Turns whatever a command raises into an exit code and one clear message."""

    def __init__(self, as_json: bool) -> None:
        self.code = EXIT_PROVEN
        self.as_json = as_json

    def __enter__(self) -> _Guard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if error is None or isinstance(error, (SystemExit, GeneratorExit)):
            return False
        if isinstance(error, (KeyboardInterrupt, typer.Abort)):
            self.code = EXIT_INTERRUPTED
            if self.as_json:
                print(json.dumps({"exit_code": self.code, "error": {"message": "Interrupted."}}))
            else:
                stderr().print("Interrupted; nothing was left half-written.")
            return True
        if isinstance(error, BrokenPipeError):
            # Whoever read our output has closed it (`diglot rules | head`).
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return True
        if debugging():
            traceback.print_exception(error, file=sys.stderr)
        problem = _as_problem(error)
        self.code = problem.exit_code
        if self.as_json:
            print(json.dumps({"exit_code": self.code, "error": problem.to_dict()}))
        else:
            from diglot.console import error_view

            stderr().print(error_view(problem), soft_wrap=True)
        return True


def _as_problem(error: BaseException) -> DiglotError:
    if isinstance(error, DiglotError):
        return error
    if isinstance(error, _UsageProblem):
        command = getattr(getattr(error, "ctx", None), "command_path", None) or "diglot"
        text = str(getattr(error, "message", "") or error).removeprefix("Value error, ")
        sentence = text[:1].upper() + text[1:].rstrip(".") + "."
        return UsageError(sentence, hint=f"{command} --help shows what it takes")
    from diglot.output import is_full_disk

    if is_full_disk(error):
        return BadInput("The disk is full; nothing was left half-written.", hint="make room")
    if isinstance(error, MemoryError):
        return BadInput("There is not enough memory for this model.")
    text = " ".join(str(error).split())[:300]
    return BadInput(
        f"Diglot stopped at an error that it did not expect: {type(error).__name__}: {text}",
        hint="run it again with DIGLOT_DEBUG=1 to see the traceback, and report it",
    )


def _version(wanted: bool) -> None:
    if wanted:
        import diglot

        print(f"diglot {diglot.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The same neural network on facing pages: PyTorch to Keras 3 source, with a proof."""


@app.command()
def translate(
    source: Annotated[
        str,
        typer.Argument(
            help="PyTorch: file.py:factory, package.module:factory, timm:NAME, hf:DIRECTORY_OR_ID or "
            "x.pt2. Keras: a factory, x.keras, x.h5, a SavedModel, x.pb, keras:applications/NAME or "
            "hub:PRESET."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write.")],
    to: Annotated[
        Target | None,
        typer.Option(
            help="The language to translate to; left out, torch for what can only be Keras's, else "
            "keras.",
            show_default=False,
        ),
    ] = None,
    inputs: Inputs = None,
    style: Annotated[
        Style | None,
        typer.Option(
            help="One Layer class per module class, or one Functional model; left out, functional for what "
            "was translated from a Functional or Sequential Keras model, else layers.",
            show_default=False,
        ),
    ] = None,
    io_layout: Annotated[
        Layout, typer.Option(help="Images as Keras lays them out (NHWC), or as the source does.")
    ] = Layout.native,
    force: Annotated[
        bool, typer.Option(help="Move a folder that is in the way aside, to NAME.old-1.")
    ] = False,
    trust: Annotated[
        bool, typer.Option(help="Let a Keras file run the code that it holds (Lambda layers).")
    ] = False,
    custom: Annotated[
        list[str] | None,
        typer.Option(
            help="A Python file, or a module, that defines classes of a Keras model's own; may be "
            "given more than once.",
            metavar="FILE",
        ),
    ] = None,
    signature: Annotated[
        str | None, typer.Option(help="Which signature of a SavedModel.", metavar="NAME")
    ] = None,
    feeds: Annotated[
        list[str] | None,
        typer.Option(
            "--feed",
            help="A tensor that goes into a graph, or with =VALUE one that is given a value (keep_prob=1.0); may "
            "be given more than once.",
            metavar="NAME",
        ),
    ] = None,
    fetches: Annotated[
        list[str] | None,
        typer.Option(
            "--fetch",
            help="A tensor that comes out of a graph; may be given more than once.",
            metavar="NAME",
        ),
    ] = None,
    tags: Annotated[
        str | None,
        typer.Option(help="The tags of a SavedModel's graph, with commas.", metavar="TAGS"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Translate a model, with its weights, and prove that it is the same function."""
    from diglot.graph_ends import GraphEnds
    from diglot.workflow import Request, translate_and_prove

    request = Request(
        source,
        output,
        to.value if to else None,
        tuple(inputs or ()),
        style.value if style else None,
        io_layout.value,
        force,
        trust,
        tuple(custom or ()),
        GraphEnds(
            signature,
            tuple(feeds or ()),
            tuple(fetches or ()),
            tuple((tags or "").split(",")) if tags else (),
        ),
    )
    with only_json(as_json) as emit:
        console = stderr()
        result = translate_and_prove(request, console)
        _tell_proof(console, result, output)
        emit(result)
    raise typer.Exit(result["exit_code"])


@app.command()
def prove(
    directory: Annotated[Path, typer.Argument(help="A folder that translate wrote.")],
    seed: Annotated[int, typer.Option(help="Seed of the random inputs and weights.")] = 0,
    steps: Annotated[int, typer.Option(min=0, help="Optimizer steps to compare.")] = 3,
    backend: Annotated[
        Backend, typer.Option(help="The Keras backend to prove on.")
    ] = Backend.tensorflow,
    as_json: Json = False,
) -> None:
    """Prove a translation again: on this machine, with these versions, after an edit."""
    from diglot.workflow import prove_folder

    with only_json(as_json) as emit:
        console = stderr()
        result = prove_folder(directory, console, seed=seed, steps=steps, backend=backend.value)
        _tell_proof(console, result, directory)
        emit(result)
    raise typer.Exit(result["exit_code"])


def _tell_proof(console: Console, result: Mapping[str, Any], directory: Path) -> None:
    from diglot.console import proof_view

    console.print(proof_view(result["proof"], str(directory)))
    if result["exit_code"] == EXIT_PROVEN:
        console.print(f"See both languages on facing pages: diglot show {directory}")
    elif result["exit_code"] == EXIT_DIFFERS:
        console.print("The files are kept and marked: NOT-PROVEN.txt says why.")


@app.command()
def diverge(
    source: Annotated[
        str,
        typer.Argument(metavar="TORCH", help="The PyTorch model, as for translate; or zoo:NAME."),
    ],
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="KERAS",
            help="The Keras model: file.py:factory, package.module:factory, x.keras or the folder "
            "of a translation.",
        ),
    ] = None,
    inputs: Inputs = None,
    as_json: Json = False,
) -> None:
    """Find where two models part first: the layer, the line that calls it, and the likely cause.

    They need not have been made by Diglot, but must hold the same weights. zoo:NAME names both models
    of a pair of the zoo.
    """
    from diglot.diverging import diverge_sources

    with only_json(as_json) as emit:
        found = diverge_sources(source, target, tuple(inputs or ()), stderr())
        emit(found)
        if not as_json:
            from diglot.console import divergence_view

            stdout().print(divergence_view(found))
    raise typer.Exit(found["exit_code"])


@app.command()
def show(
    directory: Annotated[Path, typer.Argument(help="A folder that translate wrote.")],
    source: Annotated[bool, typer.Option("--source", help="Print the Keras source.")] = False,
    browser: Annotated[
        bool, typer.Option(help="Open the pages in a browser where there is one.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Open the facing pages of a translation, or print its source."""
    from diglot.workflow import open_pages, read_folder

    with only_json(as_json) as emit:
        found = read_folder(directory)
        emit(found)
        if as_json:
            return
        if source:
            from rich.syntax import Syntax

            text = Path(found["model"]).read_text(encoding="utf-8")
            if sys.stdout.isatty():
                stdout().print(Syntax(text, "python", line_numbers=True, word_wrap=False))
            else:
                print(text, end="")
            return
        from diglot.report.terminal import folder_summary

        stderr().print(folder_summary(directory))
        if browser and sys.stdout.isatty() and open_pages(Path(found["pages"])):
            stderr().print("Opened in the browser:")
        print(found["pages"])


@app.command()
def rules(
    op: Annotated[
        str | None, typer.Argument(help="Part of an op's name: aten.gelu, softmax, Conv2D …")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the dictionary: how each PyTorch op is said in Keras, and where the two differ."""
    from diglot.workflow import find_rules

    with only_json(as_json) as emit:
        found = find_rules(op)
        emit({"exit_code": EXIT_PROVEN, "rules": found})
        if not as_json:
            from diglot.console import rules_view

            stdout().print(rules_view(found, detailed=op is not None))


@app.command()
def guide(
    task: Annotated[
        str | None, typer.Argument(help="Part of a task or a need: translation, memory …")
    ] = None,
    as_json: Json = False,
) -> None:
    """Which architecture for a task and which framework for a need, with measured reasons."""
    from diglot.benchmark import guide as advice

    with only_json(as_json) as emit:
        found = advice.find_advice(task)
        emit(advice.as_json(found))
        if not as_json:
            stdout().print(advice.guide_view(found))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, the hardware that each framework sees, what is missing and how to install it."""
    from diglot.doctor import examine

    with only_json(as_json) as emit:
        from diglot.console import Steps, doctor_view

        with Steps(stderr()).step("Asking each framework in a process of its own", "Asked"):
            findings = examine()
        emit(findings)
        if not as_json:
            stdout().print(doctor_view(findings))
    raise typer.Exit(findings["exit_code"])


if __name__ == "__main__":
    main()
