"""Export a deck (a notebook with slide types in its cells) to one HTML file that needs no network.

The file holds everything: a stage of our own (``deck/``: a template, a style sheet and a small script for
keys and page numbers), plotly.js from the installed plotly package when the deck has figures, and formulas
as MathML, written at export time. Outputs are those stored in the notebook, so no kernel and no browser is
needed to export; ``kit slides --save`` makes them.
"""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path
from typing import Any

import nbformat

from kit.lesson import bake, chapters

DECK = Path(__file__).with_name("deck")
ROOM = (1130, 530)  # what a slide offers a figure below its heading, in points
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.S)  # text in backquotes holds no formulas
_MATH = re.compile(r"\$\$(.+?)\$\$|(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\d$])", re.S)


def to_html(nb: Any, title: str) -> str:
    """The deck as one self-contained page.

    Args:
        nb: an executed notebook; its cells' ``slideshow.slide_type`` is ``slide``, ``subslide``,
            ``fragment``, ``notes``, ``skip`` or nothing. Code cells tagged ``hide-input`` show
            only their output.
        title: of the browser window.
    """
    from nbconvert.exporters import SlidesExporter
    from plotly.offline import get_plotlyjs

    nb = copy.deepcopy(nb)
    has_figures = False
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            cell.source = _formulas(cell.source)
        for place, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if bake.PLOTLY in data:
                has_figures = True
                data["text/html"] = _figure(data.pop(bake.PLOTLY), f"figure-{index}-{place}")
    exporter = SlidesExporter(template_name=DECK.name, extra_template_basedirs=[str(DECK.parent)])
    page, _ = exporter.from_notebook_node(
        nb,
        resources={
            "metadata": {"name": title},
            "deck_css": (DECK / "deck.css").read_text("utf-8"),
            "deck_js": (DECK / "deck.js").read_text("utf-8"),
            "plotly_js": get_plotlyjs() if has_figures else "",
        },
    )
    return page


def _figure(bundle: dict, name: str) -> str:
    """A stored figure as HTML that plotly.js draws when the page opens, enlarged to fill the slide."""
    from plotly import io

    width, height = bake.size(bundle)
    scale = min(ROOM[0] / width, ROOM[1] / height, 1.6)
    drawing = io.to_html(
        {"data": bundle["data"], "layout": bundle["layout"]},
        include_plotlyjs=False,
        include_mathjax=False,
        full_html=False,
        validate=False,
        div_id=name,
        default_width=f"{width}px",
        default_height=f"{height}px",
        config={"displayModeBar": False},
    )
    box = f"width:{width * scale:.0f}px;height:{height * scale:.0f}px"
    return (
        f'<div class="figure" style="{box}"><div style="transform:scale({scale:.3f})">{drawing}</div></div>'
    )


def _formulas(text: str) -> str:
    """Write ``$...$`` and ``$$...$$`` as MathML. Prices such as ``$5`` and code stay as they are."""

    def mathml(match: re.Match) -> str:
        try:
            from latex2mathml.converter import convert
        except ImportError as e:
            raise ValueError("a deck with formulas needs latex2mathml. Run: pip install -e '.[dev]'") from e
        return convert(match[1] or match[2], display="block" if match[1] else "inline")

    parts = _CODE.split(text)
    return "".join(part if i % 2 else _MATH.sub(mathml, part) for i, part in enumerate(parts))


def export(deck: Path) -> Path:
    """Write ``NN_word.html`` beside the deck and return its path.

    Raises:
        ValueError: the stored outputs are older than the code.
    """
    nb = nbformat.read(deck, as_version=4)
    if nb.metadata.get("kit", {}).get("hash") != bake.code_hash(nb, chapters.word(deck)):
        raise ValueError(f"{deck.name}: its outputs are older than its code. Run: kit slides --save")
    page = deck.with_suffix(".html")
    scratch = deck.with_suffix(".part")
    scratch.write_text(to_html(nb, deck.stem), "utf-8")
    os.replace(scratch, page)
    return page
