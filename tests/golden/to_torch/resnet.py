"""Resnet in PyTorch, translated from Keras by Diglot."""

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class ResidualBlock(nn.Module):
    def __init__(self, in_channels, out_channels, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01)
        self.shortcut = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels, eps=0.001, momentum=0.01),
            )
            if shortcut
            else nn.Identity()
        )

    def forward(self, x):
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)
        return F.relu(x)


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.batch_normalization = nn.BatchNorm2d(8, eps=0.001, momentum=0.01)
        self.blocks1 = nn.Sequential(
            *[ResidualBlock(in_channels=8, out_channels=8, shortcut=False) for _ in range(2)]
        )
        self.blocks2 = nn.Sequential(
            ResidualBlock(in_channels=8, out_channels=16, shortcut=True),
            ResidualBlock(in_channels=16, out_channels=16, shortcut=False),
        )
        self.blocks3 = nn.Sequential(
            ResidualBlock(in_channels=16, out_channels=32, shortcut=True),
            ResidualBlock(in_channels=32, out_channels=32, shortcut=False),
        )
        self.dense = nn.Linear(32, 10)

    def forward(self, images):
        x = self.blocks1(F.relu(self.batch_normalization(self.conv2d(images))))
        x = self.blocks3(F.max_pool2d(self.blocks2(F.max_pool2d(x, 2)), 2))
        return F.softmax(self.dense(F.max_pool2d(x, 2).mean(dim=(2, 3))), dim=-1)


def build_model(weights=None):
    """Build the model; ``weights`` is the path of a ``.safetensors`` file."""
    model = Resnet()
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model
