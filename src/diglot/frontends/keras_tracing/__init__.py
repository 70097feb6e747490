"""A Keras model's own Python code, run on torch tensors: tracers, what is replaced meanwhile, the mirror's modules."""
