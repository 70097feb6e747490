"""Recurrent layers over sequences with steps to be passed over, wherever these are: Keras's masks, in PyTorch."""

import torch.nn.functional as F


def counted_first(x, mask):
    """Move the steps that count to the front of each sequence; ``mask`` is false for those that do not."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return x.gather(1, order.unsqueeze(-1).expand_as(x))


def back_in_place(output, mask):
    """Give each step the output after as many steps as have counted up to it; zero before the first."""
    counted = mask.long().cumsum(dim=1).unsqueeze(-1)
    return F.pad(output, (0, 0, 1, 0)).gather(1, counted.expand_as(output))
