"""The encoder-decoder Transformer, as T5."""
