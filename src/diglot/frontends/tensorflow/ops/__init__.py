"""The table of TensorFlow ops, one file per family."""
