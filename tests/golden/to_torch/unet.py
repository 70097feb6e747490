"""Unet in PyTorch, translated from Keras by Diglot."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class Unet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_block1 = ConvBlock(in_channels=3, out_channels=8)
        self.conv_block2 = ConvBlock(in_channels=8, out_channels=16)
        self.conv_block3 = ConvBlock(in_channels=16, out_channels=32)
        self.conv_block4 = ConvBlock(in_channels=32, out_channels=64)
        self.conv2d_transpose = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.conv_block5 = ConvBlock(in_channels=64, out_channels=32)
        self.conv2d_transpose_1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.conv_block6 = ConvBlock(in_channels=32, out_channels=16)
        self.conv2d_transpose_2 = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.conv_block7 = ConvBlock(in_channels=16, out_channels=8)
        self.conv2d_14 = nn.Conv2d(8, 2, 1)

    def forward(self, images):
        x = self.conv_block1(images)
        conv_block2 = self.conv_block2(F.max_pool2d(x, 2))
        conv_block3 = self.conv_block3(F.max_pool2d(conv_block2, 2))
        y = self.conv2d_transpose(self.conv_block4(F.max_pool2d(conv_block3, 2)))
        y = self.conv2d_transpose_1(self.conv_block5(torch.cat([y, conv_block3], dim=1)))
        y = self.conv2d_transpose_2(self.conv_block6(torch.cat([y, conv_block2], dim=1)))
        x = self.conv2d_14(self.conv_block7(torch.cat([y, x], dim=1)))
        return F.softmax(x, dim=1)


def build_model(weights=None):
    """Build the model; ``weights`` is the path of a ``.safetensors`` file."""
    model = Unet()
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model
