"""Figures: every row has unit, source and date; sampling gives back the quantiles that it came from."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import facts

SOURCED = [
    pytest.param(fact, id=f"{table.__name__}-{fact.id}")
    for table in (facts.devices, facts.llms, facts.networks, facts.prices, facts.workloads)
    for fact in table().values()
]
DRAWABLE = [n for n in facts.networks().values() if len(n.quantiles()[0]) >= 3]
# what a figure's name must end with, for its unit to be seen
UNITS = re.compile(
    r"_(sparse|dense|tflops|gb|gb_s|w_min|w_max|usd|ms|mbps|percent|s|per_s|cv|p\d+)$|^(requests|samples|value|parameters|layers|kv_heads|head_size|context)$"
)


@pytest.mark.parametrize("fact", SOURCED)
def test_every_fact_has_source_date_and_unit(fact):
    assert fact.source.strip()
    assert re.fullmatch(r"\d{4}(-\d{2}){0,2}", fact.date), fact.date
    assert fact.is_assumption == ("assumption" in fact.source.lower())
    figures = [f.name for f in dataclasses.fields(fact) if isinstance(getattr(fact, f.name), int | float)]
    assert all(UNITS.search(name) for name in figures), figures
    if isinstance(fact, facts.Price):
        assert fact.unit


def test_a_blank_is_unknown_and_a_figure_is_a_number():
    pi = facts.devices()["raspberry-pi-5-8gb"]
    assert pi.int8_tops_dense is None
    assert pi.bandwidth_gb_s == 17.0
    assert facts.workloads()["azure_llm_2023_conversation"].requests == 19366
    assert facts.claims()["C07"].chapter == "03"


def test_assumptions_are_visible():
    assert facts.networks()["wifi_hop"].is_assumption
    assert not facts.networks()["region_pacific"].is_assumption


def test_facts_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.networks()["region_pacific"].rtt_p50_ms = 1


def test_an_unknown_id_names_those_that_are_near():
    with pytest.raises(facts.FactError, match=r"no network has the id 'regionpacific'.*region_pacific"):
        facts.networks()["regionpacific"]
    with pytest.raises(facts.FactError, match=r"There are: .*raspberry-pi-5-8gb"):
        facts.devices()["?"]


@pytest.mark.parametrize("network", facts.networks().values(), ids=lambda n: n.id)
def test_quantiles_ascend(network):
    levels, rtt_ms = network.quantiles()
    assert len(levels) == len(rtt_ms)
    assert np.all(np.diff(levels) > 0)
    assert np.all(np.diff(rtt_ms) >= 0)


@pytest.mark.parametrize("network", DRAWABLE, ids=lambda n: n.id)
def test_sampling_gives_back_the_quantiles(network):
    levels, rtt_ms = network.quantiles()
    drawn = network.sample(200_000, np.random.default_rng(0))
    inner = (levels > levels[0]) & (levels < levels[-1])
    # the level that each known quantile has among the draws; only jumps of the curve may differ
    below = np.array([np.mean(drawn < q) for q in rtt_ms[inner]])
    at_most = np.array([np.mean(drawn <= q) for q in rtt_ms[inner]])
    assert np.all(below - 0.005 <= levels[inner])
    assert np.all(levels[inner] <= at_most + 0.005)
    assert drawn.min() >= rtt_ms[0]
    assert drawn.max() <= rtt_ms[-1]


@given(level=st.floats(0.02, 0.98))
def test_between_two_quantiles_the_line_is_straight(level):
    class Fixed:
        def random(self, n):
            return np.full(n, level)

    network = dataclasses.replace(
        facts.networks()["wifi_hop"], rtt_p1_ms=10, rtt_p5_ms=None, rtt_p25_ms=None, rtt_p50_ms=None,
        rtt_p75_ms=None, rtt_p95_ms=None, rtt_p99_ms=59, rtt_max_ms=59,
    )  # fmt: skip
    assert network.sample(1, Fixed())[0] == pytest.approx(10 + (level - 0.01) * 50)


def test_a_network_with_one_figure_has_no_tail():
    drawn = facts.networks()["region_pacific"].sample(50, np.random.default_rng(0))
    assert drawn.tolist() == [143.0] * 50


def test_a_network_without_round_trips_says_so():
    with pytest.raises(facts.FactError, match="'5g_uk_average_2023' has no round-trip times"):
        facts.networks()["5g_uk_average_2023"].sample(1, np.random.default_rng(0))


HEADER = "id,claim,figure,chapter\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,claim,figure\n", r"claims.csv, line 1: .*Missing: chapter"),
        (HEADER.replace("figure", "figures"), r"Missing: figure\. Not expected: figures"),
        (HEADER + "C01,a,b,01\nC02,a, comma,b,02\n", r"line 3: 5 cells, expected 4.*quotation marks"),
        (HEADER + "C01,a,,01\n", r"line 2, column figure: found '', expected a value"),
        (HEADER + "C01,a,b,01\nC01,c,d,02\n", r"line 3, column id: 'C01' stands in an earlier line"),
        (HEADER + '"C01,a,b,01\n', r"not valid CSV"),
    ],
)
def test_a_malformed_file_says_where(tmp_path, text, message):
    file = tmp_path / "claims.csv"
    file.write_text(text)
    with pytest.raises(facts.FactError, match=message):
        facts.load(file, facts.Claim)


@pytest.mark.parametrize("cell", ["12 GB", "-1", "1,5", "nan", "inf"])
def test_a_number_that_is_none_says_which(tmp_path, cell):
    file = tmp_path / "prices.csv"
    file.write_text(f'id,item,value,unit,date,note,source\na,b,"{cell}",USD,2024,,me\n')
    with pytest.raises(facts.FactError, match=r"prices.csv, line 2, column value: found .*expected a number"):
        facts.load(file, facts.Price)


def test_a_missing_or_foreign_file_says_so(tmp_path):
    with pytest.raises(facts.FactError, match=r"cannot read prices.csv"):
        facts.load(tmp_path / "prices.csv", facts.Price)
    (tmp_path / "prices.csv").write_bytes("id,été".encode("latin-1"))
    with pytest.raises(facts.FactError, match=r"not UTF-8"):
        facts.load(tmp_path / "prices.csv", facts.Price)
