"""How a program is spelled in PyTorch: modules, functions, weights and classes."""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, Any

import torch

from diglot.codegen import rows
from diglot.codegen.constants import band_limits, number
from diglot.codegen.expr import E, call, names_in, text, to_ast
from diglot.codegen.freezing import freezing, frozen_weights
from diglot.codegen.names import RESERVED_ATTRIBUTES, identifier, unique
from diglot.codegen.optional import merge_optional
from diglot.codegen.statements import Member
from diglot.codegen.trees import arguments, set_attribute
from diglot.codegen.variants import merge_variants
from diglot.ir.hub import target_name
from diglot.passes.ties import shared_module
from diglot.rules import spelling
from diglot.rules.registry import Rule
from diglot.rules.spelling.schema import dtype_ast

if TYPE_CHECKING:
    from torch import fx

    from diglot.codegen.opcall import OpCall
    from diglot.codegen.optional import Instance
    from diglot.codegen.program import Program
    from diglot.codegen.region import RegionWriter
    from diglot.codegen.statements import Statement

_CONV = ("in_channels", "out_channels", "kernel_size")
#: What the positional arguments of a module are called.
POSITIONAL = {
    "Linear": ("in_features", "out_features"), "Bilinear": ("in1_features", "in2_features", "out_features"),
    **{f"Conv{t}{n}d": _CONV for n in (1, 2, 3) for t in ("", "Transpose")},
    **{f"BatchNorm{n}d": ("num_features",) for n in (1, 2, 3)},
    **{f"{k}Pool{n}d": ("kernel_size",) for n in (1, 2, 3) for k in ("Max", "Avg")},
    "LayerNorm": ("normalized_shape",), "RMSNorm": ("normalized_shape",), "GroupNorm": ("num_groups", "num_channels"),
    "Embedding": ("num_embeddings", "embedding_dim"), "Dropout": ("p",), "Dropout1d": ("p",), "Dropout2d": ("p",),
    "LSTM": ("input_size", "hidden_size"), "GRU": ("input_size", "hidden_size"),
    "RNN": ("input_size", "hidden_size"),
    **{f"{k}Cell": ("input_size", "hidden_size") for k in ("LSTM", "GRU", "RNN")},
    "MultiheadAttention": ("embed_dim", "num_heads"), "range": ("count",),
    "pad": ("input", "pad"), "zeros": ("size",), "ones": ("size",), "randn": ("size",), "full": ("size", "fill_value"),
}  # fmt: skip

#: What a Keras layer calls the argument of a module.
KERAS_SLOTS = {
    "out_features": ("out_features", "units"), "out_channels": ("out_channels", "filters"),
    "stride": ("stride", "strides"), "p": ("p", "rate"), "num_embeddings": ("num_embeddings", "input_dim"),
    "embedding_dim": ("embedding_dim", "output_dim"), "eps": ("eps", "epsilon"),
    "dilation": ("dilation", "dilation_rate"),
    "hidden_size": ("hidden_size", "units"),
}  # fmt: skip

#: Attributes of nn.Module that a child or weight must not hide.
_RESERVED = frozenset(
    """add_module apply bfloat16 bool buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules
    named_buffers named_children named_modules named_parameters parameters register_buffer register_module
    register_parameter requires_grad_ share_memory state_dict to to_empty train training type xpu zero_grad""".split()
)


_SHORT = 16  # whole numbers that are written as they are


class TorchDialect:
    """Plain ``torch.nn``."""

    forward = "forward"
    holds_weights = True
    limited = False
    positional = POSITIONAL
    source_slots = KERAS_SLOTS

    def rule(self, program: Program, node: fx.Node) -> Rule | None:
        """The record of a node's op; one that Keras has no rule for may still be spelled."""
        name = target_name(node)
        return program.rules.get(name) or Rule(name, "")

    def write(self, op: OpCall) -> ast.expr:
        """As its spelling says. Raises Refusal."""
        return spelling.write(op)

    def as_layer(self, op: OpCall) -> ast.expr | None:
        """``nn.ReLU()``."""
        return spelling.as_layer(op)

    def stands_apart(self, program: Program, member: Member) -> bool:
        """Weights that do not train are frozen after they are made."""
        return member.kind == "layer" and bool(frozen_weights(program, member))

    def attribute(self, name: str) -> str:
        """A name that hides nothing of nn.Module; an underscore that only Keras needed goes."""
        name = identifier(name)
        if name.endswith("_") and name[:-1] in RESERVED_ATTRIBUTES:
            name = name[:-1]
        return f"{name}_" if name in _RESERVED or name.startswith("__") else name

    def class_name(self, name: str) -> str:
        """Any name but that of ``torch.nn.functional``: the rest of ``nn`` is imported whole."""
        return f"{name}_" if name == "F" else identifier(name)

    def is_pure(self, function: str) -> bool:
        """Everything but a module's call."""
        return not function.startswith("self.")

    def size(self, value: ast.expr, axis: int) -> ast.expr:
        """``x.shape[1]``."""
        return E("x.shape[i]", x=value, i=axis)

    def extreme(self, kind: str) -> str:
        """``min(a, b)``."""
        return "min(a, b)" if kind == "Min" else "max(a, b)"

    def transposed(self, weight: ast.expr, axes: list[int]) -> ast.expr:
        """``w.T``."""
        return E("w.T", w=weight) if axes == [1, 0] else E("w.permute(a)", w=weight, a=axes)

    def constant(
        self, writer: RegionWriter, node: fx.Node, value: torch.Tensor, wanted: torch.dtype
    ) -> ast.expr:
        """A buffer that is no part of the state dict."""
        made = _values(value, wanted, writer.program.float_dtype)
        wish = self.attribute(writer.program.hint(node))
        for key, member in writer.members.items():
            if member.kind == "constant" and text(member.construct.args[1]) == text(made):  # type: ignore[attr-defined]
                return E(f"self.{key[0]}")
        name = unique("constant" if wish == "x" else wish, {k[0]: None for k in writer.members})
        construct = call("register_buffer", name, made, persistent=False)
        writer.members[(name, None)] = Member(construct, name, kind="constant")
        return E(f"self.{name}")

    def weight(
        self,
        program: Program,
        node: fx.Node,
        name: str,
        shape: tuple[int, ...],
        perm: list[int] | None,
    ) -> ast.expr:
        """``nn.Parameter(torch.zeros(3))`` or ``register_buffer(…)``."""
        parameter = program.hub.parameters[node]
        made = _initial(program, node, shape, perm)
        if parameter.buffer:
            kept = ... if parameter.persistent else False
            return call("register_buffer", name, made, persistent=kept)
        return call("nn.Parameter", made, requires_grad=... if parameter.trainable else False)

    def mode(self) -> ast.expr:
        """``self.training``."""
        return E("self.training")

    def trained(self, writer: object, construct: ast.expr, weights: object) -> ast.expr:
        """As it is: weights are frozen after they are made."""
        return construct

    def whole(self, program: object, path: str, construct: ast.expr) -> ast.expr:
        """As it is."""
        return construct

    def keep(self, buffer: ast.expr, value: ast.expr, *, trains: bool) -> ast.stmt:
        """``self.h = h``: the tensor that it held may still be needed for a gradient; a weight stays itself."""
        if trains:
            return _written(buffer, value)
        target = copy.deepcopy(buffer)
        target.ctx = ast.Store()  # type: ignore[attr-defined]
        return ast.Assign([target], value)

    def listed(self, items: ast.expr) -> ast.expr:
        """``nn.ModuleList([...])``; weights are a ParameterList."""
        first = items.elts[0] if isinstance(items, ast.List) else items.elt  # type: ignore[attr-defined]
        if text(first).startswith("nn.Parameter("):
            return call("nn.ParameterList", items)
        return call("nn.ModuleList", items)

    def keyed(self, items: dict[str, ast.expr]) -> ast.expr:
        """``nn.ModuleDict({...})``; weights are a ParameterDict."""
        weights = any(text(item).startswith("nn.Parameter(") for item in items.values())
        return call("nn.ParameterDict" if weights else "nn.ModuleDict", to_ast(items))

    def absent(self) -> ast.expr:
        """``nn.Identity()``."""
        return E("nn.Identity()")

    def rows(self, items: list[ast.expr]) -> list[ast.expr]:
        """Runs of like items as comprehensions."""
        return rows.rows(items)

    def parameters(
        self, params: dict[str, list[Any]], places: dict[int, str], instances: list[Instance]
    ) -> tuple[dict[str, list[Any]], dict[int, str]]:
        """Sizes first, from the input's to the output's."""
        return rows.parameters(params, places, instances)

    def sequence(
        self, names: list[str], items: list[ast.expr], listed: ast.expr, whole: bool
    ) -> ast.expr:
        """``nn.Sequential(…)``; the source's own names and gaps in its numbers are kept."""
        names = _numbered(names)
        if not whole and _lonely(names):
            return items[0]
        if not _kept(names):
            return self._unpacked(listed)
        if not all(name.isdigit() for name in names):
            pairs = [ast.Tuple([to_ast(n), i]) for n, i in zip(names, items, strict=True)]
            return call("nn.Sequential", call("OrderedDict", ast.List(pairs, ast.Load())))
        places = [int(name) for name in names]
        if places == list(range(len(places))):
            return self._unpacked(listed)
        filled: list[ast.expr] = [E("nn.Identity()") for _ in range(places[-1] + 1)]
        for place, item in zip(places, items, strict=True):
            filled[place] = item
        return call("nn.Sequential", *filled)

    def _unpacked(self, listed: ast.expr) -> ast.expr:
        if isinstance(listed, ast.List):
            return call("nn.Sequential", *listed.elts)
        return call("nn.Sequential", ast.Starred(listed, ast.Load()))

    def sequence_place(self, place: int, names: list[str], whole: bool) -> str:
        """The item's own name."""
        names = _numbered(names)
        if not whole and _lonely(names):
            return ""
        return names[place] if _kept(names) else str(place)

    def merge(self, instances: list[Instance]) -> None:
        """``self.part = … if part else None``; ``nn.Identity()`` where the author did not say how."""
        merge_optional(instances)
        merge_variants(instances, "nn.Identity()")

    def frozen(self, program: Program, instance: Instance) -> str:
        """Statements of their own."""
        return "\n".join(text(made) for made in freezing(program, instance))

    def tree(
        self,
        program: Program,
        name: str,
        params: list[str],
        inits: list[tuple[str, ast.expr]],
        body: list[Statement],
        first: Instance,
    ) -> ast.ClassDef:
        """An nn.Module with ``__init__`` and ``forward``."""
        base, start = E("nn.Module"), E("super().__init__()")
        if first.writer.inherited is not None:
            base = _inherit(first.writer.inherited[0], inits, body, start)
        init = ast.FunctionDef("__init__", arguments(["self", *params]), [ast.Expr(start)], [])
        read = {n.attr for s in body for n in ast.walk(s.node) if isinstance(n, ast.Attribute)}
        attributes = {n for n, _ in inits}
        for param in params:
            if param in read and param not in attributes:
                init.body.append(set_attribute(param, ast.Name(param, ast.Load())))
        for attribute, value in inits:
            if isinstance(value, ast.Call) and names_in(value.func) == {"register_buffer"}:
                value.func = E("self.register_buffer")
                init.body.append(ast.Expr(value))
            else:
                init.body.append(set_attribute(attribute, value))
        init.body += [ast.Expr(made) for made in freezing(program, first)]
        if first.region is program.hub.root:
            ties = [_tied(program, *names) for names in program.hub.ties]
            init.body += {ast.dump(tie): tie for tie in ties}.values()
        taken = arguments(["self", *first.writer.params])
        forward = ast.FunctionDef(self.forward, taken, [s.node for s in body], [])
        built = inits or params or first.writer.inherited
        parts: list[ast.stmt] = [init, forward] if built else [forward]
        return ast.ClassDef(name, [base], [], parts, [])


def _written(weight: ast.expr, value: ast.expr) -> ast.stmt:
    """``with torch.no_grad(): w.mul_(mask)``; ``w.copy_(value)`` where it is no product with ``w``."""
    product = isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult)
    if product and ast.dump(value.left) == ast.dump(weight):  # type: ignore[union-attr]
        made = E("w.mul_(x)", w=weight, x=value.right)  # type: ignore[union-attr]
    else:
        made = E("w.copy_(x)", w=weight, x=value)
    return ast.With([ast.withitem(E("torch.no_grad()"))], [ast.Expr(made)])


def _inherit(
    attribute: str, inits: list[tuple[str, ast.expr]], body: list[Statement], start: ast.expr
) -> ast.expr:
    """Let a class be the layer that it holds under ``attribute``, in place; return the layer's class."""
    made = dict(inits)[attribute]
    assert isinstance(made, ast.Call) and isinstance(start, ast.Call)
    start.args, start.keywords = made.args, made.keywords
    inits[:] = [(name, value) for name, value in inits if name != attribute]
    for statement in body:
        for node in ast.walk(statement.node):
            if isinstance(node, ast.Call) and text(node.func) == f"self.{attribute}":
                node.func = E("super().forward")
    return made.func


def _tied(program: Program, name: str, first: str) -> ast.stmt:
    """``self.lm_head.weight = self.embedding.weight``; a whole module that two hold is held by both."""
    linear = name in {parameter.name for parameter in program.hub.parameters.values()}
    shared = None if linear else shared_module(name, first, program.modules)
    left, right = shared or (name, first)
    target = _attribute(left)
    target.ctx = ast.Store()  # type: ignore[attr-defined]
    return ast.Assign([target], _attribute(right))


def _attribute(path: str) -> ast.expr:
    """``self.layers[0].weight``."""
    made = E("self")
    for part in path.split("."):
        if part.isdigit():
            made = ast.Subscript(made, ast.Constant(int(part)), ast.Load())
        else:
            made = ast.Attribute(made, part, ast.Load())
    return made


def _numbered(names: list[str]) -> list[str]:
    """The names of a sequence's items, where those without one (functions) get the numbers after the others'."""
    found: list[str] = []
    for name in names:
        if name and not name.isdigit():
            return names
        found.append(name or str(int(found[-1]) + 1 if found else 0))
    return found


def _kept(names: list[str]) -> bool:
    """Whether a sequence can have the source's own names: each once, and numbers in their order."""
    if len(set(names)) < len(names) or "" in names:
        return False
    return not all(n.isdigit() for n in names) or names == sorted(names, key=int)


def _lonely(names: list[str]) -> bool:
    """Whether a sequence has come down to one layer: what stood before it (padding) is part of that layer."""
    return len(names) == 1 and names[0].isdigit() and names[0] != "0"


def _values(value: torch.Tensor, wanted: torch.dtype, usual: torch.dtype) -> ast.expr:
    """A constant tensor: a pattern where it is one, else its numbers."""
    made = _pattern(value, wanted, usual)
    if made is not None:
        return made
    rows = value.tolist()
    options: dict[str, Any] = {}
    natural = {bool: torch.bool, int: torch.int64, float: usual}.get(
        type(number(value.flatten()[0]))
    )
    if wanted is not natural:
        options["dtype"] = dtype_ast(wanted)
    if not value.dtype.is_floating_point or value.dtype is torch.float64:
        return call("torch.tensor", rows, **options)
    return call("torch.tensor", _tidy(value), **options)


def _tidy(value: torch.Tensor) -> Any:
    """Nested lists of numbers, each with as few digits as tell it apart."""
    if value.dim() == 0:
        return number(value)
    return [_tidy(v) for v in value]


def is_pattern(value: torch.Tensor, wanted: torch.dtype) -> bool:
    """Tell whether a constant tensor can be written by a rule, whatever its size."""
    return _pattern(value, wanted, torch.float32) is not None


def _pattern(value: torch.Tensor, wanted: torch.dtype, usual: torch.dtype) -> ast.expr | None:
    """One number everywhere, a range, a triangle."""
    flat = value.flatten()
    if not flat.numel():
        return call("torch.zeros", *value.shape)
    options: dict[str, Any] = {} if wanted is usual else {"dtype": dtype_ast(wanted)}
    if bool((flat == flat[0]).all()):
        one = number(flat[0])
        if one in (0, 1):
            shape = tuple(value.shape) or ((),)
            return call("torch.zeros" if one == 0 else "torch.ones", *shape, **options)
        if type(one) is int and wanted is torch.int64:
            options = {}
        return call("torch.full", tuple(value.shape), one, **options)
    if value.dim() == 1 and len(value) > 2 and _whole(flat):
        start, step = int(flat[0]), int(flat[1] - flat[0])
        stop = start + step * len(value)
        if step and torch.equal(flat, torch.arange(start, stop, step).to(flat.dtype)):
            ends = (
                [stop]
                if (start, step) == (0, 1)
                else [start, stop]
                if step == 1
                else [start, stop, step]
            )
            return call(
                "torch.arange",
                *ends,
                **({} if wanted is torch.int64 else {"dtype": dtype_ast(wanted)}),
            )
    if value.dim() == 2 and value.shape[0] == 1 and _whole(flat):
        row = _pattern(value[0], wanted, usual)
        return call(ast.Attribute(row, "unsqueeze", ast.Load()), 0) if row is not None else None
    return _window(value, options) or _triangle(value, wanted, usual)


def _whole(flat: torch.Tensor) -> bool:
    """Whether numbers (not truths) are whole."""
    return flat.dtype is not torch.bool and torch.equal(flat, flat.to(torch.int64).to(flat.dtype))


def _window(value: torch.Tensor, options: dict[str, Any]) -> ast.expr | None:
    """A window over a signal, to the last digit."""
    if value.dim() != 1 or value.dtype is not torch.float64:
        return None
    for name in ("hann_window", "hamming_window"):
        for periodic in (True, False):
            known = getattr(torch, name)(len(value), periodic=periodic, dtype=value.dtype)
            if torch.equal(known, value):
                ends = {} if periodic else {"periodic": False}
                return call(f"torch.{name}", len(value), **ends, **options)
    return None


def _triangle(value: torch.Tensor, wanted: torch.dtype, usual: torch.dtype) -> ast.expr | None:
    limits = band_limits(value != 0)
    if limits is None:
        return None
    filled = value[value != 0]
    if not bool((filled == filled[0]).all()):
        return None
    made = _pattern(torch.full_like(value, filled[0].item()), wanted, usual)
    low, high = limits
    if low == high == 0 and wanted is usual and value.dim() == 2:
        eye = call("torch.eye", *dict.fromkeys(value.shape))
        return eye if filled[0] == 1 else E("n * eye", n=to_ast(number(filled[0])), eye=eye)
    if high is not None:
        made = call("torch.tril", made, *([high] if high else []))
    if low is not None:
        made = call("torch.triu", made, *([low] if low else []))
    return made


def _initial(
    program: Program, node: fx.Node, shape: tuple[int, ...], perm: list[int] | None
) -> ast.expr:
    """How a weight starts: a pattern, or numbers drawn at random with the spread of all its peers."""
    parameter = program.hub.parameters[node]
    value = parameter.value.detach().cpu()
    if not parameter.trainable:
        made = _pattern(value.permute(perm) if perm else value, value.dtype, program.float_dtype)
        if made is not None:
            return made
        if not value.dtype.is_floating_point and value.numel() <= _SHORT:
            return _values(value.permute(perm) if perm else value, value.dtype, program.float_dtype)
    usual = value.dtype is program.float_dtype or value.dtype is torch.int64
    options = {} if usual else {"dtype": dtype_ast(value.dtype)}
    known = program.initial.initializer(node, perm, lambdas=False)
    if isinstance(known, ast.Constant):
        if value.dtype is not program.float_dtype:
            options = {"dtype": dtype_ast(value.dtype)}
        return call(f"torch.{known.value}", *(shape or [()]), **options)
    assert isinstance(known, ast.Call)
    number_ = known.args[0] if known.args else known.keywords[0].value
    if text(known.func).endswith("Constant"):
        return call("torch.full", shape, number_) if shape else call("torch.tensor", number_)
    draw = call("torch.randn", *(shape or [()]))
    usual_spread = isinstance(number_, ast.Constant) and number_.value == 1.0
    return draw if usual_spread else E("s * draw", s=number_, draw=draw)
