"""Augmentation: in evaluation it does nothing; in training it is left out, and said so."""

from __future__ import annotations

from typing import Any

import torch

from diglot.frontends.keras_layers.records import LayerCall, Sample, layer

#: What some classes must be made with.
_FACTORS: dict[str, tuple[float, ...]] = {
    "RandomBrightness": (0.2,), "RandomColorDegeneration": (0.5,), "RandomContrast": (0.2,), "RandomHue": (0.5,),
    "RandomPosterization": (4,), "RandomRotation": (0.2,), "RandomSaturation": (0.5,), "RandomSharpness": (0.5,),
    "RandomShear": (0.1, 0.1), "RandomTranslation": (0.1, 0.2), "RandomZoom": (0.2,),
}  # fmt: skip


def _unchanged(run: LayerCall, data: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    if run.forced:
        raise run.refused("augmentation that is always on: torchvision.transforms has it, too")
    return data


def _sample(name: str) -> Sample:
    return Sample(
        lambda keras: getattr(keras.layers, name)(*_FACTORS.get(name, ())),
        ("2,8,9,3",),
        random=True,
    )


for _name in (
    "RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomElasticTransform RandomErasing "
    "RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective RandomPosterization "
    "RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomZoom AugMix RandAugment "
    "Solarization"
).split():
    layer(
        _name,
        call=_unchanged,
        in_training="changes its images at random: do that to the data (torchvision.transforms)",
        samples=(_sample(_name),),
    )
