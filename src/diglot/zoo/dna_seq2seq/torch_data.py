"""Pairs of DNA strings as batches, in PyTorch: Dataset, DataLoader, and a function that pads."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, SOS, EOS = 0, 5, 6
TOKENS = {"A": 1, "C": 2, "G": 3, "T": 4}


class DnaPairs(Dataset):
    """Ancestor and descendant as token ids; the decoder sees the target one step late."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        src, bases = ([TOKENS[base] for base in sequence] for sequence in self.pairs[index])
        return torch.tensor(src), torch.tensor([SOS, *bases]), torch.tensor([*bases, EOS])


def pad(rows: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Each of src, tgt and targets to the longest of its batch."""
    return [pad_sequence(list(column), batch_first=True) for column in zip(*rows, strict=True)]


def batches(pairs: list[tuple[str, str]], batch_size: int, shuffle: bool = False) -> DataLoader:
    """Batches of src, tgt and targets, each (batch, length)."""
    return DataLoader(DnaPairs(pairs), batch_size, shuffle, collate_fn=pad)
