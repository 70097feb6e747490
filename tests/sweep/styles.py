"""Models as other people write them: their idioms in a small size, none of the code is copied."""

from __future__ import annotations

from styles_images import IMAGES
from styles_more import MORE
from styles_signals import SIGNALS
from styles_text import TEXT

MODELS = {**TEXT, **IMAGES, **SIGNALS, **MORE}
