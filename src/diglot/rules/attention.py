"""Attention: the function, and nn.MultiheadAttention as Keras's own layer where the masks allow."""

from __future__ import annotations

import ast
import operator
from typing import TYPE_CHECKING, Any

from diglot.codegen.expr import E, call
from diglot.ir.hub import is_mark, target_name
from diglot.ir.sizes import is_static
from diglot.rules.arguments import unless
from diglot.rules.registry import Rule, Sample, register

if TYPE_CHECKING:
    from torch import fx

    from diglot.codegen.opcall import OpCall


# --- the function ---------------------------------------------------------------------------------


def _attention(op: OpCall) -> ast.expr:
    query, key, value = op.expr("query"), op.expr("key"), op.expr("value")
    if op["enable_gqa"]:
        heads = op.logical_shape("query")[-3]
        key, value = (_repeated(op, name, e, heads) for name, e in (("key", key), ("value", value)))
    options: dict[str, Any] = {}
    if op["attn_mask"] is not None:
        options["bias" if op.is_float("attn_mask") else "mask"] = op.expr("attn_mask")
    if op["is_causal"]:
        options["is_causal"] = True
    size = op.logical_shape("query")[-1]
    usual = (
        is_static(size)
        and isinstance(op["scale"], float)
        and abs(op["scale"] * size**0.5 - 1) < 1e-12
    )
    if op["scale"] is not None and not usual:
        options["scale"] = op.value(op["scale"])
    if op["dropout_p"]:
        options["dropout"] = op.layer(
            call("layers.Dropout", op["dropout_p"]), default="attention_dropout"
        )
    return call(op.helper("scaled_dot_product_attention"), query, key, value, **options)


def _repeated(op: OpCall, name: str, made: ast.expr, heads: int) -> ast.expr:
    """Each key head serves several query heads."""
    times = heads // op.logical_shape(name)[-3]
    return made if times == 1 else op.ops("repeat", made, times, axis=-3)


# --- the layer -----------------------------------------------------------------------------------


def _parts(op: OpCall) -> dict[str, Any]:
    """Name the weights of nn.MultiheadAttention: which node, and which rows of it (in thirds)."""
    rest = list(op["weights"])
    kinds = ("query", "key", "value")
    if op["packed"]:
        packed = rest.pop(0)
        kernels = {k: (packed, i) for i, k in enumerate(kinds)}
    else:
        kernels = {k: (rest.pop(0), None) for k in kinds}
    biases = {}
    if op["bias"]:
        packed = rest.pop(0)
        biases = {k: (packed, i) for i, k in enumerate(kinds)}
    kernels["output"] = (rest.pop(0), None)
    if op["bias"]:
        biases["output"] = (rest.pop(0), None)
    return {"kernels": kernels, "biases": biases}


def _weights(op: OpCall, heads: int | None) -> dict[str, Any]:
    """Return the weights of the four dense layers; ``heads`` splits them as Keras's layer keeps
    them.
    """
    width = op.logical_shape("query")[-1]
    parts = _parts(op)
    found: dict[str, Any] = {}
    for kind, (node, third) in parts["kernels"].items():
        steps: list = [] if third is None else [["slice", 0, third * width, (third + 1) * width]]
        steps.append(["permute", [1, 0]])
        if heads and kind == "output":
            steps.append(["reshape", [heads, width // heads, width]])
        elif heads:
            inputs = width if third is not None else int(node.meta["val"].shape[1])
            steps.append(["reshape", [inputs, heads, width // heads]])
        found[f"{kind}_dense.kernel"] = (node, steps)
    for kind, (node, third) in parts["biases"].items():
        steps = [] if third is None else [["slice", 0, third * width, (third + 1) * width]]
        if heads and kind != "output":
            steps.append(["reshape", [heads, width // heads]])
        found[f"{kind}_dense.bias"] = (node, steps)
    return found


def _reads_scores(op: OpCall) -> bool:
    return any(u.target is operator.getitem and u.args[1] == 1 and u.users for u in op.node.users)


#: Ops that only move a mask's elements about.
_MOVES = frozenset(
    [
        "aten.view.default",
        "aten.reshape.default",
        "aten.unsqueeze.default",
        "aten.expand.default",
        "aten.slice.Tensor",
        "aten.to.dtype",
        "aten.to.device",
        "aten.to.dtype_layout",
        "aten.clone.default",
        "aten.transpose.int",
        "aten.contiguous.default",
        "aten.triu.default",
        "aten.tril.default",
    ]
)


def _hides_or_passes(op: OpCall, node: fx.Node) -> bool:
    """Tell whether a float mask holds nothing but 0 and minus infinity: a boolean mask in disguise."""
    while is_mark(node) or (node.op == "call_function" and target_name(node) in _MOVES):
        node = node.args[0]  # type: ignore[assignment]
    hub = getattr(op.writer.program, "hub", None)
    value = hub.constants.get(node) if hub else None
    if value is None and hub and node in hub.parameters and not hub.parameters[node].trainable:
        value = hub.parameters[node].value
    if value is not None:
        return bool(((value == 0) | (value == float("-inf"))).all())
    if node.op != "call_function":
        return False
    name, arguments = target_name(node), list(node.args)
    if name in ("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default"):
        return True
    if name in ("aten.full.default", "aten.full_like.default"):
        return arguments[1] in (0, float("-inf"))
    if name == "aten.masked_fill.Scalar":
        return arguments[2] in (0, float("-inf")) and _hides_or_passes(op, arguments[0])
    if name.startswith("aten.where."):
        return all(_is_end(op, a) for a in arguments[1:])
    return False


def _is_end(op: OpCall, value: Any) -> bool:
    if isinstance(value, (int, float)):
        return value in (0, float("-inf"))
    return _hides_or_passes(op, value)


def _is_plain_mask(op: OpCall, name: str) -> bool:
    """Tell whether Keras's boolean attention mask can express a mask."""
    if op[name] is None:
        return True
    if name == "attn_mask" and op.fake(name).dim() != 2:
        return False  # one mask for each sample and head
    return not op.is_float(name) or _hides_or_passes(op, op[name])


def _visible(op: OpCall, name: str) -> ast.expr:
    """Return a mask as Keras reads it: True where a key may be looked at."""
    mask = op.expr(name)
    return E("ops.equal(m, 0)", m=mask) if op.is_float(name) else E("ops.logical_not(m)", m=mask)


def _multi_head(op: OpCall) -> ast.expr:
    if op["bias_kv"] or op["zero_attn"]:
        raise op.refuse("add_bias_kv and add_zero_attn: Keras has nothing like them")
    if op.fake("query").dim() != 3:
        raise op.refuse("its input has no batch axis; add one with unsqueeze")
    if not op.writer.owns(op.node, op["weights"]):
        raise op.refuse("its weights are shared with another module")
    scores = _reads_scores(op)
    plain = _is_plain_mask(op, "attn_mask") and _is_plain_mask(op, "key_padding_mask")
    if op["batch_first"] and plain and not (scores and op["average_weights"]):
        return _standard(op, scores)
    return _own(op, scores)


def _standard(op: OpCall, scores: bool) -> ast.expr:
    """``keras.layers.MultiHeadAttention``. Its path without scores computes in float32, unless it
    has dropout.
    """
    heads, width = op["num_heads"], op.logical_shape("query")[-1]
    exact = (width // heads) ** 0.5 in (1, 2, 4, 8, 16, 32)
    construct = call(
        "layers.MultiHeadAttention" if exact else op.helper("ExactMultiHeadAttention"),
        heads,
        key_dim=width // heads,
        dropout=unless(op["dropout"], 0.0),
        use_bias=unless(op["bias"], True),
    )
    layer = op.layer(construct, _weights(op, heads))
    query, key, value = op.expr("query"), op.expr("key"), op.expr("value")
    options: dict[str, Any] = {}
    if op["key"] is not op["value"]:
        options["key"] = key
    masks = [_visible(op, n) for n in ("attn_mask", "key_padding_mask") if op[n] is not None]
    if op["key_padding_mask"] is not None:
        masks[-1] = E("m[:, None]", m=masks[-1])
    if masks:
        options["attention_mask"] = masks[0] if len(masks) == 1 else call("ops.logical_and", *masks)
    whole = scores or (exact and not op["dropout"])
    if whole:
        options["return_attention_scores"] = True
    made = call(layer, query, value, **options)
    if scores:
        return made
    return ast.Tuple([E("y[0]", y=made) if whole else made, ast.Constant(None)], ast.Load())


def _own(op: OpCall, scores: bool) -> ast.expr:
    """The class that the module carries: float masks, averaged weights, the batch in the second
    place.
    """
    construct = call(
        op.helper("MultiheadAttention"),
        op.logical_shape("query")[-1],
        op["num_heads"],
        dropout=unless(op["dropout"], 0.0),
        use_bias=unless(op["bias"], True),
        batch_first=unless(op["batch_first"], True),
        average_weights=unless(op["average_weights"] or not scores, True),
    )
    layer = op.layer(construct, _weights(op, None))
    masks = {n: op.expr(n) for n in ("attn_mask", "key_padding_mask") if op[n] is not None}
    made = call(layer, op.expr("query"), op.expr("key"), op.expr("value"), **masks)
    return made if scores else ast.Tuple([E("y[0]", y=made), ast.Constant(None)], ast.Load())


# --- samples -------------------------------------------------------------------------------------

_QKV = {"q": "2,3,4,6", "k": "2,3,5,6", "v": "2,3,5,7"}
_SELF = {"x": "3,5,8"}
_CROSS = {"q": "3,5,8", "k": "3,7,6", "v": "3,7,4"}


def _sdpa_samples() -> tuple[Sample, ...]:
    name = "F.scaled_dot_product_attention"
    return (
        Sample(f"{name}(q, k, v)", _QKV),
        Sample(f"{name}(q, k, v, m)", {**_QKV, "m": "bool[2,1,4,5]"}),
        Sample(f"{name}(q, k, v, m)", {**_QKV, "m": "4,5"}),
        Sample(f"{name}(q, k, v, is_causal=True)", _QKV),
        Sample(f"{name}(q, k, v, scale=0.3)", {"q": "3,4,6", "k": "3,5,6", "v": "3,5,7"}),
        Sample(
            f"{name}(q, k, v, enable_gqa=True)", {"q": "2,6,4,5", "k": "2,3,7,5", "v": "2,3,7,5"}
        ),
        # a row in which everything is masked gives 0
        Sample(
            f"{name}(q, k, v, m & (m.sum(-1, keepdim=True) > 2))", {**_QKV, "m": "bool[2,3,4,5]"}
        ),
    )


def _layer_samples() -> tuple[Sample, ...]:
    batch_first = "nn.MultiheadAttention(8, 2, batch_first=True)"
    cross = "nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True)"
    masks = {"m": "bool[5,5]", "p": "bool[3,5]"}
    seen = "p & (torch.arange(5) > 0)"
    return (
        Sample("m(x, x, x, need_weights=False)[0]", _SELF, batch_first),
        Sample("m(x, x, x)[0]", _SELF, "nn.MultiheadAttention(8, 2, batch_first=True, bias=False)"),
        Sample("m(q, k, v)[0]", _CROSS, cross),
        Sample("m(x, x, x)[0]", {"x": "3,5,12"}, "nn.MultiheadAttention(12, 2, batch_first=True)"),
        Sample(
            "m(x, x, x, key_padding_mask=p & (torch.arange(5) > 0), average_attn_weights=False)",
            {"x": "3,5,12", "p": "bool[3,5]"},
            "nn.MultiheadAttention(12, 4, batch_first=True)",
        ),
        Sample("m(x, x, x)", _SELF, "nn.MultiheadAttention(8, 4)"),
        Sample("m(x, x, x, average_attn_weights=False)", _SELF, batch_first),
        Sample(f"m(x, x, x, key_padding_mask={seen})[0]", {**_SELF, "p": masks["p"]}, batch_first),
        Sample(
            "m(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1))[0]",
            _SELF,
            batch_first,
        ),
        Sample(
            "m(x, x, x, attn_mask=a.triu(1), key_padding_mask=p & (torch.arange(5) > 0))",
            {**_SELF, "a": masks["m"], "p": masks["p"]},
            "nn.MultiheadAttention(8, 2, batch_first=True, dropout=0.0)",
        ),
        Sample("m(x, x, x, attn_mask=a)", {**_SELF, "a": "5,5"}, batch_first),
        Sample(
            "m(x, x, x, attn_mask=a)[0]", {**_SELF, "a": "10,3,3"}, "nn.MultiheadAttention(8, 2)"
        ),
    )


register(
    __name__,
    Rule(
        "aten.scaled_dot_product_attention.default",
        _attention,
        torch="F.scaled_dot_product_attention(query, key, value)",
        layout="logical",
        noun="attention",
        topic="Fully masked row",
        note="PyTorch gives 0 for a query that may look at nothing, a plain softmax the mean of all "
        "values: masked weights are set to 0. Keras's own ops.dot_product_attention computes in float32.",
        samples=_sdpa_samples(),
    ),
    Rule(
        "diglot.multi_head_attention.default",
        _multi_head,
        torch="nn.MultiheadAttention(embed_dim, num_heads)",
        layout="logical",
        noun="attention",
        topic="Boolean mask",
        note='True means "hide" in nn.MultiheadAttention and "look" in Keras: the mask is inverted. '
        "key_dim is the size of one head, PyTorch's embed_dim that of all. Keras's layer takes the masks that tensors "
        "carry away from its inputs: x + attention(x, x) has none, nor has any layer after it.",
        samples=_layer_samples(),
    ),
)
