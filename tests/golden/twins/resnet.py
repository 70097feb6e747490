"""ResNet in Keras, by hand, for images (batch, height, width, 3)."""

import keras
from keras import layers


def conv3x3(planes, stride=1):
    """3x3 convolution that pads by one on every side, also when it strides."""
    if stride == 1:
        return layers.Conv2D(planes, 3, padding="same", use_bias=False)
    return keras.Sequential(
        [
            layers.ZeroPadding2D(1),
            layers.Conv2D(planes, 3, strides=stride, use_bias=False),
        ]
    )


def conv1x1(planes, stride=1):
    """1x1 convolution."""
    return layers.Conv2D(planes, 1, strides=stride, use_bias=False)


def batch_norm():
    """Batch normalisation with the constants of PyTorch."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5)


@keras.saving.register_keras_serializable(package="resnet")
class BasicBlock(layers.Layer):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, planes, stride=1, downsample=False, **kwargs):
        super().__init__(**kwargs)
        self.planes = planes
        self.stride = stride
        self.conv1 = conv3x3(planes, stride)
        self.bn1 = batch_norm()
        self.relu = layers.ReLU()
        self.conv2 = conv3x3(planes)
        self.bn2 = batch_norm()
        self.downsample = None
        if downsample:
            self.downsample = keras.Sequential([conv1x1(planes, stride), batch_norm()])

    def call(self, x, training=None):
        identity = x

        out = self.conv1(x)
        out = self.bn1(out, training=training)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out, training=training)

        if self.downsample is not None:
            identity = self.downsample(x, training=training)

        return self.relu(out + identity)

    def get_config(self):
        return {
            **super().get_config(),
            "planes": self.planes,
            "stride": self.stride,
            "downsample": self.downsample is not None,
        }


@keras.saving.register_keras_serializable(package="resnet")
class Bottleneck(layers.Layer):
    """A 3x3 convolution between two 1x1 convolutions, and a shortcut."""

    expansion = 4

    def __init__(self, planes, stride=1, downsample=False, **kwargs):
        super().__init__(**kwargs)
        self.planes = planes
        self.stride = stride
        self.conv1 = conv1x1(planes)
        self.bn1 = batch_norm()
        self.conv2 = conv3x3(planes, stride)
        self.bn2 = batch_norm()
        self.conv3 = conv1x1(planes * self.expansion)
        self.bn3 = batch_norm()
        self.relu = layers.ReLU()
        self.downsample = None
        if downsample:
            self.downsample = keras.Sequential(
                [conv1x1(planes * self.expansion, stride), batch_norm()]
            )

    def call(self, x, training=None):
        identity = x

        out = self.conv1(x)
        out = self.bn1(out, training=training)
        out = self.relu(out)

        out = self.conv2(out)
        out = self.bn2(out, training=training)
        out = self.relu(out)

        out = self.conv3(out)
        out = self.bn3(out, training=training)

        if self.downsample is not None:
            identity = self.downsample(x, training=training)

        return self.relu(out + identity)

    def get_config(self):
        return {
            **super().get_config(),
            "planes": self.planes,
            "stride": self.stride,
            "downsample": self.downsample is not None,
        }


BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}


@keras.saving.register_keras_serializable(package="resnet")
class ResNet(layers.Layer):
    """Stem, four stages of blocks, average over the image, linear."""

    def __init__(self, block, depths, num_classes=1000, width=64, **kwargs):
        super().__init__(**kwargs)
        self.block = block
        self.depths = depths
        self.num_classes = num_classes
        self.width = width
        self.inplanes = width
        self.pad1 = layers.ZeroPadding2D(3)
        self.conv1 = layers.Conv2D(width, 7, strides=2, use_bias=False)
        self.bn1 = batch_norm()
        self.relu = layers.ReLU()
        # Zero is as good as minus infinity here: what is padded comes out of a relu.
        self.pad2 = layers.ZeroPadding2D(1)
        self.maxpool = layers.MaxPooling2D(3, strides=2)
        self.layer1 = self.make_layer(width, depths[0])
        self.layer2 = self.make_layer(width * 2, depths[1], stride=2)
        self.layer3 = self.make_layer(width * 4, depths[2], stride=2)
        self.layer4 = self.make_layer(width * 8, depths[3], stride=2)
        self.avgpool = layers.GlobalAveragePooling2D()
        self.fc = layers.Dense(num_classes)

    def make_layer(self, planes, depth, stride=1):
        block = BLOCKS[self.block]
        downsample = stride != 1 or self.inplanes != planes * block.expansion
        self.inplanes = planes * block.expansion
        first = block(planes, stride, downsample)
        return keras.Sequential([first] + [block(planes) for _ in range(1, depth)])

    def call(self, x, training=None):
        x = self.conv1(self.pad1(x))
        x = self.bn1(x, training=training)
        x = self.relu(x)
        x = self.maxpool(self.pad2(x))

        x = self.layer1(x, training=training)
        x = self.layer2(x, training=training)
        x = self.layer3(x, training=training)
        x = self.layer4(x, training=training)

        x = self.avgpool(x)
        return self.fc(x)

    def get_config(self):
        return {
            **super().get_config(),
            "block": self.block,
            "depths": self.depths,
            "num_classes": self.num_classes,
            "width": self.width,
        }


def build_model(weights=None, block="basic", depths=(2, 2, 2, 2), num_classes=1000, width=64):
    """ResNet-18 unless told otherwise, with the weights of the file `weights` if given."""
    x = keras.Input((None, None, 3), name="x")
    model = keras.Model(x, ResNet(block, depths, num_classes, width, name="resnet")(x))
    if weights is not None:
        model.load_weights(weights)
    return model
