"""784-128-20-10: a multilayer perceptron for MNIST, in Keras."""

import keras
from keras import layers


def build_model(softmax=False):
    """Classify images of 28×28 pixels, scaled to [0, 1], as one of ten digits."""
    return keras.Sequential(
        [
            keras.Input((28, 28), name="images"),
            layers.Flatten(),
            layers.Dense(128, activation="relu", name="hidden1"),
            layers.Dense(20, activation="relu", name="hidden2"),
            layers.Dense(10, activation="softmax" if softmax else None, name="output"),
        ],
        name="mlp",
    )


def compile_model(model, optimizer):
    # The loss must know whether it is given logits or probabilities; here it can tell.
    probabilities = model.layers[-1].activation is keras.activations.softmax
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not probabilities)
    model.compile(optimizer, loss, metrics=["accuracy"])
