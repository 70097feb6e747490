"""What the pairs on text share: the corpus as token ids, and how models of language are scored."""
