"""Two modes that run their modules in another order: what both begin and end with is one, the rest is there twice.

A flow runs its layers forwards in training and backwards in evaluation. The program has both ways, one after the
other; whoever runs it takes one. The second call of a module is a call of its own, as in a model that calls it twice.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from diglot.ir.hub import is_mark, target_name
from diglot.ir.runnable import FLAGS

Stack = tuple[str, ...]


def ends(
    ours: list[fx.Node],
    theirs: list[fx.Node],
    keys: tuple[list[Any], list[Any]],
    results: list[tuple[fx.Node, fx.Node]],
) -> tuple[int, int]:
    """Return how many ops both modes begin and end with alike (by their keys), no module's call cut in two.

    ``results`` are the values that both return.
    """
    first, second = keys
    shortest = min(len(ours), len(theirs))
    start = next((i for i in range(shortest) if first[i] != second[i]), shortest)
    rest = shortest - start
    end = next((i for i in range(rest) if first[-1 - i] != second[-1 - i]), rest)
    while start and _cuts(ours, theirs, start, end, ours[start - 1]):
        start -= 1
    whole = [e for e in range(end + 1) if not e or not _cuts(ours, theirs, start, e, ours[-e])]
    # Where the ends read one value of each mode, rather than several.
    return start, min(whole, key=lambda e: (_chosen(ours, theirs, e, results), -e))


def _cuts(
    ours: list[fx.Node], theirs: list[fx.Node], start: int, end: int, beside: fx.Node
) -> bool:
    """Tell whether an op beside the ops between is of a module's call that some of these are of."""
    middle = [*ours[start : len(ours) - end], *theirs[start : len(theirs) - end]]
    around = container(middle)
    inside = {s[len(around)] for n in middle if len(s := stack_of(n)) > len(around)}
    stack = stack_of(beside)
    return stack[: len(around)] == around and not inside.isdisjoint(stack[len(around) :][:1])


def _chosen(
    ours: list[fx.Node],
    theirs: list[fx.Node],
    end: int,
    results: list[tuple[fx.Node, fx.Node]],
) -> int:
    """Count the pairs of values that the last ops of both modes, and their results, read of those before them."""
    last = range(len(ours) - end, len(ours)), range(len(theirs) - end, len(theirs))
    pairs: set[tuple[fx.Node, fx.Node]] = set()
    given: Any
    later = {ours[i] for i in last[0]}
    for i, j in zip(*last, strict=True):
        given = zip(ours[i].all_input_nodes, theirs[j].all_input_nodes, strict=False)
        pairs |= {(a, b) for a, b in given if a not in later and a.op != "placeholder"}
    return len(pairs | {(a, b) for a, b in results if a not in later})


def container(nodes: list[fx.Node]) -> Stack:
    """The calls of modules around all of some ops."""
    stacks = [stack_of(n) for n in nodes]
    shared = stacks[0] if stacks else ()
    for stack in stacks:
        while shared != stack[: len(shared)]:
            shared = shared[:-1]
    return shared


def stack_of(node: fx.Node) -> Stack:
    """The calls of modules around an op, outermost first."""
    return tuple(node.meta.get("nn_module_stack") or ())


def as_another_call(copy: fx.Node, taken: set[str]) -> None:
    """Let a copied op belong to a call of its own of each module whose call the program has already, in place."""
    stack = copy.meta.get("nn_module_stack") or {}
    copy.meta["nn_module_stack"] = {
        f"{key}@evaluation" if key in taken else key: value for key, value in stack.items()
    }


def training_flags(graph: fx.Graph) -> dict[tuple[str, str], Any]:
    """Whether each op that can train does, by its module's path and its name."""
    return {
        (_path(node), target_name(node)): node.args[FLAGS[target_name(node)]]
        for node in graph.nodes
        if _flag(node) is not None
    }


def set_flag(copy: fx.Node, flags: dict[tuple[str, str], Any]) -> None:
    """Let a copied op say of training what the same op of training says: it runs in evaluation alone."""
    place = _flag(copy)
    if place is not None:
        args = list(copy.args)
        args[place] = flags.get((_path(copy), target_name(copy)), True)
        copy.args = tuple(args)


def _flag(node: fx.Node) -> int | None:
    if node.op != "call_function" or is_mark(node):
        return None
    place = FLAGS.get(target_name(node))
    return place if place is not None and len(node.args) > place else None


def _path(node: fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return stack[-1][0] if stack else ""
