"""Make the MNIST subset that comes with the package, from a folder that holds the full set.

    python tools/make_mnist_subset.py FOLDER [--train 12000] [--test 4000]

The images are evenly spaced over the full set, in its order. The result does not depend on when
or where it is made.
"""

import argparse
from pathlib import Path

import numpy as np

from diglot.data.idx import write_idx
from diglot.data.mnist import FILES, load_mnist

TARGET = Path(__file__).parent.parent / "src" / "diglot" / "data" / "mnist_subset"


def evenly_spaced(array: np.ndarray, count: int) -> np.ndarray:
    """`count` rows of `array`, the first and the last among them."""
    return array[np.linspace(0, len(array) - 1, count).round().astype(int)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where the four IDX files of the full set are")
    parser.add_argument("--train", type=int, default=12_000, help="how many training images")
    parser.add_argument("--test", type=int, default=4_000, help="how many test images")
    arguments = parser.parse_args()

    full = load_mnist(arguments.folder)
    arrays = (
        evenly_spaced(full.train_images, arguments.train),
        evenly_spaced(full.train_labels, arguments.train),
        evenly_spaced(full.test_images, arguments.test),
        evenly_spaced(full.test_labels, arguments.test),
    )
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, arrays, strict=True):
        path = TARGET / f"{name}.gz"
        write_idx(path, array)
        print(f"{path.name}: {array.shape}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
