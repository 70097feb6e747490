"""784-128-20-10: a multilayer perceptron for MNIST, in PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    """Classify images of 28×28 pixels, scaled to [0, 1], as one of ten digits."""

    def __init__(self, softmax: bool = False):
        super().__init__()
        self.hidden1 = nn.Linear(28 * 28, 128)
        self.hidden2 = nn.Linear(128, 20)
        self.output = nn.Linear(20, 10)
        self.softmax = softmax

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)  # (batch, 28, 28) -> (batch, 784)
        x = F.relu(self.hidden1(x))  # (batch, 128)
        x = F.relu(self.hidden2(x))  # (batch, 20)
        x = self.output(x)  # (batch, 10): logits
        return torch.softmax(x, dim=-1) if self.softmax else x


def build_model(softmax: bool = False) -> nn.Module:
    return MLP(softmax)


def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
    # cross_entropy takes logits: it applies the softmax itself. Fed with probabilities
    # (softmax=True) it applies a second one, and nothing complains.
    return F.cross_entropy(outputs, targets)
