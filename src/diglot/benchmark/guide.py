"""`diglot guide`: which architecture for a task, and which framework for a need, each with a reason that
a measurement bears out.

A reason cites claims ("C15": see `diglot zoo claims C15`) and figures of the comparison ("step": see
`diglot zoo compare`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from diglot.errors import EXIT_PROVEN, UsageError

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Advice:
    """For something that one wants: what to take, why, and the claims and figures that show it."""

    want: str
    take: str
    reason: str
    cites: tuple[str, ...]


ENCODER, DECODER, BOTH = "encoder-only", "decoder-only", "encoder–decoder"

TASKS = (
    Advice(
        "text classification",
        ENCODER,
        "One label for the whole text: every word may look both ways, and nothing is written.",
        ("C15", "C16"),
    ),
    Advice(
        "sentiment analysis",
        ENCODER,
        "A late “not” turns what came before it: words must see those that follow.",
        ("C15",),
    ),
    Advice(
        "named-entity recognition",
        ENCODER,
        "A label for each word, which often depends on the next: a causal model does not see it.",
        ("C15",),
    ),
    Advice(
        "question answering (a span of the text)",
        ENCODER,
        "The answer's ends are marked in the text, which is read both ways.",
        ("C15",),
    ),
    Advice(
        "text generation",
        DECODER,
        "Each word follows from those before it, and what was computed for them stays valid.",
        ("C15", "C17"),
    ),
    Advice(
        "language modelling",
        DECODER,
        "The next word is the task and the training objective in one.",
        ("C16",),
    ),
    Advice(
        "code generation",
        DECODER,
        "Long continuations, token by token: the past is never computed again.",
        ("C15", "C17"),
    ),
    Advice(
        "chat",
        DECODER,
        "The conversation so far is the prompt; its attention grows with the square of its length.",
        ("C13", "C15"),
    ),
    Advice(
        "translation",
        BOTH,
        "The source is read whole before the first word is written; two stacks cost twice the memory.",
        ("C14", "C15"),
    ),
    Advice(
        "summarisation",
        BOTH,
        "A long source is read both ways, once; the short summary attends to it.",
        ("C13", "C14"),
    ),
    Advice(
        "text to text",
        BOTH,
        "It is trained on nothing else: every task is a source and a target.",
        ("C14", "C16"),
    ),
    Advice(
        "paraphrasing",
        BOTH,
        "The source must be understood whole, and what is written is new.",
        ("C14", "C15"),
    ),
)

DESIGN = (
    Advice(
        "many layers",
        "pre-norm",
        "The same encoder of 24 layers learns with normalisation before each sublayer; with it after, "
        "and no warm-up, it learns nothing.",
        ("C2",),
    ),
    Advice(
        "positions",
        "learned or sinusoidal",
        "Either works, and none at all does not; sinusoids have no weights.",
        ("C5",),
    ),
    Advice(
        "long texts",
        "fused attention",
        "Attention weights grow with the square of the length, for every head and layer; a fused "
        "attention never keeps them.",
        ("C12", "C13"),
    ),
    Advice(
        "varied text",
        "sampling",
        "Temperature changes nothing in greedy decoding: sample, with top-k or top-p.",
        ("C17",),
    ),
)

NEEDS = (
    Advice(
        "the best score",
        "either",
        "From the same start and on the same batches both end with the same score.",
        ("C1", "C6", "score"),
    ),
    Advice(
        "little code",
        "either",
        "The models are about as long in both, a little shorter now here, now there; so is the code "
        "around a training step.",
        ("C3",),
    ),
    Advice(
        "looking inside while training",
        "PyTorch",
        "Its code sees values; in Keras's fit it sees symbols, unless run_eagerly=True.",
        ("C4", "C8"),
    ),
    Advice(
        "many short runs",
        "PyTorch",
        "Keras traces the model before its first step.",
        ("first_step",),
    ),
    Advice(
        "training on a CPU",
        "measure",
        "Which one is faster depends on the model.",
        ("C19", "step", "epochs"),
    ),
    Advice(
        "one example at a time, on a CPU",
        "PyTorch, or Keras as a tf.function",
        "Keras called directly, and more so its predict, spend most of a small model's time on "
        "themselves.",
        ("C20", "C26", "latency_eager", "latency_compiled", "latency_predict"),
    ),
    Advice(
        "little memory",
        "PyTorch",
        "Beyond what the framework itself takes, Keras's training took more in nearly every pair.",
        ("C21", "memory"),
    ),
    Advice(
        "a GPU shared with other programs",
        "PyTorch",
        "TensorFlow is said to take all of its memory, unless memory growth is set: measured where "
        "there is a GPU.",
        ("C28",),
    ),
    Advice(
        "a PyTorch model in a TensorFlow product",
        "Keras, translated",
        "TFAutoModel is gone; diglot translate carries code and weights across, and proves it.",
        ("C24",),
    ),
    Advice(
        "TensorFlow 1 programs",
        "tf.compat.v1",
        "They run through it alone; Keras 2 programs need changes as well.",
        ("C29",),
    ),
)

SECTIONS = {
    "Which architecture for a task": TASKS,
    "How to build it": DESIGN,
    "Which framework for a need": NEEDS,
}


def find_advice(want: str | None) -> dict[str, tuple[Advice, ...]]:
    """The advice on everything, or on what has `want` in its name. Raises UsageError for nothing."""
    if want is None:
        return SECTIONS
    found = {
        title: tuple(a for a in advice if want.lower() in a.want.lower())
        for title, advice in SECTIONS.items()
    }
    if not any(found.values()):
        known = ", ".join(a.want for advice in SECTIONS.values() for a in advice)
        raise UsageError(f"The guide says nothing about {want!r}.", expected=known)
    return {title: advice for title, advice in found.items() if advice}


def as_json(sections: Mapping[str, Sequence[Advice]]) -> dict[str, Any]:
    """What ``--json`` prints."""
    advice = {title: [asdict(a) for a in advice] for title, advice in sections.items()}
    return {"exit_code": EXIT_PROVEN, "guide": advice}


def guide_view(sections: Mapping[str, Sequence[Advice]]) -> Group:
    """The advice as the terminal shows it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[Any] = []
    for title, advice in sections.items():
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in (title, "take", "why", "measured"):
            table.add_column(column)
        for a in advice:
            row = (Text(a.want, style="bold"), a.take, a.reason, Text(", ".join(a.cites)))
            table.add_row(*row)
        parts += [table, Text()]
    note = "C…: diglot zoo claims C…; the other names are figures of diglot zoo compare."
    return Group(*parts, Text(note, style="dim"))


def guide_page() -> str:
    """The advice as Markdown."""
    parts = [
        "# Which architecture, and which framework\n",
        "<!-- Made by `python -m diglot.report.docs`; do not edit. -->\n",
        "Every reason names what bears it out: `C…` a claim that `diglot zoo claims C…` measures, any "
        "other name a figure of `diglot zoo compare`. `diglot guide TASK` prints one row.\n",
    ]
    for title, advice in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts.append("| | Take | Why | Measured |\n|---|---|---|---|")
        for a in advice:
            cites = ", ".join(f"`{name}`" for name in a.cites)
            parts.append(f"| {a.want} | {a.take} | {a.reason} | {cites} |")
        parts.append("")
    return "\n".join(parts).rstrip("\n") + "\n"
