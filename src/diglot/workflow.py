"""What the commands do: load, translate, prove and write, one step after the other."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import webbrowser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, BadInput, UsageError
from diglot.graph_ends import WHOLE, GraphEnds
from diglot.output import check_output, is_translation, mark, staged

if TYPE_CHECKING:
    from rich.console import Console

    from diglot.console import Steps
    from diglot.sources import LoadedSource

_LANGUAGES = {"keras": "Keras", "torch": "PyTorch"}


@dataclass(frozen=True)
class Request:
    """One ``diglot translate``."""

    source: str
    output: Path
    to: str | None = None
    inputs: tuple[str, ...] = ()
    style: str | None = None
    io_layout: str = "native"
    force: bool = False
    trust: bool = False
    custom: tuple[str, ...] = ()
    ends: GraphEnds = WHOLE

    @property
    def target(self) -> str:
        """The language to translate to: what was asked for, or the other one than the source's."""
        from diglot.sources_keras import is_keras_spec

        return self.to or ("torch" if is_keras_spec(self.source) else "keras")


def translate_and_prove(request: Request, console: Console) -> dict[str, Any]:
    """Translate into ``request.output`` and prove; the folder appears whole or not at all.

    Returns the result as JSON-ready values: exit_code, verdict, output, files, timings, proof.
    """
    from diglot.console import Steps
    from diglot.inputs import parse_inputs
    from diglot.runtime import start_worker

    check_output(request.output, request.force)
    parse_inputs(request.inputs)
    steps = Steps(console)
    with steps.step("Loading PyTorch", "Loaded PyTorch"):
        import torch  # noqa: F401  the slowest import, shown as the step that it is
    if request.target == "torch":
        with steps.step("Loading Keras", "Loaded Keras"), _hiding_notes():
            import keras  # noqa: F401
    shown = _short(request.source)
    with steps.step(f"Reading {shown}", f"Read {shown}"):
        source = _load(request)
    # Keras imports in its own process while PyTorch exports in this one.
    with contextlib.closing(start_worker()):
        return _translate_and_prove(request, source, steps)


@contextlib.contextmanager
def _hiding_notes() -> Iterator[None]:
    """Keep off the screen what TensorFlow 2.21 writes to stderr as it is imported, whatever its log level is:
    that oneDNN is on. The step's own animation stands still meanwhile."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _load(request: Request) -> LoadedSource:
    """The source, in the language that the target is not."""
    from diglot.sources import load_source
    from diglot.sources_keras import is_keras_spec, load_keras_source

    if request.target == "torch":
        return load_keras_source(
            request.source, request.inputs, request.trust, request.custom, request.ends
        )
    if request.ends != WHOLE:
        raise UsageError(
            "--signature, --feed, --fetch and --tags are for TensorFlow's graphs: they go with --to torch."
        )
    if request.trust or request.custom:
        raise UsageError("--trust and --custom are for Keras models: they go with --to torch.")
    if is_keras_spec(request.source):
        raise UsageError(
            f"{request.source} is of Keras or TensorFlow already.",
            hint="translate it with --to torch",
        )
    return load_source(request.source, request.inputs)


def _short(spec: str) -> str:
    """A source as it is shown: a long path by its end."""
    scheme, colon, place = spec.partition(":")
    if len(spec) <= 60 or not colon:
        return spec
    return f"{scheme}:…/" + "/".join(place.split("/")[-2:])


def _translate_and_prove(request: Request, source: LoadedSource, steps: Steps) -> dict[str, Any]:
    import diglot

    with staged(request.output, request.force) as stage:
        with (
            steps.step("Translating", f"Translated to {_LANGUAGES[request.target]}"),
            _naming_the_inputs(request.inputs),
        ):
            translation = diglot.translate(
                source.model,
                source.example_inputs,
                to=request.target,
                dynamic=source.dynamic,
                io_layout=request.io_layout,
                style=request.style,
                **({"trusted": True} if request.trust else {}),
            )
            if source.factory is not None:
                _name_factory(translation.info, source, request.trust)
            _name_source(translation.info, source)
        with steps.step("Writing the program and its weights", "Wrote the program and its weights"):
            translation.save(stage)
        with steps.step("Proving", "Compared both, each in its own process"):
            proof = diglot.prove(translation, progress=steps.tell)
        with steps.step("Setting the facing pages", "Set the facing pages"):
            content = _write_proof(stage, proof)
        files = sorted(path.name for path in stage.iterdir() if path.is_file())
    return _result(request.output, content, steps.timings) | {"files": files}


@contextlib.contextmanager
def _naming_the_inputs(inputs: tuple[str, ...]) -> Iterator[None]:
    """Add the --input options to an error that comes from calling the model with them."""
    try:
        yield
    except BadInput as error:
        if inputs:
            called = "it was called with " + " ".join(f'--input "{text}"' for text in inputs)
            error.hint = f"{error.hint}; {called}" if error.hint else called
        raise


def _name_factory(info: dict[str, Any], source: LoadedSource, trusted: bool) -> None:
    """Say in translation.json how a proof can have the Keras model made again, if by the factory."""
    from diglot.runtime import original

    held = info["original"]
    made = original.describe(source.model, None, source.factory, trusted)
    info["original"] = {**made, **{key: held[key] for key in held if key in original.CALLED}}


def _name_source(info: dict[str, Any], source: LoadedSource) -> None:
    """Say in translation.json what the user typed."""
    described = info.setdefault("source", {})
    if isinstance(described, dict):
        described["spec"] = source.spec


def prove_folder(
    directory: Path, console: Console, *, seed: int, steps: int, backend: str
) -> dict[str, Any]:
    """Prove the translation in ``directory`` again and rewrite its proof and pages."""
    from diglot.console import Steps

    read_folder(directory)
    shown = Steps(console)
    with shown.step("Loading the translation", "Loaded the translation"):
        import diglot

        translation = diglot.load(directory)
    with shown.step("Proving", "Compared both, each in its own process"):
        options: dict[str, Any] = {} if backend == "tensorflow" else {"backend": backend}
        proof = diglot.prove(translation, seed=seed, steps=steps, progress=shown.tell, **options)
    with shown.step("Setting the facing pages", "Set the facing pages"):
        content = _write_proof(directory, proof)
    return _result(directory, content, shown.timings)


def _write_proof(directory: Path, proof: Any) -> dict[str, Any]:
    """Write proof.json, the mark and the pages; return the proof's content."""
    from diglot.report.pages import write_pages

    text = proof.to_json()
    content = json.loads(text)
    temporary = directory / "proof.json.new"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(directory / "proof.json")
    mark(directory, content)
    write_pages(directory)
    return content


def _result(
    directory: Path, proof: Mapping[str, Any], timings: Mapping[str, float]
) -> dict[str, Any]:
    proven = proof.get("verdict") == "proven"
    return {
        "exit_code": EXIT_PROVEN if proven else EXIT_DIFFERS,
        "verdict": proof.get("verdict"),
        "output": str(directory),
        "pages": str(directory / "pages.html"),
        "timings": dict(timings),
        "proof": dict(proof),
    }


def read_folder(directory: Path) -> dict[str, Any]:
    """Paths and verdict of a translation. Raises :class:`BadInput` for any other folder."""
    if not is_translation(directory):
        raise BadInput(
            f"{directory} is not a translation.",
            expected="a folder that diglot translate wrote",
            received="no such folder" if not directory.is_dir() else "a folder without one",
            hint=f"diglot translate SOURCE -o {directory}",
        )
    verdict = None
    with contextlib.suppress(OSError, ValueError):  # a folder without a proof can be shown, too
        verdict = json.loads((directory / "proof.json").read_text(encoding="utf-8")).get("verdict")
    pages = directory.absolute() / "pages.html"
    if not pages.is_file():
        from diglot.report.pages import write_pages

        write_pages(directory)
    return {
        "exit_code": EXIT_PROVEN,
        "output": str(directory),
        "pages": str(pages),
        "model": str(directory.absolute() / "model.py"),
        "verdict": verdict,
    }


def open_pages(pages: Path) -> bool:
    """Open the pages in a browser; False where there is none."""
    try:
        return webbrowser.open(pages.as_uri())
    except webbrowser.Error:
        return False


def find_rules(text: str | None) -> list[dict[str, Any]]:
    """The rules whose op or spelling contains ``text``, in either language; all without it."""
    from diglot.rules import registry

    known = sorted(registry().items())
    found = [_rule_record(op, rule) for op, rule in known if not op.startswith("diglot.")]
    if text is None:
        return found
    wanted = text.lower()
    exact = [r for r in found if r["op"].lower() == wanted]
    near = [r for r in found if any(wanted in str(r[k]).lower() for k in ("op", "torch", "keras"))]
    if not near:
        import difflib

        close = difflib.get_close_matches(text, [r["op"] for r in found], n=3, cutoff=0.4)
        raise BadInput(
            f"No rule has {text} in it.",
            hint=f"did you mean {', '.join(close)}?" if close else "diglot rules lists all of them",
        )
    return exact or near


def _rule_record(op: str, rule: Any) -> dict[str, Any]:
    fields = ("torch", "layout", "topic", "note", "family")
    keras = next((s for s in (rule.keras, getattr(rule, "layer", None)) if isinstance(s, str)), "")
    if not keras:
        # An irregular op is written by a function; its docstring says in a line what it writes.
        first = (rule.keras.__doc__ or "").strip().partition("\n")[0].replace("``", "")
        keras = first or f"as the case needs (rules/{rule.family}.py)"
    return {"op": op, "keras": keras} | {name: getattr(rule, name, None) for name in fields}
