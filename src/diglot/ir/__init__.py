"""The hub: one functional ATen graph (``torch.fx``) with the tree of module calls laid over it."""
