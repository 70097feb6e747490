"""Documents in classes: a pretrained sentence encoder and a small classifier, in PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SentenceEmbedder(nn.Module):
    """A document as one vector: the mean of what the encoder says of its tokens, of length 1."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        x = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        x = x.last_hidden_state  # (batch, length, width)
        mask = attention_mask[:, :, None].to(x.dtype)  # (batch, length, 1): 0 for padding
        x = (x * mask).sum(dim=1) / mask.sum(dim=1)  # (batch, width)
        return F.normalize(x, dim=-1)


class Classifier(nn.Module):
    """The class of a document, from its features."""

    def __init__(self, width: int, hidden: int, classes: int):
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.hidden(features))  # (batch, width) -> (batch, hidden)
        return self.output(x)  # (batch, classes): logits


def build_model(width: int = 384, hidden: int = 512, classes: int = 5) -> nn.Module:
    # The width is the encoder's: 384 in MiniLM, 768 in bge-base, 1024 in bge-large.
    return Classifier(width, hidden, classes)


def loss_function(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


class DocumentClassifier(nn.Module):
    """From token ids to the probability of each class."""

    def __init__(self, encoder: nn.Module, classifier: nn.Module):
        super().__init__()
        self.embedder = SentenceEmbedder(encoder)
        self.classifier = classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = self.embedder(input_ids, attention_mask)
        return torch.softmax(self.classifier(features), dim=-1)
