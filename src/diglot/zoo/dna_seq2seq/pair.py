"""dna-seq2seq: from ancestor to descendant with the encoder-decoder Transformer, from scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.data.dna import PAD, Pairs, deaminate, detokenise, tokenise
from diglot.training import Data, Job, Recipe
from diglot.training.task import Arrays
from diglot.zoo.attention import Attention, keep_attention
from diglot.zoo.dna_data import OWN_DATA, load_parts
from diglot.zoo.pair import Pair, Setting
from diglot.zoo.weights import Weights

RATES = {"substitution": 0.01, "insertion": 0.005, "deletion": 0.005, "deamination": 0.95}
BEAMS_IN = 10  # A beam decodes one sequence at a time: it gets one in so many.
KINDS = {
    "encoder": "Encoder, attention to itself: both ways",
    "decoder": "Decoder, attention to itself: causal",
    "cross": "Decoder, attention to the encoder: cross",
}


class DnaSeq2Seq(Pair):
    """The whole descendant, base after base, from the whole ancestor."""

    name = "dna-seq2seq"
    title = "DNA to DNA: the encoder–decoder Transformer from scratch"
    document = "000"
    style = "layers"
    inputs = ("src", "tgt")
    torch_module = "diglot.zoo.dna_seq2seq.torch_model"
    keras_module = "diglot.zoo.dna_seq2seq.keras_model"
    own_data = OWN_DATA
    settings: ClassVar = {
        "fast": Setting(
            {
                "vocab_size": 7,
                "seq_len": 13,
                "d_model": 32,
                "num_layers": 1,
                "h": 2,
                "d_ff": 64,
                "dropout": 0.02,
            },
            {"longest": 12, "shortest": 6, "count": 6000, "rates": RATES, "decoded": 200},
            Recipe(64, 5, learning_rate=5e-3, schedule="cosine", warmup=30),
        ),
        "full": Setting(
            {
                "vocab_size": 7,
                "seq_len": 25,
                "d_model": 64,
                "num_layers": 2,
                "h": 4,
                "d_ff": 128,
                "dropout": 0.05,
            },
            {"longest": 24, "shortest": 12, "count": 25000, "rates": RATES, "decoded": 1000},
            Recipe(64, 10, learning_rate=2e-3, schedule="cosine", warmup=100, patience=2),
        ),
    }
    goals: ClassVar = {"accuracy": 0.96}

    def data(self, longest: int, decoded: int = 200, **options: Any) -> Data:
        """Tokens (n, longest + 1): ``src``, ``tgt`` (a step late, after SOS), ``targets`` (with EOS).

        ``decoded`` is the number of test pairs that are decoded after training, the first tenth of
        them with a beam, too.
        """
        parts, about = load_parts(longest, **options)
        rows = {name: _rows(pairs, longest + 1) for name, pairs in parts.items()}
        # What there is to reach: whoever knows the rule is right unless chance did something else.
        right = [deaminate(ancestor) == descendant for ancestor, descendant in parts["test"]]
        about["sequence_accuracy_by_rule"] = float(np.mean(right))
        return Data(rows["train"], rows["validation"], rows["test"], about)

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """The same tree on both sides."""
        weights = Weights(state)
        for side in ("src", "tgt"):
            weights.embedding(f"{side}_embed.embedding", f"{side}_embed.embedding")
            weights.tensor(f"{side}_pos.pe", f"{side}_pos.pe", buffer=True)
        for path, module in _modules(sizes["num_layers"]):
            if module == "norm":
                weights.tensor(f"{path}.alpha", f"{path}.alpha")
                weights.tensor(f"{path}.bias", f"{path}.bias")
            else:
                weights.linear(path, path)
        src, tgt = (TensorSpec(("batch", f"{n}_length"), "int64", name=n) for n in self.inputs)
        logits = TensorSpec(("batch", "tgt_length", sizes["vocab_size"]))
        return weights.map([src, tgt], [logits], root="transformer")

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three random pairs, two of them padded."""
        src, tgt = (rng.integers(1, model["vocab_size"], (3, length)) for length in (9, 7))
        src[1, 7:] = src[2, 5:] = tgt[1, 4:] = PAD
        return {"src": src, "tgt": tgt}

    def limits(self, model: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
        """The sinusoids' table ends."""
        return {f"{name}_length": (1, model["seq_len"]) for name in self.inputs}

    def extras(self, predict: Callable[[Arrays], Any], model: Any, job: Job) -> dict[str, Any]:
        """Greedy and beam decoding of test pairs, and the attention of one, as arrays."""
        options = dict(job.data)
        count = options.pop("decoded", 200)
        parts, _ = load_parts(**options)
        pairs = parts["test"][:count]
        decoder = Decoder(model, job.framework, options["longest"] + 1)
        greedy = decoder.greedy(pairs)
        beam = decoder.beam(pairs[: math.ceil(count / BEAMS_IN)])
        src, tgt = [*pairs[0][0]], ["start", *pairs[0][1]]
        axes = {"encoder": (src, src), "decoder": (tgt, tgt), "cross": (tgt, src)}
        attention = [
            Attention(kind, KINDS[kind], weights, *axes[kind])
            for kind, weights in decoder.attention(*pairs[0]).items()
        ]
        wanted = [descendant for _, descendant in pairs]
        return {
            "figures": {
                "greedy token accuracy": token_accuracy(greedy, wanted),
                "greedy sequence accuracy": sequence_accuracy(greedy, wanted),
                "beam sequence accuracy": sequence_accuracy(beam, wanted[: len(beam)]),
            },
            "texts": {ancestor: text for (ancestor, _), text in zip(pairs[:3], beam, strict=False)},
            "attention": keep_attention(job, attention),
        }


class Decoder:
    """A trained model of either framework, as a function from strings to strings."""

    def __init__(self, model: Any, framework: str, maxlen: int) -> None:
        self.model, self.framework, self.maxlen = model, framework, maxlen

    def greedy(self, pairs: Pairs) -> list[str]:
        """Descendants of the ancestors, fed by the framework's own pipeline."""
        found: list[str] = []
        if self.framework == "torch":
            from diglot.zoo.dna_seq2seq import torch_data, torch_decoding

            for src, _, _ in torch_data.batches(pairs, 64):
                rows = torch_decoding.greedy(self.model, src, self.maxlen)
                found += [detokenise(row) for row in rows.tolist()]
        else:
            from diglot.zoo.dna_seq2seq import keras_data, keras_decoding

            for inputs, _ in keras_data.batches(pairs, 64):
                rows = keras_decoding.greedy(self.model, inputs["src"], self.maxlen)
                found += [detokenise(row) for row in rows.tolist()]
        return found

    def beam(self, pairs: Pairs) -> list[str]:
        """The likeliest descendants that a beam finds, one ancestor after the other."""
        sources = [tokenise([ancestor], len(ancestor))[0] for ancestor, _ in pairs]
        if self.framework == "torch":
            import torch

            from diglot.zoo.dna_seq2seq.torch_decoding import beam

            rows = [beam(self.model, torch.from_numpy(src), self.maxlen) for src in sources]
        else:
            from diglot.zoo.dna_seq2seq.keras_decoding import beam

            rows = [beam(self.model, src, self.maxlen) for src in sources]
        return [detokenise(row.tolist()) for row in rows]

    def attention(self, ancestor: str, descendant: str) -> Arrays:
        """The attention weights for one pair, by kind: (layers, heads, queries, keys)."""
        src = tokenise([ancestor], len(ancestor))
        tgt = tokenise([descendant], len(descendant) + 1, start=True)
        if self.framework == "torch":
            import torch

            self.model.eval()
            with torch.no_grad():
                self.model(torch.from_numpy(src), torch.from_numpy(tgt))
            transformer = self.model
        else:
            self.model({"src": src, "tgt": tgt})  # eagerly, so that the layers keep numbers
            transformer = self.model.get_layer("transformer")
        blocks = {
            "encoder": [layer.self_attention_block for layer in transformer.encoder.layers],
            "decoder": [layer.self_attention_block for layer in transformer.decoder.layers],
            "cross": [layer.cross_attention_block for layer in transformer.decoder.layers],
        }
        return {
            kind: np.stack([np.asarray(block.attention_scores)[0] for block in found])
            for kind, found in blocks.items()
        }


def token_accuracy(found: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of bases that stand where they should."""
    right = sum(
        a == b for f, w in zip(found, wanted, strict=True) for a, b in zip(f, w, strict=False)
    )
    return right / sum(max(len(f), len(w)) for f, w in zip(found, wanted, strict=True))


def sequence_accuracy(found: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of sequences that are right from end to end."""
    return float(np.mean([f == w for f, w in zip(found, wanted, strict=True)]))


def _rows(pairs: Pairs, maxlen: int) -> Arrays:
    ancestors, descendants = ([pair[side] for pair in pairs] for side in (0, 1))
    targets = tokenise(descendants, maxlen, end=True)
    return {
        "src": tokenise(ancestors, maxlen),
        "tgt": tokenise(descendants, maxlen, start=True),
        "targets": targets,
        "weights": (targets != PAD).astype(np.float32),
    }


def _modules(num_layers: int) -> list[tuple[str, str]]:
    """The path of every Linear and LayerNormalization, and which of them it is."""
    found = [("projection_layer.proj", "linear")]
    for side, attentions in (("encoder", ["self"]), ("decoder", ["self", "cross"])):
        for layer in range(num_layers):
            here = f"{side}.layers.{layer}"
            for kind in attentions:
                block = f"{here}.{kind}_attention_block"
                found += [(f"{block}.{name}", "linear") for name in ("w_q", "w_k", "w_v", "w_o")]
            for name in ("linear_1", "linear_2"):
                found.append((f"{here}.feed_forward_block.{name}", "linear"))
            for index in range(len(attentions) + 1):
                found.append((f"{here}.residual_connections.{index}.norm", "norm"))
        found.append((f"{side}.norm", "norm"))
    return found


PAIR = DnaSeq2Seq()
