"""Figures: they show the numbers that went in, keep the house style, and say what is wrong with a call."""

import math
import os
import subprocess
import sys

import numpy as np
import plotly.io as pio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import plots
from kit.plots.style import interval, log_axis

rng = np.random.default_rng(0)
SURE = rng.uniform(0, 1, 400)
RIGHT = rng.random(400) < SURE
SPREAD = rng.gamma(2, 3, 1000)

FIGURES = {
    "bars": plots.bars({"edge": 3.0, "cloud": (41, 38, 55)}, title="t", unit="time (ms)"),
    "bars of series": plots.bars(
        {"en": {"people": (0.6, 0.5, 0.7)}, "zh": {"people": 0.5}},
        title="t",
        unit="accuracy",
        horizontal=True,
    ),
    "lines": plots.lines(
        {"edge": ([1, 2], [3, 4], [2, 3], [4, 5]), "b": ([1, 2], [1, 1])}, title="t", x="a", y="b"
    ),
    "cdf": plots.cdf({"edge": SPREAD, "cloud": SPREAD + 9}, title="t", x="time (ms)", log_x=True),
    "pareto": plots.pareto({"a": (1, 2), "b": ((2, 1, 3), 3), "c": (3, 1)}, title="t", x="ms", y="accuracy"),
    "reliability": plots.reliability({"edge": (SURE, RIGHT)}, title="t"),
    "heatmap": plots.heatmap(np.eye(3), rows="abc", columns="xyz", title="t", x="predicted", y="true"),
    "waterfall": plots.waterfall({"edge": {"model": 2.0}, "cloud": {"there": 10.0, "model": 3.0}}, title="t"),
    "roofline": plots.roofline(
        {"decode": (2, 20)}, bandwidths_gb_s={"1 MB": 60, "500 MB": 14}, peaks_gops={"FP32": 90}, title="t"
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_house_style_is_kept(name):
    fig = FIGURES[name]
    full = fig.to_plotly_json()
    assert full["layout"]["title"]["text"] == "t"
    assert fig.layout.template == pio.templates["kit"]
    axes = [fig.layout[key] for key in full["layout"] if key.startswith(("xaxis", "yaxis"))]
    assert any(axis.title.text for axis in axes)
    assert fig.layout.template.layout.font.size >= 13
    assert fig.layout.template.layout.xaxis.tickfont.size >= 13
    pio.from_json(fig.to_json())  # what a notebook stores


def test_importing_sets_template_and_renderer():
    assert pio.templates.default == "kit"
    assert pio.renderers.default == "plotly_mimetype"


def test_edge_and_cloud_keep_their_colours():
    for fig in (FIGURES["lines"], FIGURES["cdf"]):
        drawn = {t.name.split(":")[0]: t.line.color for t in fig.data if t.name}
        assert drawn["edge"] == plots.COLOURS["edge"]
    assert list(FIGURES["bars"].data[0].marker.color) == [plots.COLOURS["edge"], plots.COLOURS["cloud"]]
    assert plots.colour("INT8") == plots.COLOURS["int8"]
    assert plots.colour("no such thing", 1) == plots.PALETTE[1]
    assert not {plots.COLOURS["edge"], plots.COLOURS["cloud"]} & set(plots.PALETTE)


def luminance(hex_colour: str) -> float:
    """Relative luminance after WCAG 2."""
    parts = [int(hex_colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_fewer_bits_are_lighter():
    by_bits = [luminance(plots.COLOURS[name]) for name in ("fp32", "fp16", "int8", "int4")]
    assert by_bits == sorted(by_bits)


def test_bars_draw_the_interval_and_only_that():
    bar = FIGURES["bars"].data[0]
    assert list(bar.y) == [3, 41]
    assert np.isnan(bar.error_y.array[0])
    assert (bar.error_y.array[1], bar.error_y.arrayminus[1]) == (14, 3)
    assert FIGURES["bars"].layout.showlegend is False
    assert FIGURES["bars of series"].layout.showlegend is True


def test_bars_below_zero_are_seen():
    low, high = plots.bars({"a": (-0.3, -0.4, -0.2), "b": 0.1}, title="t", unit="change").layout.yaxis.range
    assert low < -0.4
    assert high > 0.1


def test_a_cdf_reads_the_percentiles_of_numpy():
    line = next(t for t in FIGURES["cdf"].data if t.name and t.name.startswith("edge"))
    p50, p95, p99 = np.percentile(SPREAD, (50, 95, 99))
    assert line.name == f"edge: P50 {p50:.3g}, P95 {p95:.3g}, P99 {p99:.3g}"
    assert len(line.x) <= 500
    assert (line.x[-1], line.y[-1]) == (SPREAD.max(), 100)
    for x, y in zip(line.x[::50], line.y[::50], strict=True):
        assert y == pytest.approx(np.mean(x >= SPREAD) * 100)


points = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.tuples(*[st.integers(0, 9)] * 2), min_size=1
)


@given(points, st.sampled_from(["low", "high"]), st.sampled_from(["low", "high"]))
def test_the_front_holds_what_nothing_beats(points, on_x, on_y):
    best = plots.front(points, (on_x, on_y))
    sign = np.array([1 if on_x == "low" else -1, 1 if on_y == "low" else -1])
    for name, mine in points.items():
        beaten = any(np.all(sign * other <= sign * mine) and other != mine for other in points.values())
        assert (name in best) != beaten
    assert [points[name][0] for name in best] == sorted(points[name][0] for name in best)


def test_pareto_fills_the_points_of_the_front():
    symbols = {t.text: t.marker.symbol for t in FIGURES["pareto"].data if t.text}
    assert symbols == {"a": "circle", "b": "circle", "c": "circle-open"}


def test_pareto_writes_only_the_names_that_are_asked_for():
    points = {"a": (1, 2), "b": (2, 3), "c": (3, 1)}
    found = plots.pareto(points, title="t", x="x", y="y", labelled={"b"}).data
    assert [t.text for t in found if t.mode == "markers+text"] == ["", "b", ""]
    assert all(any(f"<b>{name}</b>" in (t.hovertemplate or "") for t in found) for name in points)


def test_a_calibrated_model_has_a_small_error():
    name = FIGURES["reliability"].data[1].name
    assert name.startswith("edge, ECE ")
    assert float(name.split()[-1].rstrip("%")) < 8


def test_bins_with_few_answers_are_counted_but_not_drawn():
    sure, right = np.r_[np.full(9, 0.25), np.full(10, 0.85)], np.ones(19, bool)
    points, counts = plots.reliability({"edge": (sure, right)}, title="t").data[1:]
    assert points.x == pytest.approx([85])
    assert list(counts.y) == [9, 10]
    assert points.name == f"edge, ECE {(9 * 75 + 10 * 15) / 19:.1f}%"


def test_a_waterfall_starts_each_part_where_the_last_ended():
    cloud = next(t for t in FIGURES["waterfall"].data if t.name == "cloud")
    assert list(cloud.base) == [0, 10, 0]
    assert list(cloud.x) == [10, 3, 13]


def test_the_roof_is_the_lower_of_memory_and_arithmetic():
    slope = FIGURES["roofline"].data[1]  # 14 GB/s up to 90 Gop/s
    assert np.array(slope.y) == pytest.approx(np.array(slope.x) * 14)
    assert slope.y[-1] == 90


def test_long_titles_are_broken_and_make_room():
    short = plots.bars({"a": 1}, title="short", unit="ms")
    long = plots.bars({"a": 1}, title="a long finding " * 8, unit="ms")
    assert "<br>" in long.layout.title.text
    assert long.layout.margin.t > short.layout.margin.t


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (41, "41"), (1234.5, "1,234"), (math.nan, ""), (99.99, "100"), (0, "0")],
)
def test_numbers_keep_three_digits(value, text):
    assert plots.number(value) == text


def test_a_logarithmic_axis_has_ticks_that_can_be_read():
    assert {"1", "2", "5", "10"} <= set(log_axis(1, 12)["ticktext"])
    assert "2" not in log_axis(0.1, 1000)["ticktext"]


def test_a_table_shows_numbers_dashes_and_no_markup():
    html = plots.table(
        [{"model": "<b>INT8</b>", "size (MB)": 137.4, "ok": True}, {"model": "INT4", "size (MB)": None}],
        note="a & b",
    ).data
    assert "&lt;b&gt;INT8&lt;/b&gt;" in html
    assert ">137<" in html
    assert ">yes<" in html
    assert ">–<" in html
    assert "a &amp; b" in html
    assert html.count("<tr>") == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.bars({"a": 1}, title=" ", unit="ms"), "needs a title"),
        (lambda: plots.bars({"a": (1, 2, 3)}, title="t", unit="ms"), "low <= value <= high"),
        (lambda: interval((5, 1, 4)), "low <= value <= high"),
        (lambda: plots.lines({"a": ([1], [1], [1])}, title="t", x="", y=""), "got 3 parts"),
        (lambda: plots.lines({"a": ([0, 1], [1, 1])}, title="t", x="", y="", log_x=True), "above 0, got 0"),
        (lambda: plots.pareto({"a": (0, 1)}, title="t", x="", y="", log_x=True), "above 0, got 0"),
        (lambda: plots.cdf({"a": [math.nan]}, title="t", x=""), "'a' has no values"),
        (
            lambda: plots.heatmap(np.eye(2), rows="abc", columns="ab", title="t", x="", y=""),
            "3 row and 2 col",
        ),
        (lambda: plots.reliability({"a": (np.array([3.2]), np.array([True]))}, title="t"), "not logits"),
        (lambda: plots.reliability({"a": (np.array([]), np.array([]))}, title="t"), "not empty"),
        (lambda: plots.table([]), "at least one row"),
        (lambda: plots.table([{"a": 1}, {"b": 1}]), "row 2 has b"),
    ],
)
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_ground_floor_is_light():
    heavy = ("torch", "transformers", "onnxruntime", "plotly")
    code = "import kit, kit.facts, kit.policy, kit.records, kit.economics, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    ).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & set(heavy)


def test_a_spread_stays_on_one_line_and_has_no_negative_zero():
    def plain(*value):
        return plots.spread(*value).replace("\N{NO-BREAK SPACE}", " ")

    assert " " not in plots.spread((0.333, 0.3, 0.35))
    assert plain((0.333, 0.3, 0.35)) == "0.333 (0.3 to 0.35)"
    assert plain((-0.02, -1.26, 1), ".1f") == "0.0 (-1.3 to 1.0)"
    assert plain((2, -3, -0.1), "+.0f") == "+2 (-3 to +0)"
