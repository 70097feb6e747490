"""Small real data sets for examples and tests. Needs NumPy and nothing else."""

from diglot.data.mnist import Mnist, download_mnist, load_mnist, mnist_subset

__all__ = ["Mnist", "download_mnist", "load_mnist", "mnist_subset"]
