"""The same step in TensorFlow: the loop is yours, and so is the tape."""

import keras
import tensorflow as tf
from keras import layers


def train(start, images, targets, rate, momentum):
    """Take a step for every batch of ``images``, from the weights ``start``; return the losses and the weights."""
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(32, activation="tanh", name="hidden"),
            layers.Dense(10, name="output"),
        ]
    )
    model.set_weights(list(start.values()))
    optimizer = keras.optimizers.SGD(rate, momentum=momentum)
    losses = []
    for x, y in zip(images, targets, strict=True):
        with tf.GradientTape() as tape:  # records what is computed, for this step only
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        losses.append(float(loss))
    return losses, dict(zip(start, model.get_weights(), strict=True))
