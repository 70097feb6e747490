"""Backbones of keras-hub from their configs, tiny, with random weights. Empty where keras-hub is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import mirrors
import numpy as np

TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
GROUPED = {**TEXT, "num_query_heads": 4, "num_key_value_heads": 2}
POSITIONS = {"num_heads": 2, "max_sequence_length": 32}
#: The arguments of each class, and what its model takes besides token_ids and padding_mask.
TEXTS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "BertBackbone": ({**TEXT, **POSITIONS}, ("segment_ids",)),
    "RobertaBackbone": ({**TEXT, **POSITIONS}, ()),
    "XLMRobertaBackbone": ({**TEXT, **POSITIONS}, ()),
    "DistilBertBackbone": ({**TEXT, **POSITIONS}, ()),
    "ElectraBackbone": ({**TEXT, **POSITIONS, "vocab_size": 50, "embedding_dim": 12}, ("segment_ids",)),
    "AlbertBackbone": ({**TEXT, **POSITIONS, "embedding_dim": 12, "num_groups": 1}, ("segment_ids",)),
    "DebertaV3Backbone": ({**TEXT, **POSITIONS, "bucket_size": 8}, ()),
    "GPT2Backbone": ({**TEXT, **POSITIONS}, ()),
    "GPTNeoXBackbone": ({**TEXT, "num_heads": 2}, ()),
    "OPTBackbone": ({**TEXT, **POSITIONS}, ()),
    "BloomBackbone": ({**TEXT, "num_heads": 2}, ()),
    "FNetBackbone": ({**TEXT, "max_sequence_length": 32}, ("segment_ids",)),
    "LlamaBackbone": (GROUPED, ()),
    "Llama3Backbone": (GROUPED, ()),
    "MistralBackbone": ({**GROUPED, "sliding_window": 4}, ()),
    "MixtralBackbone": ({**GROUPED, "num_experts": 3, "top_k": 2}, ()),
    "QwenBackbone": (GROUPED, ()),
    "Qwen3Backbone": ({**GROUPED, "head_dim": 8, "sliding_window_size": 4}, ()),
    "Phi3Backbone": (GROUPED, ()),
    "FalconBackbone": ({**TEXT, "num_attention_heads": 2}, ()),
    "GemmaBackbone": ({**GROUPED, "head_dim": 8}, ()),
    "Gemma3Backbone": (
        {**GROUPED, "head_dim": 8, "image_size": 16, "use_sliding_window_attention": True, "sliding_window_size": 4}, ()),
}  # fmt: skip
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "T5Backbone": {**TEXT, "num_heads": 2},
    "BartBackbone": {**TEXT, **POSITIONS},
}
IMAGES: dict[str, dict[str, Any]] = {
    "ViTBackbone": {
        "image_shape": (32, 32, 3), "patch_size": (8, 8), "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24},
    "DeiTBackbone": {
        "image_shape": (32, 32, 3), "patch_size": (8, 8), "num_layers": 2, "num_heads": 2, "hidden_dim": 16,
        "intermediate_dim": 24},
    "ResNetBackbone": {
        "input_conv_filters": [8], "input_conv_kernel_sizes": [7], "stackwise_num_filters": [64, 16],
        "stackwise_num_blocks": [2, 1], "stackwise_num_strides": [1, 2], "block_type": "bottleneck_block",
        "image_shape": (48, 64, 3)},
    "ResNetVdBackbone": {
        "input_conv_filters": [8, 8, 12], "input_conv_kernel_sizes": [3, 3, 3], "stackwise_num_filters": [64, 16],
        "stackwise_num_blocks": [1, 2], "stackwise_num_strides": [1, 2], "block_type": "basic_block_vd",
        "image_shape": (None, None, 3)},
    "EfficientNetBackbone": {
        "stackwise_width_coefficients": [1.0] * 3, "stackwise_depth_coefficients": [1.0] * 3,
        "stackwise_kernel_sizes": [3, 5, 3], "stackwise_num_repeats": [1, 2, 2], "stackwise_input_filters": [16, 16, 24],
        "stackwise_output_filters": [16, 24, 32], "stackwise_expansion_ratios": [1, 4, 4],
        "stackwise_squeeze_and_excite_ratios": [0.0, 0.25, 0.25], "stackwise_strides": [1, 2, 2],
        "stackwise_block_types": ["fused", "unfused", "v1"], "input_shape": (48, 64, 3)},
    "MiTBackbone": {
        "layerwise_depths": [2, 1], "num_layers": 2, "layerwise_num_heads": [1, 2], "layerwise_sr_ratios": [4, 1],
        "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3], "layerwise_strides": [4, 2],
        "image_shape": (32, 32, 3), "hidden_dims": [8, 16]},
    "DenseNetBackbone": {
        "stackwise_num_repeats": [2, 3], "compression_ratio": 0.5, "growth_rate": 8, "image_shape": (48, 64, 3)},
    "VGGBackbone": {
        "stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 12], "image_shape": (32, 48, 3)},
}  # fmt: skip
CLASSES = {"ResNetVdBackbone": "ResNetBackbone"}


def _text(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    arguments, others = TEXTS[name]
    rng = np.random.default_rng(0)
    example = {"token_ids": rng.integers(1, 50, (2, 7)).astype("int32")}
    example["padding_mask"] = np.ones((2, 7), "int32")
    example["padding_mask"][1, 5:] = 0
    for other in others:
        example[other] = rng.integers(0, 2, (2, 7)).astype("int32")
    return _build(name, arguments), example


def _encoder_decoder(name: str) -> tuple[Any, dict[str, np.ndarray]]:
    rng, example = np.random.default_rng(0), {}
    for side, length in (("encoder", 7), ("decoder", 5)):
        example[f"{side}_token_ids"] = rng.integers(1, 50, (2, length)).astype("int32")
        example[f"{side}_padding_mask"] = np.ones((2, length), "int32")
        example[f"{side}_padding_mask"][1, length - 2 :] = 0
    return _build(name, ENCODER_DECODERS[name]), example


def _image(name: str) -> tuple[Any, Any]:
    model = _build(name, IMAGES[name])
    if None not in model.input_shape[1:]:
        return model, None
    return model, np.random.default_rng(0).normal(size=(2, 48, 64, 3)).astype("float32")


def _build(name: str, arguments: dict[str, Any]) -> Any:
    import keras
    import keras_hub

    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    model = getattr(keras_hub.models, CLASSES.get(name, name))(**arguments)
    mirrors.move_vectors(model)
    return model


def _factory(name: str) -> Callable[[], tuple[Any, Any]]:
    build = _text if name in TEXTS else _image if name in IMAGES else _encoder_decoder
    return lambda: build(name)


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {}
if importlib.util.find_spec("keras_hub") is not None:
    MODELS = {name: _factory(name) for name in (*TEXTS, *ENCODER_DECODERS, *IMAGES)}
