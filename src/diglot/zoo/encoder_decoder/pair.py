"""encoder-decoder: a T5, which learns to write what was cut out of a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.errors import BadInput
from diglot.training import Batch, Job, Recipe
from diglot.training.task import Arrays
from diglot.zoo.attention import Attention, attention_weights
from diglot.zoo.pair import AtMost, Setting
from diglot.zoo.text.pair import FAST, FULL, TextPair
from diglot.zoo.weights import Weights

PAD, END, SENTINEL = 0, 1, 2
SENTINELS = 32
CUT, SPAN = 0.15, 3
"""The share of the tokens that is cut out, and the mean length of a piece."""
GAPS = (
    "The government has <extra_0> the new law.",
    "The film won the <extra_0> at the festival in <extra_1>.",
)
LOOKED_AT = "The government has said that it will not raise taxes for small firms this year."


class EncoderDecoder(TextPair):
    """Span corruption: text with gaps in, the contents of the gaps out."""

    name = "encoder-decoder"
    title = "An encoder-decoder Transformer (T5) on BBC News"
    inputs = ("source", "target")
    torch_module = "diglot.zoo.encoder_decoder.torch_model"
    keras_module = "diglot.zoo.encoder_decoder.keras_model"
    specials = ("<pad>", "<end>", *(f"<extra_{number}>" for number in range(SENTINELS)))
    settings: ClassVar = {
        "fast": Setting(
            FAST,
            dict(vocab_size=1024, length=40, articles=80),
            Recipe(batch_size=32, epochs=2, learning_rate=3e-3, warmup=10),
        ),
        "full": Setting(
            FULL,
            dict(vocab_size=2048, length=96),
            Recipe(batch_size=32, epochs=1, learning_rate=1e-3, schedule="cosine", warmup=100),
        ),
    }
    goals: ClassVar = {"perplexity": AtMost(150.0)}

    def batch(self, rows: Arrays, rng: np.random.Generator) -> Batch:
        """Pieces are cut out of each row, anew each time; all rows lose as many tokens in as many
        pieces, so that nothing needs padding."""
        pairs = [corrupt(row, rng) for row in rows["tokens"]]
        source, expected = (np.stack(part) for part in zip(*pairs, strict=True))
        target = np.pad(expected[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
        return Batch({"source": source, "target": target}, expected)

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """Both stacks, block by block."""
        weights, heads = Weights(state), sizes["num_heads"]
        weights.embedding("transformer.embedding", "embedding")
        weights.tensor("transformer.positions", "positions", buffer=True)
        for stack in ("encoder", "decoder"):
            for index in range(sizes["num_layers"]):
                ours, theirs = f"transformer.{stack}.{index}", f"{stack}.layers.{index}"
                weights.attention(f"{ours}.attention", f"{theirs}.self_attn", heads)
                weights.norm(f"{ours}.attention_norm", f"{theirs}.norm1")
                if stack == "decoder":
                    weights.attention(f"{ours}.cross_attention", f"{theirs}.multihead_attn", heads)
                    weights.norm(f"{ours}.cross_norm", f"{theirs}.norm2")
                weights.linear(f"{ours}.hidden", f"{theirs}.linear1")
                weights.linear(f"{ours}.output_dense", f"{theirs}.linear2")
                last = "norm3" if stack == "decoder" else "norm2"
                weights.norm(f"{ours}.output_norm", f"{theirs}.{last}")
        weights.linear("transformer.logits", "output")
        return weights.map(
            [
                TensorSpec(("batch", "source_length"), "int64", name="source"),
                TensorSpec(("batch", "target_length"), "int64", name="target"),
            ],
            [TensorSpec(("batch", "target_length", sizes["vocab_size"]))],
        )

    def limits(self, model: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
        """Neither side is longer than the table of positions."""
        return {f"{side}_length": (1, model["max_length"]) for side in self.inputs}

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three rows of random tokens, the sources longer than the targets."""
        vocabulary = model["vocab_size"]
        return {
            "source": rng.integers(0, vocabulary, (3, 11)),
            "target": rng.integers(0, vocabulary, (3, 6)),
        }

    def extras(self, predict: Callable[[Arrays], Any], model: Any, job: Job) -> dict[str, Any]:
        """What the model writes into gaps."""
        tokenizer = self.corpus(job.data).tokenizer
        texts = {}
        for gap in GAPS:
            source = np.array([[*tokenizer.encode(gap).ids, END]])
            found = self._written(job, model, source)
            texts[gap] = tokenizer.decode(list(found), skip_special_tokens=False)
        return {"texts": texts, "attention": self.keep_attention(job, model)}

    def attention(self, job: Job, model: Any) -> list[Attention]:
        """What both sides see of themselves, and the decoder of the source, for one text with gaps."""
        tokenizer = self.corpus(job.data).tokenizer
        row = {"tokens": np.array([tokenizer.encode(LOOKED_AT).ids])}
        inputs = self.batch(row, np.random.default_rng(0)).inputs
        found = attention_weights(self, job, model, inputs)
        layers = job.model["num_layers"]
        src, tgt = (self.tokens(tokenizer, inputs[name][0]) for name in self.inputs)
        encoder, decoder = found[:layers], found[layers:]  # the decoder's: itself, the source, …
        return [
            Attention(
                "encoder", "Encoder, attention to itself: both ways", np.stack(encoder), src, src
            ),
            Attention("decoder", "Decoder, to itself: causal", np.stack(decoder[::2]), tgt, tgt),
            Attention("cross", "Decoder, to the source: cross", np.stack(decoder[1::2]), tgt, src),
        ]

    def _written(self, job: Job, model: Any, source: np.ndarray) -> np.ndarray:
        """What the framework's `generate` puts out for one source, (count,)."""
        if job.framework == "keras":
            from diglot.zoo.encoder_decoder import keras_model

            return np.asarray(keras_model.generate(model, source, PAD, END, 16))[0]
        import torch

        from diglot.zoo.encoder_decoder import torch_model

        return torch_model.generate(model, torch.from_numpy(source), PAD, END, 16).numpy()[0]


def corrupt(tokens: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A row of tokens as T5 learns from it: the text with a sentinel for each piece that is cut out,
    and the pieces, each after its sentinel; both with the end's token behind.

    The number of tokens that are cut out, and of pieces, depends on the row's length alone. Raises
    BadInput where there are more pieces than sentinels.
    """
    cut = max(round(len(tokens) * CUT), 1)
    count = max(round(cut / SPAN), 1)
    if count > SENTINELS:
        raise BadInput(
            "The rows are too long: they have more gaps than there are sentinels.",
            expected=f"at most {SENTINELS} gaps",
            received=f"{count} in {len(tokens)} tokens",
        )
    kept, gone = _parts(len(tokens) - cut, count, rng), _parts(cut, count, rng)
    source, target, place = [], [], 0
    for number, (stay, go) in enumerate(zip(kept, gone, strict=True)):
        sentinel = SENTINEL + number
        source += [*tokens[place : place + stay], sentinel]
        target += [sentinel, *tokens[place + stay : place + stay + go]]
        place += stay + go
    return np.array([*source, END]), np.array([*target, END])


def _parts(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` numbers of at least 1 that add up to `total`, drawn evenly from all there are."""
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts, total])


PAIR = EncoderDecoder()
