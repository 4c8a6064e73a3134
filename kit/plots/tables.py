"""Small tables, as HTML that reads well with and without a kernel."""

from __future__ import annotations

import html
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

from IPython.core.display import HTML

from kit.plots.style import FONT_PX, number

_CELL = "padding:4px 12px;border-bottom:1px solid rgba(128,128,128,.3);"


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(float(value)) if _is_number(value) else html.escape(str(value))


def table(rows: Sequence[Mapping[str, Any]], *, note: str = "") -> HTML:
    """Rows as a small table. Numbers get three digits that matter; None and NaN are a dash.

    Args:
        rows: one mapping per row: column name, with its unit, -> value. The columns are those of the
            first row, in its order; a row may leave some out.
        note: one line below the table: what to look at, or where the numbers are from.

    Raises:
        ValueError: no rows, or a row has a column that the first one lacks.
    """
    if not rows:
        raise ValueError("a table needs at least one row.")
    columns = list(rows[0])
    for i, row in enumerate(rows):
        unknown = set(row) - set(columns)
        if unknown:
            raise ValueError(
                f"row {i + 1} has {', '.join(sorted(unknown))}, which the first row lacks; "
                f"columns are {', '.join(columns)}."
            )

    def cell(tag: str, content: str, right: bool) -> str:
        return f'<{tag} style="{_CELL}text-align:{"right" if right else "left"}">{content}</{tag}>'

    right = {c: all(_is_number(row[c]) for row in rows if row.get(c) is not None) for c in columns}
    head = "".join(cell("th", html.escape(c), right[c]) for c in columns)
    body = "".join(
        "<tr>" + "".join(cell("td", _text(row.get(c)), right[c]) for c in columns) + "</tr>" for row in rows
    )
    below = f'<p style="font-size:{FONT_PX}px;opacity:.8">{html.escape(note)}</p>' if note else ""
    return HTML(
        f'<table style="font-size:{FONT_PX + 1}px;border-collapse:collapse">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )
