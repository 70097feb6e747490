"""Products of two inputs with a weight between them."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
class Bilinear(layers.Layer):
    """x · W · y + b over the last axes of two inputs, with a matrix W for each unit."""

    def __init__(self, units, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.use_bias = use_bias

    def build(self, x_shape, y_shape):
        self.kernel = self.add_weight(shape=(self.units, x_shape[-1], y_shape[-1]), name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")

    def call(self, x, y):
        outputs = ops.einsum("...i,oij,...j->...o", x, self.kernel, y)
        return outputs + self.bias if self.use_bias else outputs

    def get_config(self):
        return {**super().get_config(), "units": self.units, "use_bias": self.use_bias}
