"""encoder-decoder: span corruption, and what it writes in both languages."""

import numpy as np
import pytest
import torch

from diglot.errors import BadInput
from diglot.training.keras_loop import set_weights
from diglot.training.torch_loop import state_of
from diglot.zoo.encoder_decoder import keras_model, torch_model
from diglot.zoo.encoder_decoder.pair import END, PAD, PAIR, SENTINEL, SENTINELS, corrupt

FIRST_WORD = SENTINEL + SENTINELS


def restored(source, target):
    """The text that a corrupted one was made of."""
    pieces = {}
    for token in target[:-1]:
        if SENTINEL <= token < FIRST_WORD:
            pieces[token] = current = []
        else:
            current.append(token)
    return [word for token in source[:-1] for word in pieces.get(token, [token])]


@pytest.mark.parametrize("length", [8, 40, 41, 96])
def test_nothing_is_lost(length):
    tokens = np.arange(FIRST_WORD, FIRST_WORD + length)
    sizes = set()
    for seed in range(20):
        source, target = corrupt(tokens, np.random.default_rng(seed))
        assert source[-1] == target[-1] == END
        assert restored(source, target) == tokens.tolist()
        sentinels = [token for token in source if SENTINEL <= token < FIRST_WORD]
        assert sentinels == [SENTINEL + number for number in range(len(sentinels))]
        sizes.add((len(source), len(target)))
        assert len(target) - 1 - len(sentinels) == max(round(0.15 * length), 1)
    assert len(sizes) == 1


def test_a_batch_is_drawn_by_its_generator_and_shifts_the_target():
    rows = {"tokens": np.arange(FIRST_WORD, FIRST_WORD + 200).reshape(5, 40)}
    first, second, other = (PAIR.batch(rows, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.inputs["source"], second.inputs["source"])
    assert not np.array_equal(first.inputs["source"], other.inputs["source"])
    assert (first.inputs["target"][:, 0] == PAD).all()
    np.testing.assert_array_equal(first.inputs["target"][:, 1:], first.targets[:, :-1])


def test_more_gaps_than_sentinels_are_refused():
    with pytest.raises(BadInput, match="sentinels"):
        corrupt(np.arange(1000), np.random.default_rng(0))


def test_both_write_the_same_until_the_end():
    sizes = dict(
        vocab_size=30, d_model=16, num_heads=2, num_layers=2, d_ff=32, max_length=24, dropout=0.1
    )
    torch.manual_seed(1)
    ours = torch_model.build_model(**sizes)
    with torch.no_grad():
        ours.output.weight.mul_(4)
    theirs = keras_model.build_model(**sizes)
    set_weights(PAIR, theirs, state_of(ours), sizes)
    source = np.random.default_rng(0).integers(0, 30, (3, 9))
    for end in (END, 999):
        first = torch_model.generate(ours, torch.from_numpy(source), PAD, end, 12).numpy()
        second = np.asarray(keras_model.generate(theirs, source, PAD, end, 12))
        np.testing.assert_array_equal(first, second)
    assert first.shape == (3, 12)
    assert len(np.unique(first)) > 3
    ended = int(first[0, 4])
    one = torch_model.generate(ours, torch.from_numpy(source[:1]), PAD, ended, 12).numpy()[0]
    assert one.tolist() == first[0, : first[0].tolist().index(ended) + 1].tolist()
