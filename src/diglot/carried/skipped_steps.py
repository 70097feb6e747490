"""Recurrent layers over sequences with steps to be passed over, wherever these are: Keras's masks, in PyTorch."""

import torch
import torch.nn.functional as F


def counted_first(x, mask):
    """Move the steps that count to the front of each sequence; ``mask`` is false for those that do not."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return x.gather(1, order.unsqueeze(-1).expand_as(x))


def back_in_place(output, mask):
    """Give each step the output after as many steps as have counted up to it; zero before the first."""
    counted = mask.long().cumsum(dim=1).unsqueeze(-1)
    return F.pad(output, (0, 0, 1, 0)).gather(1, counted.expand_as(output))


def reverse_sequence(x, lengths):
    """Turn the first steps of each sequence around, as many as it has; what follows stays where it is."""
    steps, ends = torch.arange(x.shape[1], device=x.device), lengths.unsqueeze(-1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(1, order.unsqueeze(-1).expand_as(x))
