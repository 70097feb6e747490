"""decoder-only: a GPT, which learns to predict the next token, and writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from diglot.codegen.weights import TensorSpec, WeightMap
from diglot.training import Batch, Job, Recipe
from diglot.training.task import Arrays
from diglot.zoo.attention import Attention, attention_weights
from diglot.zoo.pair import AtMost, Setting
from diglot.zoo.text.pair import FAST, FULL, TextPair
from diglot.zoo.weights import Weights

PROMPT = "The government has said that"
LOOKED_AT = "The government has said that it will not raise taxes this year."


class DecoderOnly(TextPair):
    """A causal model of language."""

    name = "decoder-only"
    title = "A decoder-only Transformer (GPT) on BBC News"
    inputs = ("tokens",)
    torch_module = "diglot.zoo.decoder_only.torch_model"
    keras_module = "diglot.zoo.decoder_only.keras_model"
    specials = ("<end>",)
    settings: ClassVar = {
        "fast": Setting(
            {**FAST, "self_memory": False},
            dict(vocab_size=1024, length=32, articles=80),
            Recipe(batch_size=32, epochs=2, learning_rate=3e-3, warmup=10),
        ),
        "full": Setting(
            {**FULL, "self_memory": False},
            dict(vocab_size=2048, length=64),
            Recipe(batch_size=32, epochs=1, learning_rate=2e-3, schedule="cosine", warmup=60),
        ),
    }
    goals: ClassVar = {"perplexity": AtMost(110.0)}
    faithful: ClassVar = {"self_memory": True}
    faithful_note = (
        "The document builds a decoder-only model of nn.TransformerDecoder and hands it its own input "
        "as the memory, under the same causal mask: each layer has a second attention, to the embedded "
        "tokens, which a GPT does not have."
    )

    def batch(self, rows: Arrays, rng: np.random.Generator) -> Batch:
        """Each token's target is the next one."""
        tokens = rows["tokens"]
        return Batch({"tokens": tokens[:, :-1]}, tokens[:, 1:])

    def weight_map(self, state: Arrays, sizes: Mapping[str, Any]) -> WeightMap:
        """Block by block; the table of positions is a buffer in both."""
        weights, heads = Weights(state), sizes["num_heads"]
        weights.embedding("embedding", "embedding")
        weights.tensor("positions", "positions", buffer=True)
        for index in range(sizes["num_layers"]):
            ours, theirs = f"blocks.{index}", f"blocks.layers.{index}"
            weights.attention(f"{ours}.attention", f"{theirs}.self_attn", heads)
            weights.norm(f"{ours}.attention_norm", f"{theirs}.norm1")
            if sizes["self_memory"]:
                weights.attention(f"{ours}.memory_attention", f"{theirs}.multihead_attn", heads)
                weights.norm(f"{ours}.memory_norm", f"{theirs}.norm2")
            weights.linear(f"{ours}.hidden", f"{theirs}.linear1")
            weights.linear(f"{ours}.output_dense", f"{theirs}.linear2")
            last = "norm3" if sizes["self_memory"] else "norm2"
            weights.norm(f"{ours}.output_norm", f"{theirs}.{last}")
        weights.linear("logits", "output")
        return weights.map(
            [TensorSpec(("batch", "length"), dtype="int64", name="tokens")],
            [TensorSpec(("batch", "length", sizes["vocab_size"]))],
        )

    def example(self, model: Mapping[str, Any], rng: np.random.Generator) -> Arrays:
        """Three rows of random tokens."""
        return {"tokens": rng.integers(0, model["vocab_size"], (3, 10))}

    def extras(self, predict: Callable[[Arrays], Any], model: Any, job: Job) -> dict[str, Any]:
        """What the model writes, and what its cache of keys and values saves."""
        tokenizer = self.corpus(job.data).tokenizer
        prompt = np.array([tokenizer.encode(PROMPT).ids])
        count = min(job.model["max_length"] - prompt.shape[1], 60)
        write = self._writer(job, model)
        ways = {
            "greedy": {"temperature": 0},
            "temperature 0.8": {"temperature": 0.8},
            "top-k 20": {"top_k": 20},
            "top-p 0.9": {"top_p": 0.9},
        }
        texts = {
            name: tokenizer.decode(write(prompt, count, **way)[0]) for name, way in ways.items()
        }
        seconds, written = {}, {}
        for cached in (True, False):
            began = time.perf_counter()
            written[cached] = write(prompt, count, temperature=0, cached=cached)
            seconds[cached] = (time.perf_counter() - began) / count * 1e3
        return {
            "texts": texts,
            "attention": self.keep_attention(job, model),
            "figures": {
                "Generation with the cache, ms a token": seconds[True],
                "Generation without, ms a token": seconds[False],
            },
            "cache_changes_nothing": bool((written[True] == written[False]).all()),
        }

    def attention(self, job: Job, model: Any) -> list[Attention]:
        """What each position sees of those before it."""
        tokenizer = self.corpus(job.data).tokenizer
        ids = tokenizer.encode(LOOKED_AT).ids
        found = attention_weights(self, job, model, {"tokens": np.array([ids])})
        kinds = {"causal": "Attention to itself: causal"}
        if job.model["self_memory"]:
            kinds["memory"] = "Attention to its own input as a memory: causal"
        names = self.tokens(tokenizer, ids)
        return [
            Attention(kind, heading, np.stack(found[index :: len(kinds)]), names, names)
            for index, (kind, heading) in enumerate(kinds.items())
        ]

    def _writer(self, job: Job, model: Any) -> Callable[..., np.ndarray]:
        """The framework's `generate`, from arrays to arrays, with the job's seed."""
        if job.framework == "keras":
            from diglot.zoo.decoder_only import keras_model

            def write(prompt: np.ndarray, count: int, **way: Any) -> np.ndarray:
                seed = job.recipe.seed
                return np.asarray(keras_model.generate(model, prompt, count, seed=seed, **way))

            return write
        import torch

        from diglot.zoo.decoder_only import torch_model

        def write(prompt: np.ndarray, count: int, **way: Any) -> np.ndarray:
            generator = torch.Generator().manual_seed(job.recipe.seed)
            tokens = torch.from_numpy(prompt)
            return torch_model.generate(model, tokens, count, generator=generator, **way).numpy()

        return write


PAIR = DecoderOnly()
