"""What the two sides of a proof are called: which of them is the source, which the translation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sides:
    """The words for both directions. Whatever is compared, PyTorch's figures are computed here and
    Keras's in the worker; which of the two must be right is another matter."""

    to_torch: bool = False

    @property
    def torch(self) -> str:
        """PyTorch's side, in a sentence that names the translation as such."""
        return "the translation" if self.to_torch else "PyTorch"

    @property
    def keras(self) -> str:
        """Keras's side, in such a sentence."""
        return "Keras" if self.to_torch else "the translation"

    @property
    def missing(self) -> str:
        """What is wrong with something that PyTorch's side has and Keras's has not."""
        return "is there in the translation only" if self.to_torch else "is missing"

    @property
    def torch_weight(self) -> str:
        """A weight on PyTorch's side."""
        return "weight of the translation" if self.to_torch else "source weight"

    @property
    def keras_weight(self) -> str:
        """A weight on Keras's side."""
        return "weight of the source" if self.to_torch else "target weight"


FORWARD = Sides()
