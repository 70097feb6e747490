"""MnistMLP in Keras, by hand. Images (batch, 28, 28) in [0, 1] to logits (batch, 10)."""

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="mnist_mlp")
class MnistMLP(layers.Layer):
    """784 - 128 - 20 - 10."""

    def __init__(self, hidden1=128, hidden2=20, num_classes=10, **kwargs):
        super().__init__(**kwargs)
        self.hidden1 = hidden1
        self.hidden2 = hidden2
        self.num_classes = num_classes
        self.flatten = layers.Flatten()
        self.fc1 = layers.Dense(hidden1)
        self.fc2 = layers.Dense(hidden2)
        self.fc3 = layers.Dense(num_classes)
        self.relu = layers.ReLU()

    def call(self, images):
        x = self.flatten(images)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)

    def get_config(self):
        return {
            **super().get_config(),
            "hidden1": self.hidden1,
            "hidden2": self.hidden2,
            "num_classes": self.num_classes,
        }


def build_model(weights=None):
    """The model, with the weights of the file `weights` where one is given."""
    images = keras.Input((28, 28), name="images")
    model = keras.Model(images, MnistMLP(name="mnist_mlp")(images))
    if weights is not None:
        model.load_weights(weights)
    return model
