"""A picture of an ONNX graph, from its inputs at the top to its outputs at the bottom.

Two things make a graph of a hundred operators readable: what is repeated is drawn once, with how often,
and a run of operators that has no branch is drawn as one box. The layout follows Sugiyama et al. 1981:
rows by depth, then an order within each row that crosses few lines, then places.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import plotly.graph_objects as go

from kit import plots

# What an operator is for, and the colour of its box. What is not listed is arithmetic.
GROUPS = {
    "shapes": (
        "#E4E7EB",
        "Cast Concat Expand Flatten Identity Pad Reshape Shape Slice Split Squeeze Transpose Unsqueeze",
    ),
    "arithmetic": ("#FBE3B5", ""),
    "look-up": ("#F1CBDF", "Gather GatherElements GatherND"),
    "sum, maximum, norm": (
        "#C9E6F7",
        "LayerNormalization ReduceL2 ReduceMax ReduceMean ReduceSum SkipLayerNormalization Softmax",
    ),
    "matrix product": ("#E8A27C", "Attention DynamicQuantizeMatMul FusedMatMul Gemm MatMul MatMulInteger"),
}  # fmt: skip
ENDS = "#FFFFFF"  # inputs and outputs
ROW, HEIGHT, GAP, LETTER, FONT = 37, 23, 16, 6.7, 11  # pixels
LONGEST = 5  # operators in one box


@dataclass
class Box:
    """One box: a run of operators, each of which stands ``times`` times in the graph.

    ``times`` is 0 for the empty box that a line passes through on its way down.
    """

    ops: list[str]
    times: int
    group: str
    after: set[int] = field(default_factory=set)  # boxes further down that read what this one writes
    again: set[int] = field(default_factory=set)  # boxes further up, or itself: where a repetition goes on

    @property
    def text(self) -> str:
        return " · ".join(self.ops) + (f"  ×{self.times}" if self.times > 1 else "")

    @property
    def half(self) -> float:
        return (LETTER * len(self.text) + 16) / 2 if self.times else 3


def _group(op: str) -> str:
    return next((name for name, (_, ops) in GROUPS.items() if op in ops.split()), "arithmetic")


def _boxes(path: str | Path) -> dict[int, Box]:
    """One box per operator, input and output. Weights are not drawn."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    boxes: dict[int, Box] = {}
    writer: dict[str, int] = {}

    def add(op: str, group: str, reads: list[str]) -> int:
        me = len(boxes)
        boxes[me] = Box([op], 1, group)
        for name in reads:
            if name in writer:
                boxes[writer[name]].after.add(me)
        return me

    for value in graph.input:
        writer[value.name] = add(value.name, "", [])
    for node in graph.node:  # stored in an order in which they can run
        me = add(node.op_type, _group(node.op_type), list(node.input))
        writer.update(dict.fromkeys(node.output, me))
    for value in graph.output:
        add(value.name, "", [value.name])
    return boxes


def _before(boxes: dict[int, Box]) -> dict[int, set[int]]:
    before: dict[int, set[int]] = defaultdict(set)
    for me, box in boxes.items():
        for other in box.after:
            before[other].add(me)
    return before


def _fold(boxes: dict[int, Box]) -> dict[int, Box]:
    """Draw once what stands three times or more: operators of one kind between neighbours of one kind."""
    before = _before(boxes)
    alike: dict[tuple, list[int]] = defaultdict(list)
    for me, box in boxes.items():
        around = [frozenset(boxes[b].ops[0] for b in side) for side in (before[me], box.after)]
        alike[(box.ops[0], *around)].append(me)
    name = {me: members[0] if len(members) > 2 else me for members in alike.values() for me in members}
    folded: dict[int, Box] = {}
    for me, box in boxes.items():
        one = folded.setdefault(name[me], Box(box.ops, 0, box.group))
        one.times += 1
        one.after |= {name[b] for b in box.after}
    return folded


def _unroll(boxes: dict[int, Box]) -> None:
    """Folding a repetition makes a circle. Cut each circle: the line that closes it moves to ``again``."""
    done: set[int] = set()

    def visit(me: int, above: frozenset[int]) -> None:
        box = boxes[me]
        box.again = {other for other in box.after if other in above}
        box.after -= box.again
        for other in sorted(box.after - done):
            visit(other, above | {other})
        done.add(me)

    for me in boxes:
        if me not in done:
            visit(me, frozenset({me}))


def _join(boxes: dict[int, Box]) -> None:
    """Join a box with the next one where no other line leaves the one or enters the other."""
    before = _before(boxes)
    for me in list(boxes):
        while me in boxes and len(boxes[me].after) == 1:
            one, (other,) = boxes[me], boxes[me].after
            two = boxes[other]
            alike = one.group == two.group != "" and one.times == two.times
            if not alike or len(before[other]) > 1 or one.again or len(one.ops) + len(two.ops) > LONGEST:
                break
            again = {me if b == other else b for b in two.again}
            boxes[me] = Box(one.ops + two.ops, one.times, one.group, two.after, again)
            del boxes[other]
            before = _before(boxes)


def _rows(boxes: dict[int, Box]) -> list[list[int]]:
    """Boxes by depth. Wherever a line passes a row, an empty box is added to it and to ``boxes``."""
    before, row = _before(boxes), dict.fromkeys(boxes, 0)
    for _ in boxes:  # the longest way from an input
        for me, box in boxes.items():
            for other in box.after:
                row[other] = max(row[other], row[me] + 1)
    for me in boxes:
        if not before[me] and boxes[me].group:  # reads weights only: goes to where it is needed
            row[me] = min(row[other] for other in boxes[me].after) - 1
    rows: list[list[int]] = [[] for _ in range(max(row.values()) + 1)]
    for me in list(boxes):
        rows[row[me]].append(me)
        for other in sorted(boxes[me].after):
            last = me
            for between in range(row[me] + 1, row[other]):
                empty = -len(boxes)
                boxes[empty] = Box([], 0, "")
                rows[between].append(empty)
                boxes[last].after = boxes[last].after - {other} | {empty}
                last = empty
            boxes[last].after = boxes[last].after | {other}
    return rows


def _places(rows: list[list[int]], boxes: dict[int, Box]) -> dict[int, float]:
    """Horizontal place of every box in pixels: near its neighbours, and never over another box."""
    before = _before(boxes)
    x = {me: 100.0 * i for row in rows for i, me in enumerate(row)}
    for sweep in range(60):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wish = {}
            for me in row:
                near = before[me] if down else boxes[me].after
                wish[me] = fmean(x[other] for other in near) if near else x[me]
            if sweep < 30:
                row.sort(key=lambda me: wish[me])
            right = float("-inf")
            for me in row:  # from the left, each at its wish or beside the one before
                x[me] = max(wish[me], right + boxes[me].half)
                right = x[me] + boxes[me].half + GAP
            shift = fmean(wish[me] - x[me] for me in row)
            for me in row:
                x[me] += shift
    return x


def _lines(boxes: dict[int, Box]) -> list[list[int]]:
    """Every line, as the boxes it goes through: from a real one, through empty ones, to a real one."""
    lines = []
    for me, box in boxes.items():
        for other in box.after if box.times else ():
            line = [me, other]
            while not boxes[line[-1]].times:
                line += boxes[line[-1]].after
            lines.append(line)
    return lines


def draw(path: str | Path, title: str) -> go.Figure:
    """Draw the graph of an ONNX file, inputs at the top.

    Args:
        path: the ``.onnx`` file; up to about 150 operators stay readable.
        title: the finding.
    """
    boxes = _fold(_boxes(path))
    _unroll(boxes)
    _join(boxes)
    rows = _rows(boxes)
    x = _places(rows, boxes)
    y = {me: -float(ROW * r) for r, row in enumerate(rows) for me in row}
    fig = go.Figure()
    plain = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
    grey = plots.COLOURS["neutral"]
    for line in _lines(boxes):
        ys = [y[line[0]] - HEIGHT / 2, *(y[me] for me in line[1:-1]), y[line[-1]] + HEIGHT / 2]
        bend = {"color": grey, "width": 1.2, "shape": "spline", "smoothing": 0.9}
        fig.add_scatter(x=[x[me] for me in line], y=ys, line=bend, **plain)
    for me, box in boxes.items():
        for other in box.again:
            right = max(x[me] + box.half, x[other] + boxes[other].half) + 14
            fig.add_scatter(
                x=[x[me] + box.half, right, right, x[other] + boxes[other].half],
                y=[y[me] - 6, y[me] - 6, y[other] + 6, y[other] + 6],
                line={"color": plots.COLOURS["limit"], "width": 1.6},
                **plain,
            )
    real = {me: box for me, box in boxes.items() if box.times}
    for me, box in real.items():
        fig.add_shape(
            type="rect",
            x0=x[me] - box.half,
            x1=x[me] + box.half,
            y0=y[me] - HEIGHT / 2,
            y1=y[me] + HEIGHT / 2,
            fillcolor=GROUPS[box.group][0] if box.group else ENDS,
            line={"color": grey, "width": 1},
        )
        fig.add_annotation(x=x[me], y=y[me], text=box.text, showarrow=False, font_size=FONT)
    for group, (tint, _) in GROUPS.items():
        if any(box.group == group for box in real.values()):
            marker = {"symbol": "square", "size": 13, "color": tint, "line": {"color": grey, "width": 1}}
            fig.add_scatter(x=[None], y=[None], mode="markers", marker=marker, name=group)
    if any(box.again for box in real.values()):
        key = {"color": plots.COLOURS["limit"], "width": 1.6}
        fig.add_scatter(x=[None], y=[None], mode="lines", line=key, name="once more")
    left, right = min(x[me] - b.half for me, b in real.items()), max(x[me] + b.half for me, b in real.items())
    width = max(700, round(right - left) + 40)
    fig.update_layout(width=width, height=ROW * len(rows) + 140, margin={"l": 15, "r": 15, "b": 15})
    plots.style(fig, title)
    layout: Any = fig.layout
    middle, high = (left + right) / 2, (layout.height - layout.margin.t - 15) / 2
    fig.update_xaxes(visible=False, range=[middle - width / 2 + 15, middle + width / 2 - 15])
    fig.update_yaxes(
        visible=False, range=[-ROW * (len(rows) - 1) / 2 - high, -ROW * (len(rows) - 1) / 2 + high]
    )
    return fig
