"""Chapter 11, live: the reader's own object decides, a home with a cut line, simulated against measured."""

import csv

import httpx
import numpy as np
import pytest

from kit import policy, records
from kit.lesson import exercises
from kit.policy import ConfidenceCascade, route_along
from kit.route import against, figures, figures_live, gateway, herds, sentences_live, studies, trials
from kit.route.replay import Script
from kit.simulate import run

QUICK = against.Bed(edge_ms=(4.0, 6.0, 8.0), cloud_ms=(10.0, 15.0, 30.0), cloud_servers=2)


class Counting:
    """A reader's policy that counts, and wants the edge."""

    def __init__(self):
        self.seen = []

    def route(self, request, fleet, now, rng):
        self.seen.append(request)
        return route_along(("edge", "cloud"))


# --- the gateway in this process


def test_the_gateway_decides_with_the_very_object():
    mine = Counting()
    with gateway.here(mine, edge=Script(model="edge"), cloud=Script(model="big")) as stack:
        home = trials.Home(stack, None)
        rows = trials.ask(home, ["turn off the lights", "把灯关掉"], x_privacy="private")
    assert [row["by"] for row in rows] == ["edge", "edge"]
    assert [r.language for r in mine.seen] == ["en", "zh"]
    assert {r.privacy for r in mine.seen} == {"private"}


def test_a_policy_that_names_a_tier_that_is_none_is_said_and_passed_over():
    class Lost:
        def route(self, request, fleet, now, rng):
            return route_along(("moon",))

    with gateway.here(Lost(), edge=Script(model="edge"), cloud=Script(model="big")) as stack:
        row = trials.ask(trials.Home(stack, None), ["turn off the lights"])[0]
    assert row["by"] == "edge"
    assert "moon" in row["why"]


@pytest.mark.parametrize(("no_command", "by"), [("answer", "edge"), ("pass_on", "cloud")])
def test_what_is_no_command_is_passed_on_unless_the_edge_may_say_so(no_command, by):
    sure = Script(model="edge", answers={"": {"label": "NotACommand", "confidence": 0.9}})
    tier = {"edge_tier": {"no_command": no_command}}
    with gateway.here(ConfidenceCascade(0.5), edge=sure, cloud=Script(model="big"), **tier) as stack:
        row = trials.ask(trials.Home(stack, None), ["why is the sky blue?"])[0]
    assert row["by"] == by


def test_a_cut_line_loses_nobody_and_the_cloud_comes_back():
    unsure = Script(model="edge", answers={"": {"label": "TurnOn", "confidence": 0.2}})
    network = {"network": "cable_assumed", "dispatch": trials.HABITS, "signals_every_s": 0.5}
    with gateway.here(ConfidenceCascade(0.5), edge=unsure, cloud=Script(model="big"), **network) as stack:
        seen = trials.evening(trials.Home(stack, None), seconds=9, per_s=15, cut=(2, 4))
    assert set(seen.seen["outcome"]) == {"answered"}
    during = seen.between(seen.cut_s + 0.2, seen.mended_s)
    assert set(during["tier"]) == {"edge"}
    assert "cloud" in seen.between(0, seen.cut_s)["tier"]
    assert "cloud" in seen.between(seen.mended_s + 0.5, np.inf)["tier"]
    assert "0 were lost" in sentences_live.read_evening(seen).data
    assert "100%" in figures_live.evening(seen).layout.title.text


def test_what_may_wait_is_answered_when_the_line_is_back():
    steps = trials.later("What is the largest planet in our solar system?", wait_s=30)
    assert [s["status"] for s in steps] == [502, 202, 200]
    assert "Jupiter" in steps[2]["said"]
    assert "Nobody answered" in steps[0]["said"]


# --- simulated against real


def test_both_worlds_are_asked_the_same():
    scenario = QUICK.scenario(100, 300, "simple_shuffle", {"weights": {"edge": 1, "cloud": 1}})
    with against.live(QUICK, "simple_shuffle", {"weights": {"edge": 1, "cloud": 1}}) as stack:
        real = against.drive(stack, scenario, 3).records
    simulated = run(scenario, seed=3).records
    assert len(real) == len(simulated)
    assert np.allclose(real["scheduled_s"], simulated["scheduled_s"])
    assert set(real["outcome"]) == {"answered"}
    # a mean of 300, half of each place, and programs on the way: no relation between timings beyond the sure
    assert real["e2e_ms"].min() > 4.0
    assert np.median(real["e2e_ms"]) > np.median(simulated["e2e_ms"]) * 0.7


def test_calibration_finds_what_the_places_need():
    known = against.calibrated(QUICK, requests=60)
    assert known.edge_programs_ms > 0
    assert known.cloud_programs_ms > 0
    assert known.edge_ms[1] == pytest.approx(6.0, rel=0.4)  # more than was told on a busy machine
    assert known.cloud_ms[1] == pytest.approx(15.0, rel=0.4)
    assert known.network == QUICK.network


def test_errors_by_hand():
    one = against.Compared("p", 1.0, np.full(50, 100.0), np.full(70, 90.0), 50, 0.0)
    assert one.errors() == pytest.approx({50: -0.1, 95: -0.1, 99: -0.1})


def test_both_worlds_escalate_the_same_requests(tmp_path):
    """The confidences are recorded, so whoever goes on to the cloud here goes there, too."""
    options = against.POLICIES["confidence_cascade"][0]
    scenario = QUICK.scenario(60, 240, "confidence_cascade", options)
    with against.live(QUICK, "confidence_cascade", options) as stack:
        asked = len(against.drive(stack, scenario, 5).records)
        (tmp_path / "noted.csv").write_text(httpx.get(stack.url + "/v1/records", timeout=30).text)
    noted = records.from_csv(tmp_path / "noted.csv")
    last = np.argsort(noted["scheduled_s"])[-asked:]  # those before warmed up
    simulated = run(scenario, seed=5).records
    here, there = ((r == "cloud").sum() for r in (noted["tier"][last], simulated["tier"]))
    assert here == there
    assert 0 < there < asked


def test_kept_runs_are_read_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    one = against.Compared("least_busy", 57.6, rng.gamma(2, 20, 5000), rng.gamma(2, 21, 5000), 5000, 1.25)
    against.write([one], tmp_path / "runs.csv")
    (back,) = against.read(tmp_path / "runs.csv")
    assert (back.policy, back.requests_per_s, back.asked) == ("least_busy", 57.6, 5000)
    assert back.percentiles()[0] == pytest.approx(one.percentiles()[0], rel=1e-3)
    assert back.errors() == pytest.approx(one.errors(), abs=1e-3)


def test_the_stored_runs_are_what_the_chapter_says():
    runs = against.read()
    assert len(runs) == 9
    assert {run.policy for run in runs} == set(against.POLICIES)
    assert min(run.asked for run in runs) >= 5000
    with against.FILE.open(encoding="utf-8") as f:
        assert len(list(csv.DictReader(f))) == 9 * len(against.KEPT)
    assert "of 27 percentiles" in sentences_live.read_against(runs).data
    assert figures_live.errors(runs).data
    assert figures_live.against(runs[0]).data


def test_loads_are_parts_of_what_the_edge_can_do():
    bed = against.Bed(edge_ms=(10.0, 10.0), cloud_ms=(20.0, 20.0))
    rates = {}
    for name, _, rate in against.loads(bed, (0.5,)):
        rates[name] = rate
    assert rates == {"simple_shuffle": 66.7, "least_busy": 50.0, "confidence_cascade": 50.0}


# --- old signals


def test_old_signals_make_a_herd():
    found = studies.herding(ages_s=(0.02, 2.0), seeds=(0,))
    assert found["least busy"][1] > 3 * found["random"][1]
    assert found["two choices"][0] < found["random"][0]
    assert found["random"][0] == found["random"][1]
    assert "never" not in herds.read_ages(found, (0.02, 2.0)).data
    assert "least busy" in herds.ages(found, (0.02, 2.0)).layout.title.text


def test_a_buffer_keeps_the_herd_apart():
    found = studies.buffers((0.0, 4.0), seeds=(0,))
    assert found["latency"][1] < found["latency"][0] / 2
    assert herds.buffers(found, (0.0, 4.0)).data
    assert "choosing at random" in herds.read_buffers(found).data


# --- the page


def test_the_price_of_mistakes_moves_the_cheapest_threshold():
    from kit import route

    curve = route.curve(route.judged("test"))

    def cheapest(mistakes):
        fig = figures.price_lines(curve, 0.9, 1.0, mistakes)
        return next(d.x[0] for d in fig.data if d.name == "cheapest")

    assert cheapest(1) < cheapest(50) <= 100


@pytest.mark.parametrize(
    ("id", "answer", "says"),
    [
        ("11.3", lambda a: a.latency_ms, "about the first token"),
        ("11.3", 3, "function of one attempt"),
        ("11.4", lambda now, asked, rest: now + asked, "it fails"),
        ("11.4", lambda now, asked, rest: now + (asked or rest), "longer one counts"),
        ("11.5", 7, "a policy"),
        ("11.5", policy.AlwaysEdge(), "Send more"),
    ],
)
def test_wrong_answers_are_helped(id, answer, says):
    assert says in exercises.grade(exercises.find(id), answer).message
