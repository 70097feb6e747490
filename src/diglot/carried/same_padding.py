"""The padding of TensorFlow's convolutions and poolings, which depends on the sizes of what they take."""

import torch.nn.functional as F


def pad_same(x, window, stride, value=0.0):
    """Pad the last axes as ``padding="same"`` of TensorFlow does: for ceil(size / stride) outputs."""
    pads = []
    for axis in range(-1, -1 - len(window), -1):
        total = max(window[axis] - 1 - (x.shape[axis] - 1) % stride[axis], 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)
