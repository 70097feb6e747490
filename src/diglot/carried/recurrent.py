"""Recurrent layers stacked as PyTorch stacks them."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable()
class StackedRNN(layers.Layer):
    """Recurrent layers on top of each other, in one direction or two, with dropout between them.

    Returns the last layer's sequence and the final states of all layers, each of shape
    (layers * directions, batch, units), as it takes the initial ones. Each sequence
    ends at its last step that is True in ``steps`` (batch, time); zeros follow.
    """

    def __init__(
        self,
        kind,
        units,
        num_layers=1,
        bidirectional=False,
        dropout=0.0,
        use_bias=True,
        activation="tanh",
        batch_first=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = {
            "kind": kind,
            "units": units,
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "dropout": dropout,
            "use_bias": use_bias,
            "activation": activation,
            "batch_first": batch_first,
        }
        self.directions = 2 if bidirectional else 1
        self.batch_first = batch_first
        self.dropout = layers.Dropout(dropout)
        options = {"activation": activation, "use_bias": use_bias}
        self.rnns = []
        for _ in range(num_layers):
            rnn = getattr(layers, kind)(units, return_sequences=True, return_state=True, **options)
            self.rnns.append(layers.Bidirectional(rnn) if bidirectional else rnn)

    def call(self, x, initial_state=None, steps=None):
        if not self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        finals = []
        for i, rnn in enumerate(self.rnns):
            if i > 0:
                x = self.dropout(x)
            places = range(i * self.directions, (i + 1) * self.directions)
            start = [state[place] for place in places for state in initial_state or []]
            x, *final = rnn(x, initial_state=start or None, mask=steps)
            finals += final
        if steps is not None:
            x = ops.where(steps[..., None], x, 0)
        if not self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        kinds = len(finals) // (len(self.rnns) * self.directions)
        return (x, *(ops.stack(finals[kind::kinds]) for kind in range(kinds)))

    def get_config(self):
        return {**super().get_config(), **self.config}
