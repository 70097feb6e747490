"""The result of a proof: every figure, and what follows from them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from diglot.parity.tolerances import PROVEN

FORMAT = 1


@dataclass
class Check:
    """One comparison of many arrays: `worst` is the greatest relative difference of `count`
    arrays, found at `where` (a source name). `kind` is weights, outputs, modules, gradients,
    input_gradients, buffers or steps; `weights` is real or random."""

    kind: str
    mode: str
    weights: str
    sizes: dict[str, int]
    worst: float = 0.0
    where: str = ""
    count: int = 0
    ok: bool = True
    dtype: str = "float64"
    tolerance: float = PROVEN


@dataclass
class Proof:
    """What was compared, how far it is apart, and the verdict.

    `verdict` is "proven", "differs" or "unproven" (the comparison holds but would hold for too
    much else: `reason` says why). `first_divergence` is None or {module, target_module, file, line,
    error, likely_cause, where}. `not_compared` and `explained` hold {"what", "why", …} each.
    """

    verdict: str = "unproven"
    reason: str = ""
    checks: list[Check] = field(default_factory=list)
    first_divergence: dict[str, Any] | None = None
    not_compared: list[dict[str, Any]] = field(default_factory=list)
    explained: list[dict[str, Any]] = field(default_factory=list)
    sensitivity: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    sizes: list[dict[str, int]] = field(default_factory=list)
    seed: int = 0
    steps: int = 0
    seconds: float = 0.0
    created: str = ""
    tolerance: float = PROVEN

    def __bool__(self) -> bool:
        """Whether the translation is proven."""
        return self.verdict == "proven"

    @property
    def worst(self) -> float:
        """The greatest relative difference of the float64 comparisons (0.0 without any)."""
        return max((check.worst for check in self.checks if check.dtype == "float64"), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-ready values; infinite figures as the string "Infinity"."""
        return {"format": FORMAT, **_plain(asdict(self))}

    def to_json(self) -> str:
        """The text of proof.json."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def __str__(self) -> str:
        compared = sum(check.count for check in self.checks)
        text = f"{self.verdict}: {compared} comparisons, worst {self.worst:.1e}"
        if self.first_divergence:
            found = self.first_divergence
            text += (
                f"; first divergence at {found['module'] or 'the root module'}: "
                f"{found['likely_cause']}"
            )
        return text + (f" ({self.reason})" if self.reason else "")


def _plain(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
