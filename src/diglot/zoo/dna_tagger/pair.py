"""dna-tagger: what became of every base of an ancestor, told by an encoder that sees all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.data.dna import BASES, PAD, Pairs, deaminate, tokenise
from diglot.training import Batch, Data, Recipe
from diglot.training.task import Arrays, Scores, accuracy, cross_entropy
from diglot.zoo.dna_data import OWN_DATA, load_parts
from diglot.zoo.pair import Pair, Setting
from diglot.zoo.weights import Weights

# A C before a G becomes T nine times in ten: to tell a base's fate, look at its neighbour.
RATES = {"substitution": 0.02, "insertion": 0.0, "deletion": 0.0, "deamination": 0.9}


def _sizes(maxlen: int, embed_dim: int, num_heads: int, ff_dim: int) -> dict[str, Any]:
    return {
        "maxlen": maxlen,
        "vocab_size": len(BASES) + 1,
        "embed_dim": embed_dim,
        "num_heads": num_heads,
        "ff_dim": ff_dim,
        "num_transformer_blocks": 2,
        "dropout_rate": 0.1,
    }


class DnaTagger(Pair):
    """The descendant's base for each of the ancestor's, position by position."""

    name = "dna-tagger"
    title = "A DNA tagger: the encoder alone"
    document = "000"
    style = "layers"
    inputs = ("ancestor",)
    torch_module = "diglot.zoo.dna_tagger.torch_model"
    keras_module = "diglot.zoo.dna_tagger.keras_model"
    settings: ClassVar = {
        "fast": Setting(
            _sizes(maxlen=16, embed_dim=32, num_heads=2, ff_dim=64),
            {"maxlen": 16, "shortest": 10, "count": 6000, "rates": RATES},
            Recipe(64, 5, learning_rate=5e-3, schedule="cosine", warmup=20, patience=2),
        ),
        "full": Setting(
            _sizes(maxlen=32, embed_dim=32, num_heads=4, ff_dim=64),
            {"maxlen": 32, "shortest": 20, "count": 20000, "rates": RATES},
            Recipe(64, 8, learning_rate=3e-3, schedule="cosine", warmup=50, patience=2),
        ),
    }
    own_data = OWN_DATA
    goals: ClassVar = {"accuracy": 0.97, "precision": 0.97, "recall": 0.97}

    def data(self, maxlen: int, **options: Any) -> Data:
        """Tokens (n, maxlen) of ancestors and descendants; every base of a descendant counts."""
        parts, about = load_parts(maxlen, **options)
        rows = {name: _rows(pairs, maxlen) for name, pairs in parts.items()}
        test = rows["test"]
        # What there is to reach: by copying, and by the simulator's own rule.
        ruled = tokenise([deaminate(ancestor) for ancestor, _ in parts["test"]], maxlen)
        for name, guess in (("copying", test["ancestor"]), ("rule", ruled)):
            right = (guess == test["targets"]) * test["weights"]
            about[f"accuracy_by_{name}"] = float(right.sum() / test["weights"].sum())
        return Data(rows["train"], rows["validation"], test, about)

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """Two embeddings, the blocks, a classifier."""
        weights = Weights(state)
        for name in ("token_emb", "pos_emb"):
            weights.embedding(f"embedding.{name}", f"embedding.{name}")
        for i in range(sizes["num_transformer_blocks"]):
            here, there = f"block_{i}", f"blocks.{i}"
            weights.four_linears(
                f"{here}.att",
                f"{there}.att",
                sizes["num_heads"],
                ("query", "key", "value", "output"),
            )
            for name in ("ffn1", "ffn2"):
                weights.linear(f"{here}.{name}", f"{there}.{name}")
            for name in ("layernorm1", "layernorm2"):
                weights.norm(f"{here}.{name}", f"{there}.{name}")
        weights.linear("classifier", "classifier")
        shape = ("batch", "length")
        return weights.map(
            [TensorSpec(shape, "int64", name="ancestor")],
            [TensorSpec((*shape, sizes["vocab_size"]))],
        )

    def score(self, outputs: Any, batch: Batch) -> Scores:
        """Cross-entropy, accuracy, precision and recall of all tokens, and the recall of mutations."""
        counts = np.asarray(batch.weights)
        mutated = counts * (batch.inputs["ancestor"] != batch.targets)
        # As keras.metrics.Precision and Recall have it for one-hot targets: what is said is every
        # class whose probability is above one half.
        said = _softmax(outputs) > 0.5
        right = float(
            (np.take_along_axis(said, batch.targets[..., None], -1)[..., 0] * counts).sum()
        )
        return {
            "loss": cross_entropy(outputs, batch.targets, counts),
            "accuracy": accuracy(outputs, batch.targets, counts),
            "precision": (right, float((said.any(axis=-1) * counts).sum())),
            "recall": (right, float(counts.sum())),
            "mutation_recall": accuracy(outputs, batch.targets, mutated),
        }

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three random ancestors of 11 bases, the last two of them padded."""
        ancestor = rng.integers(1, model["vocab_size"], (3, 11))
        ancestor[1, 8:] = ancestor[2, 5:] = PAD
        return {"ancestor": ancestor}

    def limits(self, model: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
        """There are ``maxlen`` positions."""
        return {"length": (1, model["maxlen"])}


def _rows(pairs: Pairs, maxlen: int) -> Arrays:
    ancestors, descendants = ([pair[side] for pair in pairs] for side in (0, 1))
    targets = tokenise(descendants, maxlen)
    return {
        "ancestor": tokenise(ancestors, maxlen),
        "targets": targets,
        "weights": (targets != PAD).astype(np.float32),
    }


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


PAIR = DnaTagger()
