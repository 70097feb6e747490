"""One training step, written five ways."""
