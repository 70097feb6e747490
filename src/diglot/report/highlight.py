"""Python source to one HTML fragment per line.

pygments' own HTML formatter writes a listing as one block; the facing pages need every line as an
element of its own, so the tokens are split at the line ends here and escaped here.
"""

from __future__ import annotations

from html import escape

from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Token

# Token classes that look like plain text: without a span for them the page is a third smaller.
_PLAIN = {"", "n", "p", "w", "o"}


def _css_class(token_type: object) -> str:
    """pygments' short class of a token type (``Token.Keyword`` -> ``k``), "" for plain text."""
    while token_type is not Token and token_type not in STANDARD_TYPES:
        token_type = token_type.parent  # type: ignore[attr-defined]
    name = STANDARD_TYPES.get(token_type, "")  # type: ignore[call-overload]
    return "" if name in _PLAIN else name


def highlight_lines(text: str) -> list[str]:
    """HTML of each line of Python source ``text``, escaped, without line ends.

    The number of items equals ``len(text.split("\\n"))``. Source that is not valid Python is
    highlighted as far as the lexer understands it and never raises.
    """
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    lines: list[list[tuple[str, str]]] = [[]]
    for token_type, value in lexer.get_tokens(_normal(text)):
        css = _css_class(token_type)
        for index, part in enumerate(value.split("\n")):
            if index:
                lines.append([])
            if not part:
                continue
            row = lines[-1]
            if row and row[-1][0] == css:
                row[-1] = (css, row[-1][1] + part)
            else:
                row.append((css, part))
    return ["".join(_span(css, part) for css, part in row) for row in lines]


def _normal(text: str) -> str:
    """``text`` with line ends, tabs and control characters that HTML cannot hold replaced."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    return "".join(char if char == "\n" or char.isprintable() else "�" for char in text)


def _span(css: str, text: str) -> str:
    quoted = escape(text, quote=True)
    return f'<span class="{css}">{quoted}</span>' if css else quoted
