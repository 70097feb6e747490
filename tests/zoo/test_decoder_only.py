"""decoder-only: what it writes, in both languages."""

import keras
import numpy as np
import pytest
import torch

from diglot.training.keras_loop import set_weights
from diglot.training.torch_loop import state_of
from diglot.zoo.decoder_only import keras_model, torch_model
from diglot.zoo.decoder_only.pair import PAIR

SIZES = dict(
    vocab_size=50, d_model=16, num_heads=2, num_layers=2, d_ff=32, max_length=24, dropout=0.1
)
PROMPT = np.random.default_rng(0).integers(0, 50, (3, 5))


@pytest.fixture(scope="module", params=[False, True], ids=["proper", "faithful"])
def both(request):
    """One model in both languages, with weights that make its choices clear."""
    sizes = {**SIZES, "self_memory": request.param}
    torch.manual_seed(1)
    ours = torch_model.build_model(**sizes).eval()
    with torch.no_grad():
        ours.output.weight.mul_(4)
    theirs = keras_model.build_model(**sizes)
    set_weights(PAIR, theirs, state_of(ours), sizes)
    return ours, theirs


def write(both, count=12, seed=3, **way):
    ours, theirs = both
    generator = torch.Generator().manual_seed(seed)
    return (
        torch_model.generate(ours, torch.from_numpy(PROMPT), count, generator=generator, **way),
        np.asarray(keras_model.generate(theirs, PROMPT, count, seed=seed, **way)),
    )


def test_both_write_the_same_with_and_without_the_cache(both):
    written = [
        tokens for cached in (True, False) for tokens in write(both, temperature=0, cached=cached)
    ]
    assert written[0].shape == (3, 17)
    assert len(np.unique(written[0][:, 5:])) > 3  # not one token over and over
    for other in written[1:]:
        np.testing.assert_array_equal(written[0], other)


def test_the_cache_gives_the_same_logits(both):
    ours, theirs = both
    tokens = np.random.default_rng(1).integers(0, 50, (2, 12))
    with torch.no_grad():
        whole = ours(torch.from_numpy(tokens)).numpy()
        caches, start = ({}, {}), 0
        for end in (5, 6, 9, 12):
            part = tokens[:, start:end]
            found = ours.extend(torch.from_numpy(part), start, caches[0])
            np.testing.assert_allclose(found, whole[:, start:end], rtol=1e-4, atol=1e-5)
            found = theirs.extend(part, start, caches[1])
            np.testing.assert_allclose(found, whole[:, start:end], rtol=1e-4, atol=1e-5)
            start = end


def test_draws_are_repeatable_and_follow_their_seed(both):
    for way in ({"temperature": 2.0}, {"top_k": 20}, {"top_p": 0.95}):
        first, second, other = write(both, **way), write(both, **way), write(both, seed=4, **way)
        for a, b, c in zip(first, second, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert not np.array_equal(a, c)


def test_a_single_candidate_is_the_greedy_choice(both):
    greedy = write(both, temperature=0)[0]
    for way in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-5}):
        for tokens in write(both, **way):
            np.testing.assert_array_equal(greedy, tokens)


def test_no_position_sees_a_later_one(both):
    tokens = np.array([[1, 2, 3, 4], [1, 2, 3, 9]])
    with torch.no_grad():
        first, second = both[0](torch.from_numpy(tokens)).numpy()
    np.testing.assert_allclose(first[:3], second[:3], rtol=1e-5, atol=1e-6)
    assert np.abs(first[3] - second[3]).max() > 0.1


@pytest.mark.parametrize("top_k", [None, 1, 7, 99])
@pytest.mark.parametrize("top_p", [None, 0.3, 0.9, 1.0])
def test_both_keep_the_same_tokens(top_k, top_p):
    logits = np.random.default_rng(5).normal(0, 3, (4, 30)).astype(np.float32)
    ours = torch_model.likeliest(torch.from_numpy(logits), top_k, top_p).numpy()
    theirs = np.asarray(keras_model.likeliest(keras.ops.convert_to_tensor(logits), top_k, top_p))
    np.testing.assert_array_equal(np.isfinite(ours), np.isfinite(theirs))
    kept = np.isfinite(ours)
    np.testing.assert_array_equal(ours[kept], logits[kept])
    if top_k is not None:
        assert (kept.sum(axis=1) <= top_k).all()
    for row, keep in zip(logits, kept, strict=True):
        assert row[keep].min() > row[~keep].max(initial=-np.inf)  # the likeliest, and no others
        if top_p is not None and top_k is None:
            chance = np.exp(row) / np.exp(row).sum()
            without_last = chance[keep].sum() - chance[keep].min()
            assert without_last < top_p <= chance[keep].sum() + 1e-6


def test_more_tokens_than_positions_are_refused(both):
    for way in ("torch", "keras"):
        with pytest.raises(ValueError, match="positions for 24"):
            if way == "torch":
                torch_model.generate(both[0], torch.from_numpy(PROMPT), 20)
            else:
                keras_model.generate(both[1], PROMPT, 20)


def test_the_keras_model_is_saved_and_loaded(both, tmp_path):
    both[1].save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(PROMPT), both[1](PROMPT))


def test_the_positions_are_the_same_table():
    np.testing.assert_allclose(
        torch_model.sinusoids(40, 12), keras_model.sinusoids(40, 12), rtol=0, atol=1e-5
    )
