"""Image models of timm with random weights, at the smallest sizes their builders take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

#: Convolutional networks: any size of image.
CONVOLUTIONAL = (
    "resnet18 resnet50 resnet26d resnext50_32x4d seresnet18 ecaresnet26t skresnet18 res2net50_26w_4s resnest14d "
    "regnetx_002 regnety_002 densenet121 mobilenetv2_100 mobilenetv3_small_100 mobilenetv4_conv_small "
    "efficientnet_b0 efficientnetv2_s tf_efficientnet_lite0 ghostnet_100 mnasnet_100 lcnet_050 tinynet_e "
    "convnext_tiny convnext_atto convnextv2_atto repvgg_a0 hrnet_w18_small dla34 dpn48b xception41 vgg11_bn rexnet_100 "
    "darknet53 cspresnet50 poolformer_s12 mobileone_s0 nfnet_f0 edgenext_xx_small fastvit_t8 inception_next_tiny "
    "starnet_s1 repghostnet_050 resnetv2_50 selecsls42 legacy_xception"
).split()
#: Networks over patches, built for one size of image.
PATCHES = (
    "vit_tiny_patch16_224 deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 beit_base_patch16_224 "
    "mixer_s32_224 gmlp_s16_224 resmlp_12_224 cait_xxs24_224 xcit_nano_12_p16_224 coat_tiny pit_ti_224 "
    "swin_tiny_patch4_window7_224 convit_tiny tnt_s_legacy_patch16_224"
).split()
#: Networks that need an image of their own.
OTHER = {
    "inception_v3": (96, 128), "inception_v4": (96, 128), "efficientformer_l1": (224, 224), "levit_128s": (224, 224),
    "mobilevit_xxs": (64, 64), "crossvit_tiny_240": (240, 240), "volo_d1_224": (224, 224),
    "swinv2_cr_tiny_224": (224, 224), "maxvit_rmlp_pico_rw_256": (256, 256), "twins_svt_small": (224, 224),
    "pvt_v2_b0": (64, 64), "focalnet_tiny_srf": (64, 64), "davit_tiny": (64, 64),
}  # fmt: skip


def _build(
    name: str, height: int, width: int, **options: Any
) -> tuple[torch.nn.Module, torch.Tensor]:
    import timm

    return timm.create_model(name, num_classes=10, **options), torch.randn(2, 3, height, width)


def _factory(
    name: str, height: int, width: int, **options: Any
) -> Callable[[], tuple[torch.nn.Module, torch.Tensor]]:
    return lambda: _build(name, height, width, **options)


MODELS = {
    **{name: _factory(name, 64, 96) for name in CONVOLUTIONAL},
    **{name: _factory(name, 64, 64, img_size=64) for name in PATCHES},
    **{name: _factory(name, *size) for name, size in OTHER.items()},
}
