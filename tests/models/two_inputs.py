"""A model of two inputs of different rank that returns a dictionary."""

import torch
import torch.nn.functional as F
from randomise import seeded
from torch import nn


class ImageEncoder(nn.Module):
    """Images (batch, 3, 20, 28) to vectors (batch, out_features)."""

    def __init__(self, out_features):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(8, 12, kernel_size=3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(12)
        self.fc = nn.Linear(12 * 5 * 7, out_features)

    def forward(self, image):
        x = F.relu(self.conv1(image))
        x = F.relu(self.bn(self.conv2(x)))
        return self.fc(x.flatten(1))


class ImageAndFeatures(nn.Module):
    """An image and a row of numbers, joined; returns logits and the joint embedding."""

    def __init__(self, num_features, embed_dim, num_classes):
        super().__init__()
        self.image_encoder = ImageEncoder(embed_dim)
        self.feature_encoder = nn.Sequential(
            nn.Linear(num_features, 16), nn.Tanh(), nn.Linear(16, embed_dim)
        )
        self.classifier = nn.Linear(2 * embed_dim, num_classes)

    def forward(self, image, features):
        embedding = torch.cat([self.image_encoder(image), self.feature_encoder(features)], dim=-1)
        return {"logits": self.classifier(F.gelu(embedding)), "embedding": embedding}


@seeded
def make():
    """Inputs given by position."""
    model = ImageAndFeatures(num_features=6, embed_dim=10, num_classes=4)
    return model, (torch.randn(3, 3, 20, 28), torch.randn(3, 6))


def make_keywords():
    """The same model, inputs given by name."""
    model, (image, features) = make()
    return model, {"image": image, "features": features}
