"""Small real data sets for examples and tests. Needs NumPy and nothing else."""

from diglot.data.bbc import News, read_news
from diglot.data.mnist import Mnist, download_mnist, load_mnist, mnist_subset

__all__ = [
    "Mnist",
    "News",
    "download_mnist",
    "load_mnist",
    "mnist_subset",
    "read_news",
]
