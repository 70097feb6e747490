"""Dense layers."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from diglot.codegen.expr import E, call
from diglot.rules.arguments import feature_steps, unless
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from diglot.codegen.opcall import OpCall


def _linear(op: OpCall) -> ast.expr:
    has_bias = op["bias"] is not None
    embedding = op.reversed_layer("weight")
    if embedding is None and op.fake("input").dim() > 1 and op.is_layer("weight", "bias"):
        construct = call(
            "layers.Dense", op.logical_shape("weight")[0], use_bias=unless(has_bias, True)
        )
        weights = {"kernel": (op["weight"], _kernel_steps(op))}
        if has_bias:
            weights["bias"] = (op["bias"], feature_steps(op))
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))
    if embedding is not None:
        product = E("layer(x, reverse=True)", layer=embedding, x=op.expr("input"))
    else:
        weight = op.expr("weight")
        if op.fake("weight").dim() > 1:
            weight = E("ops.transpose(w)", w=weight)
        product = E("ops.matmul(x, w)", x=op.expr("input"), w=weight)
    return E("product + bias", product=product, bias=op.expr("bias")) if has_bias else product


def _dense(op: OpCall) -> ast.expr:
    """A dense layer whose weight is (in, out) on both sides (GPT-2's Conv1D)."""
    has_bias = op["bias"] is not None
    if op.is_layer("weight", "bias"):
        units = op.logical_shape("weight")[1]
        construct = call("layers.Dense", units, use_bias=unless(has_bias, True))
        weights = {"kernel": (op["weight"], [])} | ({"bias": (op["bias"], [])} if has_bias else {})
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("input"))
    product = op.ops("matmul", op.expr("input"), op.expr("weight"))
    return E("product + bias", product=product, bias=op.expr("bias")) if has_bias else product


def row_steps(op: OpCall) -> list:
    """The steps that reorder a weight (out, in): after a flatten of turned feature maps its columns take their
    order, before feature maps its rows do.
    """
    outputs, inputs = (int(s) for s in op.logical_shape("weight"))
    steps = feature_steps(op, (inputs,))
    order = op.node.meta.get("input_order")
    if order is not None:
        sizes, axes = order
        steps += [
            ["reshape", [outputs, *sizes]],
            ["permute", [0, *(a + 1 for a in axes)]],
            ["reshape", [outputs, inputs]],
        ]
    return steps


def _kernel_steps(op: OpCall) -> list:
    """From (out, in), reordered, to (in, out)."""
    return [*row_steps(op), ["permute", [1, 0]]]


def _bilinear(op: OpCall) -> ast.expr:
    if op.is_layer("weight", "bias"):
        bias = unless(op["bias"] is not None, True)
        construct = call(op.helper("Bilinear"), op.logical_shape("weight")[0], use_bias=bias)
        names = {"kernel": "weight", "bias": "bias"}
        weights = {k: (op[v], []) for k, v in names.items() if op[v] is not None}
        layer = op.layer(construct, weights)
        return E("layer(a, b)", layer=layer, a=op.expr("input1"), b=op.expr("input2"))
    product = E(
        "ops.einsum('...i,oij,...j->...o', a, w, b)",
        a=op.expr("input1"),
        w=op.expr("weight"),
        b=op.expr("input2"),
    )
    return (
        E("product + bias", product=product, bias=op.expr("bias"))
        if op["bias"] is not None
        else product
    )


def _addmm(op: OpCall) -> ast.expr:
    """``beta * self + alpha * mat1 @ mat2``; a dense layer when ``mat2`` is a weight (GPT-2's
    Conv1D).
    """
    plain = op["beta"] == 1 and op["alpha"] == 1
    if plain and op.fake("self").dim() == 1 and op.is_layer("mat2", "self"):
        construct = call("layers.Dense", op.logical_shape("mat2")[1])
        weights = {"kernel": (op["mat2"], []), "bias": (op["self"], [])}
        return E("layer(x)", layer=op.layer(construct, weights), x=op.expr("mat1"))
    product = E("ops.matmul(a, b)", a=op.expr("mat1"), b=op.expr("mat2"))
    if op["alpha"] != 1:
        product = E("alpha * product", alpha=op["alpha"], product=product)
    added = op.expr("self")
    if op["beta"] != 1:
        added = E("beta * added", beta=op["beta"], added=added)
    return E("product + added", product=product, added=added)


register(
    __name__,
    Rule(
        "diglot.dense.default",
        _dense,
        torch="torch.addmm(bias, x, weight)",
        layout="last",
        noun="dense",
        weights=("weight", "bias"),
    ),
    Rule(
        "aten.linear.default",
        _linear,
        torch="nn.Linear(in_features, out_features)",
        layout="last",
        noun="dense",
        topic="Kernels",
        note="PyTorch's Linear keeps its kernel (out, in), Keras's Dense (in, out): it is transposed.",
        weights=("weight", "bias"),
        samples=(
            Sample("m(x)", {"x": "3,5"}, "nn.Linear(5, 7)"),
            Sample("m(x)", {"x": "2,3,5"}, "nn.Linear(5, 4, bias=False)"),
            Sample("m(x)", {"x": "2,3,4,5"}, "nn.Linear(5, 6)"),
            Sample("F.linear(x, w, b)", {"x": "2,3,5", "w": "4,5", "b": "4"}),
        ),
    ),
    Rule(
        "aten.bilinear.default",
        _bilinear,
        torch="nn.Bilinear(in1, in2, out)",
        layout="logical",
        noun="product",
        samples=(
            Sample("m(x, y)", {"x": "4,3", "y": "4,5"}, "nn.Bilinear(3, 5, 2)"),
            Sample("m(x, y)", {"x": "4,6,3", "y": "4,6,5"}, "nn.Bilinear(3, 5, 2, bias=False)"),
            Sample("F.bilinear(x, y, w, b)", {"x": "4,3", "y": "4,5", "w": "2,3,5", "b": "2"}),
        ),
    ),
    Rule(
        "aten.addmm.default",
        _addmm,
        torch="torch.addmm(bias, x, weight)",
        layout="logical",
        noun="dense",
        weights=("mat2", "self"),
        samples=(
            Sample("torch.addmm(b, x, w)", {"b": "4", "x": "3,5", "w": "5,4"}),
            Sample(
                "torch.addmm(b, x, w, beta=0.5, alpha=2.0)", {"b": "3,4", "x": "3,5", "w": "5,4"}
            ),
        ),
    ),
)
