"""The encoder that tags every base of an ancestor with what became of it."""
