"""A pair: one system, written by hand in both languages, and how it is trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diglot.errors import UsageError
from diglot.training import Recipe, Task

if TYPE_CHECKING:
    from rich.console import Group

Tell = Callable[[str, Mapping[str, Any]], None]

PATH_STEPS = 100
PATH_TOLERANCE = 1e-6


@dataclass(frozen=True)
class AtMost:
    """A goal for a score of which less is better (perplexity)."""

    value: float


@dataclass(frozen=True)
class Setting:
    """One size of a pair: the arguments of its models and its data, and its recipe."""

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    recipe: Recipe

    def but(self, changes: Mapping[str, str]) -> Setting:
        """The setting with some arguments changed, given as text by name: of the models, the data or
        the recipe. Raises UsageError for a name or a value that cannot be."""
        parts = [dict(self.model), dict(self.data), self.recipe.to_dict()]
        for name, text in changes.items():
            holders = [part for part in parts if name in part]
            if not holders:
                raise UsageError(
                    f"There is no argument {name!r} to set.",
                    expected=", ".join(sorted({name for part in parts for name in part})),
                )
            for part in holders:
                part[name] = parsed(name, text, part[name])
        return Setting(parts[0], parts[1], Recipe(**parts[2]))


@dataclass(frozen=True)
class Options:
    """What of an exhibit to run, and where its files go. ``faithful``, ``epochs``, ``data`` (a path, in
    place of the pair's own data) and ``changes`` (of arguments of the setting, as text by name) are for
    pairs that train."""

    setting: str
    directory: Path
    faithful: bool = False
    epochs: int | None = None
    seed: int = 0
    data: Path | None = None
    changes: Mapping[str, str] = field(default_factory=dict)


class Exhibit:
    """Something of the zoo that can be run: it has a name, a page README.md in its folder, and gives
    figures. ``settings`` holds at least "fast" and "full". ``own_data`` says what ``Options.data`` may
    name ("a CSV file with …"); a pair's `data` then takes a ``path``."""

    name: ClassVar[str]
    title: ClassVar[str]
    document: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]]
    faithful: ClassVar[Mapping[str, Any]] = {}
    own_data: ClassVar[str] = ""

    def check(self, options: Options) -> None:
        """Refuse options that mean nothing here. Raises UsageError."""
        if options.faithful and not self.faithful:
            raise UsageError(
                f"{self.name} does as its document does: there is nothing for --faithful to change."
            )
        if options.data is not None and not self.own_data:
            raise UsageError(f"{self.name} learns from its own data only; leave --data out.")
        if isinstance(self, Pair):
            return
        given = [*options.changes] + (["epochs"] if options.epochs is not None else [])
        if given:
            raise UsageError(
                f"{self.name} trains no pair: there is nothing to set.", received=", ".join(given)
            )

    def run(self, options: Options, tell: Tell) -> dict[str, Any]:
        """Run it; gives what result.json holds: "exit_code", "pair", "setting", and figures.

        ``tell`` hears (title of a stage, {"kind": "stage"}) and what happens in it. Raises
        UsageError, BadInput and WorkerFailed.
        """
        raise NotImplementedError

    def view(self, result: Mapping[str, Any]) -> Group:
        """The result as the terminal shows it."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """Where its source lies."""
        return Path(str(sys.modules[type(self).__module__].__file__)).parent


class Pair(Task, Exhibit):
    """A task with a name, a page and settings.

    ``settings`` holds "fast" (under a minute for everything, on two cores) and "full" (reaches
    ``goals``: by name the lowest test score, or `AtMost` the highest). ``document`` is where the
    system comes from ("000" to "004"). ``style`` is the style of translation that compares with the
    hand-written Keras model: "functional" or "layers". ``faithful`` changes the models' arguments to
    what the document does, where that is worth showing beside the proper way, and ``faithful_note``
    says what it is.
    """

    style: ClassVar[str] = "functional"
    settings: ClassVar[Mapping[str, Setting]]
    goals: ClassVar[Mapping[str, float | AtMost]] = {}
    faithful_note: ClassVar[str] = ""

    def run(self, options: Options, tell: Tell) -> dict[str, Any]:
        """Train both, prove, draw: see `zoo.running`."""
        from diglot.zoo.running import Runner

        return Runner(self, options, tell).run()

    def view(self, result: Mapping[str, Any]) -> Group:
        """Scores, verdict and the first steps."""
        from diglot.zoo.console import result_view

        return result_view(result)

    def setting(self, name: str, faithful: bool = False) -> Setting:
        """A setting by name, as the document does it where `faithful`. Raises UsageError."""
        if name not in self.settings:
            raise UsageError(
                f"{self.name} has no setting {name!r}.", expected=" or ".join(self.settings)
            )
        found = self.settings[name]
        if not faithful:
            return found
        return Setting({**found.model, **self.faithful}, found.data, found.recipe)

    def settle(self, setting: Setting) -> Setting:
        """The setting with what follows from its other arguments: as many classes as the data have.
        Raises BadInput for arguments that cannot be."""
        return setting

    def files(self, setting: Setting, folder: Path, tell: Tell) -> dict[str, Any]:
        """Makes the files that a run's processes share (a tokenizer) below the run's `folder`; gives
        more arguments for `data`, which say where they are."""
        return {}

    def prepared(self, setting: Setting, folder: Path, tell: Tell) -> Setting:
        """The setting with the files that its data needs, made below `folder`."""
        data = {**setting.data, **self.files(setting, folder, tell)}
        return Setting(setting.model, data, setting.recipe)

    def checks(self, setting: Setting) -> list[tuple[bool, str]]:
        """What else must hold for the two sides to be one system, beside the proof: whether it does,
        and a sentence. Called after training; `setting` is complete."""
        return []

    def classify(self, folder: Path, framework: str, texts: list[str]) -> list[dict[str, float]]:
        """The probability of each class, by name, for each text, from what a run left in `folder`.

        Raises UsageError where the pair classifies no texts, BadInput where the run is unfinished.
        """
        raise UsageError(f"{self.name} classifies no texts.", hint="see: diglot zoo list")

    def exact(self, setting: Setting) -> Setting:
        """The setting for comparing the two step by step: no dropout, and an epsilon of Adam's that
        plays no part, since PyTorch adds it after the bias correction and Keras before it."""
        model = {n: 0.0 if n.startswith("dropout") else v for n, v in setting.model.items()}
        return Setting(model, setting.data, setting.recipe.but(epsilon=1e-15))

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Small valid inputs for models of these sizes, by name: for proof and translation."""
        raise NotImplementedError

    def limits(self, model: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
        """The least and the largest value of each dynamic size, where it is not 1 and no limit."""
        return {}

    def draw(self, result: Mapping[str, Any], folder: Path) -> None:
        """More pictures of a run than its curves, into `folder`, from `result` and from the files that
        `extras` left in the folder of each run's label: by default of the attention that they kept."""
        from diglot.zoo.attention import draw_attention_of

        draw_attention_of(result["runs"], folder)

    def torch_source(self) -> str:
        """The text of torch_model.py."""
        return (self.folder / "torch_model.py").read_text(encoding="utf-8")

    def keras_source(self) -> str:
        """The text of keras_model.py."""
        return (self.folder / "keras_model.py").read_text(encoding="utf-8")

    @property
    def task_name(self) -> str:
        """How a training process finds the pair."""
        return f"{type(self).__module__}:PAIR"


def read_changes(texts: Sequence[str]) -> dict[str, str]:
    """["width=8", …] as {"width": "8"}; raises UsageError for what is no NAME=VALUE."""
    changes = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError("This sets nothing.", expected="NAME=VALUE", received=text)
        changes[name.strip()] = value.strip()
    return changes


def parsed(name: str, text: str, present: Any) -> Any:
    """`text` as a value of the kind of `present`: where that is None, a number if it is one, or else
    itself. Raises UsageError for another kind."""
    if isinstance(present, str):
        return text
    try:
        value = json.loads(f"[{text}]" if isinstance(present, (list, tuple)) else text.lower())
    except ValueError:
        value = None
    kinds = {bool: bool, int: int, float: (int, float), list: list, tuple: list}
    if present is None:
        return text if value is None else value
    wanted = kinds[type(present)]
    if not isinstance(value, wanted) or isinstance(value, bool) != isinstance(present, bool):
        raise UsageError(
            f"{name} cannot be {text!r}.",
            expected=f"something like {json.dumps(present).strip('[]')}",
        )
    return value
