"""The encoder-only Transformer, as BERT."""
