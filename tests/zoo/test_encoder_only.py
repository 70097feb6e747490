"""encoder-only: its rows, and what is hidden in them."""

import numpy as np
import pytest

from diglot.errors import BadInput
from diglot.zoo.encoder_only.pair import MASK, PAD, PAIR, SEPARATOR, START

WORDS = np.arange(10, 110)


def batch(seed=0, rows=None):
    rows = PAIR.rows([WORDS, WORDS + 200], 19) if rows is None else rows
    return PAIR.batch(rows, np.random.default_rng(seed))


def test_rows_are_neighbouring_pieces():
    rows = PAIR.rows([WORDS[:20], WORDS[:5]], 19)  # pieces of 8; the second article is too short
    assert rows["first"].tolist() == [list(range(10, 18)), list(range(18, 26))]
    assert rows["second"][0].tolist() == list(range(18, 26))
    assert rows["second"][1].tolist() == [26, 27, 28, 29, PAD, PAD, PAD, PAD]
    with pytest.raises(BadInput, match="No article"):
        PAIR.rows([WORDS[:5]], 19)


def test_a_batch_is_drawn_by_its_generator():
    first, second, other = batch(1), batch(1), batch(2)
    for name in PAIR.inputs:
        np.testing.assert_array_equal(first.inputs[name], second.inputs[name])
    assert not np.array_equal(first.inputs["tokens"], other.inputs["tokens"])


def test_a_row_has_its_marks_and_its_padding():
    found = batch()
    words, padding = found.targets["words"], found.inputs["padding"]
    assert (words[:, 0] == START).all() and (words[:, 9] == SEPARATOR).all()
    np.testing.assert_array_equal(padding, words == PAD)
    for row, segments in zip(words, found.inputs["segments"], strict=True):
        last = np.flatnonzero(row == SEPARATOR)[-1]
        assert (row == SEPARATOR).sum() == 2 and (row[last + 1 :] == PAD).all()
        assert segments.tolist() == [0] * 10 + [1] * 9


def test_what_follows_is_told_as_it_is():
    rows = PAIR.rows([np.arange(10, 810)], 19)
    found = batch(rows=rows)
    words = found.targets["words"]
    really = words[:, 10] == words[:, 8] + 1
    np.testing.assert_array_equal(found.targets["follows"], really)
    assert 0.3 < really.mean() < 0.7


def test_only_chosen_words_are_hidden_and_most_of_them_masked():
    rows = PAIR.rows([np.arange(10, 8010)], 43)
    found = batch(rows=rows)
    chosen = found.weights["words"] > 0
    words, shown = found.targets["words"], found.inputs["tokens"]
    np.testing.assert_array_equal(shown[~chosen], words[~chosen])
    assert chosen.any(axis=1).all() and (words[chosen] > MASK).all()
    assert 0.12 < chosen.sum() / (words > MASK).sum() < 0.18
    assert 0.75 < (shown[chosen] == MASK).mean() < 0.85
    assert 0.06 < (shown[chosen] == words[chosen]).mean() < 0.14


def test_a_batch_of_one_row_keeps_its_second_piece():
    rows = {name: array[:1] for name, array in PAIR.rows([WORDS], 19).items()}
    assert [int(batch(seed, rows).targets["follows"][0]) for seed in range(8)] == [1] * 8


def test_perplexity_is_that_of_the_words():
    scores = PAIR.complete({"words_loss": 2.0, "follows_loss": 0.5, "accuracy": 0.1})
    assert scores == {"perplexity": np.exp(2.0), "accuracy": 0.1, "loss": 2.5}
