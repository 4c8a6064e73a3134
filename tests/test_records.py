"""The table of requests: what goes in comes out, and the summary agrees with NumPy and with paper."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import records
from kit.records import SLO, Builder, Records, RecordsError


def table(*rows: dict) -> Records:
    builder = Builder()
    for i, row in enumerate(rows):
        builder.append(**({"id": str(i), "scheduled_s": 0.0, "outcome": "answered"} | row))
    return builder.build()


TWO = table(
    # asked at 0, sent at 0.1, first token at 0.2, 4 more until 0.6
    {
        "sent_s": 0.1,
        "first_token_s": 0.2,
        "last_token_s": 0.6,
        "tokens_out": 5,
        "cost_usd": 3e-6,
        "energy_j": 10,
    },
    # one token, at once
    {"scheduled_s": 1.0, "sent_s": 1.0, "first_token_s": 1.1, "last_token_s": 1.1, "tokens_out": 1},
    # paid for, and lost
    {
        "scheduled_s": 1.0,
        "sent_s": 1.5,
        "outcome": "failed",
        "cost_usd": 1e-6,
        "attempts": 3,
        "tier": "cloud",
    },
    {"scheduled_s": 2.0, "outcome": "rejected", "attempts": 0},
)


def test_a_summary_by_hand():
    s = TWO.summary(SLO(ttft_ms=150))
    assert (s.requests, s.answered, s.availability) == (4, 2, 0.5)
    assert s.ttft_p50_ms == pytest.approx(150)  # of 200 and 100, from when they were scheduled
    assert s.tpot_p50_ms == pytest.approx(100)  # the answer of one token has none
    assert s.itl_mean_ms == pytest.approx(100)
    assert s.e2e_p50_ms == pytest.approx(350)  # of 600 and 100
    assert s.jitter_ms == pytest.approx(500)
    assert s.duration_s == pytest.approx(2.0)
    assert s.throughput_rps == pytest.approx(1.0)
    assert s.throughput_tps == pytest.approx(3.0)
    assert s.slo_attainment == pytest.approx(0.25)  # the second alone; failures count as misses
    assert s.goodput_rps == pytest.approx(0.5)
    assert s.cost_usd_per_request == pytest.approx(2e-6)  # the failed one is paid by the answered
    assert s.cost_usd_per_mtok == pytest.approx(4 / 6)
    assert s.energy_j_per_token == pytest.approx(10 / 6)
    assert s.as_row()["e2e_p50_ms"] == s.e2e_p50_ms


def test_the_mean_gap_counts_every_gap_once():
    """A long answer has more gaps: ITL weighs them, TPOT weighs answers."""
    r = table(
        {"first_token_s": 0, "last_token_s": 0.1, "tokens_out": 2},
        {"first_token_s": 0, "last_token_s": 0.9, "tokens_out": 10},
        {"first_token_s": 0, "last_token_s": 9.8, "tokens_out": 99},
    )
    s = r.summary()
    assert s.itl_mean_ms == pytest.approx(10.8e3 / 108)
    assert s.tpot_p50_ms == pytest.approx(100)


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        (SLO(), [True, True, False, False]),
        (SLO(ttft_ms=150), [False, True, False, False]),
        (SLO(tpot_ms=50), [False, True, False, False]),  # one token: no demand to break
        (SLO(e2e_ms=600.001), [True, True, False, False]),
        (SLO(ttft_ms=250, e2e_ms=300), [False, True, False, False]),
    ],
)
def test_an_slo_is_met_by_answers_within_it(slo, good):
    assert TWO.meets(slo).tolist() == good


finite = st.floats(0, 1e6, allow_nan=False)
waits = st.lists(finite, min_size=1, max_size=60)


@given(waits, waits)
def test_percentiles_are_those_of_numpy(first, rest):
    n = min(len(first), len(rest))
    rows = [
        {"first_token_s": a, "last_token_s": a + b, "tokens_out": 2}
        for a, b in zip(first[:n], rest[:n], strict=True)
    ]
    # failures must not move them
    s = table(*rows, *[{"outcome": "timed_out", "sent_s": 0}] * 3).summary()
    ends = np.array([row["last_token_s"] for row in rows])
    for q in (50, 95, 99):
        assert getattr(s, f"ttft_p{q}_ms") == pytest.approx(np.percentile(first[:n], q) * 1e3)
        assert getattr(s, f"e2e_p{q}_ms") == pytest.approx(np.percentile(ends, q) * 1e3)


@pytest.mark.parametrize("rows", [[], [{"outcome": "failed"}], [{"outcome": "rejected"}] * 3])
@pytest.mark.filterwarnings("error")
def test_a_run_without_answers_has_a_summary(rows):
    s = table(*rows).summary(SLO(e2e_ms=100))
    assert s.answered == 0
    assert s.requests == len(rows)
    assert math.isnan(s.e2e_p99_ms)
    assert s.slo_attainment == 0 if rows else math.isnan(s.slo_attainment)


words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)
maybe = st.one_of(st.just(math.nan), finite)


@st.composite
def any_row(draw):
    times = sorted(draw(st.lists(finite, min_size=4, max_size=4)))
    row = dict(zip(("scheduled_s", "sent_s", "first_token_s", "last_token_s"), times, strict=True))
    row |= {name: draw(words) for name in ("id", "policy", "tier", "model")}
    row |= {name: draw(maybe) for name in ("tokens_in", "tokens_out", "cost_usd", "energy_j")}
    row |= {"attempts": draw(st.integers(0, 9)), "outcome": draw(st.sampled_from(records.OUTCOMES))}
    if row["outcome"] != "answered":
        row |= {"first_token_s": math.nan, "last_token_s": math.nan}
    return row


def equal(a: Records, b: Records) -> bool:
    # NaN equals NaN here; == on texts, which have no NaN
    return all(
        np.array_equal(a[name], b[name], equal_nan=kind is records.NUMBER)
        for name, kind in records.COLUMNS.items()
    )


@settings(max_examples=60)
@given(rows=st.lists(any_row(), max_size=5))
def test_csv_gives_back_every_bit(rows, tmp_path_factory):
    file = tmp_path_factory.mktemp("csv") / "records.csv"
    before = table(*rows)
    before.to_csv(file)
    assert equal(records.from_csv(file), before)


def test_the_header_names_units_and_a_blank_is_not_applicable(tmp_path):
    TWO.to_csv(tmp_path / "r.csv")
    header, *lines = (tmp_path / "r.csv").read_text().splitlines()
    assert header.split(",")[2:6] == ["scheduled_s", "sent_s", "first_token_s", "last_token_s"]
    assert lines[3] == "3,,2.0,,,,,,,,0,rejected,,"


def test_concat_keeps_all_rows_in_order():
    assert equal(records.concat([TWO.where(np.arange(4) < 1), TWO.where(np.arange(4) >= 1)]), TWO)
    assert len(records.concat([])) == 0


def test_where_selects_rows():
    failed = TWO.where(TWO["outcome"] == "failed")
    assert failed["id"].tolist() == ["2"]
    assert failed["attempts"].tolist() == [3]


def test_one_column_is_one_array_and_the_table_is_frozen():
    assert TWO["attempts"].dtype == np.int64
    with pytest.raises(dataclasses.FrozenInstanceError):
        TWO.columns = {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"outcome": "ok"}, r"row 1 \(id '0'\), column outcome: ok: expected one of answered, failed"),
        ({"outcome": "failed", "scheduled_s": math.nan}, "column scheduled_s"),
        ({}, "column first_token_s: nan: an answer has this time"),
        ({"first_token_s": 1}, "column last_token_s"),
        ({"first_token_s": 2, "last_token_s": 1}, "column last_token_s: 1.0: times must follow the order"),
        ({"outcome": "failed", "sent_s": -1}, "column sent_s: -1.0: times must follow"),
        ({"outcome": "failed", "cost_usd": -1}, "column cost_usd: -1.0: expected a number >= 0"),
    ],
)
def test_rows_that_cannot_be_are_refused(row, message):
    with pytest.raises(RecordsError, match=message):
        table(row)


def test_the_builder_knows_its_columns():
    with pytest.raises(RecordsError, match=r"Missing: outcome, scheduled_s\. Not expected: latency"):
        Builder().append(id="1", latency=3)


def test_columns_are_checked():
    with pytest.raises(RecordsError, match="Missing: energy_j"):
        Records({name: values for name, values in TWO.columns.items() if name != "energy_j"})
    with pytest.raises(RecordsError, match="same length"):
        Records(dict(TWO.columns) | {"cost_usd": np.zeros(3)})
    with pytest.raises(RecordsError, match="no column is called 'latency'"):
        TWO["latency"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cost_usd", "cost_eur", r"r.csv, line 1: .*Missing: cost_usd\. Not expected: cost_eur"),
        ("3e-06", "cheap", r"r.csv, line 2, column cost_usd: found 'cheap', expected a number"),
        (",3,failed", ",3.5,failed", r"r.csv, line 4, column attempts: found '3.5', expected a whole number"),
        ("rejected,,", "rejected,", r"r.csv, line 5: 13 cells, expected 14"),
        ("rejected", "refused", r"r.csv, row 4 .*column outcome"),
    ],
)
def test_a_malformed_file_says_where(tmp_path, old, new, message):
    file = tmp_path / "r.csv"
    TWO.to_csv(file)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(RecordsError, match=message):
        records.from_csv(file)
