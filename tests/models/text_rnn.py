"""Recurrent text classifiers: token ids (batch, length) to class logits."""

import torch
from randomise import seeded
from torch import nn


class LSTMClassifier(nn.Module):
    """A bidirectional two-layer LSTM, read off its last hidden states."""

    def __init__(self, vocab_size, embed_dim, hidden_dim, num_classes, dropout=0.3):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim, padding_idx=0)
        self.lstm = nn.LSTM(
            embed_dim,
            hidden_dim,
            num_layers=2,
            batch_first=True,
            bidirectional=True,
            dropout=dropout,
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden_dim, num_classes)

    def forward(self, text):
        embedded = self.dropout(self.embedding(text))
        _, (hidden, _) = self.lstm(embedded)
        hidden = self.dropout(torch.cat((hidden[-2], hidden[-1]), dim=1))
        return self.fc(hidden)


class GRUClassifier(nn.Module):
    """A GRU, read off its last output."""

    def __init__(self, vocab_size, embed_dim, hidden_dim, num_classes):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.gru = nn.GRU(embed_dim, hidden_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, text):
        embedded = self.embedding(text)
        output, _ = self.gru(embedded)
        return self.fc(output[:, -1, :])


class MeanPoolLSTM(nn.Module):
    """An LSTM, its outputs averaged over the tokens that are not padding."""

    def __init__(self, vocab_size, embed_dim, hidden_dim, num_classes, pad_id=0):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        self.lstm = nn.LSTM(embed_dim, hidden_dim, batch_first=True)
        self.norm = nn.LayerNorm(hidden_dim)
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, text):
        mask = (text != self.pad_id).unsqueeze(-1).float()
        output, _ = self.lstm(self.embedding(text))
        pooled = (output * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return self.fc(self.norm(pooled))


def _tokens():
    text = torch.randint(1, 31, (3, 7))
    text[2, 5:] = 0
    return text


@seeded
def make_lstm():
    return LSTMClassifier(31, 10, 12, 5), _tokens()


@seeded
def make_gru():
    return GRUClassifier(31, 10, 12, 5), _tokens()


@seeded
def make_mean_pool():
    return MeanPoolLSTM(31, 10, 12, 5), _tokens()


make = make_lstm
