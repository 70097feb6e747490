"""What is trained."""


def not_trained(layer):
    """The layer, whose weights are not trained."""
    layer.trainable = False
    return layer
