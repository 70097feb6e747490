"""A weight that belongs to no layer, in a Functional model."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
class Parameter(layers.Layer):
    """A tensor that is trained by itself; whatever it is called on, it returns the tensor."""

    def __init__(self, shape, initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.shape = shape
        self.initializer = keras.initializers.get(initializer)
        self.value = self.add_weight(shape=shape, initializer=self.initializer, name="value")

    def call(self, inputs):
        return ops.convert_to_tensor(self.value)

    def get_config(self):
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "shape": self.shape, "initializer": initializer}
