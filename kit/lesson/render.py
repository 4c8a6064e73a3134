"""The few shapes in which a lesson speaks: a card, a folded text, a table. Each also reads as plain text."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from IPython.display import Markdown, display

# Borders only: text keeps the colour of the reader's theme, light or dark.
_BORDER = {
    "right": "#2a9d4a",
    "not yet": "#e08a00",
    "open": "#7a8794",
    "missing": "#c0392b",
    "question": "#3b6fd4",
    "result": "#3b6fd4",
}
_SIGN = {"right": "✓", "not yet": "↻", "open": "…", "missing": "!", "question": "?", "result": "→"}


def card(kind: str, title: str, text: str, below: str = "") -> dict[str, str]:
    """Display bundle of a bordered card.

    Args:
        kind: what it is about; it gives the border and the sign.
        title: plain text, bold.
        text: plain text after it; `backquotes` become code.
        below: the same, in a smaller second line.
    """
    body, small = (re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(t)) for t in (text, below))
    return {
        "text/html": (
            f'<div style="border-left:4px solid {_BORDER[kind]};padding:.3em .8em;margin:.3em 0">'
            f"{_SIGN[kind]} <b>{html.escape(title)}</b> {body}"
            + (f'<div style="font-size:90%;opacity:.8">{small}</div>' if below else "")
            + "</div>"
        ),
        "text/plain": f"{_SIGN[kind]} {title} {text}".rstrip() + (f"\n  {below}" if below else ""),
    }


def show(kind: str, title: str, text: str, below: str = "") -> None:
    """Display a card: see ``card``."""
    display(card(kind, title, text, below), raw=True)


def say(text: str) -> None:
    """Display Markdown: the sentence under a result, with the numbers of this run in it."""
    display(Markdown(text))


def fold(*parts: tuple[str, str]) -> None:
    """Display texts that open with a click: ``(summary, inner HTML)`` each."""
    plain = [f"{summary}\n{html.unescape(re.sub('<[^>]+>', '', inner))}" for summary, inner in parts]
    bundle = {
        "text/html": "".join(
            f"<details><summary>{html.escape(summary)}</summary>{inner}</details>" for summary, inner in parts
        ),
        "text/plain": "\n".join(plain),
    }
    display(bundle, raw=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Display a small table."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    plain = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    cells = ["".join(f"<td>{html.escape(c)}</td>" for c in row) for row in rows]
    head = "".join(f"<th>{html.escape(c)}</th>" for c in header)
    bundle = {
        "text/html": f"<table><tr>{head}</tr>" + "".join(f"<tr>{c}</tr>" for c in cells) + "</table>",
        "text/plain": "\n".join(plain),
    }
    display(bundle, raw=True)
