"""Models of points, pairs and samples as other people write them: VAE, PointNet, two towers, TCN, WaveNet."""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.parametrizations import weight_norm


# --- VAE with its noise as an input ----------------------------------------------------------------------------------
class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(60, 40)
        self.fc21 = nn.Linear(40, 7)
        self.fc22 = nn.Linear(40, 7)
        self.fc3 = nn.Linear(7, 40)
        self.fc4 = nn.Linear(40, 60)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar, eps):
        std = torch.exp(0.5 * logvar)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x, eps):
        mu, logvar = self.encode(x.view(-1, 60))
        z = self.reparameterize(mu, logvar, eps)
        return self.decode(z), mu, logvar


# --- PointNet --------------------------------------------------------------------------------------------------------
class STN3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 12, 1)
        self.fc1 = nn.Linear(12, 10)
        self.fc2 = nn.Linear(10, 9)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(12)
        self.bn3 = nn.BatchNorm1d(10)

    def forward(self, x):
        batchsize = x.size()[0]
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 12)
        x = F.relu(self.bn3(self.fc1(x)))
        x = self.fc2(x)
        iden = torch.eye(3, device=x.device).view(1, 9).repeat(batchsize, 1)
        x = x + iden
        return x.view(-1, 3, 3)


class PointNet(nn.Module):
    def __init__(self, k=5):
        super().__init__()
        self.stn = STN3d()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 16, 1)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(16)
        self.conv3 = nn.Conv1d(24, k, 1)

    def forward(self, x):
        n_pts = x.size()[2]
        trans = self.stn(x)
        x = x.transpose(2, 1)
        x = torch.bmm(x, trans)
        x = x.transpose(2, 1)
        pointfeat = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(pointfeat))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 16, 1).repeat(1, 1, n_pts)
        x = torch.cat([x, pointfeat], 1)
        x = self.conv3(x)
        x = x.transpose(2, 1).contiguous()
        return F.log_softmax(x, dim=-1), trans


# --- pairs and similarities ------------------------------------------------------------------------------------------------
class TwoTower(nn.Module):
    def __init__(self, n_users=40, n_items=30, dim=8):
        super().__init__()
        self.user = nn.Embedding(n_users, dim)
        self.item = nn.Embedding(n_items, dim)
        self.interaction = nn.Bilinear(dim, dim, 5)
        self.logit_scale = nn.Parameter(torch.ones([]) * math.log(1 / 0.07))
        self.user_bias = nn.Embedding(n_users, 1)

    def forward(self, users, items):
        u, i = self.user(users), self.item(items)
        mixed = self.interaction(u, i)
        u = F.normalize(u, dim=-1)
        i = i / i.norm(dim=-1, keepdim=True)
        logits = self.logit_scale.exp() * u @ i.t()
        score = (u * i).sum(-1) + self.user_bias(users).squeeze(-1)
        return logits, score, mixed


# --- sequences of samples ------------------------------------------------------------------------------------------------
class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    def __init__(self, n_inputs, n_outputs, kernel_size, stride, dilation, padding, dropout=0.2):
        super().__init__()
        self.conv1 = weight_norm(
            nn.Conv1d(
                n_inputs, n_outputs, kernel_size, stride=stride, padding=padding, dilation=dilation
            )
        )
        self.chomp1 = Chomp1d(padding)
        self.relu1 = nn.ReLU()
        self.dropout1 = nn.Dropout(dropout)
        self.conv2 = weight_norm(
            nn.Conv1d(
                n_outputs, n_outputs, kernel_size, stride=stride, padding=padding, dilation=dilation
            )
        )
        self.chomp2 = Chomp1d(padding)
        self.relu2 = nn.ReLU()
        self.dropout2 = nn.Dropout(dropout)
        self.net = nn.Sequential(
            self.conv1,
            self.chomp1,
            self.relu1,
            self.dropout1,
            self.conv2,
            self.chomp2,
            self.relu2,
            self.dropout2,
        )
        self.downsample = nn.Conv1d(n_inputs, n_outputs, 1) if n_inputs != n_outputs else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self, num_inputs=3, num_channels=(6, 6, 8), kernel_size=2, classes=4):
        super().__init__()
        layers = []
        for i, out_channels in enumerate(num_channels):
            dilation_size = 2**i
            in_channels = num_inputs if i == 0 else num_channels[i - 1]
            layers += [
                TemporalBlock(
                    in_channels, out_channels, kernel_size, stride=1, dilation=dilation_size,
                    padding=(kernel_size - 1) * dilation_size,
                )
            ]  # fmt: skip
        self.network = nn.Sequential(*layers)
        self.linear = nn.Linear(num_channels[-1], classes)

    def forward(self, x):
        y1 = self.network(x)
        return self.linear(y1[:, :, -1])


class WaveNet(nn.Module):
    def __init__(self, channels=8, skip=6, layers=3):
        super().__init__()
        self.start = nn.Conv1d(1, channels, 1)
        self.filters, self.gates, self.skips, self.residuals = (nn.ModuleList() for _ in range(4))
        self.dilations = [2**i for i in range(layers)]
        for d in self.dilations:
            self.filters.append(nn.Conv1d(channels, channels, 2, dilation=d))
            self.gates.append(nn.Conv1d(channels, channels, 2, dilation=d))
            self.skips.append(nn.Conv1d(channels, skip, 1))
            self.residuals.append(nn.Conv1d(channels, channels, 1))
        self.end = nn.Conv1d(skip, 10, 1)

    def forward(self, x):
        x = self.start(x)
        skip = 0
        for i, d in enumerate(self.dilations):
            padded = F.pad(x, (d, 0))
            z = torch.tanh(self.filters[i](padded)) * torch.sigmoid(self.gates[i](padded))
            skip = skip + self.skips[i](z)
            x = x + self.residuals[i](z)
        return self.end(F.relu(skip))


SIGNALS = {
    "vae": lambda: (VAE(), (torch.randn(3, 6, 10), torch.randn(3, 7))),
    "pointnet": lambda: (PointNet(), torch.randn(3, 3, 17)),
    "two_tower": lambda: (TwoTower(), (torch.randint(0, 40, (6,)), torch.randint(0, 30, (6,)))),
    "tcn": lambda: (TCN(), torch.randn(3, 3, 19)),
    "wavenet": lambda: (WaveNet(), torch.randn(3, 1, 23)),
}
