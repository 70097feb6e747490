"""One step in PyTorch: the loop is yours."""

import torch
from torch import nn
from torch.nn import functional as F


def train(start, images, targets, rate, momentum):
    """Take a step for every batch of ``images``, from the weights ``start``; return the losses and the weights."""
    torch.set_default_dtype(torch.float64)
    model = nn.Sequential(nn.Linear(784, 32), nn.Tanh(), nn.Linear(32, 10))
    # nn.Linear keeps (out, in) where Keras's Dense keeps (in, out).
    model[0].weight.data = torch.tensor(start["hidden.kernel"].T)
    model[0].bias.data = torch.tensor(start["hidden.bias"])
    model[2].weight.data = torch.tensor(start["output.kernel"].T)
    model[2].bias.data = torch.tensor(start["output.bias"])
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)
    losses = []
    for x, y in zip(torch.tensor(images), torch.tensor(targets), strict=True):
        optimizer.zero_grad()  # or gradients add up over the steps
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {
        "hidden.kernel": model[0].weight.detach().numpy().T,
        "hidden.bias": model[0].bias.detach().numpy(),
        "output.kernel": model[2].weight.detach().numpy().T,
        "output.bias": model[2].bias.detach().numpy(),
    }
