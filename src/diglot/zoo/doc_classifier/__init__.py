"""Documents in classes, by a pretrained sentence encoder."""
