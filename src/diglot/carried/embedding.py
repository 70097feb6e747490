"""Embeddings with a row that is not trained."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
class PaddedEmbedding(layers.Embedding):
    """An embedding that does not train the row of the padding token."""

    def __init__(self, input_dim, output_dim, padding_idx=0, **kwargs):
        super().__init__(input_dim, output_dim, **kwargs)
        self.padding_idx = padding_idx

    def call(self, inputs):
        outputs = super().call(inputs)
        padding = ops.expand_dims(ops.equal(inputs, self.padding_idx), -1)
        return ops.where(padding, ops.stop_gradient(outputs), outputs)

    def get_config(self):
        return {**super().get_config(), "padding_idx": self.padding_idx}


def freeze_row(table, index):
    """Return a table of embeddings through which no gradient reaches one row."""
    row = ops.expand_dims(ops.equal(ops.arange(ops.shape(table)[0]), index), -1)
    return ops.where(row, ops.stop_gradient(table), table)
