"""Models of timm and of Hugging Face, with example inputs made from their configuration."""

from __future__ import annotations

import contextlib
import http.client
import importlib
import importlib.metadata
import logging
import pickle
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diglot.errors import BadInput, MissingExtra

if TYPE_CHECKING:
    import torch
    from torch import nn

Dynamic = dict[str, dict[int, str]]

#: The example's batch and lengths: pairwise different, and unlike any usual width.
BATCH, LENGTH, TARGET_LENGTH = 2, 11, 7

#: Seconds to wait for the Hugging Face Hub to answer at all.
_PATIENCE = 5.0
_OWN_FOLDER = "download the model elsewhere and name its folder"
_RANDOM_WEIGHTS = "leave pretrained out for random weights"


def load_timm(name: str, options: dict[str, Any]) -> tuple[nn.Module, Any, Dynamic]:
    """Build a timm model; its example is two images of the size that its configuration names.

    Raises :class:`MissingExtra` without timm or torchvision, :class:`BadInput` for unknown names.
    """
    for package in ("timm", "torchvision"):
        if not _installed(package):
            raise MissingExtra(package, "timm", needed_for=f"timm:{name}")
    if not _torchvision_works():
        raise BadInput(
            "timm needs torchvision, and the installed torchvision cannot be imported.",
            received="it was built for another PyTorch than the one that is installed",
            hint="install the torchvision that belongs to your PyTorch, from the same index, e.g."
            " pip install --force-reinstall torchvision --index-url"
            " https://download.pytorch.org/whl/cpu",
        )
    import timm
    import torch

    if not timm.is_model(name.split(".")[0]):
        close = timm.list_models(f"*{name.split('.')[0].split('_')[0]}*")[:8]
        raise BadInput(
            f"timm has no model {name}.", expected=f"e.g. {', '.join(close)}" if close else None
        )
    torch.manual_seed(0)
    with _hub(needed=bool(options.get("pretrained"))) as reached:
        try:
            model = timm.create_model(name, **options)
        except (RuntimeError, TypeError, ValueError, OSError) as error:
            if isinstance(error, OSError) and not reached:
                raise _unreachable(f"The weights of {name}", _RANDOM_WEIGHTS) from error
            raise _failed(f"timm could not make {name}.", error) from error
    config = getattr(model, "pretrained_cfg", None) or {}
    size = tuple(config.get("input_size") or (3, 224, 224))
    images = torch.randn((BATCH, *size), generator=torch.Generator().manual_seed(0))
    # The key is the input's position: timm's forward calls it x, which says nothing.
    return model.eval(), images, {"0": {0: "batch"}, "x": {0: "batch"}}


def _installed(package: str) -> bool:
    """Whether a package is on the disk, whether or not it can be imported."""
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _torchvision_works() -> bool:
    """Whether torchvision imports; its compiled part must match PyTorch's build."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError):
        return False
    return True


def _hide_broken_torchvision() -> None:
    """Let transformers do without a torchvision that cannot be imported; it needs none for models.

    transformers looks whether the package is installed, not whether it works. None in sys.modules
    says that it is not there.
    """
    if _installed("torchvision") and not _torchvision_works():
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def load_hf(place: str, needs_examples: bool = True) -> tuple[nn.Module, Any, Dynamic | None]:
    """Load a transformers model from a folder, or from the Hub by its id.

    A folder without weights gives the model with random ones. Pickled weights are read only where
    they hold nothing but tensors. Raises :class:`MissingExtra` without transformers and
    :class:`BadInput` for what is no model or cannot be fetched.
    """
    with _reading(place) as folder:
        model = _build_hf(str(folder or place), folder)
    model.eval()
    if not needs_examples:
        return model, None, None
    return (model, *examples_for(model, place))


def load_hf_config(place: str) -> Any:
    """The configuration of a transformers model, alone. Raises as `load_hf` does."""
    with _reading(place) as folder:
        import transformers

        return transformers.AutoConfig.from_pretrained(
            str(folder or place), trust_remote_code=False
        )


def load_hf_tokenizer(place: str) -> Any:
    """The tokenizer (of the package tokenizers) that belongs to a transformers model.

    Raises as `load_hf` does, and BadInput where it has none that is written in that package.
    """
    with _reading(place) as folder:
        import transformers

        found = transformers.AutoTokenizer.from_pretrained(
            str(folder or place), trust_remote_code=False
        )
    tokenizer = getattr(found, "backend_tokenizer", None)
    if tokenizer is None:
        raise BadInput(
            f"The tokenizer of {place} runs in Python only.",
            received=type(found).__name__,
            expected="a model with a tokenizer.json",
        )
    return tokenizer


@contextlib.contextmanager
def _reading(place: str) -> Iterator[Path | None]:
    """The folder that `place` names, or None where it is an id; what transformers raises while it
    reads becomes one sentence."""
    if not _installed("transformers"):
        raise MissingExtra("transformers", "hf", needed_for=f"hf:{place}")
    folder = Path(place).expanduser()
    is_local = folder.is_dir()
    if is_local:
        _check_folder(folder, place)
    elif place.startswith((".", "/", "~")) or place.count("/") > 1:
        raise BadInput(f"There is no folder {place}.", received=str(folder.resolve()))
    _hide_broken_torchvision()
    with _quiet_transformers(), _hub(needed=not is_local) as reached:
        try:
            yield folder if is_local else None
        except (OSError, ConnectionError) as error:
            if is_local:
                raise _failed(f"The model in {place} cannot be loaded.", error) from error
            if not reached:
                raise _unreachable(place, _OWN_FOLDER) from error
            raise BadInput(
                f"{place} is neither a folder here nor a model that the Hugging Face Hub gave.",
                received=_first_sentence(error),
                hint="check the name and the connection, or download the model and name its folder",
            ) from error
        except (ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            raise _failed(f"transformers cannot load {place}.", error) from error
        except pickle.UnpicklingError as error:
            raise _refused(place, error) from error


@contextlib.contextmanager
def _hub(needed: bool) -> Iterator[bool]:
    """Whether the Hugging Face Hub answers; where it does not, its library uses in the block what it
    keeps on the disk. By itself it asks six times for every file: most of a minute until it gives up.
    """
    from huggingface_hub import constants

    if not needed or constants.HF_HUB_OFFLINE or _answers(constants.ENDPOINT):
        yield not constants.HF_HUB_OFFLINE
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield False
    finally:
        constants.HF_HUB_OFFLINE = False


def _answers(address: str) -> bool:
    """Whether a server is reached within a few seconds, whatever it says."""
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # It was reached, and the library may know its certificate.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, http.client.HTTPException):
        return False


def _unreachable(what: str, instead: str) -> BadInput:
    return BadInput(
        f"{what} cannot be fetched: the Hugging Face Hub cannot be reached.",
        received="it is not among the files kept from earlier downloads, either",
        hint=f"check the connection (and HF_HUB_OFFLINE, HF_ENDPOINT, HTTPS_PROXY), or {instead}",
    )


def _check_folder(folder: Path, place: str) -> None:
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"{place} is a folder without a config.json.",
            expected="a folder that save_pretrained wrote: config.json and model.safetensors",
            received=", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "an empty folder",
        )
    if list(folder.glob("*.safetensors")):
        return
    import torch

    for weights in sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt")):
        try:
            torch.load(weights, map_location="meta", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise _refused(str(weights), error) from error


def _refused(place: str, error: BaseException) -> BadInput:
    return BadInput(
        f"{place} was refused: it is no plain weight file, and reading it could run code.",
        received=_first_sentence(error),
        expected="weights as safetensors, or a pickle of nothing but tensors",
        hint="convert it where you trust it: model.save_pretrained(folder)",
    )


def _build_hf(place: str, folder: Path | None) -> nn.Module:
    """The model class that the configuration names, with its weights, or random ones."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
    config.use_cache = False
    architectures = getattr(config, "architectures", None) or []
    kind = getattr(transformers, architectures[0], None) if architectures else None
    options = {"attn_implementation": "eager", "dtype": torch.float32}
    torch.manual_seed(0)
    has_weights = folder is None or any(
        list(folder.glob(pattern)) for pattern in ("*.safetensors", "*.bin")
    )
    if not has_weights:
        config._attn_implementation = "eager"
        if kind is not None:
            return kind(config).float()
        return transformers.AutoModel.from_config(config).float()
    return (kind or transformers.AutoModel).from_pretrained(place, config=config, **options)


def examples_for(model: Any, place: str) -> tuple[dict[str, torch.Tensor], Dynamic]:
    """Example inputs for a transformers model and which of their sizes are dynamic.

    Token ids with right padding for text, images for vision, both sides for encoder–decoder models.
    """
    main = getattr(model, "main_input_name", "input_ids")
    examples: dict[str, torch.Tensor] = {}
    dynamic: Dynamic = {}
    if main == "pixel_values" or hasattr(model.config, "vision_config"):
        examples["pixel_values"] = _images(model.config, place)
        dynamic["pixel_values"] = {0: "batch"}
    if main == "input_ids":
        _add_text(model.config, examples, dynamic, "", LENGTH, "length")
        if model.config.is_encoder_decoder:
            _add_text(model.config, examples, dynamic, "decoder_", TARGET_LENGTH, "target_length")
    if not examples:
        raise BadInput(
            f"{type(model).__name__} takes {main}, for which Diglot makes no example.",
            hint=f'pass --input, e.g. --input "{main}=float32[batch,length,80]"',
        )
    return examples, dynamic


def _add_text(
    config: Any, examples: dict[str, Any], dynamic: Dynamic, prefix: str, length: int, size: str
) -> None:
    import torch

    text = config.get_text_config(decoder=bool(prefix))
    limit = getattr(text, "max_position_embeddings", None)
    if isinstance(limit, int) and limit > 4:
        length = min(length, limit - 2)
    vocabulary = text.vocab_size
    pad = getattr(text, "pad_token_id", None)
    pad = pad if isinstance(pad, int) and 0 <= pad < vocabulary else 0
    # Ids above the padding id: some models count positions by where the padding stands.
    low = pad + 1 if pad < 8 and pad + 2 < vocabulary else 0
    generator = torch.Generator().manual_seed(len(prefix))
    ids = torch.randint(low, vocabulary, (BATCH, length), generator=generator)
    ids[0, -1] = vocabulary - 1
    mask = torch.ones_like(ids)
    mask[1, length - 2 :] = 0
    ids[mask == 0] = pad
    axes = {0: "batch", 1: size}
    examples[f"{prefix}input_ids"] = ids
    dynamic[f"{prefix}input_ids"] = axes
    if not prefix:
        examples["attention_mask"] = mask
        dynamic["attention_mask"] = dict(axes)


def _images(config: Any, place: str) -> torch.Tensor:
    import torch

    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None) or 224
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    channels = getattr(vision, "num_channels", 3)
    generator = torch.Generator().manual_seed(0)
    return torch.randn((BATCH, channels, height, width), generator=generator)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep transformers' advice and progress bars out of the terminal."""
    from transformers.utils import logging as hf_logging

    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    hub = logging.getLogger("huggingface_hub")
    hub_level = hub.level
    hub.setLevel(logging.ERROR)
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        hf_logging.enable_progress_bar()
        hub.setLevel(hub_level)


def _first_sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "…"


def _failed(message: str, error: BaseException) -> BadInput:
    return BadInput(message, received=f"{type(error).__name__}: {_first_sentence(error)}")
