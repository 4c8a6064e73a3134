"""Colours, fonts and sizes: one look for every figure of the kit."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

Value = float | tuple[float, float, float]
"""A number, or a number with its interval: ``(value, low, high)``."""

# From the colour-blind-safe set of Okabe and Ito (2008). Green and blue belong to edge and cloud alone.
COLOURS = {
    "edge": "#009E73",
    "cloud": "#0072B2",
    # from near to far
    "device": "#009E73",
    "access_edge": "#4FB286",
    "regional_edge": "#56B4E9",
    "central_cloud": "#0072B2",
    # languages
    "en": "#E69F00",
    "zh": "#CC79A7",
    # precisions: fewer bits are lighter, so that they differ in a grey print too
    "fp32": "#6A4C9C",
    "fp16": "#A44C9A",
    "int8": "#DE4968",
    "int4": "#FE9F6D",
    # the rest
    "neutral": "#6B7280",
    "limit": "#D55E00",
}
PALETTE = ("#E69F00", "#CC79A7", "#D55E00", "#4D4D4D", "#56B4E9", "#A6761D")
"""For series that have no colour of their own, in this order."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")
WIDTH, HEIGHT = 700, 400
FONT_PX, TITLE_PX = 13, 16
INK, GRID = "#1F2933", "#E4E7EB"
TITLE_LETTERS = 66  # that fit on one line of a title
LETTER_PX = 7.4  # mean width of a letter of FONT_PX


def colour(name: str, index: int = 0) -> str:
    """The colour of a series: its own if it has one ("Edge", "int8"), else one of the palette."""
    return COLOURS.get(name.lower().replace(" ", "_"), PALETTE[index % len(PALETTE)])


def faded(hex_colour: str, opacity: float = 0.18) -> str:
    """The same colour, seen through: for bands."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def interval(value: Value) -> tuple[float, float, float]:
    """``value`` as ``(value, low, high)``; a bare number is its own low and high.

    Raises:
        ValueError: the interval does not hold the value.
    """
    if not isinstance(value, tuple):
        return float(value), float(value), float(value)
    middle, low, high = value
    if low > middle or high < middle:
        raise ValueError(f"an interval is (value, low, high) with low <= value <= high, got {value}.")
    return middle, low, high


def number(value: float) -> str:
    """A number for a label: three digits that matter, thousands separated, "" for NaN."""
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(value: tuple[float, float, float], digits: str = ".3g") -> str:
    """A value and its interval as text that stays on one line: ``0.33 (0.32 to 0.35)``.

    Args:
        value: ``(value, low, high)``.
        digits: how to write each of them, as in a format string.
    """
    middle, low, high = (f"{v:z{digits}}" if digits[0] != "+" else f"{v:+z{digits[1:]}}" for v in value)
    return f"{middle} ({low} to {high})".replace(" ", "\N{NO-BREAK SPACE}")


def _template() -> go.layout.Template:
    axis = {
        "gridcolor": GRID,
        "linecolor": INK,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "automargin": True,
        "title": {"standoff": 12, "font": {"size": FONT_PX + 1}},
        "tickfont": {"size": FONT_PX},
    }
    layout = {
        "width": WIDTH,
        "height": HEIGHT,
        # Verdana and DejaVu Sans are equally wide, so that labels fit on every system
        "font": {"family": "Verdana, DejaVu Sans, sans-serif", "size": FONT_PX, "color": INK},
        "title": {"font": {"size": TITLE_PX}, "x": 0.02, "xanchor": "left", "yanchor": "top"},
        "colorway": list(PALETTE),
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 70, "r": 30, "t": 60, "b": 60},
        "xaxis": axis,
        "yaxis": axis,
        "legend": {
            "orientation": "h",
            "traceorder": "normal",
            "x": 0,
            "y": 1.0,
            "yanchor": "bottom",
            "font": {"size": FONT_PX},
        },
        "hoverlabel": {"font": {"size": FONT_PX}},
        "bargap": 0.35,
    }
    return go.layout.Template(layout=layout)


def use() -> None:
    """Make the house style the default of plotly. Importing `kit.plots` does it."""
    pio.templates["kit"] = _template()
    pio.templates.default = "kit"
    pio.renderers.default = "plotly_mimetype"


def style(fig: go.Figure, title: str, x: str = "", y: str = "") -> go.Figure:
    """Give a figure its title and axis names, with room for both, and return it.

    Args:
        fig: the figure; changed in place.
        title: the finding, as a sentence. Long ones are broken into lines.
        x: name of the horizontal axis with its unit, such as ``"round trip (ms)"``.
        y: name of the vertical axis with its unit.

    Raises:
        ValueError: no title.
    """
    if not title.strip():
        raise ValueError("a figure needs a title that says what it shows: title='INT8 is a quarter of FP32'.")
    text = textwrap.wrap(title, TITLE_LETTERS)
    traces: Any = fig.data
    named = [t.name for t in traces if t.name and t.showlegend is not False]
    size = fig.layout.to_plotly_json()
    rows = _legend_rows(named, int(size.get("width", WIDTH))) if len(named) > 1 else 0
    fig.update_layout(
        template="kit",
        title={"text": "<br>".join(text), "y": 1 - (5 + 11 * len(text)) / size.get("height", HEIGHT)},
        margin_t=34 + 21 * len(text) + 21 * rows + (6 if rows else 0),
        showlegend=rows > 0,
    )
    if x:
        fig.update_xaxes(title_text=x)
    if y:
        fig.update_yaxes(title_text=y)
    return fig


def _legend_rows(names: list[str], width: int) -> int:
    """Rows of a legend above the figure: plotly puts it in columns as wide as its longest name."""
    widths = [LETTER_PX * len(name) + 42 for name in names]
    if sum(widths) <= width - 100:
        return 1
    return math.ceil(len(names) / max(1, int((width - 100) // max(widths))))


def log_axis(low: float, high: float) -> dict:
    """Settings of a logarithmic axis from ``low`` to ``high``, with ticks that can be read.

    Raises:
        ValueError: ``low`` is not above 0.
    """
    if not low > 0:
        raise ValueError(f"a logarithmic axis needs values above 0, got {low:g}: draw it with log_x=False.")
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if math.log10(high / low) < 1.7 else (1,)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [number(t) for t in ticks]}
