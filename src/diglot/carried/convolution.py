"""Convolution that pads alike on every side."""

import keras
from keras import layers


def padded_conv2d(filters, kernel_size, strides=1, **kwargs):
    """A convolution with zeros on every side alike; Keras's "same" has fewer when it strides."""
    if strides == 1:
        return layers.Conv2D(filters, kernel_size, padding="same", **kwargs)
    convolution = layers.Conv2D(filters, kernel_size, strides=strides, **kwargs)
    return keras.Sequential([layers.ZeroPadding2D((kernel_size - 1) // 2), convolution])


def padded_depthwise_conv2d(kernel_size, strides=1, **kwargs):
    """A depthwise convolution with zeros on every side alike, whatever the stride."""
    if strides == 1:
        return layers.DepthwiseConv2D(kernel_size, padding="same", **kwargs)
    convolution = layers.DepthwiseConv2D(kernel_size, strides=strides, **kwargs)
    return keras.Sequential([layers.ZeroPadding2D((kernel_size - 1) // 2), convolution])
