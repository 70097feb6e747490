"""A U-Net in Keras, by hand, for images (batch, height, width, channels)."""

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="unet")
class DoubleConv(layers.Layer):
    """(convolution, batch norm, relu) twice."""

    def __init__(self, out_channels, **kwargs):
        super().__init__(**kwargs)
        self.out_channels = out_channels
        self.double_conv = keras.Sequential(
            [
                layers.Conv2D(out_channels, 3, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                layers.ReLU(),
                layers.Conv2D(out_channels, 3, padding="same", use_bias=False),
                layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
                layers.ReLU(),
            ]
        )

    def call(self, x, training=None):
        return self.double_conv(x, training=training)

    def get_config(self):
        return {**super().get_config(), "out_channels": self.out_channels}


@keras.saving.register_keras_serializable(package="unet")
class Down(layers.Layer):
    """Halve the image, then DoubleConv."""

    def __init__(self, out_channels, **kwargs):
        super().__init__(**kwargs)
        self.out_channels = out_channels
        self.pool = layers.MaxPooling2D(2)
        self.conv = DoubleConv(out_channels)

    def call(self, x, training=None):
        return self.conv(self.pool(x), training=training)

    def get_config(self):
        return {**super().get_config(), "out_channels": self.out_channels}


@keras.saving.register_keras_serializable(package="unet")
class Up(layers.Layer):
    """Double the image, join the skip connection, then DoubleConv."""

    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__(**kwargs)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.up = layers.Conv2DTranspose(in_channels // 2, 2, strides=2)
        self.conv = DoubleConv(out_channels)

    def call(self, x, skip, training=None):
        x = self.up(x)
        x = ops.concatenate([skip, x], axis=-1)
        return self.conv(x, training=training)

    def get_config(self):
        return {
            **super().get_config(),
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
        }


@keras.saving.register_keras_serializable(package="unet")
class UNet(layers.Layer):
    """Images to logits per pixel and class; height and width must be divisible by 8."""

    def __init__(self, n_classes, width=64, **kwargs):
        super().__init__(**kwargs)
        self.n_classes = n_classes
        self.width = width
        self.inc = DoubleConv(width)
        self.down1 = Down(width * 2)
        self.down2 = Down(width * 4)
        self.down3 = Down(width * 8)
        self.up1 = Up(width * 8, width * 4)
        self.up2 = Up(width * 4, width * 2)
        self.up3 = Up(width * 2, width)
        self.outc = layers.Conv2D(n_classes, 1)

    def call(self, x, training=None):
        x1 = self.inc(x, training=training)
        x2 = self.down1(x1, training=training)
        x3 = self.down2(x2, training=training)
        x4 = self.down3(x3, training=training)
        x = self.up1(x4, x3, training=training)
        x = self.up2(x, x2, training=training)
        x = self.up3(x, x1, training=training)
        return self.outc(x)

    def get_config(self):
        return {**super().get_config(), "n_classes": self.n_classes, "width": self.width}


def build_model(weights=None, n_channels=3, n_classes=5, width=4):
    """The model, with the weights of the file `weights` where one is given."""
    x = keras.Input((24, 40, n_channels), name="x")
    model = keras.Model(x, UNet(n_classes, width, name="unet")(x))
    if weights is not None:
        model.load_weights(weights)
    return model
