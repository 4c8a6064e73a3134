"""The house style, and the figures that several chapters share.

Every figure follows the same rules: the title says the finding, axes carry units, edge is green and
cloud is blue everywhere, and where a number is uncertain the picture shows by how much. A value is a
number, or ``(value, low, high)`` if its interval is known.
"""

from kit.plots.compare import bars, front, pareto, waterfall
from kit.plots.curves import cdf, lines, roofline
from kit.plots.matrices import heatmap, reliability
from kit.plots.style import COLOURS, PALETTE, Value, colour, number, spread, style, use
from kit.plots.tables import table

use()

__all__ = [
    "COLOURS",
    "PALETTE",
    "Value",
    "bars",
    "cdf",
    "colour",
    "front",
    "heatmap",
    "lines",
    "number",
    "pareto",
    "reliability",
    "roofline",
    "spread",
    "style",
    "table",
    "use",
    "waterfall",
]
