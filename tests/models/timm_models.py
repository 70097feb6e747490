"""Models of timm with random weights, shallow and at small image sizes to keep the proofs short."""

from functools import partial

import timm
import torch
from randomise import seeded
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import round_channels
from timm.models.efficientnet import EfficientNet, decode_arch_def
from timm.models.mobilenetv3 import MobileNetV3


def _factory(name, image, **options):
    @seeded
    def make():
        return timm.create_model(name, num_classes=10, **options), torch.randn(2, 3, *image)

    make.__doc__ = f"timm's {name}, ten classes, and two images of {image[0]} x {image[1]}."
    return make


# The depth of the real ones adds seconds and no new kind of block: make sweep has those.
make_resnet18 = _factory(
    "resnet18", (64, 96), layers=(1, 1, 1, 2), channels=(16, 24, 32, 48), stem_width=16
)
make_convnext = _factory("convnext_tiny", (64, 96), depths=(1, 1, 2, 1), dims=(16, 24, 32, 48))
make_vit = _factory("vit_tiny_patch16_224", (64, 64), img_size=64, depth=3)
make = make_resnet18


@seeded
def make_efficientnet():
    """An EfficientNet of five blocks, those that efficientnet_b0 begins with, and two images of 64 x 96."""
    blocks = [
        ["ds_r1_k3_s1_e1_c16_se0.25"],
        ["ir_r2_k3_s2_e6_c24_se0.25"],
        ["ir_r2_k5_s2_e6_c40_se0.25"],
    ]
    model = EfficientNet(
        decode_arch_def(blocks), num_classes=10, num_features=96, act_layer=torch.nn.SiLU
    )
    return model, torch.randn(2, 3, 64, 96)


@seeded
def make_mobilenetv3():
    """A MobileNetV3 of five blocks, each kind that mobilenetv3_small_050 has, and two images of 64 x 96."""
    blocks = [
        ["ds_r1_k3_s2_e1_c16_se0.25_nre"],
        ["ir_r1_k3_s2_e4.5_c24_nre", "ir_r1_k3_s1_e3.67_c24_nre"],
        ["ir_r1_k5_s2_e4_c40_se0.25", "ir_r1_k5_s1_e6_c40_se0.25"],
        ["cn_r1_k1_s1_c576"],
    ]
    model = MobileNetV3(
        decode_arch_def(blocks),
        num_classes=10,
        num_features=1024,
        fix_stem=True,
        round_chs_fn=partial(round_channels, multiplier=0.5),
        act_layer=torch.nn.Hardswish,
        se_layer=partial(
            SqueezeExcite,
            gate_layer="hard_sigmoid",
            force_act_layer=torch.nn.ReLU,
            rd_round_fn=round_channels,
        ),
    )
    return model, torch.randn(2, 3, 64, 96)
