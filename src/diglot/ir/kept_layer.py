"""A layer of Keras's that PyTorch has none for: what a translation notes of it, so that the way back makes it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diglot.ir.weight_entry import WeightEntry, freeze


@dataclass(frozen=True)
class KeptLayer:
    """A module of a PyTorch program that stands for one layer of Keras's.

    ``source`` is the module's path, ``target`` the layer's in the Keras model; ``layer`` is what
    ``keras.saving.serialize_keras_object`` gives. ``inputs``: for each tensor the parameter of ``forward``, Keras's
    argument (``initial_state.0`` within a list) and its permutation. ``outputs``: for each tensor that the module
    returns, the path to it in what the layer returns, and its permutation (Keras's is PyTorch's, permuted).
    ``arguments`` are the plain ones of the call. ``weights`` are those of the layer, by their paths below it.

    Where no module stands for it, but several calls in the code of another, ``ranks`` are those of its inputs and
    outputs; these are found by what they are, and ``source`` is a name for it. ``constants`` are the names in PyTorch
    of tensors that are numbers of the layer's own configuration, no weights of Keras's.
    """

    source: str
    target: str
    layer: Mapping[str, Any]
    inputs: Sequence[tuple[str, str, Sequence[int] | None]]
    outputs: Sequence[tuple[str, Sequence[int] | None]]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Sequence[WeightEntry] = ()
    ranks: Sequence[int] = ()
    constants: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Freeze the sequences, so that a layer read from JSON equals the written one."""
        for name in ("inputs", "outputs", "ranks", "constants"):
            object.__setattr__(self, name, freeze(tuple(getattr(self, name))))
        made = [w if isinstance(w, WeightEntry) else WeightEntry(**w) for w in self.weights]
        object.__setattr__(self, "weights", tuple(made))

    @property
    def path(self) -> str:
        """Where it is in the program: a module's path; a name of its own, where the program is that layer."""
        return self.source or self.target.rpartition(".")[2]

    def called_with(
        self, values: Sequence[Any], in_rows: Callable[[Any], Any] = lambda mask: mask[..., None]
    ) -> dict[str, Any]:
        """The arguments of a call, given a value for each of the inputs; in a list None is where no tensor was.

        Keras's attention takes a mask of the queries off the tensor alone: an argument must be a mask of the scores,
        with a row for each query, which ``in_rows`` makes of it.
        """
        found: dict[str, Any] = {}
        known = {argument for _, argument, _ in self.inputs}
        for value, (_, argument, _) in zip(values, self.inputs, strict=True):
            name, _, place = argument.partition(".")
            if name == "query_mask" and "attention_mask" not in known:
                found["attention_mask"] = in_rows(value)
            elif place:
                listed = found.setdefault(name, [])
                listed += [None] * (int(place) - len(listed)) + [value]
            else:
                found[name] = value
        return found

    @property
    def sources(self) -> list[str]:
        """The names of its weights in PyTorch."""
        return list(dict.fromkeys(name for entry in self.weights for name in entry.sources))


@dataclass(frozen=True)
class Placed:
    """A kept layer in a captured program: ``constructor`` is its source text, ``positional`` says how many of its
    inputs are given by position."""

    layer: KeptLayer
    constructor: str
    positional: int
