"""A generated PyTorch program, imported from its file, with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from diglot.errors import BadInput, DiglotError
from diglot.runtime.afresh import import_afresh

if TYPE_CHECKING:
    import torch
    from torch import nn

WEIGHTS = "model.safetensors"


class _ItsCode:
    """Whatever a generated program raises while it is imported or built becomes one BadInput."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, DiglotError):
            raise BadInput(
                "The generated PyTorch program cannot be run.",
                where=str(self.path),
                received=f"{type(error).__name__}: {' '.join(str(error).split())[:400]}",
                hint="translate again, into this folder",
            ) from error


def build(path: Path, weights: Path | None = None) -> nn.Module:
    """Import a generated model.py afresh, under a name of its own, and call its `build_model`.

    With `weights` (a .safetensors file) the program reads them itself. Raises BadInput for a program
    that fails, or that gives no ``nn.Module``.
    """
    from torch import nn

    with _ItsCode(path):
        module = import_afresh(path)
        model = module.build_model(str(weights)) if weights else module.build_model()
    if not isinstance(model, nn.Module):
        raise BadInput(
            "build_model of the generated program gives no nn.Module.",
            where=str(path),
            received=type(model).__name__,
        )
    return model


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors of a .safetensors file by name. Raises BadInput for a damaged one."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"{path.name} cannot be read.",
            where=str(path),
            received=f"{type(error).__name__}: {error}",
            hint="translate again, into this folder",
        ) from error


def write_weights(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors or arrays by name as a .safetensors file, whole or not at all.

    Weights that share memory are written once for each of their names, as ``load_state_dict`` wants
    them. Raises BadInput where there is no room.
    """
    from safetensors.torch import save

    tensors = {name: as_tensor(value).contiguous().clone() for name, value in state.items()}
    data = save(tensors, metadata={"format": "pt"})
    part = path.with_name(f".part-{path.name}")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise BadInput(
            f"{path.name} ({len(data) / 1e6:.0f} MB) could not be written: {error.strerror}.",
            where=str(path.parent),
            hint="make room there, or name another output folder",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def fill(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Set what `model` has of `state` (tensors or arrays by ``state_dict`` name), in place.

    What does not fit in shape, and what it does not have, is left out.
    """
    import torch

    held: dict[str, Any] = dict(model.named_buffers(remove_duplicate=False))
    held.update(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, value in state.items():
            tensor = as_tensor(value)
            if name in held and held[name].shape == tensor.shape:
                held[name].copy_(tensor)


def as_tensor(value: Any) -> torch.Tensor:
    """A tensor, or an array as a tensor of its own, on the CPU and without a history."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return torch.from_numpy(np.array(value, order="C"))
