"""More models as other people write them: containers in containers, lists of results, constants, functional code."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, einsum, nn


class SkipAutoencoder(nn.Module):
    """Keeps what the encoder made in a list and takes it off again."""

    def __init__(self, chans=(3, 8, 12, 16)):
        super().__init__()
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        for a, b in zip(chans[:-1], chans[1:]):
            self.downs.append(
                nn.Sequential(
                    nn.Conv2d(a, b, 3, padding=1), nn.InstanceNorm2d(b), nn.LeakyReLU(0.1)
                )
            )
        for a, b in zip(chans[:0:-1], chans[-2::-1]):
            self.ups.append(nn.Sequential(nn.Conv2d(a * 2, b, 3, padding=1), nn.ELU()))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        for up, skip in zip(self.ups, skips[::-1]):
            x = F.interpolate(x, scale_factor=2)
            x = up(torch.cat([x, skip], dim=1))
        return x


class NestedLists(nn.Module):
    """A ModuleList of ModuleLists, as in HRNet or multi-head branches."""

    def __init__(self, stages=2, branches=3, dim=9):
        super().__init__()
        self.stages = nn.ModuleList(
            [nn.ModuleList([nn.Linear(dim, dim) for _ in range(branches)]) for _ in range(stages)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(stages)])

    def forward(self, x):
        for stage, norm in zip(self.stages, self.norms):
            x = x + sum(torch.relu(branch(x)) for branch in stage)
            x = norm(x)
        return x


class NestedSequential(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(
                [
                    ("stem", nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6))),
                    ("act", nn.Hardswish()),
                    (
                        "body",
                        nn.Sequential(
                            nn.Sequential(nn.Conv2d(6, 8, 3), nn.PReLU(8)), nn.AvgPool2d(2)
                        ),
                    ),
                ]
            )
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * 4 * 6, 20), nn.Dropout(0.5), nn.Linear(20, 5)
        )

    def forward(self, x):
        return self.head(self.features(x))


class Pyramid(nn.Module):
    """Returns every level, as a dictionary."""

    def __init__(self, channels=(4, 8, 12), out=6):
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, 1, 1)
        self.layers = nn.ModuleList(
            [nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(channels[:-1], channels[1:])]
        )
        self.inner = nn.ModuleList([nn.Conv2d(c, out, 1) for c in channels])
        self.outer = nn.ModuleList([nn.Conv2d(out, out, 3, padding=1) for _ in channels])

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        features = [x]
        for layer in self.layers:
            x = F.relu(layer(x))
            features.append(x)
        last = self.inner[-1](features[-1])
        results = [self.outer[-1](last)]
        for idx in range(len(features) - 2, -1, -1):
            lateral = self.inner[idx](features[idx])
            top_down = F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            last = lateral + top_down
            results.insert(0, self.outer[idx](last))
        return {f"p{i}": r for i, r in enumerate(results)}


class FourierFeatures(nn.Module):
    """Constants in buffers, and a NeRF-like network that concatenates its input again."""

    def __init__(self, width=16, freqs=4):
        super().__init__()
        self.register_buffer("freqs", 2.0 ** torch.arange(freqs), persistent=False)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]))
        size = 3 + 3 * 2 * freqs
        self.layers = nn.ModuleList(
            [nn.Linear(size, width), nn.Linear(width, width), nn.Linear(width + size, width)]
        )
        self.sigma = nn.Linear(width, 1)
        self.rgb = nn.Sequential(nn.Linear(width, 3), nn.Sigmoid())

    def embed(self, x):
        angles = x[..., None] * self.freqs * math.pi
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        return torch.cat([x, waves.flatten(-2)], dim=-1)

    def forward(self, x):
        x = (x - self.mean) / self.std
        e = self.embed(x)
        h = e
        for i, layer in enumerate(self.layers):
            if i == 2:
                h = torch.cat([h, e], -1)
            h = F.softplus(layer(h))
        return torch.cat([self.rgb(h), F.relu(self.sigma(h))], dim=-1)


class PreNorm(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x, **kwargs):
        return self.fn(self.norm(x), **kwargs)


class FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim, dropout=0.0):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        return self.net(x)


class EinsumAttention(nn.Module):
    def __init__(self, dim, heads=2, dim_head=6):
        super().__init__()
        self.heads = heads
        self.scale = dim_head**-0.5
        self.to_qkv = nn.Linear(dim, heads * dim_head * 3, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim), nn.Dropout(0.1))

    def forward(self, x):
        b, n, _ = x.shape
        h = self.heads
        qkv = self.to_qkv(x).chunk(3, dim=-1)
        q, k, v = map(lambda t: t.reshape(b, n, h, -1).permute(0, 2, 1, 3), qkv)
        dots = einsum("b h i d, b h j d -> b h i j", q, k) * self.scale
        attn = dots.softmax(dim=-1)
        out = einsum("b h i j, b h j d -> b h i d", attn, v)
        out = out.permute(0, 2, 1, 3).reshape(b, n, -1)
        return self.to_out(out)


class Transformer(nn.Module):
    def __init__(self, dim, depth, heads, mlp_dim):
        super().__init__()
        self.layers = nn.ModuleList([])
        for _ in range(depth):
            self.layers.append(
                nn.ModuleList(
                    [
                        PreNorm(dim, EinsumAttention(dim, heads)),
                        PreNorm(dim, FeedForward(dim, mlp_dim, 0.1)),
                    ]
                )
            )

    def forward(self, x):
        for attn, ff in self.layers:
            x = attn(x) + x
            x = ff(x) + x
        return x


class SimpleViT(nn.Module):
    def __init__(self, image_size=24, patch=8, dim=14, depth=2, num_classes=5):
        super().__init__()
        self.patch = patch
        n = (image_size // patch) ** 2
        self.to_patch_embedding = nn.Linear(3 * patch * patch, dim)
        self.pos_embedding = nn.Parameter(torch.randn(1, n + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.dropout = nn.Dropout(0.1)
        self.transformer = Transformer(dim, depth, 2, 20)
        self.to_latent = nn.Identity()
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, num_classes))

    def forward(self, img):
        b, c, hh, ww = img.shape
        p = self.patch
        x = (
            img.reshape(b, c, hh // p, p, ww // p, p)
            .permute(0, 2, 4, 3, 5, 1)
            .reshape(b, -1, p * p * c)
        )
        x = self.to_patch_embedding(x)
        cls_tokens = self.cls_token.repeat(b, 1, 1)
        x = torch.cat((cls_tokens, x), dim=1)
        x += self.pos_embedding[:, : x.shape[1]]
        x = self.dropout(x)
        x = self.transformer(x)
        x = x[:, 0]
        x = self.to_latent(x)
        return self.mlp_head(x)


class ChannelAttention(nn.Module):
    def __init__(self, in_planes, ratio=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.max_pool = nn.AdaptiveMaxPool2d(1)
        self.fc1 = nn.Conv2d(in_planes, in_planes // ratio, 1, bias=False)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Conv2d(in_planes // ratio, in_planes, 1, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        avg_out = self.fc2(self.relu1(self.fc1(self.avg_pool(x))))
        max_out = self.fc2(self.relu1(self.fc1(self.max_pool(x))))
        out = avg_out + max_out
        return self.sigmoid(out)


class SpatialAttention(nn.Module):
    def __init__(self, kernel_size=7):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        avg_out = torch.mean(x, dim=1, keepdim=True)
        max_out, _ = torch.max(x, dim=1, keepdim=True)
        x = torch.cat([avg_out, max_out], dim=1)
        x = self.conv1(x)
        return self.sigmoid(x)


class CBAM(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.ca = ChannelAttention(8)
        self.sa = SpatialAttention()

    def forward(self, x):
        out = self.conv(x)
        out = self.ca(out) * out
        out = self.sa(out) * out
        return out.mean([2, 3])


class CRNN(nn.Module):
    """Columns of a convolution's output read by an LSTM, time first."""

    def __init__(self, classes=9):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 6, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2, 2), nn.Conv2d(6, 8, 3, 1, 1), nn.BatchNorm2d(8),
            nn.ReLU(True), nn.MaxPool2d((2, 2), (2, 1), (0, 1)),
        )  # fmt: skip
        self.rnn = nn.LSTM(8 * 4, 7, bidirectional=True)
        self.embedding = nn.Linear(14, classes)

    def forward(self, input):
        conv = self.cnn(input)
        b, c, h, w = conv.size()
        conv = conv.reshape(b, c * h, w)
        conv = conv.permute(2, 0, 1)
        recurrent, _ = self.rnn(conv)
        T, b, h = recurrent.size()
        t_rec = recurrent.view(T * b, h)
        output = self.embedding(t_rec)
        return output.view(T, b, -1)


class GraphConv(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.matmul(input, self.weight)
        output = torch.matmul(adj, support)
        if self.bias is not None:
            return output + self.bias
        return output


class GCN(nn.Module):
    def __init__(self, nfeat=9, nhid=7, nclass=4, dropout=0.5):
        super().__init__()
        self.gc1 = GraphConv(nfeat, nhid)
        self.gc2 = GraphConv(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


class GAT(nn.Module):
    def __init__(self, in_features=9, out_features=6, alpha=0.2):
        super().__init__()
        self.W = nn.Parameter(torch.empty(in_features, out_features))
        nn.init.xavier_uniform_(self.W.data, gain=1.414)
        self.a = nn.Parameter(torch.empty(2 * out_features, 1))
        nn.init.xavier_uniform_(self.a.data, gain=1.414)
        self.out_features = out_features
        self.leakyrelu = nn.LeakyReLU(alpha)

    def forward(self, h, adj):
        Wh = torch.mm(h, self.W)
        e1 = torch.matmul(Wh, self.a[: self.out_features, :])
        e2 = torch.matmul(Wh, self.a[self.out_features :, :])
        e = self.leakyrelu(e1 + e2.T)
        zero_vec = -9e15 * torch.ones_like(e)
        attention = torch.where(adj > 0, e, zero_vec)
        attention = F.softmax(attention, dim=1)
        return F.elu(torch.matmul(attention, Wh))


class DDPMBlock(nn.Module):
    """A time step embedded by sines, and a scale and shift from it."""

    def __init__(self, channels=8, dim=12):
        super().__init__()
        self.dim = dim
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels)
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(dim, channels * 2))
        self.conv = nn.Conv2d(channels, 3, 3, padding=1)

    def timestep_embedding(self, t):
        half = self.dim // 2
        freqs = torch.exp(
            -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
        )
        args = t[:, None].float() * freqs[None]
        return torch.cat([torch.cos(args), torch.sin(args)], dim=-1)

    def forward(self, x, t):
        h = self.conv_in(x)
        emb = self.mlp(self.timestep_embedding(t))[:, :, None, None]
        scale, shift = emb.chunk(2, dim=1)
        h = self.norm(h) * (1 + scale) + shift
        return x + self.conv(F.silu(h))


class DuelingDQN(nn.Module):
    def __init__(self, actions=5):
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, kernel_size=8, stride=4)
        self.conv2 = nn.Conv2d(8, 12, kernel_size=4, stride=2)
        self.value = nn.Linear(12 * 3 * 3, 1)
        self.advantage = nn.Linear(12 * 3 * 3, actions)

    def forward(self, x):
        x = x / 255.0
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = torch.flatten(x, start_dim=1)
        value = self.value(x)
        advantage = self.advantage(x)
        return value + (advantage - advantage.mean(dim=1, keepdim=True))


class DeepFM(nn.Module):
    def __init__(self, field_dims=(7, 9, 5), dim=6):
        super().__init__()
        offsets = torch.cumsum(torch.tensor([0, *field_dims[:-1]]), 0)
        self.register_buffer("offsets", offsets)
        self.embedding = nn.Embedding(sum(field_dims), dim)
        self.linear = nn.Embedding(sum(field_dims), 1)
        self.bias = nn.Parameter(torch.zeros(1))
        layers = []
        size = len(field_dims) * dim
        for hidden in (16, 10):
            layers += [nn.Linear(size, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.2)]
            size = hidden
        layers.append(nn.Linear(size, 1))
        self.mlp = nn.Sequential(*layers)

    def forward(self, x):
        x = x + self.offsets.unsqueeze(0)
        embed_x = self.embedding(x)
        square_of_sum = torch.sum(embed_x, dim=1) ** 2
        sum_of_square = torch.sum(embed_x**2, dim=1)
        fm = 0.5 * torch.sum(square_of_sum - sum_of_square, dim=1, keepdim=True)
        x = (
            torch.sum(self.linear(x), dim=1)
            + self.bias
            + fm
            + self.mlp(embed_x.view(-1, embed_x.size(1) * embed_x.size(2)))
        )
        return torch.sigmoid(x.squeeze(1))


def _graph(features=9):
    adjacency = (torch.rand(8, 8) > 0.5).float() + torch.eye(8)
    return torch.randn(8, features), adjacency


MORE = {
    "skip_autoencoder": lambda: (SkipAutoencoder(), torch.randn(2, 3, 16, 24)),
    "nested_lists": lambda: (NestedLists(), torch.randn(3, 5, 9)),
    "nested_sequential": lambda: (NestedSequential(), torch.randn(2, 3, 12, 16)),
    "pyramid": lambda: (Pyramid(), torch.randn(2, 3, 17, 24)),
    "nerf": lambda: (FourierFeatures(), torch.randn(5, 7, 3)),
    "simple_vit": lambda: (SimpleViT(), torch.randn(2, 3, 24, 24)),
    "cbam": lambda: (CBAM(), torch.randn(2, 3, 11, 13)),
    "crnn": lambda: (CRNN(), torch.randn(2, 1, 18, 22)),
    "gcn": lambda: (GCN(), _graph()),
    "gat": lambda: (GAT(), _graph()),
    "ddpm_block": lambda: (DDPMBlock(), (torch.randn(2, 3, 8, 10), torch.tensor([3, 17]))),
    "dueling_dqn": lambda: (DuelingDQN(), torch.rand(2, 4, 36, 36) * 255),
    "deepfm": lambda: (
        DeepFM(),
        torch.stack([torch.randint(0, d, (4,)) for d in (7, 9, 5)], dim=1),
    ),
}
