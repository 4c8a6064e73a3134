"""The policies of chapter 11, the table of names, and the guard around policies that people write."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import cli, policy, route, simulate
from kit.policy import (
    AlwaysCloud,
    AlwaysEdge,
    Attempt,
    FleetView,
    Guarded,
    Outcome,
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
        assert isinstance(made.route(ASK, HOME, 0.0, rng()), Route), name


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
    guarded.observe(Outcome(ASK, Route(EDGE), "answered", EDGE, 5.0))
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
    def __init__(self, given):
        self.given, self.told = given, []

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


# -- the policies, one by one --------------------------------------------------------------------------------


def ended(request, target, latency_ms, status="answered", now_s=None, **more):
    """An outcome with one attempt."""
    tried = Attempt(target, status, latency_ms, **more)
    good = status == "answered"
    return Outcome(
        request,
        Route(target),
        status if good else "failed",
        target if good else None,
        latency_ms,
        tried=(tried,),
        now_s=now_s,
    )


def chosen(rule, request, seen, now=0.0, draws=400, seed=0):
    """How often each tier is chosen first, as parts."""
    drawn = [rule.route(request, seen, now, g).target.tier for g in [rng(seed)] for _ in range(draws)]
    return {name: drawn.count(name) / draws for name in sorted(set(drawn))}


def test_a_deadline_decides_between_the_best_and_the_fastest():
    rule = route.DeadlineAware(("cloud", "edge"), margin=0.5)
    seen = fleet(
        {"name": "edge", "kind": "device", "service_ms": 5}, {"name": "cloud", "rtt_ms": 40, "service_ms": 10}
    )
    assert rule.route(Request("1", 1, deadline_ms=101), seen, 0, rng()) == route_along(("cloud", "edge"))
    assert rule.route(Request("1", 1, deadline_ms=99), seen, 0, rng()) == route_along(("edge",))
    assert rule.route(Request("1", 1, deadline_ms=1), seen, 0, rng()) == route_along(("edge",))
    assert rule.route(Request("1", 1), seen, 0, rng()).target == CLOUD
    busy = fleet({"name": "edge", "kind": "device", "service_ms": 5},
                 {"name": "cloud", "rtt_ms": 40, "service_ms": 10, "queue": 9, "servers": 2})  # fmt: skip
    assert rule.route(Request("1", 1, deadline_ms=101), busy, 0, rng()).target == EDGE  # 40 + 8*5 + 10 > 50


def test_the_cheapest_that_is_in_time():
    seen = fleet({"name": "dear", "service_ms": 10, "price_usd_per_request": 2.0},
                 {"name": "mean", "service_ms": 50, "price_usd_per_mtok": 1.0},
                 {"name": "slow", "service_ms": 500})  # fmt: skip
    for slo_ms, expected in ((1000, "slow"), (100, "mean"), (20, "dear"), (1, "dear")):
        assert route.CheapestWithinSLO(slo_ms).route(ASK, seen, 0, rng()).target.tier == expected


def test_latency_based_spreads_over_all_within_the_buffer():
    rule = route.LatencyBased(buffer=0.2)
    for name, took_ms in (("a", 100), ("b", 115), ("c", 130)):
        rule.observe(ended(ASK, Target(name), took_ms))
    seen = fleet({"name": "a"}, {"name": "b"}, {"name": "c"})
    parts = chosen(rule, ASK, seen)
    assert set(parts) == {"a", "b"}
    assert parts["a"] == pytest.approx(0.5, abs=0.1)
    assert set(chosen(route.LatencyBased(buffer=0, mean_ms=dict(rule.mean_ms)), ASK, seen)) == {"a"}


def test_latency_based_takes_a_time_out_for_slow_and_tries_the_unknown():
    rule = route.LatencyBased(weight=1.0)
    seen = fleet({"name": "a"}, {"name": "b"})
    rule.observe(ended(ASK, Target("a"), 100))
    assert set(chosen(rule, ASK, seen)) == {"a", "b"}  # nothing is known of b
    rule.observe(ended(ASK, Target("b"), 1, "failed"))
    assert set(chosen(rule, ASK, seen)) == {"a"}
    assert rule.mean_ms == {"a": 100, "b": 10_000}


def test_latency_based_forgets_those_that_were_not_asked_for_long():
    rule, seen = route.LatencyBased(forget_s=60), fleet({"name": "a"}, {"name": "b"})
    chosen(rule, ASK, seen, now=0)
    rule.observe(ended(ASK, Target("a"), 100))
    rule.observe(ended(ASK, Target("b"), 900))
    assert set(chosen(rule, ASK, seen, now=59)) == {"a"}
    assert set(chosen(rule, ASK, seen, now=61)) == {"a", "b"}


def test_an_attempt_that_nobody_waited_for_took_at_least_so_long():
    rule = route.LatencyBased(weight=1.0, mean_ms={"a": 100.0})
    rule.observe(ended(ASK, Target("a"), 50, "open"))
    assert rule.mean_ms["a"] == 100
    rule.observe(ended(ASK, Target("a"), 300, "open"))
    assert rule.mean_ms["a"] == 300


def test_first_token_over_tokens_favours_the_slow_starter():
    right, wrong = route.FirstToken(), route.FirstTokenPerToken()
    for rule in (right, wrong):
        rule.observe(ended(ASK, Target("quick"), 400, ttft_ms=100, output_tokens=10))
        rule.observe(ended(ASK, Target("slow"), 4000, ttft_ms=900, output_tokens=300))
    seen = fleet({"name": "quick"}, {"name": "slow"})
    assert set(chosen(right, ASK, seen)) == {"quick"}
    assert set(chosen(wrong, ASK, seen)) == {"slow"}


def test_weights_decide_between_scorers():
    seen = fleet({"name": "near", "kind": "device", "service_ms": 10, "queue": 9},
                 {"name": "far", "rtt_ms": 50, "service_ms": 10, "price_usd_per_request": 1.0})  # fmt: skip
    for scores, expected in (
        ({"queue": 1}, "far"),
        ({"latency": 1}, "far"),
        ({"locality": 1}, "near"),
        ({"price": 1}, "near"),
        ({"queue": 1, "locality": 2}, "near"),
        ({"queue": 2, "locality": 1}, "far"),
    ):
        assert route.WeightedScorers(scores).route(ASK, seen, 0, rng()).target.tier == expected
    unsure = Request("1", 1, edge_confidence=0.2)
    assert route.WeightedScorers({"confidence": 1}).route(unsure, seen, 0, rng()).target.tier == "far"
    own = route.WeightedScorers({"mine": 1}, {"mine": lambda request, tiers: [0.0] * len(tiers)})
    assert own.route(ASK, seen, 0, rng()).target.tier == "near"


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 200), st.floats(0, 3)), min_size=1, max_size=5))
def test_every_score_is_from_0_to_1(tiers):
    seen = fleet(*({"name": str(i), "queue": q, "rtt_ms": r, "price_usd_per_request": p}
                   for i, (q, r, p) in enumerate(tiers)))  # fmt: skip
    for scorer in route.SCORERS.values():
        assert all(0 <= score <= 1 for score in scorer(ASK, seen.tiers))


def test_a_tier_that_fails_too_often_rests():
    rule = route.Cooldown(AlwaysCloud(), failures=3, within_s=10, rest_s=30)
    for now_s in (0, 8, 20, 21):
        rule.observe(ended(ASK, CLOUD, 5, "failed", now_s))
        assert rule.route(ASK, HOME, now_s, rng()).target == CLOUD
    rule.observe(ended(ASK, CLOUD, 5, "failed", 22))
    assert rule.route(ASK, HOME, 22, rng()).target == EDGE
    assert rule.route(ASK, HOME, 51.9, rng()).target == EDGE
    assert rule.route(ASK, HOME, 52.1, rng()).target == CLOUD


def test_retry_after_is_honoured_at_the_first_time_and_the_deaf_do_not_hear_it():
    hears, deaf = route.Cooldown(AlwaysCloud()), route.CooldownDeaf(AlwaysCloud())
    for rule in (hears, deaf):
        rule.observe(ended(ASK, CLOUD, 5, "failed", 10.0, retry_after_s=7))
    assert [hears.route(ASK, HOME, now, rng()).target for now in (10, 16.9, 17.1)] == [EDGE, EDGE, CLOUD]
    assert deaf.route(ASK, HOME, 10, rng()).target == CLOUD


def test_a_route_keeps_who_is_left():
    rule = route.Cooldown(policy.FallbackChain(("cloud", "edge")))
    rule.observe(ended(ASK, CLOUD, 5, "failed", 0.0, retry_after_s=7))
    assert rule.route(ASK, HOME, 1, rng()) == Route(EDGE)
    unsure = route.Cooldown(policy.ConfidenceCascade(0.9))
    unsure.observe(ended(ASK, CLOUD, 5, "failed", 0.0, retry_after_s=7))
    assert unsure.route(ASK, HOME, 1, rng()) == Route(EDGE)  # nobody is left to escalate to
    both = route.Cooldown(AlwaysCloud())
    for target in (EDGE, CLOUD):
        both.observe(ended(ASK, target, 5, "failed", 0.0, retry_after_s=7))
    assert both.route(ASK, HOME, 1, rng()) == Route(CLOUD)  # asking is better than refusing


def test_the_first_rule_that_fits_decides():
    rule = route.ContextAware(
        [
            route.When("cloud", intents=["NotACommand"], languages=["en"], fallbacks=["edge"]),
            route.When("cloud", model="v2", models=["v2"]),
        ],
        AlwaysEdge(),
    )
    for request, expected in (
        (Request("1", 1, intent="NotACommand"), route_along(("cloud", "edge"))),
        (Request("1", 1, intent="NotACommand", language="zh"), Route(EDGE)),
        (Request("1", 1, intent="TurnOn", model="v2"), Route(Target("cloud", "v2"))),
        (Request("1", 1), Route(EDGE)),
    ):
        assert rule.route(request, HOME, 0, rng()) == expected
    with pytest.raises(ValueError, match=r'languages must be a list, languages = \["zh"\]'):
        route.When("edge", languages="zh")


@pytest.mark.parametrize("sure", [None, 0.1, 0.9])
def test_nobody_is_asked_in_a_language_that_he_does_not_read(sure):
    rule = route.LanguageAware(policy.ConfidenceCascade(0.7), {"cloud": ("en",)})
    chinese = Request("1", 1, language="zh", edge_confidence=sure)
    assert rule.route(chinese, HOME, 0, rng()) == Route(EDGE)
    english = Request("1", 1, edge_confidence=sure)
    assert rule.route(english, HOME, 0, rng()) == policy.ConfidenceCascade(0.7).route(english, HOME, 0, rng())


def test_a_private_request_is_not_sent_away_because_somebody_rests():
    rule = route.Cooldown(AlwaysEdge())
    rule.observe(ended(ASK, EDGE, 5, "failed", 0.0, retry_after_s=7))
    assert rule.route(Request("1", 1, privacy="private"), HOME, 1, rng()).target == EDGE
    assert rule.route(ASK, HOME, 1, rng()).target == CLOUD


def test_a_bandit_finds_the_best_arm_and_goes_on_exploring():
    """Three arms whose mean rewards are known: the best gets its share of 1 - epsilon + epsilon/3."""
    rule, seen, g = route.EpsilonGreedy(0.1), fleet({"name": "a"}, {"name": "b"}, {"name": "c"}), rng(1)
    paid = {"a": 0.2, "b": 0.8, "c": 0.5}
    drawn = []
    for i in range(6000):
        request = Request(str(i), 1)
        target = rule.route(request, seen, 0, g).target
        sure = float(np.clip(paid[target.tier] + 0.2 * g.standard_normal(), 0, 1))
        rule.observe(Outcome(request, Route(target), "answered", target, 0.0, confidence=sure))
        drawn.append(target.tier)
    late = drawn[1000:]
    assert late.count("b") / len(late) == pytest.approx(0.9 + 0.1 / 3, abs=0.02)
    assert late.count("a") / len(late) == pytest.approx(0.1 / 3, abs=0.015)
    assert rule.value("b", ASK) == pytest.approx(0.8, abs=0.03)


def test_a_bandit_can_learn_for_each_language():
    rule, seen = route.EpsilonGreedy(0.0, by=("language",)), HOME
    for language, best in (("en", CLOUD), ("zh", EDGE)):
        for target in (EDGE, CLOUD):
            request = Request("1", 1, language=language)
            sure = 1.0 if target == best else 0.2
            rule.observe(Outcome(request, Route(target), "answered", target, 1.0, confidence=sure))
    assert rule.route(Request("1", 1, language="en"), seen, 0, rng()).target == CLOUD
    assert rule.route(Request("1", 1, language="zh"), seen, 0, rng()).target == EDGE


def test_a_failure_a_latency_and_a_cost_lower_the_reward():
    rule = route.EpsilonGreedy(slow_ms=1000, dear_usd=0.01)
    good = Outcome(ASK, Route(EDGE), "answered", EDGE, 100.0, confidence=0.9, cost_usd=0.001)
    assert rule.reward(good) == pytest.approx(0.9 - 0.1 - 0.1)
    assert rule.reward(Outcome(ASK, Route(EDGE), "failed", None, 100.0)) == pytest.approx(-0.1)


def test_an_oracle_knows_and_says_when_it_does_not():
    rule = route.Oracle({"1": ("edge", "cloud"), "2": ("cloud",), "3": ()})
    said = [rule.route(Request(id, 1), HOME, 0, rng()).target for id in "123"]
    assert said == [EDGE, CLOUD, EDGE]
    with pytest.raises(ValueError, match="the truth about request '7' is not given"):
        rule.route(ASK, HOME, 0, rng())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: route.LatencyBased(buffer=-1), "buffer must be >= 0"),
        (lambda: route.LatencyBased(weight=0), "weight above 0"),
        (lambda: route.DeadlineAware(margin=2), "part of the deadline"),
        (lambda: route.CheapestWithinSLO(0), "no answer takes no time"),
        (lambda: route.Cooldown(AlwaysEdge(), failures=0), "failures must be >= 1"),
        (lambda: route.EpsilonGreedy(2), "epsilon is a part of the requests"),
        (lambda: route.EpsilonGreedy(slow_ms=0), "slow_ms and dear_usd must be > 0"),
        (lambda: route.WeightedScorers({"speed": 1}), "no scorer is called 'speed'; there are: queue"),
        (lambda: route.WeightedScorers({"queue": -1}), "the weight of queue must be >= 0"),
        (lambda: TierView("a", "device", servers=0), "servers must be >= 1"),
        (lambda: Attempt(EDGE, "answered", -1), "an attempt takes time"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_policies_need_numpy_only():
    """The simulator and its policies will run in a browser one day."""
    heavy = {"torch", "transformers", "onnxruntime", "httpx", "fastapi", "plotly"}
    code = f"import sys, kit.route, kit.simulate; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_two_choices_wait_as_theory_says():
    """Mitzenmacher 2001: mean time in the system is the sum of load^(2^i - 2), in service times, for many
    servers and fresh signals; with one choice it is 1 / (1 - load)."""
    load, service_ms, servers, n = 0.6, 20.0, 20, 8000
    rate = 1000 * load * servers / service_ms
    place = simulate.Tier(kind="regional_edge", service_ms=service_ms, service_cv=1)
    scenario = simulate.Scenario(
        title="supermarket",
        workload=simulate.Workload(requests_per_s=rate, seconds=n / rate),
        tiers={f"s{k}": place for k in range(servers)},
        dispatch=simulate.Dispatch(signals_every_s=2e-4),
    )
    took = simulate.run(scenario, policy.PowerOfTwoChoices(), seed=0).e2e_ms[1000:].mean() / service_ms
    assert took == pytest.approx(sum(load ** (2**i - 2) for i in range(1, 9)), rel=0.06)
    assert took < 0.7 / (1 - load)


def test_files_and_the_command_line_know_all_names(capsys):
    nested = 'options = { inner = { policy = "cooldown", inner = { policy = "latency_based" } } }'
    scenario = simulate.parse(TWO.replace("[workload]", f'policy = "privacy_first"\n{nested}\n[workload]', 1))
    assert simulate.run(scenario).summary().availability == 1
    with pytest.raises(
        simulate.ScenarioError, match=r"line 4, options\.inner.*no policy is called 'psychic'"
    ):
        simulate.parse(
            TWO.replace("[workload]", 'policy = "cooldown"\noptions = { inner = "psychic" }\n[workload]', 1)
        )
    assert cli.main(["whatif", "voice_home", "--set", "policy=weighted_scorers", "--set", "seconds=60"]) == 0
    assert "Voice home" in capsys.readouterr().out
