"""Tables of strings, for terminals and for notebooks; the first row is the head."""

import itertools
from collections.abc import Sequence
from html import escape
from typing import Any

Rows = Sequence[Sequence[str]]


def import_pandas() -> Any:
    """The package pandas, which is heavy and optional.

    Raises:
        ImportError: if it is not installed; the message says how to install it.
    """
    try:
        import pandas  # noqa: PLC0415, heavy and optional
    except ImportError as error:
        raise ImportError("to_pandas needs pandas: pip install 'lectopt[examples]'") from error
    return pandas


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, with " (2)" and so on after those that occurred before."""
    unique: dict[str, None] = {}
    for name in names:
        candidates = (f"{name} ({i})" if i > 1 else name for i in itertools.count(1))
        unique[next(candidate for candidate in candidates if candidate not in unique)] = None
    return list(unique)


def as_text(rows: Rows) -> str:
    """Columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def as_html(rows: Rows) -> str:
    """An HTML table."""
    head, *body = rows
    lines = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in body]
    return f"<table>{''.join(lines)}</table>"
