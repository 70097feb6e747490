"""Small vision models, each with something that real ones do and translators tend to miss."""

import torch
import torch.nn.functional as F
from randomise import seeded
from torch import nn


class LayerScaleBlock(nn.Module):
    """A pre-norm MLP block whose branch is scaled by a parameter of its own."""

    def __init__(self, dim, init_value=0.1):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, 3 * dim)
        self.fc2 = nn.Linear(3 * dim, dim)
        self.gamma = nn.Parameter(init_value * torch.ones(dim))

    def forward(self, x):
        return x + self.gamma * self.fc2(F.gelu(self.fc1(self.norm(x))))


class PatchClassifier(nn.Module):
    """Patches plus a class token and positions that are Parameters of the model itself."""

    def __init__(self, image_size, patch_size, dim, depth, num_classes):
        super().__init__()
        num_patches = (image_size // patch_size) ** 2
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.pos_embed = nn.Parameter(0.3 * torch.randn(1, 1 + num_patches, dim))
        self.blocks = nn.ModuleList(LayerScaleBlock(dim) for _ in range(depth))
        self.mix = nn.Linear(1 + num_patches, 1 + num_patches)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images):
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        cls_token = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat((cls_token, x), dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x[:, 0])


@seeded
def make_patches():
    return PatchClassifier(20, 5, 12, 2, 7), torch.randn(3, 3, 20, 20)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, then a channels-last MLP between two permutes, then layer scale."""

    def __init__(self, dim):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(0.5 * torch.ones(dim))

    def forward(self, x):
        shortcut = x
        x = self.dwconv(x)
        x = x.permute(0, 2, 3, 1)
        x = self.norm(x)
        x = self.pwconv2(self.act(self.pwconv1(x)))
        x = self.gamma * x
        x = x.permute(0, 3, 1, 2)
        return shortcut + x


class ConvNeXtLike(nn.Module):
    """A patch stem, two blocks, pooling over the image and a linear head."""

    def __init__(self, dim, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, kernel_size=4, stride=4)
        self.stages = nn.Sequential(ConvNeXtBlock(dim), ConvNeXtBlock(dim))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.head(self.norm(x.mean([-2, -1])))


@seeded
def make_convnext():
    return ConvNeXtLike(10, 7), torch.randn(2, 3, 32, 40)


class SqueezeExcite(nn.Module):
    """Channels weighted by a gate computed from their means."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class SqueezeExciteNet(nn.Module):
    """Grouped convolution, GroupNorm, the gate, and a hand-made global maximum."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, kernel_size=3, padding=1, stride=2)
        self.grouped = nn.Conv2d(12, 12, kernel_size=3, padding=1, groups=4)
        self.norm = nn.GroupNorm(num_groups=3, num_channels=12)
        self.se = SqueezeExcite(12, reduction=4)
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.silu(self.norm(self.grouped(self.conv(x))))
        x = self.se(x)
        return self.fc(x.amax(dim=(2, 3)))


@seeded
def make_squeeze_excite():
    return SqueezeExciteNet(), torch.randn(2, 3, 14, 18)


class VolumeNet(nn.Module):
    """Three-dimensional convolutions over a small volume, flattened into a linear layer."""

    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv3d(1, 4, kernel_size=3, padding=1)
        self.bn = nn.BatchNorm3d(4)
        self.pool = nn.AvgPool3d(2)
        self.conv2 = nn.Conv3d(4, 6, kernel_size=(1, 3, 3))
        self.fc = nn.Linear(6 * 2 * 2 * 3, num_classes)

    def forward(self, volume):
        x = self.pool(F.elu(self.bn(self.conv1(volume))))
        x = torch.relu(self.conv2(x))
        return self.fc(torch.flatten(x, start_dim=1))


@seeded
def make_conv3d():
    return VolumeNet(5), torch.randn(2, 1, 4, 8, 10)


def channel_shuffle(x, groups):
    """Interleave the channels of `groups` groups."""
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


class ShuffleUnit(nn.Module):
    """Split the channels, transform one half, join, shuffle."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, kernel_size=1, bias=False),
            nn.BatchNorm2d(half),
            nn.Hardswish(),
            nn.Conv2d(half, half, kernel_size=3, padding=1, groups=half, bias=False),
            nn.BatchNorm2d(half),
        )

    def forward(self, x):
        x1, x2 = x.chunk(2, dim=1)
        out = torch.cat((x1, self.branch(x2)), dim=1)
        return channel_shuffle(out, 2)


@seeded
def make_shuffle():
    return nn.Sequential(ShuffleUnit(8), ShuffleUnit(8)), torch.randn(2, 8, 9, 11)


class SuperResolution(nn.Module):
    """Upscale by 3 with PixelShuffle, and add the bilinearly enlarged input."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, kernel_size=5, padding=2)
        self.prelu = nn.PReLU(8)
        self.conv2 = nn.Conv2d(8, 3 * 9, kernel_size=3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(3)

    def forward(self, x):
        base = F.interpolate(x, scale_factor=3, mode="bilinear", align_corners=False)
        return self.pixel_shuffle(self.conv2(self.prelu(self.conv1(x)))) + base


@seeded
def make_pixel_shuffle():
    return SuperResolution(), torch.randn(2, 3, 6, 8)


class PatchMerging(nn.Module):
    """Join the four phases of a strided slicing, as hierarchical vision Transformers do."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x):
        x0 = x[:, 0::2, 0::2, :]
        x1 = x[:, 1::2, 0::2, :]
        x2 = x[:, 0::2, 1::2, :]
        x3 = x[:, 1::2, 1::2, :]
        x = torch.cat([x0, x1, x2, x3], -1)
        return self.reduction(self.norm(x))


@seeded
def make_strided_slices():
    return PatchMerging(5), torch.randn(2, 6, 8, 5)


class VariationalAutoencoder(nn.Module):
    """A convolutional autoencoder: strided convolutions down, transposed ones up."""

    def __init__(self, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 8, kernel_size=3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.mean = nn.Linear(8 * 3 * 5, latent)
        self.log_variance = nn.Linear(8 * 3 * 5, latent)
        self.expand = nn.Linear(latent, 8 * 3 * 5)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (8, 3, 5)),
            nn.ConvTranspose2d(8, 4, kernel_size=3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(4, 1, kernel_size=4, stride=2, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x, noise):
        hidden = self.encoder(x)
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        z = mean + noise * torch.exp(0.5 * log_variance)
        return self.decoder(self.expand(z)), mean, log_variance


@seeded
def make_autoencoder():
    return VariationalAutoencoder(6), (torch.rand(2, 1, 12, 20), torch.randn(2, 6))
