"""The encoder-decoder Transformer from scratch, from ancestor to descendant."""
