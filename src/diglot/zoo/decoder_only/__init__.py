"""The decoder-only Transformer, as GPT."""
