"""Loops that are a recurrent layer: ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN``.

A loop over time is recognised by what one of its steps computes: the body runs once on random numbers and must give
what the layer's cell gives. So the layer is found in whatever form an exporter wrote it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from diglot.frontends.tensorflow import values
from diglot.frontends.tensorflow.graph import Graph, Node, Out
from diglot.frontends.tensorflow.layer import Layer, Weight
from diglot.frontends.tensorflow.ops import registry
from diglot.frontends.tensorflow.ops.lists import TensorList
from diglot.frontends.tensorflow.ops.registry import Call
from diglot.frontends.tensorflow.values import Constant, Lacking, Precision, Refused

if TYPE_CHECKING:
    from diglot.frontends.tensorflow.lowering import Lowering

_GATES = ("blocks", 1, (1, 0, 2))  # Keras: z, r, n; PyTorch: r, z, n
_JOINED = (0, 2, 1, 3)  # TensorFlow 1: i, g, f, o; PyTorch: i, f, g, o
_TURNED = ("permute", (1, 0))
_BATCH = 2
_WHILE = re.compile(r"while(_\d+)?")


@dataclass
class _Loop:
    """The roles of a loop's variables, by position."""

    body: Graph
    sequence: int
    mask: int | None
    result: int | None
    states: list[int]
    weights: list[int]
    counters: list[int]
    zeros: list[int]  # tensors of zeros, which masked steps give
    lengths: int | None = None  # how many steps of each sequence count

    @property
    def is_masked(self) -> bool:
        """Whether there may be steps that do not count."""
        return self.mask is not None or self.lengths is not None


@dataclass
class _Cell:
    """A cell that a loop's step was found to be: what its weights and states are, by position.

    TensorFlow 1 joins ``kernel`` and ``recurrent`` in one matrix (``None``), and adds ``forget_bias`` in each step.
    """

    kind: type[nn.RNNBase]
    options: dict[str, Any]
    kernel: int
    recurrent: int | None
    bias: int | None
    states: tuple[int, ...]
    last_only: bool = False
    zeros: bool = False
    forget_bias: float = 0.0

    def fixed(self) -> dict[str, torch.Tensor]:
        """The parameters that no weight of the loop holds."""
        units = self.options["hidden_size"]
        if not self.forget_bias:
            return {}
        zeros = torch.zeros(units)
        return {"bias_hh_l0": torch.cat([zeros, zeros + self.forget_bias, zeros, zeros])}


def from_loop(lowering: Lowering, node: Node, inputs: list[Out]) -> list[Out] | None:
    """The results of a loop as those of a recurrent layer; ``None`` where it is none."""
    loop = _roles(lowering, node, inputs)
    if loop is None:
        return None
    try:
        cell = _recognise(lowering, loop, inputs)
    except (Refused, RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None  # not such a loop: what is wrong with it is found when it is written out
    return None if cell is None else _emit(lowering, node, inputs, loop, cell)


def _roles(lowering: Lowering, node: Node, inputs: list[Out]) -> _Loop | None:
    body: Graph = node.attrs["body"]
    loop = _Loop(body, -1, None, None, [], [], [], [])
    bounds = []
    for i, out in enumerate(inputs):
        value = lowering.values[out]
        kept = body.outputs[i] == Out(body.inputs[i])
        if isinstance(value, TensorList):
            if out.node.op != "TensorListFromTensor":
                if loop.result is not None:
                    return None
                loop.result = i
            elif lowering.values[out.node.inputs[0]].dtype == torch.bool:
                loop.mask = i
            elif loop.sequence < 0:
                loop.sequence = i
            else:
                return None
        elif out.node.op == "Variable" or (kept and _is_weight(value)):
            loop.weights.append(i)
        elif values.is_host(value):
            loop.counters.append(i)
        elif isinstance(value, torch.Tensor) and value.is_floating_point() and not kept:
            loop.states.append(i)
        elif kept and _is_zero(out):
            loop.zeros.append(i)
        elif kept and _is_integers(value, 1) and loop.lengths is None:
            loop.lengths = i
        elif kept and _is_integers(value, 0):
            bounds.append(i)
        else:
            return None
    if loop.sequence < 0 or not loop.states or not 1 <= len(loop.weights) <= 3:
        return None
    steps = lowering.values[inputs[loop.sequence].node.inputs[0]].shape[0]
    limits = [lowering.values[inputs[i]] for i in loop.counters]
    sizes = [values.integer(v) for v in limits if values.rank(v) == 0]
    counted = any(values.same_size(s, steps) for s in sizes)
    if bounds:
        loop.counters += bounds
        counted = all(_is_bound(lowering, inputs[i], steps, loop, inputs) for i in bounds)
    return loop if counted and any(values.same_size(s, 0) for s in sizes) else None


def _is_integers(value: Any, rank: int) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.dim() == rank
        and value.dtype in (torch.int32, torch.int64)
    )


def _is_bound(lowering: Lowering, out: Out, steps: Any, loop: _Loop, inputs: list[Out]) -> bool:
    """Tell whether the steps end with the longest sequence: what ``tf.nn.dynamic_rnn`` computes as
    ``minimum(steps, maximum(1, reduce_max(lengths)))``. All that come after it count for nothing.
    """
    if out.node.op != "Minimum" or loop.lengths is None:
        return False
    known = [values.is_host(lowering.values[o]) for o in out.node.inputs]
    sizes = [o for o, is_known in zip(out.node.inputs, known, strict=True) if is_known]
    longest = [o.node for o, is_known in zip(out.node.inputs, known, strict=True) if not is_known]
    if len(sizes) != 1 or not values.same_size(values.integer(lowering.values[sizes[0]]), steps):
        return False
    inner = longest[0].inputs if longest[0].op == "Maximum" else []
    return any(o.node.op == "Max" and o.node.inputs[0] == inputs[loop.lengths] for o in inner)


def _is_weight(value: Any) -> bool:
    return isinstance(value, Constant) and value.array.ndim > 0 and value.array.dtype.kind == "f"


# --- one step, on numbers ----------------------------------------------------------------------


def run_graph(graph: Graph, given: dict[Node, Any], precision: Precision) -> list[Any]:
    """The values of a graph's outputs on plain tensors."""
    known: dict[Out, Any] = {Out(n): v for n, v in given.items()}
    for node in graph.order():
        if node.op == "Input":
            continue
        if node.op == "Const":
            known[Out(node)] = Constant(node.value)
            continue
        arguments = [known[o] for o in node.inputs]
        if node.op == "ReadVariableOp":
            result = arguments[0]
        else:
            call = Call(node.name, node.op, node.attrs, precision)
            result = registry.evaluate(call, arguments)
        for i, one in enumerate(result if isinstance(result, tuple) else (result,)):
            known[Out(node, i)] = one
    return [known[o] for o in graph.outputs]


def _recognise(lowering: Lowering, loop: _Loop, inputs: list[Out]) -> _Cell | None:
    width = lowering.values[inputs[loop.sequence].node.inputs[0]].shape[-1]
    generator = torch.Generator().manual_seed(1)

    def random(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64) * 0.5

    shapes = {i: [int(s) for s in _sizes(lowering, inputs[i])] for i in loop.weights}
    units = int(lowering.values[inputs[loop.states[0]]].shape[-1])
    held = {i: random(*shape) for i, shape in shapes.items()}
    before = {i: random(_BATCH, units) for i in loop.states}
    x = random(_BATCH, int(width))

    def step(real: bool) -> list[Any]:
        given: dict[Node, Any] = {}
        for i, node in enumerate(loop.body.inputs):
            if i in held or i in before:
                given[node] = held.get(i, before.get(i))
            elif i == loop.sequence:
                given[node] = TensorList([torch.zeros_like(x), x])
            elif i == loop.mask:
                mask = torch.full((_BATCH, 1), real)
                given[node] = TensorList([~mask, mask])
            elif i == loop.result:
                given[node] = TensorList([None, None])
            elif i in loop.zeros:
                given[node] = torch.zeros(_BATCH, units, dtype=torch.float64)
            elif i == loop.lengths:  # the step is the second
                given[node] = torch.full((_BATCH,), 2 if real else 1)
            else:
                given[node] = 1
        return run_graph(loop.body, given, _double())

    after = step(True)
    cell = _match(loop, shapes, held, before, x, after)
    if cell is None or (loop.is_masked and not _passes_over(loop, cell, before, step(False))):
        return None
    if loop.result is not None:
        items = after[loop.result].items
        cell.last_only = items[0] is not None
        if not torch.allclose(items[0 if cell.last_only else 1], after[cell.states[0]]):
            return None
        if loop.is_masked:
            passed = step(False)[loop.result].items[0 if cell.last_only else 1]
            cell.zeros = bool((passed == 0).all())
            rest = [i for i in loop.states if i not in cell.states]
            if not cell.zeros and not any(
                torch.equal(passed, before[i]) for i in (*rest, *cell.states)
            ):
                return None
    return cell


def _sizes(lowering: Lowering, out: Out) -> list[Any]:
    value = lowering.values[out]
    return list(value.array.shape if isinstance(value, Constant) else value.shape)


def _double() -> Precision:
    precision = Precision()
    precision.dtype = torch.float64
    return precision


def _passes_over(loop: _Loop, cell: _Cell, before: dict[int, Any], after: list[Any]) -> bool:
    """Tell whether a masked step keeps the states."""
    return all(torch.equal(after[i], before[i]) for i in cell.states)


def _match(
    loop: _Loop,
    shapes: dict[int, Any],
    held: dict[int, Any],
    before: dict[int, Any],
    x: Any,
    after: list[Any],
) -> _Cell | None:
    for cell in _candidates(loop, shapes, x.shape[-1], next(iter(before.values())).shape[-1]):
        layer: Any = cell.kind(**cell.options).double()
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        _load(layer, cell, held)
        states = tuple(before[i].unsqueeze(0) for i in cell.states)
        with torch.no_grad():
            _, made = layer(x.unsqueeze(1), states if len(states) == 2 else states[0])
        made = made if isinstance(made, tuple) else (made,)
        wanted = [after[i] for i in cell.states]
        if all(torch.allclose(m[0], w, atol=1e-9) for m, w in zip(made, wanted, strict=True)):
            return cell
    return None


def _candidates(loop: _Loop, shapes: dict[int, Any], width: int, units: int) -> Iterator[_Cell]:
    """Every cell that the shapes allow."""
    kinds: tuple[tuple[Any, int, int, dict[str, Any]], ...] = (
        (nn.LSTM, 4, 2, {}),
        (nn.GRU, 3, 1, {}),
        (nn.RNN, 1, 1, {"nonlinearity": "tanh"}),
        (nn.RNN, 1, 1, {"nonlinearity": "relu"}),
    )
    for kind, gates, count, more in kinds:
        sizes = {"input_size": width, "hidden_size": units, "batch_first": True, **more}
        for order in itertools.permutations(loop.weights):
            held = [shapes[i] for i in order]
            flat = [2, 3 * units] if kind is nn.GRU else [gates * units]
            apart = [[width, gates * units], [units, gates * units], flat]
            joined = [[width + units, gates * units], flat]
            options = {**sizes, "bias": held[-1] == flat}
            for states in itertools.permutations(loop.states, count):
                if held in (apart, apart[:2]):
                    bias = order[2] if len(order) == 3 else None
                    yield _Cell(kind, options, order[0], order[1], bias, states)
                if kind is not nn.GRU and held in (joined, joined[:1]):
                    bias = order[1] if len(order) == 2 else None
                    for forget in (1.0, 0.0) if kind is nn.LSTM and bias is not None else (0.0,):
                        made = _Cell(kind, options, order[0], None, bias, states)
                        made.forget_bias = forget
                        yield made


def _weights(cell: _Cell, holder: Callable[[int], Any]) -> list[Weight]:
    """How the loop's weights are made of the layer's."""
    if cell.recurrent is None:
        return _joined_weights(cell, holder)
    gates = (_GATES,) if cell.kind is nn.GRU else ()
    found = [
        Weight(holder(cell.kernel), ("weight_ih_l0",), (_TURNED, *gates)),
        Weight(holder(cell.recurrent), ("weight_hh_l0",), (_TURNED, *gates)),
    ]
    if cell.bias is not None and gates:
        pair = ("bias_ih_l0", "bias_hh_l0")
        found.append(Weight(holder(cell.bias), pair, (("blocks", 0, _GATES[2]),), "stack"))
    elif cell.bias is not None:
        # PyTorch has two biases where TensorFlow has one: the second stays at zero.
        found.append(Weight(holder(cell.bias), ("bias_ih_l0",)))
    return found


def _joined_weights(cell: _Cell, holder: Callable[[int], Any]) -> list[Weight]:
    several = cell.kind is nn.LSTM
    steps = (_TURNED, ("blocks", 1, _JOINED)) if several else (_TURNED,)
    pair = ("weight_ih_l0", "weight_hh_l0")
    found = [Weight(holder(cell.kernel), pair, steps, "concat:0")]
    if cell.bias is not None:
        order = (("blocks", 0, _JOINED),) if several else ()
        found.append(Weight(holder(cell.bias), ("bias_ih_l0",), order))
    return found


def _load(layer: nn.Module, cell: _Cell, held: dict[int, torch.Tensor]) -> None:
    from diglot.ir.weight_entry import WeightEntry

    state = dict(layer.named_parameters())
    for name, value in cell.fixed().items():
        state[name].data.copy_(value)
    for weight in _weights(cell, lambda i: i):
        array = held[weight.node].numpy()  # type: ignore[index]
        current = [state[p].detach().numpy() for p in weight.parameters]
        shapes = [c.shape for c in current]
        entry = WeightEntry(
            "w", weight.parameters, array.shape, shapes, weight.combine, weight.steps
        )
        with torch.no_grad():
            for name, made in zip(weight.parameters, entry.to_source(array, current), strict=True):
                state[name].copy_(torch.from_numpy(made))


# --- the layer ---------------------------------------------------------------------------------


def _emit(
    lowering: Lowering, node: Node, inputs: list[Out], loop: _Loop, cell: _Cell
) -> list[Out] | None:
    # TensorFlow 1 names a loop's frame after all that it is in, once more: rnn/while/rnn/while.
    scope = tuple(itertools.takewhile(lambda part: not _WHILE.fullmatch(part), node.scope))
    name = "/".join((*scope, node.name.rpartition("/")[2] or "while"))
    x = _batch_first(lowering, inputs[loop.sequence].node.inputs[0], name)
    given = [x]
    if loop.mask is not None:
        given.append(_batch_first(lowering, inputs[loop.mask].node.inputs[0], name))
    elif loop.lengths is not None:
        given.append(_mask_of_lengths(lowering, x, inputs[loop.lengths], name))
    starts = [inputs[i] for i in cell.states]
    plain = all(_is_zero(out) for out in starts)
    if not plain:
        given += starts
    layer = Layer(
        cell.kind,
        cell.options,
        _weights(cell, lambda i: inputs[i].node),
        run_layer,
        scope,
        cell.fixed(),
    )
    attrs = {
        "layer": layer,
        "masked": loop.is_masked,
        "zeros": cell.zeros,
        "starts": not plain,
    }
    made = Node(lowering.name(name), "Layer", given, attrs)
    like = lowering.values[x]
    units = cell.options["hidden_size"]
    with lowering.mode:
        steps = like.new_empty([like.shape[0], like.shape[1], units])
        last: list[Any] = [like.new_empty([like.shape[0], units]) for _ in cell.states]
    if loop.is_masked and cell.kind is nn.LSTM:
        last[1] = Lacking("the last cell state after masked steps has no form in torch.nn.LSTM")
    outs = lowering.put(made, steps, *last)
    results = list(inputs)
    for i, out in zip(cell.states, outs[1:], strict=True):
        results[i] = out
    for i in loop.states:
        if i not in cell.states:
            results[i] = outs[1]  # the output before, which masked steps repeat
    if loop.result is not None:
        results[loop.result] = _as_list(lowering, name, cell, outs)
    return results


def _mask_of_lengths(lowering: Lowering, x: Out, lengths: Out, name: str) -> Out:
    """Which steps of sequences (batch, length, features) come before their ends."""
    like, given = lowering.values[x], lowering.values[lengths]
    torch._check(like.shape[0] == given.shape[0])
    kind = "int64" if given.dtype == torch.int64 else "int32"
    sizes = lowering.emit(f"{name}/sizes", "Shape", [x], out_type=kind)[0]
    one, two = (lowering.constant(f"{name}/{n}", [n]) for n in (1, 2))
    steps = lowering.emit(
        f"{name}/count", "StridedSlice", [sizes, one, two, one], shrink_axis_mask=1
    )[0]
    zero, by = (lowering.constant(f"{name}/{n}", np.array(n, kind)) for n in (0, 1))
    places = lowering.emit(f"{name}/places", "Range", [zero, steps, by], Tidx=kind)[0]
    axis = lowering.constant(f"{name}/axis", 1)
    ends = lowering.emit(f"{name}/ends", "ExpandDims", [lengths, axis])[0]
    return lowering.emit(f"{name}/mask", "Less", [places, ends])[0]


def _as_list(lowering: Lowering, name: str, cell: _Cell, outs: list[Out]) -> Out:
    """The list that the loop has written: every step's output, or the last one's alone."""
    if cell.last_only:
        axis = lowering.constant(f"{name}/axis", 0)
        rows = lowering.emit(f"{name}/last", "ExpandDims", [outs[1], axis])[0]
    else:
        perm = lowering.constant(f"{name}/perm", [1, 0, 2])
        rows = lowering.emit(f"{name}/steps", "Transpose", [outs[0], perm])[0]
    shape = lowering.constant(f"{name}/shape", [-1])
    return lowering.emit(f"{name}/list", "TensorListFromTensor", [rows, shape])[0]


def _batch_first(lowering: Lowering, out: Out, name: str) -> Out:
    """A sequence with time first, as one with the batch first; turned back where it was turned."""
    node = out.node
    if node.op == "Transpose" and lowering.plain(node.inputs[1]) in ([1, 0, 2], [1, 0]):
        return node.inputs[0]
    if node.op == "ReverseV2" and lowering.plain(node.inputs[1]) == [0]:
        inner = _batch_first(lowering, node.inputs[0], name)
        axis = lowering.constant(f"{name}/axis", [1])
        return lowering.emit(f"{name}/reversed", "ReverseV2", [inner, axis])[0]
    perm = lowering.constant(f"{name}/perm", [1, 0, 2])
    return lowering.emit(f"{name}/batch_first", "Transpose", [out, perm])[0]


def _is_zero(out: Out) -> bool:
    node = out.node
    if node.op == "Fill" and node.inputs[1].node.op == "Const":
        return bool((node.inputs[1].node.value == 0).all())
    return node.op == "ZerosLike" or (node.op == "Const" and bool((node.value == 0).all()))


def run_layer(call: Call, module: Any, x: Any, *rest: Any) -> tuple[Any, ...]:
    """Outputs of all steps and the last states, of sequences (batch, length, features)."""
    x, given = call.tensor(x), list(rest)
    mask = call.tensor(given.pop(0)) if call.attrs["masked"] else None
    states = tuple(call.tensor(s).unsqueeze(0) for s in given) if call.attrs["starts"] else None
    start = states if states is None or len(states) == 2 else states[0]
    if mask is not None:
        return masked_steps(module, x, mask.reshape(*x.shape[:2]), start, call.attrs["zeros"])
    steps, after = module(x) if start is None else module(x, start)
    after = after if isinstance(after, tuple) else (after,)
    return (steps, *(s.squeeze(0) for s in after))


def masked_steps(
    module: Any, x: torch.Tensor, mask: torch.Tensor, start: Any, zeros: bool
) -> tuple[Any, ...]:
    """A recurrent layer that passes over masked steps, wherever they are: there it repeats its last output.

    The steps that count are moved to the front; each step takes the output after as many as have counted up to it.
    The last cell state has no form here: it is left out.
    """
    order = torch.argsort((~mask).to(torch.int64), dim=1, stable=True)
    counted = torch.cumsum(mask.to(torch.int64), dim=1)
    front = torch.gather(x, 1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
    output, _ = module(front) if start is None else module(front, start)
    if start is None:
        output = F.pad(output, (0, 0, 1, 0))  # before any step: zero
    else:
        first = start[0] if isinstance(start, tuple) else start
        output = torch.cat([first.transpose(0, 1), output], 1)
    steps = torch.gather(output, 1, counted.unsqueeze(-1).expand(-1, -1, output.shape[-1]))
    last = steps[:, -1]
    if zeros:
        steps = torch.where(mask.unsqueeze(-1), steps, 0.0)
    return (steps, last)
