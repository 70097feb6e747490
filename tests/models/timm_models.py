"""Models of timm with random weights, at small image sizes to keep the proofs short."""

import timm
import torch
from randomise import seeded


def _factory(name, image, **options):
    @seeded
    def make():
        return timm.create_model(name, num_classes=10, **options), torch.randn(2, 3, *image)

    make.__doc__ = f"timm's {name}, ten classes, and two images of {image[0]} x {image[1]}."
    return make


make_resnet18 = _factory("resnet18", (64, 96))
make_mobilenetv3 = _factory("mobilenetv3_small_100", (64, 96))
make_efficientnet = _factory("efficientnet_b0", (64, 96))
make_convnext = _factory("convnext_tiny", (64, 96))
make_vit = _factory("vit_tiny_patch16_224", (64, 64), img_size=64)
make = make_resnet18
