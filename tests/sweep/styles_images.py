"""Models of images as other people write them: WGAN, siamese networks, segmentation and detection."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F


# --- WGAN ------------------------------------------------------------------------------------------------------------
class Generator(nn.Module):
    def __init__(self, latent_dim=10, img_shape=(3, 32, 32)):
        super().__init__()
        self.img_shape = img_shape
        self.init_size = img_shape[1] // 4
        self.l1 = nn.Sequential(nn.Linear(latent_dim, 16 * self.init_size**2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.ConvTranspose2d(16, 12, 4, 2, 1, bias=False),
            nn.BatchNorm2d(12, 0.8),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(12, 8, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, img_shape[0], 3, stride=1, padding=1),
            nn.Tanh(),
        )

    def forward(self, z):
        out = self.l1(z)
        out = out.view(out.shape[0], 16, self.init_size, self.init_size)
        img = self.conv_blocks(out)
        return img


class Critic(nn.Module):
    def __init__(self):
        super().__init__()

        def discriminator_block(in_filters, out_filters, bn=True):
            block = [
                nn.Conv2d(in_filters, out_filters, 3, 2, 1),
                nn.LeakyReLU(0.2, inplace=True),
                nn.Dropout2d(0.25),
            ]
            if bn:
                block.append(nn.BatchNorm2d(out_filters, 0.8))
            return block

        self.model = nn.Sequential(
            *discriminator_block(3, 8, bn=False),
            *discriminator_block(8, 12),
            *discriminator_block(12, 16),
        )
        self.adv_layer = nn.Sequential(nn.Linear(16 * 4 * 4, 1))

    def forward(self, img):
        out = self.model(img)
        out = out.view(out.shape[0], -1)
        validity = self.adv_layer(out)
        return validity


# --- pairs of images ------------------------------------------------------------------------------------------------------
class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(1, 4, kernel_size=3), nn.ReLU(inplace=True), nn.BatchNorm2d(4),
            nn.MaxPool2d(2), nn.ReflectionPad2d(1), nn.Conv2d(4, 8, kernel_size=3), nn.ReLU(inplace=True),
            nn.BatchNorm2d(8),
        )  # fmt: skip
        self.fc = nn.Sequential(nn.Linear(8 * 10 * 10, 20), nn.ReLU(inplace=True), nn.Linear(20, 5))

    def forward_once(self, x):
        output = self.cnn(x)
        output = output.view(output.size()[0], -1)
        return self.fc(output)

    def forward(self, input1, input2):
        output1 = self.forward_once(input1)
        output2 = self.forward_once(input2)
        return F.pairwise_distance(output1, output2), F.cosine_similarity(output1, output2)


# --- segmentation and detection ----------------------------------------------------------------------------------------
class ASPP(nn.Module):
    def __init__(self, cin, cout, rates=(1, 2, 3)):
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(cin, cout, 3, padding=r, dilation=r, bias=False),
                    nn.BatchNorm2d(cout),
                    nn.ReLU(),
                )
                for r in rates
            ]
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(cin, cout, 1), nn.ReLU())
        self.project = nn.Conv2d(cout * (len(rates) + 1), cout, 1)

    def forward(self, x):
        size = x.shape[-2:]
        res = [branch(x) for branch in self.branches]
        pooled = self.pool(x)
        res.append(F.interpolate(pooled, size=size, mode="bilinear", align_corners=False))
        return self.project(torch.cat(res, dim=1))


class DeepLab(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.backbone = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.GroupNorm(3, 12), nn.SiLU())
        self.aspp = ASPP(12, 9)
        self.low = nn.Conv2d(8, 4, 1)
        self.classifier = nn.Conv2d(13, 5, 3, padding=1)

    def forward(self, x):
        input_shape = x.shape[-2:]
        low_level = self.stem(x)
        out = self.aspp(self.backbone(low_level))
        out = F.interpolate(out, size=low_level.shape[2:], mode="bilinear", align_corners=True)
        out = torch.cat([out, self.low(low_level)], dim=1)
        out = self.classifier(out)
        return F.interpolate(out, size=input_shape, mode="bilinear", align_corners=False)


class Conv(nn.Module):
    def __init__(self, c1, c2, k=1, s=1, p=None, act=True):
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, k, s, k // 2 if p is None else p, bias=False)
        self.bn = nn.BatchNorm2d(c2)
        self.act = nn.SiLU() if act is True else nn.Identity()

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, c1, c2, shortcut=True):
        super().__init__()
        self.cv1 = Conv(c1, c2, 1)
        self.cv2 = Conv(c2, c2, 3)
        self.add = shortcut and c1 == c2

    def forward(self, x):
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


class C3(nn.Module):
    def __init__(self, c1, c2, n=1, shortcut=True):
        super().__init__()
        c_ = c2 // 2
        self.cv1 = Conv(c1, c_)
        self.cv2 = Conv(c1, c_)
        self.cv3 = Conv(2 * c_, c2)
        self.m = nn.Sequential(*(Bottleneck(c_, c_, shortcut) for _ in range(n)))

    def forward(self, x):
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    def __init__(self, c1, c2, k=5):
        super().__init__()
        self.cv1 = Conv(c1, c1 // 2)
        self.cv2 = Conv(c1 // 2 * 4, c2)
        self.m = nn.MaxPool2d(kernel_size=k, stride=1, padding=k // 2)

    def forward(self, x):
        x = self.cv1(x)
        y1 = self.m(x)
        y2 = self.m(y1)
        return self.cv2(torch.cat((x, y1, y2, self.m(y2)), 1))


class Concat(nn.Module):
    def __init__(self, dimension=1):
        super().__init__()
        self.d = dimension

    def forward(self, x):
        return torch.cat(x, self.d)


class Detect(nn.Module):
    def __init__(self, nc=3, anchors=2, ch=()):
        super().__init__()
        self.no = nc + 5
        self.na = anchors
        self.m = nn.ModuleList(nn.Conv2d(x, self.no * self.na, 1) for x in ch)

    def forward(self, x):
        z = []
        for i, conv in enumerate(self.m):
            y = conv(x[i])
            bs, _, ny, nx = y.shape
            y = y.view(bs, self.na, self.no, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            z.append(y.sigmoid().view(bs, -1, self.no))
        return torch.cat(z, 1)


class Yolo(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1 = nn.Sequential(Conv(3, 8, 3, 2), C3(8, 12, n=2))
        self.b2 = nn.Sequential(Conv(12, 16, 3, 2), C3(16, 16), SPPF(16, 16, k=3))
        self.lateral = Conv(16, 12, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.cat = Concat(1)
        self.out = C3(24, 12, shortcut=False)
        self.detect = Detect(ch=(12, 16))

    def forward(self, x):
        p1 = self.b1(x)
        p2 = self.b2(p1)
        n1 = self.out(self.cat([self.up(self.lateral(p2)), p1]))
        return self.detect([n1, p2])


IMAGES = {
    "wgan_generator": lambda: (Generator(), torch.randn(3, 10)),
    "wgan_critic": lambda: (Critic(), torch.randn(3, 3, 32, 32)),
    "siamese": lambda: (Siamese(), (torch.randn(3, 1, 20, 20), torch.randn(3, 1, 20, 20))),
    "deeplab": lambda: (DeepLab(), torch.randn(2, 3, 33, 47)),
    "yolo": lambda: (Yolo(), torch.randn(2, 3, 32, 48)),
}
