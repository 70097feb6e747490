"""What became of the classes and options of Keras 2: one record for each class that has changed.

An option that Keras 3 has dropped is left out where it had the value that does nothing, else it is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diglot.errors import BadInput

Config = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What became of a class: its name, options that are gone, and the rest as a function of the config.

    ``gone`` holds, for each option that Keras 3 does not know, the values with which it does nothing; ``ANY`` says
    that it never mattered to what the layer computes.
    """

    name: str | None = None
    gone: Mapping[str, Any] = field(default_factory=dict)
    rest: Callable[[Config], Config] | None = None


ANY = object()
_EVERYWHERE = {
    "batch_input_shape": ANY,
    "build_input_shape": ANY,
    "input_dtype": ANY,
}
_RECURRENT = {"time_major": (False,), "implementation": ANY}
_KERNEL = {
    f"kernel_{part}": ANY for part in ("initializer", "regularizer", "constraint")
}  # a depthwise kernel has options of its own


def _theta(config: Config) -> Config:
    return {**_without(config, "theta"), "threshold": config.get("theta", 1.0)}


def _old_gru(config: Config) -> Config:
    """Before Keras 2.1.3 there was no ``reset_after``, and no GRU that resets so."""
    return {"reset_after": False, **config}


def _cudnn(config: Config) -> Config:
    return {**config, "activation": "tanh", "recurrent_activation": "sigmoid"}


def _cudnn_gru(config: Config) -> Config:
    return {**_cudnn(config), "reset_after": True}


def _batch_norm(config: Config) -> Config:
    axis = config.get("axis", -1)
    renorm = ("renorm", "renorm_clipping", "renorm_momentum")
    kept = dict(config) if config.get("renorm") else _without(config, *renorm)
    return {**kept, "axis": axis[0] if isinstance(axis, list) and len(axis) == 1 else axis}


def _without(config: Config, *names: str) -> Config:
    return {key: value for key, value in config.items() if key not in names}


_GROUPED = {"groups": (1,)}
_SEPARABLE = {**_GROUPED, **_KERNEL}
_NORM = {
    "fused": ANY,
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "mode": (0,),
}
_LSTM = Change("LSTM", _RECURRENT, _cudnn)
_RANDOM = {"rng_type": ANY, "force_generator": ANY}

CHANGES: dict[str, Change] = {
    **{
        name: Change(gone=_RECURRENT)
        for name in (
            "RNN SimpleRNN LSTM ConvLSTM1D ConvLSTM2D ConvLSTM3D SimpleRNNCell LSTMCell StackedRNNCells"
        ).split()
    },
    "StackedRNNCells": Change(gone={"reverse_state_order": (False,)}),
    "GRU": Change(gone=_RECURRENT, rest=_old_gru),
    "GRUCell": Change(gone=_RECURRENT, rest=_old_gru),
    "LSTMV2": Change("LSTM", _RECURRENT),
    "GRUV2": Change("GRU", _RECURRENT),
    "CuDNNLSTM": _LSTM,
    "CuDNNGRU": Change("GRU", _RECURRENT, _cudnn_gru),
    "BatchNormalization": Change(gone=_NORM, rest=_batch_norm),
    "BatchNormalizationV1": Change("BatchNormalization", _NORM, _batch_norm),
    "BatchNormalizationV2": Change("BatchNormalization", _NORM, _batch_norm),
    "SyncBatchNormalization": Change(
        "BatchNormalization", _NORM, lambda c: {**_batch_norm(c), "synchronized": True}
    ),
    "DepthwiseConv1D": Change(gone=_SEPARABLE),
    "DepthwiseConv2D": Change(gone={**_SEPARABLE, "filters": ANY}),
    "SeparableConv1D": Change(gone=_SEPARABLE),
    "SeparableConv2D": Change(gone=_SEPARABLE),
    "Conv1DTranspose": Change(gone=_GROUPED),
    "Conv2DTranspose": Change(gone=_GROUPED),
    "Conv3DTranspose": Change(gone=_GROUPED),
    "SpatialDropout1D": Change(gone={"noise_shape": ANY}),
    "SpatialDropout2D": Change(gone={"noise_shape": ANY}),
    "SpatialDropout3D": Change(gone={"noise_shape": ANY}),
    "AlphaDropout": Change(gone={"noise_shape": (None,)}),
    "Embedding": Change(gone={"input_length": ANY, "sparse": ANY}),
    "ThresholdedReLU": Change("ReLU", rest=_theta),
    "MultiHeadAttention": Change(
        gone={
            **{f"{x}_shape": ANY for x in ("query", "key", "value")},
            "softmax_robust_masking": (False,),
        }
    ),
    "Discretization": Change(gone={"bins": (None,)}),
    **{
        name: Change(gone=_RANDOM)
        for name in (
            "RandomCrop RandomFlip RandomTranslation RandomRotation RandomZoom RandomContrast "
            "RandomBrightness RandomHeight RandomWidth"
        ).split()
    },
}


def modern(name: str, config: Mapping[str, Any]) -> tuple[str, Config]:
    """Return the class and options in Keras 3 for those of Keras 2.

    Raises BadInput for an option of which Keras 3 knows nothing, unless it does nothing.
    """
    change = CHANGES.get(name, Change())
    values: Config = {key: plain(value) for key, value in config.items()}
    gone = {**_EVERYWHERE, **change.gone}
    for key in list(values):
        if key not in gone:
            continue
        value = values[key]
        if gone[key] is not ANY and value not in gone[key]:
            raise BadInput(
                f"The {name} layer {config.get('name', '')} has {key}={value!r}, which Keras 3 does not have.",
                hint="load the model with the TensorFlow that wrote it and save it as a SavedModel "
                "(tf.saved_model.save): Diglot reads that folder",
            )
        del values[key]
    return change.name or name, change.rest(values) if change.rest is not None else values


def plain(value: Any) -> Any:
    """Return a value of a config as Keras 3 would write it."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    name, inner = value.get("class_name"), value.get("config")
    if name == "__tuple__":
        return tuple(plain(item) for item in value.get("items", []))
    if name == "TensorShape":
        return [plain(item) for item in value.get("items", [])]
    if value.get("type") == "ndarray":  # numbers that were NumPy's, in Keras 2.0 to 2.3
        return value.get("value")
    if name in ("Policy", "PolicyV1") and isinstance(inner, dict):
        return inner.get("name")
    if isinstance(inner, dict) and isinstance(name, str) and name in _INITIALIZERS:
        inner = _without(inner, "dtype")
        if name == "VarianceScaling" and inner.get("distribution") == "normal":
            inner["distribution"] = "truncated_normal"
        return {**value, "config": inner}
    return {key: plain(item) for key, item in value.items()}


_INITIALIZERS = frozenset(
    """Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal VarianceScaling Orthogonal Identity
    GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform""".split()
)
