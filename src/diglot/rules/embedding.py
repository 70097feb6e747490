"""Embeddings."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _embedding(op: OpCall) -> ast.expr:
    if op["scale_grad_by_freq"]:
        raise op.refuse(
            "scale_grad_by_freq=True divides gradients by how often an index occurs; Keras has no such thing"
        )
    rows, width = op.logical_shape("weight")
    index = op["padding_idx"]
    padded = isinstance(index, int) and index >= 0
    if op.is_layer("weight"):
        weights: dict[str, Any] = {"embeddings": (op["weight"], [])}
        apart = op.reverse_of("weight")
        if padded:
            construct = call(op.helper("PaddedEmbedding"), rows, width, padding_idx=index)
        elif apart is not None:
            construct = call("layers.ReversibleEmbedding", rows, width, tie_weights=False)
            weights["reverse_embeddings"] = (apart, [["permute", [1, 0]]])
        elif op.reversible("weight"):
            construct = call("layers.ReversibleEmbedding", rows, width)
        else:
            construct = call("layers.Embedding", rows, width)
        return E("layer(ids)", layer=op.layer(construct, weights), ids=op.expr("indices"))
    weight = op.expr("weight")
    if padded:
        weight = call(op.helper("freeze_row"), weight, index)
    return op.ops("take", weight, op.expr("indices"), axis=0)


def _bag(op: OpCall) -> ast.expr:
    raise op.refuse(
        "bags of different lengths, or with padding_idx; give the ids in rows of one length, or use "
        "nn.Embedding on padded ids and reduce with a mask"
    )


register(
    __name__,
    Rule(
        "aten.embedding.default",
        _embedding,
        torch="nn.Embedding(num_embeddings, embedding_dim)",
        layout="logical",
        noun="embedding",
        topic="Embedding",
        note="PyTorch does not train the row of padding_idx; Keras's Embedding trains every row, so the row's "
        "gradient is stopped.",
        weights=("weight",),
        samples=(
            Sample("m(x)", {"x": "int64[3,5]<7"}, "nn.Embedding(7, 4)"),
            Sample("m(x)", {"x": "int64[3,5]<7"}, "nn.Embedding(7, 4, padding_idx=2)"),
            Sample("m(x)", {"x": "int64[4]<7"}, "nn.Embedding(7, 5)"),
            Sample("F.embedding(x, w)", {"x": "int64[3,5]<7", "w": "7,4"}),
            Sample("F.embedding(x, w, padding_idx=1)", {"x": "int64[3,5]<7", "w": "7,4"}),
        ),
    ),
    Rule("aten.embedding_bag.default", _bag, torch="nn.EmbeddingBag(...)", layout="logical"),
    Rule(
        "aten.embedding_bag.padding_idx",
        _bag,
        torch="nn.EmbeddingBag(...)",
        layout="logical",
        # Ids in rows have become an embedding and a reduction (passes/bags.py) before this is asked.
        samples=(
            Sample("m(x)", {"x": "int64[3,5]<7"}, 'nn.EmbeddingBag(7, 4, mode="sum")'),
            Sample("m(x)", {"x": "int64[3,5]<7"}, "nn.EmbeddingBag(7, 4)"),
            Sample("m(x)", {"x": "int64[3,5]<7"}, 'nn.EmbeddingBag(7, 4, mode="max")'),
            Sample(
                "m(x, per_sample_weights=p)",
                {"x": "int64[3,5]<7", "p": "3,5"},
                'nn.EmbeddingBag(7, 4, mode="sum")',
            ),
        ),
    ),
)
