"""TensorFlow graphs -> a runnable ``torch.nn.Module``: the parts of :mod:`diglot.frontends.tensorflow_graph`."""
