"""Documents in classes: a pretrained sentence encoder and a small classifier, in Keras."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("diglot")
class MeanPooling(layers.Layer):
    """A document as one vector: the mean of what the encoder says of its tokens, of length 1."""

    def call(self, hidden, attention_mask):
        mask = ops.cast(attention_mask[:, :, None], hidden.dtype)  # (batch, length, 1)
        mean = ops.sum(hidden * mask, axis=1) / ops.sum(mask, axis=1)  # (batch, width)
        return ops.normalize(mean, axis=-1)


def build_embedder(encoder):
    inputs = {
        "input_ids": keras.Input((None,), dtype="int64", name="input_ids"),
        "attention_mask": keras.Input((None,), dtype="int64", name="attention_mask"),
    }
    hidden = encoder(inputs)["last_hidden_state"]  # (batch, length, width)
    features = MeanPooling(name="pooling")(hidden, inputs["attention_mask"])
    return keras.Model(inputs, features, name="embedder")


def build_model(width=384, hidden=512, classes=5):
    """The class of a document, from its features."""
    # The width is the encoder's: 384 in MiniLM, 768 in bge-base, 1024 in bge-large.
    return keras.Sequential(
        [
            keras.Input((width,), name="features"),
            layers.Dense(hidden, activation="relu", name="hidden"),
            layers.Dense(classes, name="output"),  # logits
        ],
        name="classifier",
    )


def compile_model(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])


def build_document_classifier(encoder, classifier):
    """From token ids to the probability of each class."""
    embedder = build_embedder(encoder)
    probabilities = layers.Softmax(name="probabilities")(classifier(embedder.output))
    return keras.Model(embedder.input, probabilities, name="document_classifier")
