"""The sentence encoder in both frameworks: in PyTorch as it was published, in Keras as Diglot translates it.

Every function that runs a framework is called in a process of that framework's own.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diglot.data.packages import minilm_folder
from diglot.data.tokens import batches
from diglot.errors import BadInput
from diglot.output import write_whole
from diglot.training.task import Arrays

PACKAGED = "minilm"
_BATCH = 32

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]


def place_of(encoder: str) -> str:
    """The folder or the Hub's id that an encoder's name stands for; "minilm" is the packaged one."""
    if encoder == PACKAGED:
        return str(minilm_folder("The sentence encoder"))
    place = encoder.removeprefix("hf:")
    folder = Path(place).expanduser()
    return str(folder.resolve()) if folder.is_dir() else place


def width_of(encoder: str, length: int) -> int:
    """How many features the encoder gives: its configuration says so.

    Raises BadInput where it is no encoder, or takes fewer than `length` tokens.
    """
    from diglot.pretrained import load_hf_config

    place = place_of(encoder)
    config = load_hf_config(place)
    width, most = (
        getattr(config, "hidden_size", None),
        getattr(config, "max_position_embeddings", None),
    )
    if width is None or config.is_encoder_decoder:
        raise BadInput(
            f"{encoder} is no sentence encoder.",
            expected="an encoder-only model (BERT, MiniLM, BGE)",
            received=config.model_type,
        )
    if most is not None and length > most:
        raise BadInput(
            f"{encoder} takes no {length} tokens.",
            expected=f"a length of at most {most}",
            hint=f"--set length={most}",
        )
    return int(width)


def write_tokenizer(encoder: str, path: Path) -> None:
    """Write the encoder's tokenizer as tokenizer.json, for the package tokenizers."""
    from diglot.pretrained import load_hf_tokenizer

    write_whole(path, load_hf_tokenizer(place_of(encoder)).to_str())


def token_arrays(path: Path, texts: Sequence[str], length: int) -> tuple[Arrays, np.ndarray]:
    """Texts as batches for `embedded`, and the row of each text in what it gives.

    Texts of like length share a batch, so that little is padded. At most `length` tokens each.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    padding = tokenizer.padding or {"pad_id": tokenizer.token_to_id("[PAD]") or 0}
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=length)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    order = np.argsort([len(row) for row in rows], kind="stable")
    arrays: Arrays = {}
    parts = batches([rows[index] for index in order], _BATCH, padding["pad_id"])
    for index, part in enumerate(parts):
        arrays[f"ids{index}"] = part["input_ids"]
        arrays[f"mask{index}"] = part["attention_mask"]
    return arrays, np.argsort(order)


def in_batches(call: Embed, arrays: Arrays, tell: Callable[[dict[str, Any]], None]) -> np.ndarray:
    """What `call` gives for all batches of `token_arrays`, one row for each text."""
    count = len(arrays) // 2
    texts = sum(len(arrays[f"ids{index}"]) for index in range(count))
    parts: list[np.ndarray] = []
    for index in range(count):
        parts.append(call(arrays[f"ids{index}"], arrays[f"mask{index}"]))
        done = sum(map(len, parts))
        tell({"kind": "progress", "done": done, "of": texts, "what": "documents"})
    return np.concatenate(parts)


def translate_encoder(encoder: str, folder: Path) -> None:
    """Translate the encoder for Keras into `folder`, which appears whole."""
    import diglot
    from diglot.pretrained import examples_for

    place = place_of(encoder)
    model = torch_encoder(place)
    examples, dynamic = examples_for(model, place)
    part = folder.with_name(folder.name + ".part")
    diglot.translate(model, examples, dynamic=dynamic).save(part)
    part.rename(folder)


def torch_encoder(place: str) -> Any:
    """The encoder as it was published, without a head. Raises BadInput where it has no weights."""
    from diglot.pretrained import load_hf

    folder = Path(place)
    if folder.is_dir() and not [*folder.glob("*.safetensors"), *folder.glob("*.bin")]:
        raise BadInput(
            f"{place} holds no weights: its features would be random.",
            expected="a folder that save_pretrained wrote: config.json and model.safetensors",
        )
    return load_hf(place, needs_examples=False)[0].base_model


def torch_caller(model: Any) -> Embed:
    """A PyTorch module of token ids and mask, as a function of arrays."""
    import torch

    model.eval()

    def call(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    return call


def keras_encoder(folder: str) -> Any:
    """The translated encoder: import its program and build it with its weights, as anybody would."""
    spec = importlib.util.spec_from_file_location("translated_encoder", Path(folder) / "model.py")
    if spec is None or spec.loader is None:
        raise BadInput("The translated encoder cannot be imported.", where=folder)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program.build_model(weights=str(Path(folder) / "model.weights.h5"))


def keras_caller(model: Any) -> Embed:
    """A Keras model of token ids and mask, as a function of arrays."""

    def call(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict_on_batch({"input_ids": ids, "attention_mask": mask}))

    return call


def fresh(folder: Path, key: dict[str, Any]) -> bool:
    """Whether `folder` holds what belongs to `key`; if not, it is emptied and given that key."""
    import shutil

    path = folder / "key.json"
    text = json.dumps(key, indent=1, sort_keys=True) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_whole(path, text)
    return False
