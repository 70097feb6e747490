"""encoder-only: a BERT, which learns which words are hidden and which sentence follows another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.errors import BadInput
from diglot.training import Batch, Job, Recipe
from diglot.training.task import Arrays, Scores, accuracy, cross_entropy
from diglot.zoo.attention import Attention, attention_weights
from diglot.zoo.pair import AtMost, Setting
from diglot.zoo.text.pair import FAST, FULL, TextPair
from diglot.zoo.weights import Weights

PAD, START, SEPARATOR, MASK = range(4)
HIDDEN = 0.15
"""The share of the words that a model has to find: 80 % of them are masked, 10 % are another word,
10 % stay as they are."""
CLOZES = (
    "The government said the new <mask> would help the economy.",
    "The film won the award for best <mask>.",
    "England <mask> the match in the second half.",
)


class EncoderOnly(TextPair):
    """Masked language modelling and next-sentence prediction."""

    name = "encoder-only"
    title = "An encoder-only Transformer (BERT) on BBC News"
    inputs = ("tokens", "segments", "padding")
    torch_module = "diglot.zoo.encoder_only.torch_model"
    keras_module = "diglot.zoo.encoder_only.keras_model"
    specials = ("<pad>", "<start>", "<separator>", "<mask>")
    settings: ClassVar = {
        "fast": Setting(
            FAST,
            dict(vocab_size=1024, length=48, articles=50),
            Recipe(batch_size=32, epochs=2, learning_rate=3e-3, warmup=10),
        ),
        "full": Setting(
            # With four blocks, or a larger step, it stays with the frequencies of the words.
            {**FULL, "vocab_size": 1024, "num_layers": 2, "dropout": 0.0},
            dict(vocab_size=1024, length=48, articles=800),
            Recipe(batch_size=32, epochs=1, learning_rate=1e-3, schedule="cosine", warmup=100),
        ),
    }
    goals: ClassVar = {"perplexity": AtMost(350.0)}

    def rows(self, articles: list[np.ndarray], length: int) -> Arrays:
        """Every two neighbouring pieces of an article: ``first`` and ``second`` (rows, size), the
        second one padded where the article ends. Raises BadInput where there are none."""
        size = (length - 3) // 2
        first, second = [], []
        for article in articles:
            pieces = [article[start : start + size] for start in range(0, len(article), size)]
            first += pieces[:-1]
            second += [np.pad(piece, (0, size - len(piece))) for piece in pieces[1:]]
        if not first:
            raise BadInput("No article is longer than one piece.", expected=f"{size} tokens")
        return {"first": np.stack(first), "second": np.stack(second)}

    def batch(self, rows: Arrays, rng: np.random.Generator) -> Batch:
        """Every other second piece is another row's; then words are hidden, anew each time."""
        first, second = rows["first"], rows["second"]
        follows = (rng.random(len(first)) < 0.5) | (len(first) == 1)
        shift = int(rng.integers(1, max(len(first), 2)))
        second = np.where(follows[:, None], second, np.roll(second, shift, axis=0))
        tokens, segments = _joined(first, second)
        chosen = (tokens > MASK) & (rng.random(tokens.shape) < HIDDEN)
        chosen[:, 1] |= ~chosen.any(axis=1)  # at least one word of each row
        return Batch(
            {
                "tokens": self._hidden(tokens, chosen, rng),
                "segments": segments,
                "padding": tokens == PAD,
            },
            {"words": tokens, "follows": follows.astype(np.int64)},
            {"words": chosen.astype(np.float32), "follows": np.ones(len(first), np.float32)},
        )

    def _hidden(
        self, tokens: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The tokens with the chosen ones masked, or replaced by another word, or left alone."""
        how = rng.random(tokens.shape)
        words = rng.choice(tokens[tokens > MASK], tokens.shape)
        hidden = np.where(chosen & (how < 0.8), MASK, tokens)
        return np.where(chosen & (how >= 0.9), words, hidden)

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """The encoder, block by block, and two heads."""
        weights, heads = Weights(state), sizes["num_heads"]
        weights.embedding("encoder.embedding", "encoder.embedding")
        weights.embedding("encoder.segment_embedding", "encoder.segment_embedding")
        weights.tensor("encoder.positions", "encoder.positions", buffer=True)
        for index in range(sizes["num_layers"]):
            ours, theirs = f"encoder.blocks.{index}", f"encoder.blocks.layers.{index}"
            weights.attention(f"{ours}.attention", f"{theirs}.self_attn", heads)
            weights.norm(f"{ours}.attention_norm", f"{theirs}.norm1")
            weights.linear(f"{ours}.hidden", f"{theirs}.linear1")
            weights.linear(f"{ours}.output_dense", f"{theirs}.linear2")
            weights.norm(f"{ours}.output_norm", f"{theirs}.norm2")
        weights.norm("encoder.norm", "encoder.blocks.norm")
        weights.linear("words.dense", "words.dense")
        weights.norm("words.norm", "words.norm")
        weights.linear("words.output_dense", "words.output")
        weights.linear("follows", "follows")
        shape = ("batch", "length")
        return weights.map(
            [
                TensorSpec(shape, "int64", name="tokens"),
                TensorSpec(shape, "int64", name="segments"),
                TensorSpec(shape, "bool", name="padding"),
            ],
            [
                TensorSpec((*shape, sizes["vocab_size"]), path=("words",)),
                TensorSpec(("batch", 2), path=("follows",)),
            ],
        )

    def score(self, outputs: Any, batch: Batch) -> Scores:
        """Cross-entropy and accuracy of the hidden words, and of what follows."""
        targets, weights = batch.targets, batch.weights
        words = (outputs["words"], targets["words"], weights["words"])
        follows = (outputs["follows"], targets["follows"])
        return {
            "words_loss": cross_entropy(*words),
            "follows_loss": cross_entropy(*follows),
            "accuracy": accuracy(*words),
            "follows_accuracy": accuracy(*follows),
        }

    def complete(self, scores: dict[str, float]) -> dict[str, float]:
        """The perplexity of the hidden words; the loss is the sum that training minimises."""
        words, follows = scores.pop("words_loss"), scores.pop("follows_loss")
        return {**super().complete({**scores, "loss": words}), "loss": words + follows}

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three rows of 10 tokens, the last two of them padded."""
        tokens = rng.integers(0, model["vocab_size"], (3, 10))
        segments = np.repeat([[0, 1]], 5, axis=1).repeat(3, axis=0)
        padding = np.arange(10) >= np.array([[10], [7], [4]])
        return {"tokens": tokens, "segments": segments, "padding": padding}

    def extras(self, predict: Callable[[Arrays], Any], model: Any, job: Job) -> dict[str, Any]:
        """What the model puts where a word is hidden."""
        tokenizer = self.corpus(job.data).tokenizer
        texts = {}
        for cloze in CLOZES:
            ids = [START, *tokenizer.encode(cloze).ids, SEPARATOR]
            tokens = np.array([ids])
            inputs = {
                "tokens": tokens,
                "segments": np.zeros_like(tokens),
                "padding": np.zeros(tokens.shape, bool),
            }
            logits = predict(inputs)["words"][0, ids.index(MASK)]
            best = np.argsort(-logits)[:5]
            texts[cloze] = ", ".join(tokenizer.decode([word]).strip() for word in best)
        return {"texts": texts, "attention": self.keep_attention(job, model)}

    def attention(self, job: Job, model: Any) -> list[Attention]:
        """What each word of two sentences sees of both."""
        tokenizer = self.corpus(job.data).tokenizer
        first, second = (tokenizer.encode(text).ids for text in CLOZES[:2])
        tokens = np.array([[START, *first, SEPARATOR, *second, SEPARATOR]])
        inputs = {
            "tokens": tokens,
            "segments": (np.arange(tokens.shape[1]) > len(first) + 1).astype(np.int64)[None],
            "padding": np.zeros(tokens.shape, bool),
        }
        weights = np.stack(attention_weights(self, job, model, inputs))
        names = self.tokens(tokenizer, tokens[0])
        return [Attention("encoder", "Attention to itself: both ways", weights, names, names)]


def _joined(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """<start> first <separator> second <separator>, then padding; and 0 for the first, 1 for the rest:
    both (rows, length)."""
    rows, size = first.shape
    tokens = np.full((rows, 2 * size + 3), PAD, dtype=np.int64)
    tokens[:, 0] = START
    tokens[:, 1 : size + 1] = first
    tokens[:, size + 1] = SEPARATOR
    tokens[:, size + 2 : -1] = second
    ends = size + 2 + (second != PAD).sum(axis=1)
    tokens[np.arange(rows), ends] = SEPARATOR
    segments = np.broadcast_to(np.arange(tokens.shape[1]) > size + 1, tokens.shape)
    return tokens, segments.astype(np.int64)


PAIR = EncoderOnly()
