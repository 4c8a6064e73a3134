"""The policies of chapter 11, the table of names, and the guard around policies that people write."""

import time

import numpy as np
import pytest

from kit import policy, simulate
from kit.policy import (
    AlwaysCloud,
    AlwaysEdge,
    FleetView,
    Guarded,
    PolicyError,
    PrivacyFirst,
    Request,
    Route,
    Target,
    TierView,
    Watched,
    WrongPolicy,
    route_along,
)

EDGE, CLOUD = Target("edge"), Target("cloud")
HOME = FleetView((TierView("edge", "device"), TierView("cloud", "central_cloud", rtt_ms=40)))
ASK = Request("7", 100)


def fleet(*tiers):
    return FleetView(tuple(TierView(**{"kind": "central_cloud"} | tier) for tier in tiers))


def rng(seed=0):
    return np.random.default_rng(seed)


# -- names ---------------------------------------------------------------------------------------------------


def test_every_name_makes_a_policy_for_a_fleet_of_two():
    for name in policy.MAKERS:
        made = policy.make(name, {}, tiers=("edge", "cloud"))
        route = made.route(ASK, HOME, 0.0, rng())
        assert isinstance(route, Route), name


def test_the_nearest_is_the_edge_and_the_farthest_the_cloud():
    assert policy.make("always_edge", tiers=("edge", "cloud")) == AlwaysEdge("edge")
    assert policy.make("always_cloud", tiers=("edge", "cloud")) == AlwaysCloud("cloud")
    assert policy.make("cascade", {"threshold": 0.5}, ("a", "b", "c")) == policy.ConfidenceCascade(
        0.5, Target("a"), Target("c")
    )


def test_a_policy_inside_is_a_name_or_a_table():
    one = policy.make("privacy_first", {"inner": "always_cloud", "tier": "cloud"})
    other = policy.make("privacy_first", {"inner": {"policy": "always_cloud", "tier": "cloud"}})
    assert one == other == PrivacyFirst(AlwaysCloud("cloud"))
    assert policy.tiers_of({"inner": {"policy": "always_cloud", "tier": "cloud"}, "edge": "hub"}) == [
        "hub",
        "cloud",
    ]


@pytest.mark.parametrize(
    ("name", "options", "field", "message"),
    [
        ("psychic", {}, "policy", "no policy is called 'psychic'; there are: always_edge"),
        ("cascade", {}, "policy", "no policy is called 'cascade'"),  # short names are for the command line
        ("always_cloud", {}, "options", "has the options tier, got none"),
        ("nearest", {"x": 1}, "options", "has the options none, got x"),
        (
            "confidence_cascade",
            {"edge": "a", "cloud": "b", "threshold": 7},
            "options",
            "a confidence, 0 to 1",
        ),
        (
            "privacy_first",
            {"inner": {"tier": "a"}},
            "options",
            'inner must be a name or { policy = "nearest"',
        ),
        ("privacy_first", {"inner": {"policy": "nearest"}, "tier": "a"}, "options", "tier: put these inside"),
        ("privacy_first", {"inner": "psychic"}, "policy", "no policy is called 'psychic'"),
    ],
)
def test_a_policy_that_cannot_be_made_is_explained(name, options, field, message):
    with pytest.raises(WrongPolicy) as e:
        policy.make(name, options)
    assert e.value.field == field
    assert message in str(e.value)


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match="is called 'nearest' already"):
        policy.register("nearest", AlwaysCloud)


# -- policies that people write ------------------------------------------------------------------------------


class Raises:
    def route(self, request, fleet, now, rng):
        return {"a": EDGE}["b"]


class Says:
    def __init__(self, what):
        self.what = what

    def route(self, request, fleet, now, rng):
        return self.what


class Sleeps:
    def __init__(self, seconds):
        self.seconds = seconds

    def route(self, request, fleet, now, rng):
        time.sleep(self.seconds)
        return Route(EDGE)


class Hears:
    def route(self, request, fleet, now, rng):
        return Route(EDGE)

    def observe(self, outcome):
        raise RuntimeError("no")


WRONG = [
    (Raises(), "route() raised KeyError: 'b'"),
    (Says(None), "route() returned None, expected a kit.policy.Route"),
    (Says("edge"), "route() returned 'edge', expected a kit.policy.Route"),
    (Says(Route(Target("moon"))), "the route names tier 'moon'; this fleet has: edge, cloud"),
    (Says(Route("edge")), "the route names 'edge', expected a kit.policy.Target"),
    (Says(Route(EDGE, (Target("mars"),))), "the route names tier 'mars'"),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_a_guard_falls_back_and_says_why(wrong, said):
    heard = []
    guarded = Guarded(wrong, Route(EDGE), report=heard.append)
    assert guarded.route(ASK, HOME, 3.0, rng()) == Route(EDGE)
    assert said in heard[0].fault
    assert str(heard[0]).startswith(f"{type(wrong).__name__}, request 7, at 3.000 s: ")
    assert guarded.faults == 1


def test_a_guard_passes_on_what_is_good():
    assert Guarded(AlwaysCloud(), Route(EDGE)).route(ASK, HOME, 0, rng()) == Route(CLOUD)


def test_a_slow_policy_is_named_and_one_that_hangs_is_left_alone():
    with pytest.raises(PolicyError, match=r"took 0\.\d+ s, and a decision may take 0.01 s"):
        policy.decide(Sleeps(0.05), ASK, HOME, 0, rng(), patience_s=0.01)
    heard = []
    guarded = Guarded(Watched(Sleeps(0.5), 0.02), Route(EDGE), report=heard.append)
    assert guarded.route(ASK, HOME, 0, rng()) == Route(EDGE)
    assert guarded.route(ASK, HOME, 0, rng()) == Route(EDGE)
    assert "no decision within 20 ms" in heard[0].fault
    assert "still busy" in heard[1].fault


def test_a_guard_survives_a_policy_that_cannot_bear_its_outcome():
    heard = []
    guarded = Guarded(Hears(), Route(EDGE), report=heard.append)
    guarded.observe(policy.Outcome(ASK, Route(EDGE), "answered", EDGE, 5.0))
    assert "observe() raised RuntimeError: no" in str(heard[0])


TWO = """
title = "Two"
[workload]
requests_per_s = 10
seconds = 10
[workload.classes.command]
[network]
wan = { rtt_ms = 20 }
[tiers.edge]
kind = "device"
service_ms = 5
[tiers.cloud]
kind = "central_cloud"
path = ["wan"]
service_ms = 5
"""


@pytest.mark.parametrize(("wrong", "said"), [*WRONG, (Hears(), "observe() raised RuntimeError: no")])
def test_the_simulator_stops_and_says_at_which_request(wrong, said):
    scenario = simulate.parse(TWO)
    with pytest.raises(PolicyError) as e:
        simulate.run(scenario, wrong)
    assert str(e.value).startswith(f"{type(wrong).__name__}, request 0 (command), at ")
    assert said in str(e.value)


def test_the_simulator_finds_the_very_request():
    class Third:
        def __init__(self):
            self.asked = 0

        def route(self, request, fleet, now, rng):
            self.asked += 1
            return Route(EDGE) if self.asked < 4 else None

    with pytest.raises(PolicyError, match=r"Third, request 3 \(command\), at"):
        simulate.run(simulate.parse(TWO), Third())


# -- what a policy is told -----------------------------------------------------------------------------------


class Notes:
    def __init__(self, route):
        self.given, self.told = route, []

    def route(self, request, fleet, now, rng):
        return self.given

    def observe(self, outcome):
        self.told.append(outcome)


def test_the_simulator_tells_of_every_attempt():
    text = TWO + "queue = 0\nretry_after_s = 7\n[dispatch]\nconnect_timeout_ms = 50\n"
    notes = Notes(route_along(("cloud", "edge")))
    scenario = simulate.apply(simulate.parse(text), ["tiers.cloud.service_ms=1000"])
    from kit.simulate.events import Events
    from kit.simulate.world import World

    Events(World(scenario, 0), notes).run()
    assert len(notes.told) > 80
    refused = [o for o in notes.told if o.answered_by == EDGE]
    assert len(refused) > 50
    for o in refused:
        first, second = o.tried
        assert (first.target, first.status, first.retry_after_s) == (CLOUD, "failed", 7)
        assert (second.target, second.status, second.retry_after_s) == (EDGE, "answered", None)
        assert first.latency_ms == pytest.approx(20)
        assert o.latency_ms == pytest.approx(first.latency_ms + second.latency_ms)
        assert second.ttft_ms == pytest.approx(second.latency_ms)
    ends = [o.now_s for o in notes.told]
    assert ends == sorted(ends)
