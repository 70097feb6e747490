"""What a Functional model needs a layer for: it knows no batch size, and holds only what follows from its inputs."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
class RepeatBatch(layers.Layer):
    """Repeat a value, whose first axis is 1, for each item in the batch of ``inputs``."""

    def call(self, value, inputs):
        return ops.broadcast_to(value, (ops.shape(inputs)[0], *value.shape[1:]))


@keras.saving.register_keras_serializable()
class Constant(layers.Layer):
    """A value that is the same for all inputs, as a tensor of the model: layers can be called on it."""

    def call(self, value, inputs):
        return ops.convert_to_tensor(value)
