"""Weight maps between hand-written models, written down layer by layer.

>>> weights = Weights(state)
>>> weights.linear("hidden", "fc1")          # Dense hidden <- nn.Linear fc1
>>> weights.embedding("words", "embed")
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightEntry, WeightMap
from diglot.errors import BadInput

Step = tuple[object, ...]


class Weights:
    """Collects the entries of one weight map. Targets are paths of layers in the Keras model
    ("blocks.0.attention"), sources of modules in the PyTorch model; what neither has (a missing
    bias) is left out. Every method raises BadInput where PyTorch has no such weight."""

    def __init__(self, state: dict[str, np.ndarray]) -> None:
        """Start from PyTorch's state dict, which gives names, shapes and dtypes."""
        self.state = state
        self.entries: list[WeightEntry] = []

    def tensor(self, target: str, source: str, *steps: Step, buffer: bool = False) -> None:
        """One weight, through `steps` (see `codegen.weights`)."""
        if source not in self.state:
            raise BadInput(f"The PyTorch model has no weight {source!r}.", where=target)
        array = self.state[source]
        probe = WeightEntry(target, [source], (), [array.shape], steps=steps)
        shape = probe._parts([array])[0].shape
        self.entries.append(
            WeightEntry(
                target,
                [source],
                shape,
                [array.shape],
                steps=steps,
                dtype=str(array.dtype),
                trainable=not buffer,
                kind="buffer" if buffer else "parameter",
            )
        )

    def _bias(self, target: str, source: str, *steps: Step) -> None:
        if source in self.state:
            self.tensor(target, source, *steps)

    def linear(self, target: str, source: str) -> None:
        """Dense <- nn.Linear: the kernel is the weight transposed."""
        self.tensor(f"{target}.kernel", f"{source}.weight", ("permute", [1, 0]))
        self._bias(f"{target}.bias", f"{source}.bias")

    def embedding(self, target: str, source: str) -> None:
        """Embedding <- nn.Embedding."""
        self.tensor(f"{target}.embeddings", f"{source}.weight")

    def conv2d(self, target: str, source: str) -> None:
        """Conv2D <- nn.Conv2d: (out, in, h, w) becomes (h, w, in, out)."""
        self.tensor(f"{target}.kernel", f"{source}.weight", ("permute", [2, 3, 1, 0]))
        self._bias(f"{target}.bias", f"{source}.bias")

    def norm(self, target: str, source: str) -> None:
        """LayerNormalization <- nn.LayerNorm."""
        self.tensor(f"{target}.gamma", f"{source}.weight")
        self._bias(f"{target}.beta", f"{source}.bias")

    def batch_norm(self, target: str, source: str) -> None:
        """BatchNormalization <- nn.BatchNorm, its running statistics included."""
        self.norm(target, source)
        self.tensor(f"{target}.moving_mean", f"{source}.running_mean", buffer=True)
        self.tensor(f"{target}.moving_variance", f"{source}.running_var", buffer=True)

    def heads(self, target: str, source: str, heads: int, *, rows: slice | None = None) -> None:
        """A projection to heads, EinsumDense (model, heads, size) <- nn.Linear (heads * size, model).

        `rows` takes a part of the Linear's rows: a third of a fused query-key-value projection.
        `source` is the Linear, or the prefix of `weight` and `bias` ("attention.in_proj_").
        """
        dot = "" if source.endswith("_") else "."
        weight, bias = f"{source}{dot}weight", f"{source}{dot}bias"
        cut: list[Step] = [] if rows is None else [("slice", 0, rows.start, rows.stop)]
        count = self.state[weight].shape[0] if rows is None else rows.stop - rows.start
        shape = [self.state[weight].shape[1], heads, count // heads]
        split: Step = ("reshape", shape)
        self.tensor(f"{target}.kernel", weight, *cut, ("permute", [1, 0]), split)
        self._bias(f"{target}.bias", bias, *cut, ("reshape", [heads, count // heads]))

    def merge(self, target: str, source: str, heads: int) -> None:
        """The projection out of heads, EinsumDense (heads, size, model) <- nn.Linear."""
        out, width = self.state[f"{source}.weight"].shape
        split: Step = ("reshape", [heads, width // heads, out])
        self.tensor(f"{target}.kernel", f"{source}.weight", ("permute", [1, 0]), split)
        self._bias(f"{target}.bias", f"{source}.bias")

    def attention(self, target: str, source: str, heads: int) -> None:
        """keras.layers.MultiHeadAttention <- nn.MultiheadAttention, whose projection in is fused."""
        width = self.state[f"{source}.in_proj_weight"].shape[0] // 3
        for index, part in enumerate(("query", "key", "value")):
            rows = slice(index * width, (index + 1) * width)
            self.heads(f"{target}.{part}_dense", f"{source}.in_proj_", heads, rows=rows)
        self.merge(f"{target}.output_dense", f"{source}.out_proj", heads)

    def four_linears(self, target: str, source: str, heads: int, names: Sequence[str]) -> None:
        """keras.layers.MultiHeadAttention <- four nn.Linear, called `names`: query, key, value, out."""
        *projections, out = names
        for part, name in zip(("query", "key", "value"), projections, strict=True):
            self.heads(f"{target}.{part}_dense", f"{source}.{name}", heads)
        self.merge(f"{target}.output_dense", f"{source}.{out}", heads)

    def map(
        self,
        inputs: list[TensorSpec],
        outputs: list[TensorSpec],
        unused: Sequence[str] = (),
        root: str | None = None,
    ) -> WeightMap:
        """The whole map. `unused` are weights of PyTorch's that Keras computes instead of storing;
        `root` is the layer of the Keras model that targets start from, if not from the model itself.

        Raises BadInput where a weight of PyTorch's was forgotten.
        """
        used = {name for entry in self.entries for name in entry.sources}
        # Batch norm counts its batches, for a momentum that nobody here uses.
        free = {name for name in self.state if name.endswith("num_batches_tracked")}
        forgotten = sorted(set(self.state) - used - set(unused) - free)
        if forgotten:
            raise BadInput("The weight map leaves out weights.", received=", ".join(forgotten))
        why = "computed, not stored, in Keras"
        single = len(inputs) == 1
        return WeightMap(
            entries=self.entries,
            unmapped=[{"source": name, "why": why} for name in sorted({*unused, *free})],
            inputs=inputs,
            outputs=outputs,
            root=root,
            structure={
                "inputs": "single" if single else "dict",
                "outputs": "tensor" if len(outputs) == 1 else "dict",
            },
        )
