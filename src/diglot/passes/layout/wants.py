"""Which values should be channels-last: those that reach a convolution, pooling or batch norm."""

from __future__ import annotations

import torch
from torch import fx

from diglot.ir.hub import is_mark, target_name
from diglot.passes.layout import perms
from diglot.passes.layout.perms import permuted_dims
from diglot.rules.registry import Rule

_THROUGH = {"elementwise", "axis", "concat"}


class Wants:
    """Answers, with a memory, whether a value feeds a spatial op."""

    def __init__(self, rules: dict[str, Rule], target: str = "keras") -> None:
        self.rules = rules
        self.to_keras = target == "keras"
        self._known: dict[fx.Node, bool] = {}
        self._fed: dict[fx.Node, bool] = {}
        self._read: dict[fx.Node, bool] = {}

    def images(self, node: fx.Node) -> bool:
        """Tell whether a tensor should be kept in the target's order of an image's axes."""
        return self.channels_last(node) if self.to_keras else self.channels_first(node)

    def features(self, node: fx.Node) -> bool:
        """Tell whether a tensor reaches a Linear or a layer norm (they read the last axis) as it is."""
        if node not in self._read:
            self._read[node] = False
            rank = node.meta["val"].dim()
            self._read[node] = any(self._reads_last(user, rank) for user in node.users)
        return self._read[node]

    def is_read_last(self, node: fx.Node) -> bool:
        """Tell whether a Linear or a layer norm reads a tensor itself."""
        return any(
            self.is_read_last(user) if is_mark(user) else self._layout(user) == "last"
            for user in node.users
            if user.op == "call_function"
        )

    def _layout(self, node: fx.Node) -> str:
        rule = self.rules.get(target_name(node))
        return rule.layout if rule is not None else ""

    def ends(self, node: fx.Node) -> bool:
        """Tell whether a tensor reaches nothing but results of the model, with its axes as they are."""
        rank = node.meta["val"].dim()
        return bool(node.users) and all(self._ends(user, rank) for user in node.users)

    def is_free(self, node: fx.Node) -> bool:
        """Tell whether no reader of a turned sequence asks for its order.

        It reaches nothing but sums over an axis, or the like; what adds it to values that have the other order; turns
        of its author's back to that order.
        """
        return bool(node.users) and all(self._leaves_free(node, user) for user in node.users)

    def _leaves_free(self, node: fx.Node, user: fx.Node) -> bool:
        if user.op != "call_function":
            return False
        if is_mark(user):
            return not user.users or self.is_free(user)
        rule = self.rules.get(target_name(user))
        result = user.meta.get("val")
        if rule is None or not isinstance(result, torch.Tensor):
            return False
        if rule.layout == "permute":
            return perms.is_first(user)
        if rule.layout == "axis" and result.dim() < node.meta["val"].dim():
            return target_name(user) != "aten.select.int"
        if rule.layout != "elementwise":
            return False
        others = [a for a in user.all_input_nodes if a is not node]
        if others and all(self._will_be_first(a) for a in others):
            return True
        return all(self._is_turned(a) for a in others) and self.is_free(user)

    def _will_be_first(self, value: fx.Node) -> bool:
        """Tell whether a sequence has the order of images, or is made number for number of such as have."""
        result = value.meta.get("val")
        if not isinstance(result, torch.Tensor) or result.dim() != 3:
            return False
        if "layout" in value.meta:
            return value.meta["layout"] == perms.channels_first(3)
        if value.op != "call_function":
            return False
        made = is_mark(value) or self._layout(value) == "elementwise"
        sources = value.all_input_nodes
        return made and bool(sources) and any(self._will_be_first(a) for a in sources)

    def _is_turned(self, value: fx.Node) -> bool:
        """Tell whether a value is made, number for number, of what is turned from the order of images."""
        if value.op != "call_function":
            return False
        result = value.meta.get("val")
        if not isinstance(result, torch.Tensor) or result.dim() == 0:
            return isinstance(result, torch.Tensor)
        rule = self.rules.get(target_name(value))
        if rule is None or is_mark(value) or result.dim() != 3:
            return False
        if rule.layout == "permute":
            return perms.is_first(value)
        made = rule.layout == "elementwise" and bool(value.all_input_nodes)
        return made and all(self._is_turned(a) for a in value.all_input_nodes)

    def _ends(self, user: fx.Node, rank: int) -> bool:
        if user.op == "output":
            return True
        if is_mark(user):
            return self.ends(user)
        rule = self.rules.get(target_name(user)) if user.op == "call_function" else None
        result = user.meta.get("val")
        if rule is None or not isinstance(result, torch.Tensor) or result.dim() != rank:
            return False
        return rule.layout in _THROUGH and self.ends(user)

    def _reads_last(self, user: fx.Node, rank: int) -> bool:
        if user.op != "call_function":
            return False
        if is_mark(user):
            return self.features(user)
        rule = self.rules.get(target_name(user))
        result = user.meta.get("val")
        if rule is None or not isinstance(result, torch.Tensor) or result.dim() != rank:
            return False
        return rule.layout == "last" or (rule.layout in _THROUGH and self.features(user))

    def channels_first(self, node: fx.Node) -> bool:
        """Tell whether a channels-last tensor reaches a permute to channels-first in front of a spatial op."""
        if node in self._fed:
            return self._fed[node]
        self._fed[node] = False
        value = node.meta.get("val")
        rank = value.dim() if isinstance(value, torch.Tensor) else 0
        answer = rank >= 3 and any(self._turned(user, rank) for user in node.users)
        self._fed[node] = answer
        return answer

    def _turned(self, user: fx.Node, rank: int) -> bool:
        if user.op != "call_function":
            return False
        if is_mark(user):
            return self.channels_first(user)
        rule = self.rules.get(target_name(user))
        if rule is None:
            return False
        if rule.layout == "permute":
            first = tuple(permuted_dims(user, rank)) == perms.channels_first(rank)
            return first and self.channels_last(user)
        result = user.meta.get("val")
        same_rank = isinstance(result, torch.Tensor) and result.dim() == rank
        return rule.layout in _THROUGH and same_rank and self.channels_first(user)

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
        if (
            rule.layout == "permute" and not self.to_keras
        ):  # there and back, between two spatial ops
            back = tuple(permuted_dims(user, rank)) == perms.channels_last(rank)
            return back and self.channels_first(user)
        result = user.meta.get("val")
        same_rank = isinstance(result, torch.Tensor) and result.dim() == rank
        if rule.layout in _THROUGH and same_rank:
            return self.channels_last(user)
        if rule.layout == "reshape" and isinstance(result, torch.Tensor) and result.dim() > rank:
            return self.channels_last(user)
        return False
