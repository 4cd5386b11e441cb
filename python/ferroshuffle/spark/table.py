"""Tables as text, and as HTML for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

Row = Sequence[str]


def as_text(headings: Row, rows: Sequence[Row]) -> str:
    """Return a table as lines of text, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rules = ["-" * width for width in widths]
    lines = (zip(row, widths, strict=True) for row in (headings, rules, *rows))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in lines
    )


def as_html(headings: Row, rows: Sequence[Row]) -> str:
    """Return the same as a table element."""
    head = _html_row("th", headings)
    body = "".join(_html_row("td", row) for row in rows)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _html_row(tag: str, row: Row) -> str:
    cells = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
    return f"<tr>{cells}</tr>"
