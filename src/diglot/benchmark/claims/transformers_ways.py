"""Measurements on the published models' architectures, each made in a process of its own."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch.nn import functional as F

if TYPE_CHECKING:
    from diglot.runtime.keras_worker import Answer, Arrays

_SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 40,
}


def parameters(arrays: Arrays, architecture: str, sizes: dict[str, Any]) -> Answer:
    """Parameters of a model built from its configuration on the meta device, which has no memory."""
    config = getattr(transformers, f"{architecture}Config")(**sizes)
    with torch.device("meta"):
        model = getattr(transformers, f"{architecture}Model")(config)
    # Names that share one weight count once.
    return {"parameters": sum(p.numel() for p in model.parameters())}, {}


def objectives(arrays: Arrays) -> Answer:
    """How far each model's own loss is from what its objective is said to be."""
    torch.manual_seed(0)
    ids = torch.randint(5, 40, (2, 7))
    hidden = torch.where(torch.rand(ids.shape) < 0.5, ids, -100)
    follows = torch.tensor([0, 1])
    bert = transformers.BertForPreTraining(
        transformers.BertConfig(**_SMALL, intermediate_size=32)
    ).eval()
    gpt = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2)
    ).eval()
    t5_sizes: dict[str, Any] = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32}
    t5_sizes |= {"num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
    t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(**t5_sizes)).eval()
    with torch.no_grad():
        b = bert(input_ids=ids, labels=hidden, next_sentence_label=follows)
        masked = F.cross_entropy(b.prediction_logits.flatten(0, 1), hidden.flatten())
        sentence = F.cross_entropy(b.seq_relationship_logits, follows)
        g = gpt(input_ids=ids, labels=ids)
        following = F.cross_entropy(g.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        shifted = F.pad(ids[:, :-1], (1, 0))
        t = t5(input_ids=ids, labels=ids)
        again = t5(input_ids=ids, decoder_input_ids=shifted)
        decoded = F.cross_entropy(again.logits.flatten(0, 1), ids.flatten())
    return {
        "masked words and next sentence": (b.loss - masked - sentence).abs().item(),
        "next word": (g.loss - following).abs().item(),
        "text to text": (t.loss - decoded).abs().item(),
    }, {}


def hidden_size(arrays: Arrays, name: str) -> Answer:
    """The width of a published model, from its configuration on the hub.

    Raises OSError where the hub cannot be reached.
    """
    config = transformers.AutoConfig.from_pretrained(name)
    return {"hidden_size": config.hidden_size}, {}


def bridges(arrays: Arrays) -> Answer:
    """Whether what the migration recipe uses is there: versions, and what cannot be found."""
    return {
        "transformers": transformers.__version__,
        "TFAutoModel": hasattr(transformers, "TFAutoModel"),
        "onnx": importlib.util.find_spec("onnx") is not None,
        "onnx_tf": importlib.util.find_spec("onnx_tf") is not None,
    }, {}
