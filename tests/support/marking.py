"""Marks for some of a test's cases."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def swept(cases: Iterable[Any], names: Collection[Any]) -> list[Any]:
    """The cases, those of which the first value is one of ``names`` for ``make sweep`` alone."""
    given = [
        case
        if hasattr(case, "marks")
        else pytest.param(*(case if isinstance(case, tuple) else (case,)))
        for case in cases
    ]
    return [
        pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.sweep])
        if case.values[0] in names
        else case
        for case in given
    ]
