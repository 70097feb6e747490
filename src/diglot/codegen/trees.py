"""Small trees that classes of either language are made of."""

from __future__ import annotations

import ast


def arguments(params: list[str], kwargs: str | None = None) -> ast.arguments:
    """``(a, b, **kwargs)``."""
    return ast.arguments(
        [], [ast.arg(p) for p in params], None, [], [], ast.arg(kwargs) if kwargs else None, []
    )


def set_attribute(attribute: str, value: ast.expr) -> ast.Assign:
    """``self.attribute = value``."""
    return ast.Assign([ast.Attribute(ast.Name("self", ast.Load()), attribute, ast.Store())], value)
