"""Vit in PyTorch, translated from Keras by Diglot."""

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


class TransformerBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(16, eps=1e-06)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(16, eps=1e-06)
        self.fc1 = nn.Linear(16, 32)
        self.dropout1 = nn.Dropout(0.1)
        self.fc2 = nn.Linear(32, 16)
        self.dropout2 = nn.Dropout(0.1)

    def forward(self, x):
        norm1 = self.norm1(x)
        attention = self.attention(norm1, norm1, norm1, need_weights=False)[0]
        x = attention + x
        y = F.gelu(self.fc2(self.dropout1(F.gelu(self.fc1(self.norm2(x))))))
        return self.dropout2(y) + x


class Vit(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(48, 16)
        self.blocks = nn.Sequential(*[TransformerBlock() for _ in range(4)])
        self.layer_normalization_8 = nn.LayerNorm(16, eps=1e-06)
        self.dense_9 = nn.Linear(16, 10)

    def forward(self, patches):
        x = self.layer_normalization_8(self.blocks(self.dense(patches)))
        return self.dense_9(x.mean(dim=1))


def build_model(weights=None):
    """Build the model; ``weights`` is the path of a ``.safetensors`` file."""
    model = Vit()
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model
