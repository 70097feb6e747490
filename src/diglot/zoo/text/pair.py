"""What the pairs on text have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diglot.errors import BadInput
from diglot.training import Data, Job
from diglot.training.task import Arrays
from diglot.zoo.attention import Attention, keep_attention
from diglot.zoo.pair import Pair, Setting, Tell
from diglot.zoo.text.corpus import Corpus, blocks, read_corpus

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The sizes of the models in the two settings.
FAST = dict(
    vocab_size=1024, d_model=64, num_heads=4, num_layers=2, d_ff=128, max_length=64, dropout=0.1
)
FULL = dict(
    vocab_size=2048, d_model=128, num_heads=4, num_layers=4, d_ff=512, max_length=128, dropout=0.1
)


class TextPair(Pair):
    """A model of language, trained on BBC News.

    ``specials`` are the tokenizer's special tokens, ids from 0. `rows` cuts the articles to examples;
    "loss" is the mean over tokens, so that its exp is the perplexity.
    """

    document = "002"
    style = "layers"
    specials: ClassVar[tuple[str, ...]]
    scored_before = True

    def data(
        self,
        vocab_size: int = 1024,
        length: int = 32,
        articles: int | None = None,
        folder: str | None = None,
    ) -> Data:
        """Rows from `length` tokens each; `folder` keeps the tokenizer. See `read_corpus`."""
        if length < 8:
            raise BadInput(
                "The rows are too short.", expected="length of 8 or more", received=str(length)
            )
        corpus = read_corpus(vocab_size, self.specials, articles, folder)
        parts = {name: self.rows(part, length) for name, part in corpus.parts.items()}
        return Data(**parts, about={**corpus.about(), "length": length})

    def rows(self, articles: list[np.ndarray], length: int) -> Arrays:
        """The examples: by default the articles one after the other, cut to `length` tokens."""
        return {"tokens": blocks(articles, length, self.specials.index("<end>"))}

    def settle(self, setting: Setting) -> Setting:
        """The setting as it is; raises BadInput where the rows are longer than the models allow."""
        if setting.data["length"] > setting.model["max_length"]:
            raise BadInput(
                "The rows are longer than the models' table of positions.",
                expected=f"at most {setting.model['max_length']} tokens",
                received=str(setting.data["length"]),
            )
        return setting

    def files(self, setting: Setting, folder: Path, tell: Tell) -> dict[str, Any]:
        """The tokenizer."""
        place = {"folder": str(folder / "tokenizer")}
        self.corpus({**setting.data, **place})
        return place

    def corpus(self, data: Mapping[str, Any]) -> Corpus:
        """The corpus that `data` reads, and its tokenizer."""
        options = {name: data[name] for name in ("articles", "folder") if name in data}
        return read_corpus(data["vocab_size"], self.specials, **options)

    def attention(self, job: Job, model: Any) -> list[Attention]:
        """What a trained model looks at, for one example."""
        raise NotImplementedError

    def keep_attention(self, job: Job, model: Any) -> dict[str, Any]:
        """`attention`, kept in the run's folder; for "attention" in the extras."""
        return keep_attention(job, self.attention(job, model))

    def tokens(self, tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
        """Each token as a text of its own, for the axes of a picture."""
        return [tokenizer.decode([int(i)], skip_special_tokens=False).strip() or "␣" for i in ids]

    def limits(self, model: Mapping[str, Any]) -> dict[str, tuple[int, int | None]]:
        """No row is longer than the table of positions."""
        return {"length": (1, model["max_length"])}

    def complete(self, scores: dict[str, float]) -> dict[str, float]:
        """With the perplexity, which is no mean: the exp of the loss of all tokens."""
        loss = scores.pop("loss")
        return {"perplexity": math.exp(min(loss, 100.0)), **scores, "loss": loss}
