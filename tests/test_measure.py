"""Timing against known distributions, memory against known allocations, and the machine's kept figures."""

import gc
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kit import artifacts, measure
from kit.measure import limits

CALM = np.full(200, 0.05)


def timing(samples, control=CALM):
    return measure.Timing(np.asarray(samples, float), np.asarray(control, float))


def test_percentiles_are_numpys():
    t = timing(np.arange(1, 101))
    assert (t.p50, t.p95, t.p99) == pytest.approx((50.5, 95.05, 99.01))


def test_interval_agrees_with_scipys_bootstrap():
    x = np.random.default_rng(1).gamma(20, 0.5, 80)
    theirs = stats.bootstrap((x,), np.median, method="percentile", rng=2).confidence_interval
    assert timing(x).ci() == pytest.approx(tuple(theirs), rel=0.02)


def test_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = [low <= 10 <= high for low, high in (timing(rng.normal(10, 1, 40)).ci() for _ in range(200))]
    assert 0.88 <= np.mean(hits) <= 1


def test_interval_is_the_same_each_time():
    x = np.random.default_rng(4).normal(10, 3, 30)
    assert timing(x).ci(95) == timing(x).ci(95)


def test_calm_machine_is_not_noisy():
    t = timing(np.random.default_rng(5).normal(10, 0.2, 50))
    assert not t.noisy
    assert t.why == ""


def test_wide_interval_is_noisy():
    assert "median" in timing(np.random.default_rng(6).exponential(10, 20)).why


def test_control_that_stumbles_is_noisy():
    control = np.where(np.arange(200) % 5 == 0, 0.2, 0.05)
    assert "control" in timing(np.full(50, 10.0), control).why


@given(st.floats(0.1, 20), st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_ratio_of_scaled_timings_is_the_scale(factor, unit):
    b = timing(unit * (1 + np.arange(30) / 100))
    assert measure.ratio(timing(b.samples * factor), b) == pytest.approx((factor,) * 3)


def test_rounds_are_resampled_together():
    drift = np.linspace(1, 5, 40)  # the machine gets slower: both suffer alike
    _, low, high = measure.ratio(timing(2 * drift), timing(drift))
    assert high - low < 1e-9
    _, low, high = measure.ratio(timing(2 * drift[:-1]), timing(drift))
    assert high - low > 0.5


def test_timeit_counts_runs_and_leaves_the_collector_alone():
    calls, was = [], gc.isenabled()
    t = measure.timeit(lambda: calls.append(gc.isenabled()), repeats=7, warmup=2)
    assert len(calls) == 9
    assert not any(calls[2:])
    assert len(t.samples) == len(t.control) == 7
    assert gc.isenabled() == was


def test_timeit_stops_in_time():
    t = measure.timeit(lambda: time.sleep(0.02), repeats=1000, warmup=0, seconds=0.1)
    assert 3 <= len(t.samples) <= 8
    assert t.p50 >= 20


def test_compare_runs_in_turn():
    order = []
    names = "abc"
    result = measure.compare({n: lambda n=n: order.append(n) for n in names}, rounds=10, warmup=0)
    rounds = [tuple(order[i : i + 3]) for i in range(0, 30, 3)]
    assert all(sorted(r) == list(names) for r in rounds)
    assert len(set(rounds)) > 1, "the order should change from round to round"
    assert all(len(t.samples) == 10 for t in result.values())


def test_compare_sees_the_slower_one():
    t = measure.compare({"slow": lambda: time.sleep(0.006), "fast": lambda: time.sleep(0.002)}, rounds=8)
    _, low, _ = measure.ratio(t["slow"], t["fast"])
    assert low > 1


def test_too_few_runs_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        measure.timeit(lambda: None, repeats=2)


def test_peak_memory_sees_what_was_freed_again():
    # 80 MB, gone when it returns; in a process of its own, which has no freed memory to use again
    work = "lambda: np.ones(10**7).sum()"
    code = f"import numpy as np; from kit import measure; print(measure.peak_memory({work}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) == pytest.approx(80, abs=20)


def test_size_of_file_and_folder(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1_500_000))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(bytes(500_000))
    assert measure.size_mb(tmp_path / "a") == 1.5
    assert measure.size_mb(tmp_path) == 2.0
    with pytest.raises(FileNotFoundError):
        measure.size_mb(tmp_path / "none")


def test_reading_speed_is_in_the_realm_of_the_possible():
    assert 0.5 < limits.read_gb_s(1024, 1, seconds=0.02) < 2000


def test_machine_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setattr(artifacts, "home", lambda: tmp_path)
    rows = [{"kb": 256, "threads": limits._cores(), "gb_s": 60.0}]
    rows.append({"kb": 1048576, "threads": limits._cores(), "gb_s": 20.0})
    calls = []

    def fake():
        calls.append(1)
        return measure.Machine(
            limits._cpu()[0], limits._cores(), ("avx2",), {"L2": 1024}, rows, [], "2026-01-01"
        )

    monkeypatch.setattr(limits, "_measure", fake)
    first, second = measure.machine(), measure.machine()
    assert first == second
    assert len(calls) == 1
    assert first.gb_s(0.3) == 60
    assert first.gb_s(540) == 20
    (tmp_path / "machine.json").write_text(json.dumps({"cpu": "another"}))
    measure.machine()
    assert len(calls) == 2


# --- shares


def test_calibration_by_hand():
    mean, right, count = measure.calibration(
        np.array([0.1, 0.2, 0.9, 1.0]), np.array([False, True, True, True]), bins=2
    )
    assert mean == pytest.approx([15, 95])
    assert count.tolist() == [2, 2]
    # Wilson's interval for 1 of 2 and 2 of 2
    assert right == pytest.approx(np.array([[50, 9.45, 90.55], [100, 34.24, 100]]), abs=0.1)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_wilsons_interval_by_its_formula(hits):
    n, p, z = len(hits), np.mean(hits), 1.959964
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    assert measure.accuracy(np.array(hits)) == pytest.approx((100 * p, 100 * low, 100 * high), abs=1e-4)


def test_no_answers_have_no_accuracy():
    with pytest.raises(ValueError, match="no answers"):
        measure.accuracy(np.array([], bool))


def test_ece_of_three_answers_by_hand():
    # two at 0.9 of which one is right (gap 0.4), one at 0.5 that is right (gap 0.5)
    assert measure.ece(np.array([0.9, 0.9, 0.5]), np.array([True, False, True])) == pytest.approx(
        100 * (0.8 + 0.5) / 3
    )


def test_a_calibrated_model_has_no_error():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0, 1, 200_000)
    assert measure.ece(sure, rng.uniform(0, 1, len(sure)) < sure) < 0.5


def test_a_lead_is_counted_in_pairs():
    before = np.arange(400) % 5 > 0
    assert measure.lead(before, before) == (0, 0, 0)
    after = before & (np.arange(400) % 20 != 1)
    points, low, high = measure.lead(before, after)
    assert points == pytest.approx(5)
    assert 2 < low < points < high < 8
