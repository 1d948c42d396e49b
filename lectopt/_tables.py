"""Tables of strings, for terminals and for notebooks; the first row is the head."""

from collections.abc import Sequence
from html import escape

Rows = Sequence[Sequence[str]]


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
