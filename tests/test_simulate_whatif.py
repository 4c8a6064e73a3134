"""What-ifs: sweeps on one core, all cores and Ray; effects; the command line; calibration; the page."""

import dataclasses
import json

import numpy as np
import pytest

from kit import cli, simulate
from kit.simulate import Tier, calibrate, figures, run, sentences, studies, theory, whatif
from kit.simulate.llm import Speed


@pytest.fixture(scope="module")
def home():
    return whatif.shortened(simulate.load("smart_home"), 1500)


def same(a, b):
    return json.dumps([dataclasses.asdict(x) for x in a]) == json.dumps([dataclasses.asdict(x) for x in b])


# --- sweeps


def test_a_sweep_is_the_same_on_one_core_on_all_and_on_ray(home, monkeypatch):
    alone = whatif.sweep(home, "requests_per_s", [1, 4, 16], topology="all_cloud", most=800)
    monkeypatch.setattr(whatif, "WORTH_S", 0.0)
    monkeypatch.setattr(whatif, "_on_ray", lambda asked: pytest.fail("nobody named a cluster"))
    assert same(alone, whatif.sweep(home, "requests_per_s", [1, 4, 16], topology="all_cloud", most=800))


def test_a_sweep_on_ray(home, monkeypatch):
    import ray

    alone = whatif.sweep(home, "requests_per_s", [1, 4], topology="all_device", most=500)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    try:
        assert same(alone, whatif.sweep(home, "requests_per_s", [1, 4], topology="all_device", most=500))
    finally:
        ray.shutdown()


def test_long_runs_are_shortened_unless_the_time_of_day_matters(home):
    busy = simulate.apply(home, ["requests_per_s=1000", "workload.seconds=3600"])
    assert whatif.shortened(busy, 5000).workload.seconds == 5
    assert whatif.shortened(home, 10**9) == home
    daily = simulate.apply(busy, ["arrivals=daily"])
    assert whatif.shortened(daily, 5000) == daily
    assert whatif.shortened(simulate.load("factory_line"), 10) == simulate.load("factory_line"), (
        "it has outages"
    )


def test_the_change_that_matters_most_comes_first(home):
    changes = ["tiers.cloud.overhead_ms=12", "network.backbone.rtt_ms=200"]
    before, after, found = whatif.effects(home, changes, "p50_ms", topology="all_cloud")
    assert [e.change for e in found] == [changes[1], changes[0]]
    slow, little = found
    assert after - before == pytest.approx((slow.alone - before) + (little.alone - before), abs=0.5)
    assert little.alone - before == pytest.approx(1, abs=0.1), "one more ms in the cloud"
    assert slow.without == little.alone
    told = whatif.told(home, changes, topology="all_cloud")
    assert told.index("rtt_ms") < told.index("overhead_ms")


@pytest.mark.parametrize(
    ("text", "said"), [("p96_ms=3", "no objective is called 'p96_ms'"), ("p95_ms=x", "a number")]
)
def test_wrong_objectives(text, said):
    with pytest.raises(simulate.ScenarioError, match=said):
        whatif.objectives([text])


# --- the command line


def test_the_exit_code_says_whether_an_objective_is_kept(capsys):
    slow = ["whatif", "card_fraud", "--topology", "all_cloud", "--slo"]
    assert cli.main([*slow, "p99_ms=80"]) == 1
    assert "missed: all_cloud: p99_ms is" in capsys.readouterr().out
    assert cli.main([*slow, "p99_ms=200"]) == 0
    assert cli.main(slow[:-1]) == 0, "its own objectives are told, and decide nothing"
    assert cli.main(["whatif", "card_fraudd"]) == 2
    assert "card_fraud" in capsys.readouterr().err


def test_a_sweep_with_changes_and_a_picture(tmp_path, capsys):
    picture = tmp_path / "sweep.html"
    command = (
        "whatif smart_home --topology all_device --set device.precision=int8 --sweep requests_per_s=1,40"
    )
    assert cli.main([*command.split(), "--requests", "500", "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "P95 ms" in out
    assert "device.precision=int8: alone it makes" in out
    assert "requests_per_s" in picture.read_text("utf-8")
    assert cli.main([*command.split(), "--requests", "500", "--picture", str(tmp_path / "x.gif")]) == 2


def test_all_scenarios_are_listed_and_compared(capsys):
    assert cli.main(["whatif"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in simulate.names())
    assert cli.main(["whatif", "card_fraud", "--all"]) == 0
    compared = capsys.readouterr().out
    assert all(way in compared for way in simulate.load("card_fraud").topologies)


# --- calibration


def test_a_place_made_of_a_quiet_run_predicts_a_busy_one():
    quiet = studies.queue(4, 0.02, n=100_000)
    made = Tier(
        kind="central_cloud", servers=4, service_quantiles_ms=calibrate.service_quantiles_ms(quiet.records)
    )
    busy = run(studies.one_place(280, 1000, made))  # 70% busy
    exact = theory.mmc(280, 0.01, 4)
    assert np.nanmean(busy.e2e_ms) == pytest.approx(1e3 * exact.mean_wait_s + 10, rel=0.05)
    assert busy.summary().p99_ms == pytest.approx(1e3 * exact.sojourn_quantile_s(0.99), rel=0.06)


def test_the_speed_of_an_engine_is_found_again():
    true = Speed(step_s=0.02, prompt_s=0.05, token_s=0.0003)
    alone = Tier(kind="central_cloud", speed=true, rows=1, stations=500)
    asked = simulate.Class(prompt_tokens=300, output_tokens=40)
    found = calibrate.speed(run(studies.one_place(2, 600, alone, asked=asked)).records)
    assert (found.step_s, found.prompt_s, found.token_s) == pytest.approx((0.02, 0.05, 0.0003), rel=1e-6)
    with pytest.raises(ValueError, match="twenty answers"):
        calibrate.speed(run(studies.one_place(1, 3, alone, asked=asked)).records)


# --- the page


def test_the_parts_of_a_request_are_drawn_and_add_up(home):
    ways = {name: run(home, topology=name) for name in ("all_device", "all_cloud")}
    fig = figures.requests(ways, 3)
    totals = [bar.x[-1] for bar in fig.data if bar.type == "bar"]
    assert totals == pytest.approx([ways[n].e2e_ms[3] for n in ways])
    lost = next(i for i, s in enumerate(ways["all_cloud"].ledger.status) if s == 0)
    assert sum(ways["all_cloud"].parts(lost).values()) == pytest.approx(ways["all_cloud"].e2e_ms[lost])


def test_the_shortcut_is_as_wrong_as_the_figure_says():
    fig = figures.shortcut((1, 64))
    assert fig.data[1].y.min() == pytest.approx(100 * (1 / np.log(100) - 1), abs=0.1), "nobody waits"
    assert "78%" in fig.layout.title.text


def test_distances_and_duels_say_what_was_simulated():
    far = {name: studies.to_a_cloud(row, n=2000) for name, row in studies.FAR.items()}
    assert sentences.over_limit(far) == ["Europe to Asia", "Europe to Australia"]
    duels = studies.duels(["chat_assistant", "vehicle_perception"], seeds=(0, 1))
    assert duels[0].ratio["P50"] < 1 < duels[1].ratio["P50"]
    assert duels[1].near("p50_ms") == np.mean([one.p50_ms for one in duels[1].edge])
    found = sentences.verdicts(far, duels)
    assert list(found) == ["C01", "C02", "C03", "C04"]
    assert "Europe to Asia, Europe to Australia; not for the same coast" in found["C01"][1]
    assert "slower: chat assistant" in found["C02"][1]
    assert found["C04"][1].startswith("Only near: vehicle perception")


def test_late_minutes_are_the_half_minutes_whose_p95_is_above_the_limit():
    runs = studies.fixed(8, seeds=(0, 1))
    late = []
    for result in runs:
        at_s, e2e_ms = result.ledger.at_s, result.e2e_ms
        halves = [e2e_ms[(at_s >= 30 * w) & (at_s < 30 * w + 30)] for w in range(120)]
        late.append(sum(len(h) > 0 and np.percentile(h, 95) > 3000 for h in halves) / 2)
    assert 0 < np.mean(late) < 60
    assert studies.late_minutes(runs, 3000) == np.mean(late)


def test_the_cheapest_fleet_that_is_hardly_late_is_told():
    fleets = {"eight": studies.fixed(8, seeds=(0,)), "twenty": studies.fixed(20, seeds=(0,))}
    assert "is twenty, with 20.0 servers" in sentences.read_fleets(fleets, 3000).data
    assert "Every fleet here is late" in sentences.read_fleets({"eight": fleets["eight"]}, 3000).data


def test_mixed_up_commands_are_refused(tmp_path, capsys):
    for command, said in (
        ("whatif --slo p95_ms=3", "name a scenario first"),
        ("whatif card_fraud --all --sweep requests_per_s=1,2", "name one with --topology"),
        (f"whatif card_fraud --picture {tmp_path / 'no' / 'x.html'}", "no folder"),
    ):
        assert cli.main(command.split()) == 2
        assert said in capsys.readouterr().err


def test_a_sweep_into_overload_says_from_where_on(capsys):
    command = "whatif smart_home --topology all_device --sweep requests_per_s=1,900 --requests 500"
    assert cli.main(command.split()) == 0
    assert "from requests_per_s = 900" in capsys.readouterr().err
