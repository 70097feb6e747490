"""A folder of images: one folder for each class, as torchvision's ImageFolder and Keras's
image_dataset_from_directory read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diglot.errors import BadInput, MissingExtra

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_ASPECT = "a folder that holds one folder of images for each class"


def classes_of(folder: str) -> list[str]:
    """The classes, sorted by name: folders of `folder`. Raises BadInput unless there are two."""
    root = Path(folder)
    if not root.is_dir():
        raise BadInput(f"There is no folder {folder}.", expected=_ASPECT)
    names = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise BadInput(
            f"{folder} holds fewer than two classes.",
            expected=_ASPECT,
            received=", ".join(names) or "no folder in it",
        )
    return names


def read_images(folder: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All images as uint8 (n, 3, size, size), scaled and cropped to the middle, and labels (n,).

    Raises BadInput for a class without an image and for a file that is none, MissingExtra without
    Pillow.
    """
    images, labels = [], []
    for label, name in enumerate(classes_of(folder)):
        files = [p for p in sorted(Path(folder, name).iterdir()) if p.suffix.lower() in SUFFIXES]
        if not files:
            raise BadInput(
                f"The class {name} has no image.",
                where=str(Path(folder, name)),
                expected=", ".join(SUFFIXES),
            )
        images += [_read(path, size) for path in files]
        labels += [label] * len(files)
    return np.stack(images), np.array(labels, dtype=np.int64)


def _read(path: Path, size: int) -> np.ndarray:
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ModuleNotFoundError as error:
        raise MissingExtra("pillow", "zoo", needed_for="Reading images") from error
    try:
        with Image.open(path) as image:
            fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BILINEAR)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"{path} is no image that can be read.",
            received=" ".join(str(error).split()),
            hint="take the file away, or replace it",
        ) from error
    return np.asarray(fitted).transpose(2, 0, 1)
