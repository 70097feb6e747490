"""ResNet-18, ResNet-50 and their like, in Keras: a Functional model, channels last."""

import keras
from keras import layers


def conv(x, filters, size, stride=1, name=None):
    # PyTorch pads both sides alike; padding="same" with a stride of 2 pads the right side more.
    if size > 1 and stride > 1:
        x = layers.ZeroPadding2D(size // 2)(x)
    padding = "same" if stride == 1 else "valid"
    return layers.Conv2D(filters, size, stride, padding, use_bias=False, name=name)(x)


def norm(x, name):
    # Momentum 0.9 is PyTorch's 0.1: here it is the share that is kept.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def basic_block(x, filters, stride, name):
    """Two 3×3 convolutions, and a shortcut around them."""
    out = conv(x, filters, 3, stride, f"{name}.conv1")
    out = layers.ReLU()(norm(out, f"{name}.bn1"))
    out = conv(out, filters, 3, 1, f"{name}.conv2")
    out = norm(out, f"{name}.bn2")
    return layers.ReLU()(out + shortcut(x, filters, stride, name))


def bottleneck_block(x, filters, stride, name):
    """A 3×3 convolution between two of 1×1, which narrow and widen, and a shortcut around them."""
    out = conv(x, filters, 1, 1, f"{name}.conv1")
    out = layers.ReLU()(norm(out, f"{name}.bn1"))
    out = conv(out, filters, 3, stride, f"{name}.conv2")
    out = layers.ReLU()(norm(out, f"{name}.bn2"))
    out = conv(out, 4 * filters, 1, 1, f"{name}.conv3")
    out = norm(out, f"{name}.bn3")
    return layers.ReLU()(out + shortcut(x, 4 * filters, stride, name))


def shortcut(x, filters, stride, name):
    """The identity where the shape stays; a 1×1 convolution where it changes."""
    if stride == 1 and x.shape[-1] == filters:
        return x
    x = conv(x, filters, 1, stride, f"{name}.downsample.0")
    return norm(x, f"{name}.downsample.1")


def build_model(blocks=(2, 2, 2, 2), bottleneck=False, width=64, channels=3, classes=1000):
    """Classify images (batch, height, width, channels): ResNet-18.

    (3, 4, 6, 3) with bottleneck=True is ResNet-50.
    """
    block = bottleneck_block if bottleneck else basic_block
    images = keras.Input((None, None, channels), name="images")
    x = conv(images, width, 7, 2, "conv1")  # (batch, height / 2, width / 2, width)
    x = layers.ReLU()(norm(x, "bn1"))
    x = layers.ZeroPadding2D(1)(x)  # after a relu no value is below the padding's zeros
    x = layers.MaxPooling2D(3, 2)(x)
    for stage, count in enumerate(blocks):
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            x = block(x, width * 2**stage, stride, f"layer{stage + 1}.{index}")
    x = layers.GlobalAveragePooling2D()(x)  # (batch, filters)
    outputs = layers.Dense(classes, name="fc")(x)  # (batch, classes): logits
    return keras.Model(images, outputs, name="resnet")


def compile_model(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
