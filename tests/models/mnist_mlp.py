"""The small MNIST classifier: 784 - 128 - 20 - 10."""

import torch
from randomise import seeded
from torch import nn


class MnistMLP(nn.Module):
    """Images (batch, 28, 28) in [0, 1] to logits (batch, 10)."""

    def __init__(self, hidden1: int = 128, hidden2: int = 20, num_classes: int = 10):
        super().__init__()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(28 * 28, hidden1)
        self.fc2 = nn.Linear(hidden1, hidden2)
        self.fc3 = nn.Linear(hidden2, num_classes)
        self.relu = nn.ReLU()

    def forward(self, images):
        x = self.flatten(images)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)


@seeded
def make():
    """The model with random weights, and five random images."""
    model = MnistMLP()
    return model, torch.rand(5, 28, 28)
