"""Which values should be channels-last: those that reach a convolution, pooling or batch norm."""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import is_mark, target_name
from diglot.rules.registry import Rule

_THROUGH = {"elementwise", "axis", "concat"}


class Wants:
    """Answers, with a memory, whether a value feeds a spatial op."""

    def __init__(self, rules: dict[str, Rule]) -> None:
        self.rules = rules
        self._known: dict[fx.Node, bool] = {}

    def channels_last(self, node: fx.Node) -> bool:
        """Tell whether a tensor of rank 3 or more reaches a spatial op with its axes as they are."""
        if node in self._known:
            return self._known[node]
        self._known[node] = False  # while we look: a cycle cannot want anything
        value = node.meta.get("val")
        rank = value.dim() if isinstance(value, torch.Tensor) else 0
        answer = rank >= 3 and any(self._user_wants(node, user, rank) for user in node.users)
        self._known[node] = answer
        return answer

    def _user_wants(self, node: fx.Node, user: fx.Node, rank: int) -> bool:
        if user.op != "call_function":
            return False
        if is_mark(user):
            return self.channels_last(user)
        rule = self.rules.get(target_name(user))
        if rule is None:
            return False
        if rule.layout == "spatial":
            return bool(user.args) and user.args[0] is node
        result = user.meta.get("val")
        same_rank = isinstance(result, torch.Tensor) and result.dim() == rank
        if rule.layout in _THROUGH and same_rank:
            return self.channels_last(user)
        if rule.layout == "reshape" and isinstance(result, torch.Tensor) and result.dim() > rank:
            return self.channels_last(user)
        return False
