"""Measurements on PyTorch, each made in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from diglot.benchmark.timing import time_calls

if TYPE_CHECKING:
    from diglot.runtime.keras_worker import Answer, Arrays


class SavedForBackward:
    """Counts the bytes that autograd keeps between forward and backward, parameters apart."""

    def __init__(self, *models: nn.Module) -> None:
        self._seen = {p.untyped_storage().data_ptr() for m in models for p in m.parameters()}
        self._kept: list[Tensor] = []
        self.total = self.square = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in self._seen:
            self._seen.add(place)
            self._kept.append(tensor)  # so that its place is not given to another
            self.total += tensor.nbytes
            if tensor.dim() > 2 and tensor.shape[-1] == tensor.shape[-2]:
                self.square += tensor.nbytes
        return tensor

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._hooks.__exit__(*exception)


def attention_memory(
    arrays: Arrays, batch: int, features: int, heads: int, lengths: Sequence[int]
) -> Answer:
    """Bytes, for each length, of the weights of one attention layer, of what the layer keeps for the
    backward pass with and without them ("fused"), and of what a whole encoder layer keeps with
    dropout, of which in matrices of length × length."""
    attention = nn.MultiheadAttention(features, heads, batch_first=True)
    layer = nn.TransformerEncoderLayer(features, heads, 4 * features, batch_first=True).train()
    found: dict[str, list[int]] = {
        name: [] for name in ("weights", "explicit", "fused", "layer", "layer_square")
    }
    for length in lengths:
        x = torch.randn(batch, length, features, requires_grad=True)
        with SavedForBackward(attention) as saved:
            _, weights = attention(x, x, x, average_attn_weights=False)
        found["weights"].append(weights.nbytes)
        found["explicit"].append(saved.total)
        with SavedForBackward(attention) as saved:
            attention(x, x, x, need_weights=False)
        found["fused"].append(saved.total)
        with SavedForBackward(layer) as saved:
            layer(x)
        found["layer"].append(saved.total)
        found["layer_square"].append(saved.square)
    return {"lengths": list(lengths), **found}, {}


def stack_memory(
    arrays: Arrays, features: int, heads: int, layers: int, batch: int, length: int
) -> Answer:
    """Parameters, and bytes kept for the backward pass, of an encoder and of an encoder with a decoder
    of as many layers, without embeddings."""
    x = torch.randn(batch, length, features, requires_grad=True)
    block = nn.TransformerEncoderLayer(features, heads, 4 * features, batch_first=True)
    encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False).train()
    both = nn.Transformer(features, heads, layers, layers, 4 * features, batch_first=True).train()
    mask = nn.Transformer.generate_square_subsequent_mask(length)
    with SavedForBackward(encoder) as one:
        encoder(x)
    with SavedForBackward(both) as two:
        both(x, x, tgt_mask=mask)
    return {
        "parameters": [sum(p.numel() for p in m.parameters()) for m in (encoder, both)],
        "kept": [one.total, two.total],
    }, {}


def greedy(arrays: Arrays, temperatures: Sequence[float], steps: int) -> Answer:
    """The tokens that a random causal model gives greedily at each temperature."""
    from diglot.benchmark.claims.toy_training import Encoder

    torch.manual_seed(0)
    model = Encoder(steps + 1, 32, 2, causal=True).eval()
    found = []
    for temperature in temperatures:
        tokens = torch.tensor([[1]])
        with torch.no_grad():
            for _ in range(steps):
                probabilities = torch.softmax(model(tokens)[:, -1] / temperature, dim=-1)
                tokens = torch.cat([tokens, probabilities.argmax(-1, keepdim=True)], dim=1)
        found.append(tokens[0].tolist())
    return {"tokens": found}, {}


def calls_of_forward(arrays: Arrays, steps: int) -> Answer:
    """How often `forward` runs in so many training steps, and whether it sees values."""

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(3, 4)
            self.calls, self.values = 0, True

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            x = self.dense(x)
            self.values = self.values and isinstance(x.detach().numpy().sum().item(), float)
            return x

    model = Watched()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(8, 3)).square().mean().backward()
        optimizer.step()
    return {"calls": model.calls, "values": model.values}, {}


def convolution(arrays: Arrays, batch: int, size: int, channels: int, seconds: float) -> Answer:
    """The time of a convolution of 3×3 in either memory format."""
    images = torch.randn(batch, channels, size, size)
    layer: Any = nn.Conv2d(channels, channels, 3, padding=1)
    found = {}
    for name, form in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
        x, module = images.contiguous(memory_format=form), layer.to(memory_format=form)
        with torch.inference_mode():
            found[name] = time_calls(lambda m=module, x=x: m(x), seconds)["median_seconds"]
    return found, {}


def fused_by_inductor(arrays: Arrays) -> Answer:
    """The operations of z = (x + y) · 2, and the kernels that torch.compile makes of them."""
    import shutil

    from torch._inductor import metrics

    from diglot.errors import BadInput

    if not shutil.which("g++"):
        raise BadInput("torch.compile needs g++ on a CPU.")
    metrics.reset()
    operations = []

    def compute(x: Tensor, y: Tensor) -> Tensor:
        return (x + y) * 2.0

    def count(module: torch.fx.GraphModule, example: list[Tensor]) -> Any:
        operations.extend(n for n in module.graph.nodes if n.op == "call_function")
        return module.forward

    x = torch.ones(1000)
    torch.compile(compute, fullgraph=True, backend=count)(x, x)
    torch._dynamo.reset()
    # A kernel that is found in a cache is not counted.
    with torch._inductor.config.patch(force_disable_caches=True):
        torch.compile(compute, fullgraph=True)(x, x)
    return {"operations": len(operations), "steps": metrics.generated_kernel_count}, {}
