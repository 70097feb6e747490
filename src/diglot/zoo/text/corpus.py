"""BBC News as token ids, with a tokenizer that is trained on the spot."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diglot.data import News, read_news
from diglot.errors import BadInput, MissingExtra
from diglot.output import write_whole

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPLIT = (0.8, 0.1, 0.1)
"""Of the articles: for training, for validation, for the test."""
_BYTES = 256
_NEEDED_FOR = "A pair on text"


@dataclass(frozen=True)
class Corpus:
    """The articles of each part as token ids, and what was counted."""

    tokenizer: Tokenizer
    train: list[np.ndarray]
    validation: list[np.ndarray]
    test: list[np.ndarray]

    @property
    def parts(self) -> dict[str, list[np.ndarray]]:
        """The three parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def about(self) -> dict[str, int | str]:
        """What the corpus is, for a report."""
        tokens = {f"{name} tokens": sum(map(len, part)) for name, part in self.parts.items()}
        return {
            "name": "BBC News",
            "articles": sum(map(len, self.parts.values())),
            "vocabulary": self.tokenizer.get_vocab_size(),
            **tokens,
        }


def read_corpus(
    vocab_size: int,
    specials: Sequence[str],
    articles: int | None = None,
    folder: str | Path | None = None,
) -> Corpus:
    """The corpus in tokens of a byte-level BPE that knows `vocab_size` of them.

    `specials` are tokens that no text contains; they get the ids 0, 1, …. Only the first `articles`
    of the shuffled corpus are taken where that is given. The tokenizer learns from the training part
    alone; it is kept in `folder`, under a name that says from what it was made.
    Raises BadInput where the numbers cannot be, MissingExtra where a package is missing.
    """
    if importlib.util.find_spec("tokenizers") is None:
        raise MissingExtra("tokenizers", "zoo", needed_for=_NEEDED_FOR)
    least = _BYTES + len(specials)
    if vocab_size < least:
        raise BadInput(
            "The vocabulary is too small: every byte has a token of its own.",
            expected=f"vocab_size of {least} or more",
            received=str(vocab_size),
        )
    return _read(vocab_size, tuple(specials), articles, None if folder is None else str(folder))


@lru_cache(maxsize=4)
def _read(
    vocab_size: int, specials: tuple[str, ...], articles: int | None, folder: str | None
) -> Corpus:
    news = read_news(_NEEDED_FOR)
    parts = [
        _first(part, share, articles) for part, share in zip(news.split(*SPLIT), SPLIT, strict=True)
    ]
    tokenizer = _tokenizer(parts[0].texts, vocab_size, specials, folder)
    ids = [
        [np.array(found.ids, dtype=np.int64) for found in tokenizer.encode_batch(list(part.texts))]
        for part in parts
    ]
    return Corpus(tokenizer, *ids)


def _first(part: News, share: float, articles: int | None) -> News:
    """The share of a part that `articles` of the whole corpus leave it, at least one."""
    count = len(part.texts) if articles is None else max(round(articles * share), 1)
    return part.take(np.arange(min(count, len(part.texts))))


def _tokenizer(
    texts: Sequence[str], vocab_size: int, specials: Sequence[str], folder: str | None
) -> Tokenizer:
    """The tokenizer of these texts, from `folder` where it was trained before."""
    from tokenizers import Tokenizer

    made_from = json.dumps([vocab_size, *specials, *texts]).encode()
    name = f"tokenizer-{vocab_size}-{hashlib.sha256(made_from).hexdigest()[:12]}.json"
    path = None if folder is None else Path(folder) / name
    if path is not None and path.is_file():
        return Tokenizer.from_file(str(path))
    tokenizer = train_tokenizer(texts, vocab_size, specials)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, tokenizer.to_str(pretty=True) + "\n")
    return tokenizer


def train_tokenizer(texts: Sequence[str], vocab_size: int, specials: Sequence[str]) -> Tokenizer:
    """A byte-level BPE, as GPT-2's: the same texts give the same tokenizer.

    Raises BadInput where the texts are too few for so many tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(specials),
        # Every byte is a token, so that there is no text without tokens.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise BadInput(
            "The texts are too few for a vocabulary of that size.",
            expected=f"{vocab_size} tokens",
            received=str(tokenizer.get_vocab_size()),
            hint="take more articles, or fewer tokens",
        )
    return tokenizer


def blocks(documents: Sequence[np.ndarray], length: int, end: int) -> np.ndarray:
    """The documents one after the other, each with the token `end` behind it, cut into rows:
    (rows, length). What is left over at the end is dropped. Raises BadInput where nothing is left."""
    stream = np.concatenate([np.append(document, end) for document in documents])
    count = len(stream) // length
    if not count:
        raise BadInput(
            "The text is shorter than one row.",
            expected=f"{length} tokens or more",
            received=str(len(stream)),
        )
    return stream[: count * length].reshape(count, length)
