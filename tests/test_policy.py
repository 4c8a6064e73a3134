"""Routing: the words hold, policies do what they say, the dispatcher keeps every promise of its contract."""

import dataclasses
import heapq
import itertools
import typing
from collections import Counter

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from kit import records
from kit.policy import (
    ALLOWED_KINDS,
    Action,
    AlwaysCloud,
    AlwaysEdge,
    Answer,
    Answered,
    CircuitBreaker,
    ConfidenceCascade,
    DispatchSettings,
    Failed,
    FallbackChain,
    FleetView,
    GiveUp,
    Hedged,
    LearningPolicy,
    LeastBusy,
    Nearest,
    Outcome,
    Policy,
    PowerOfTwoChoices,
    PrivacyFirst,
    Request,
    Route,
    SendTo,
    Sent,
    SimpleShuffle,
    StableSplit,
    StandardDispatcher,
    StatelessPolicy,
    Status,
    Target,
    TierKind,
    TierView,
    TimePassed,
    WaitUntil,
    tell,
)

EDGE, CLOUD = Target("edge"), Target("cloud")
REQUEST = Request("r1", payload_bytes=40)
FLEET = FleetView((TierView("edge", "device"), TierView("cloud", "central_cloud", rtt_ms=80, age_s=5)))


def route(policy: Policy, seed: int = 0) -> Route:
    return policy.route(REQUEST, FLEET, 0.0, np.random.default_rng(seed))


def test_always_means_always():
    assert route(AlwaysEdge()) == Route(EDGE)
    assert route(AlwaysCloud(model="smollm2")) == Route(Target("cloud", "smollm2"))


def test_a_tier_that_is_not_there_is_named():
    with pytest.raises(KeyError, match=r"no tier is called 'moon'.*edge, cloud"):
        route(AlwaysCloud(tier="moon"))


def test_routes_are_drawn_with_the_declared_probabilities():
    class Canary(StatelessPolicy):
        def choices(self, request, fleet):
            return [(Route(EDGE), 0.9), (Route(CLOUD), 0.1)]

    rng = np.random.default_rng(1)
    drawn = [Canary().route(REQUEST, FLEET, 0.0, rng).target for _ in range(5000)]
    assert np.mean([target == CLOUD for target in drawn]) == pytest.approx(0.1, abs=0.015)


def test_probabilities_that_are_none_are_refused():
    class Wrong(StatelessPolicy):
        def choices(self, request, fleet):
            return [(Route(EDGE), 0.9), (Route(CLOUD), 0.2)]

    with pytest.raises(ValueError, match=r"sum to 1, got \(0.9, 0.2\)"):
        route(Wrong())


class Drawn:
    """A generator that draws what it is told."""

    def __init__(self, u: float) -> None:
        self.u = u

    def random(self) -> float:
        return self.u


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any), st.data())
def test_a_route_is_chosen_as_searchsorted_would(weights, data):
    """So that a simulator may draw all routes of a class at once."""
    shares = np.array(weights) / sum(weights)

    class Shares(StatelessPolicy):
        def choices(self, request, fleet):
            return [(Route(Target(str(i))), float(share)) for i, share in enumerate(shares)]

    reached = np.cumsum(shares)
    on_the_edge = st.sampled_from([u for u in reached if u < 1] or [0.0])
    u = data.draw(st.floats(0, 1, exclude_max=True) | on_the_edge)
    expected = min(int(np.searchsorted(reached, u, side="right")), len(shares) - 1)
    assert Shares().route(REQUEST, FLEET, 0.0, Drawn(u)).target == Target(str(expected))


def test_every_policy_uses_one_random_number_per_request():
    after = []
    for policy in (AlwaysEdge(), AlwaysCloud()):
        rng = np.random.default_rng(2)
        policy.route(REQUEST, FLEET, 0.0, rng)
        after.append(rng.random())
    expected = np.random.default_rng(2)
    expected.random()
    assert after == [expected.random()] * 2


def test_observe_is_optional():
    class Counting(AlwaysEdge):
        seen = 0

        def observe(self, outcome):
            Counting.seen += 1

    outcome = Outcome(REQUEST, Route(EDGE), "answered", EDGE, latency_ms=3)
    assert not isinstance(AlwaysEdge(), LearningPolicy)
    tell(AlwaysEdge(), outcome)
    tell(Counting(), outcome)
    assert Counting.seen == 1


def test_a_request_holds_nothing_that_a_router_cannot_know():
    names = {f.name for f in dataclasses.fields(Request)}
    assert not [n for n in names if "output" in n or "tokens_out" in n or "difficulty" in n or "label" in n]
    with pytest.raises(dataclasses.FrozenInstanceError):
        REQUEST.payload_bytes = 1


def test_policy_and_records_use_the_same_words_for_the_end():
    assert typing.get_args(Status) == records.OUTCOMES


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Request("r", payload_bytes=-1), "payload_bytes must be >= 0, got -1"),
        (lambda: Request("r", 1, prompt_tokens=-1), "prompt_tokens must be >= 0"),
        (lambda: Request("r", 1, privacy="secret"), "public, personal, private, got 'secret'"),
        (lambda: Request("r", 1, edge_confidence=70), "edge_confidence is a probability"),
        (lambda: Request("r", 1, deadline_ms=0), "deadline_ms must be > 0"),
        (lambda: TierView("edge", "device", rtt_ms=-3), "rtt_ms must be >= 0, got -3: a round trip"),
        (lambda: TierView("edge", "device", rtt_ms=float("nan")), "rtt_ms must be >= 0"),
        (lambda: TierView("edge", "device", queue=-1), "queue must be >= 0, got -1: a queue cannot"),
        (lambda: TierView("edge", "device", age_s=-1), "age_s must be >= 0, got -1: a router cannot"),
        (lambda: Request("r", float("nan")), "payload_bytes must be >= 0, got nan"),
        (lambda: Route(EDGE, (CLOUD,), hedge_after_ms=-1), "hedge_after_ms must be >= 0, got -1"),
        (lambda: Route(EDGE, hedge_after_ms=5), "add a fallback"),
        (lambda: Route(EDGE, escalate_below=0.5), "add a fallback"),
        (lambda: Route(EDGE, (CLOUD,), escalate_below=50), "a confidence, 0 to 1"),
        (lambda: Outcome(REQUEST, Route(EDGE), "failed", EDGE, 1.0), "does not fit"),
        (lambda: Outcome(REQUEST, Route(EDGE), "answered", None, 1.0), "does not fit"),
        (lambda: SimpleShuffle({}), "weights must be >= 0, and one of them > 0"),
        (lambda: StableSplit({"edge": 2, "cloud": -1}), "weights must be >= 0"),
        (lambda: ConfidenceCascade(70), "a confidence, 0 to 1"),
        (lambda: DispatchSettings(attempt_timeout_ms=0), "attempt_timeout_ms must be > 0"),
        (lambda: DispatchSettings(retries=-1), "retries must be >= 0"),
        (lambda: DispatchSettings(backoff_ms=-1), "backoff_ms must be >= 0"),
        (lambda: DispatchSettings(backoff_max_ms=50), "backoff_max_ms must be >= backoff_ms"),
        (lambda: DispatchSettings(retry_budget=-0.1), "retry_budget must be >= 0"),
        (lambda: DispatchSettings(breaker_failures=0), "breaker_failures must be >= 1"),
        (lambda: DispatchSettings(breaker_rate=50), "breaker_rate must be a share"),
        (lambda: DispatchSettings(breaker_window=0), "breaker_window must be >= 1"),
        (lambda: DispatchSettings(breaker_cooldown_s=-1), "breaker_cooldown_s must be >= 0"),
    ],
)
def test_values_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ── The policies that gateways ship ──────────────────────────────────────────────────────────────

KINDS = typing.get_args(TierKind)


def view(**tiers) -> FleetView:
    """``view(edge=dict(kind="device", queue=2), ...)``"""
    return FleetView(tuple(TierView(name, **fields) for name, fields in tiers.items()))


HOME = {"kind": "device", "models": ("small",)}
STREET = {"kind": "access_edge", "models": ("small",), "rtt_ms": 5}
FAR = {"kind": "central_cloud", "models": ("small", "big"), "rtt_ms": 80}
DOWN = {"healthy": False}


def tier(policy: Policy, fleet: FleetView, **fields) -> str:
    request = Request("r1", payload_bytes=40, **fields)
    return policy.route(request, fleet, 0.0, np.random.default_rng(0)).target.tier


@pytest.mark.parametrize(
    ("policy", "fleet", "expected"),
    [
        (Nearest(), view(far=FAR, street=STREET), "street"),
        (Nearest(), view(far=FAR, street=STREET | DOWN), "far"),
        (Nearest(), view(far=FAR | DOWN, street=STREET | DOWN), "street"),  # nobody is: ask all the same
        (LeastBusy(), view(home=HOME | {"queue": 3}, far=FAR | {"queue": 2}), "far"),
        (LeastBusy(), view(far=FAR, home=HOME), "home"),  # a tie goes to the nearest
        (LeastBusy(), view(far=FAR | {"queue": 9}, home=HOME | DOWN), "far"),
        (PowerOfTwoChoices(), view(far=FAR | {"queue": 1}, home=HOME | {"queue": 2}), "far"),
        (PowerOfTwoChoices(), view(far=FAR, home=HOME | DOWN), "far"),
        (FallbackChain(("street", "far")), view(home=HOME, street=STREET, far=FAR), "street"),
        (FallbackChain(("street", "far")), view(home=HOME, street=STREET | DOWN, far=FAR), "far"),
        (FallbackChain(("street",)), view(home=HOME, street=STREET | DOWN), "street"),
    ],
)
def test_where_a_request_goes(policy, fleet, expected):
    assert tier(policy, fleet) == expected


def test_only_tiers_that_serve_the_model_are_asked():
    fleet = view(home=HOME, far=FAR | DOWN)
    for policy in (Nearest(), LeastBusy(), PowerOfTwoChoices()):
        assert tier(policy, fleet) == "home"
        assert tier(policy, fleet, model="big") == "far"
        with pytest.raises(
            ValueError, match=r"no tier serves model 'huge'.*home \(small\), far \(small big\)"
        ):
            tier(policy, fleet, model="huge")


def test_a_chain_keeps_the_other_healthy_tiers_as_fallbacks():
    policy = FallbackChain(("home", "street", "far"), model="small")
    route = policy.route(
        REQUEST, view(home=HOME, street=STREET | DOWN, far=FAR), 0.0, np.random.default_rng(0)
    )
    assert route == Route(Target("home", "small"), (Target("far", "small"),))
    with pytest.raises(KeyError, match="no tier is called 'street'"):
        tier(policy, view(home=HOME))


def test_a_shuffle_draws_by_weight():
    assert SimpleShuffle({"edge": 9, "cloud": 1}).choices(REQUEST, FLEET) == [
        (Route(EDGE), 0.9),
        (Route(CLOUD), 0.1),
    ]
    with pytest.raises(KeyError, match="no tier is called 'moon'"):
        route(SimpleShuffle({"edge": 9, "moon": 1}))


def test_two_choices_find_the_shorter_queue_more_often_than_chance():
    fleet = view(**{f"t{i}": FAR | {"queue": i} for i in range(4)})
    rng, n = np.random.default_rng(3), 6000
    drawn = Counter(PowerOfTwoChoices().route(REQUEST, fleet, 0.0, rng).target.tier for _ in range(n))
    # of the 6 pairs, t0 is the shorter of 3, t1 of 2, t2 of 1, t3 of none
    assert [drawn[f"t{i}"] / n for i in range(4)] == pytest.approx([3 / 6, 2 / 6, 1 / 6, 0], abs=0.03)


def split(weights, **fields) -> dict[str, str]:
    policy, rng = StableSplit(weights, **fields), np.random.default_rng(0)
    requests = [Request(f"r{i}", payload_bytes=40, origin=f"home-{i % 50}") for i in range(3000)]
    return {r.id: policy.route(r, FLEET, 0.0, rng).target.tier for r in requests}


def test_a_stable_split_keeps_its_word():
    five, ten = split({"cloud": 5, "edge": 95}), split({"cloud": 10, "edge": 90})
    assert five == split({"cloud": 5, "edge": 95})
    assert Counter(five.values())["cloud"] / 3000 == pytest.approx(0.05, abs=0.015)
    assert Counter(ten.values())["cloud"] / 3000 == pytest.approx(0.10, abs=0.02)
    assert all(ten[name] == "cloud" for name, tier in five.items() if tier == "cloud")
    assert five != split({"cloud": 5, "edge": 95}, salt="another")
    homes = split({"cloud": 50, "edge": 50}, by="origin")
    assert all(homes[f"r{i}"] == homes[f"r{i + 50}"] for i in range(2950))
    assert len(set(homes.values())) == 2


def test_a_cascade_asks_the_edge_unless_it_knows_better():
    policy = ConfidenceCascade(0.7)
    ask = Route(EDGE, (CLOUD,), escalate_below=0.7)
    for confidence, expected in ((None, ask), (0.7, Route(EDGE, (CLOUD,))), (0.69, Route(CLOUD, (EDGE,)))):
        request = dataclasses.replace(REQUEST, edge_confidence=confidence)
        assert policy.route(request, FLEET, 0.0, np.random.default_rng(0)) == expected


def test_a_hedge_turns_to_the_fallback_or_to_the_nearest_other_tier():
    def hedged(policy, fleet=FLEET, **fields):
        request = dataclasses.replace(REQUEST, **fields)
        return Hedged(policy, 50).route(request, fleet, 0.0, np.random.default_rng(0))

    assert hedged(AlwaysEdge()) == Route(EDGE, (CLOUD,), hedge_after_ms=50)
    assert hedged(FallbackChain(("cloud", "edge"))) == Route(CLOUD, (EDGE,), hedge_after_ms=50)
    three = view(edge=HOME, cloud=FAR, street=STREET)
    assert hedged(AlwaysEdge(), three).fallbacks == (Target("street"),)
    assert hedged(AlwaysCloud(), three).fallbacks == (EDGE,)
    assert hedged(AlwaysEdge(), privacy="private") == Route(EDGE)  # nobody else may hear it
    assert hedged(AlwaysEdge(), view(edge=HOME)) == Route(EDGE)


FLEETS = st.lists(
    st.builds(
        dict,
        kind=st.sampled_from(KINDS),
        rtt_ms=st.integers(0, 3),
        queue=st.integers(0, 3),
        healthy=st.booleans(),
    ),
    min_size=1,
    max_size=5,
).map(lambda tiers: view(edge=HOME, cloud=FAR, **{f"t{i}": fields for i, fields in enumerate(tiers)}))
INNER = (
    Nearest(),
    LeastBusy(),
    PowerOfTwoChoices(),
    AlwaysCloud(),
    ConfidenceCascade(),
    Hedged(AlwaysEdge()),
)


@given(FLEETS, st.sampled_from(INNER), st.sampled_from(list(ALLOWED_KINDS)), st.integers(0, 9))
def test_privacy_comes_first(fleet, inner, privacy, seed):
    """Whatever the policy inside, the health and the queues: no request goes where it must not go."""
    request = dataclasses.replace(REQUEST, privacy=privacy)
    for policy in (
        PrivacyFirst(inner, LeastBusy()),
        PrivacyFirst(Hedged(inner)),
        Hedged(PrivacyFirst(inner)),
    ):
        route = policy.route(request, fleet, 0.0, np.random.default_rng(seed))
        assert {fleet[t.tier].kind for t in (route.target, *route.fallbacks)} <= ALLOWED_KINDS[privacy]
    rngs = np.random.default_rng(seed), np.random.default_rng(seed)
    if privacy == "public":
        assert PrivacyFirst(inner).route(request, fleet, 0.0, rngs[0]) == inner.route(
            request, fleet, 0.0, rngs[1]
        )


def test_the_classes_of_privacy_are_those_of_the_words():
    assert tier(PrivacyFirst(AlwaysCloud()), FLEET, privacy="public") == "cloud"
    three = view(home=HOME | {"queue": 2}, street=STREET, cloud=FAR)
    assert tier(PrivacyFirst(AlwaysCloud(), LeastBusy()), three, privacy="personal") == "street"
    assert tier(PrivacyFirst(AlwaysCloud(), LeastBusy()), three, privacy="private") == "home"
    with pytest.raises(ValueError, match=r"a private request may go to device.*cloud \(central_cloud\)"):
        tier(PrivacyFirst(AlwaysCloud()), view(cloud=FAR), privacy="private")
    with pytest.raises(ValueError, match="a private request may go to device"):  # confined leaves its bounds
        tier(PrivacyFirst(AlwaysCloud(), ConfidenceCascade()), view(edge=HOME, cloud=FAR), privacy="private")


def test_policies_around_others_hand_on_the_outcome():
    seen = []

    class Learner(AlwaysEdge):
        def observe(self, outcome):
            seen.append(outcome)

    outcome = Outcome(REQUEST, Route(EDGE), "answered", EDGE, latency_ms=3)
    tell(Hedged(PrivacyFirst(Learner())), outcome)
    tell(Hedged(PrivacyFirst(AlwaysEdge())), outcome)
    assert seen == [outcome]


# ── The contract of dispatcher and driver ────────────────────────────────────────────────────────

SILENT = None
Fate = tuple[float, str | float | Failed | None] | None
"""What becomes of an attempt: (seconds, how). How: a reason to fail, a confidence, a `Failed`, or None
for an answer of unknown confidence. SILENT: nothing ever comes."""


def drive(dispatcher, jobs, fate, late_s=lambda: 0.0):
    """The smallest driver: events in order of time. It checks every promise that a dispatcher makes.

    Args:
        jobs: (time, request, route), each.
        fate: ``fate(send, now_s)`` says what becomes of an attempt.
        late_s: how late the next `TimePassed` is.

    Returns:
        What the dispatcher asked for, as (time, action).
    """
    queue: list[tuple[float, int, object]] = []
    order = itertools.count()
    log: list[tuple[float, Action]] = []
    routes: dict[str, Route] = {}
    attempts: Counter[str] = Counter()
    pending: Counter[str] = Counter()  # per request: attempts and waits that are not yet reported
    back: set[tuple[str, int]] = set()  # attempts that brought an answer
    over: set[str] = set()

    def push(time_s, event):
        heapq.heappush(queue, (time_s, next(order), event))

    def carry_out(name, actions, now_s):
        for action in actions:
            log.append((now_s, action))
            assert action.request_id == name, "an action belongs to the request of its event"
            assert name not in over, "one Answer or one GiveUp, once, and nothing after it"
            if isinstance(action, WaitUntil):
                assert action.time_s >= now_s, "a wait is for the future"
                pending[name] += 1
                late = action.time_s + late_s()
                push(late, TimePassed(name, late))
            elif isinstance(action, SendTo):
                attempts[name] += 1
                assert action.attempt == attempts[name], "attempts are numbered 1, 2, 3, ..."
                assert action.target in (routes[name].target, *routes[name].fallbacks), "only the route's"
                who, pending[name] = (name, action.attempt), pending[name] + 1
                push(now_s, Sent(*who, now_s))
                if what := fate(action, now_s):
                    then_s, how = now_s + what[0], what[1]
                    if isinstance(how, Failed):
                        push(then_s, dataclasses.replace(how, request_id=name, attempt=who[1], now_s=then_s))
                    elif isinstance(how, str):
                        push(then_s, Failed(*who, then_s, how))
                    else:
                        push(then_s, Answered(*who, then_s, how))
            else:
                assert isinstance(action, GiveUp) or (name, action.attempt) in back, "an answer that came"
                over.add(name)
        assert name in over or pending[name] > 0, "a request is never forgotten"

    for time_s, request, route in jobs:
        push(time_s, (request, route))
    while queue:
        now_s, _, event = heapq.heappop(queue)
        if isinstance(event, tuple):
            routes[event[0].id] = event[1]
            carry_out(event[0].id, dispatcher.start(*event, now_s), now_s)
            continue
        name, finished = event.request_id, event.request_id in over
        pending[name] -= not isinstance(event, Sent)
        if isinstance(event, Answered):
            back.add((name, event.attempt))
        actions = dispatcher.on(event)
        assert not (finished and actions), "late events return ()"
        carry_out(name, actions, now_s)
    return log


def carry(settings, route, *fates, request=REQUEST, rng=0):
    """One request; its attempts end as ``fates`` say, in order. What was asked and how it ended."""
    fates = iter(fates)
    dispatcher = StandardDispatcher(settings, rng)
    log = drive(dispatcher, [(0.0, request, route)], lambda send, now_s: next(fates))
    sent = [(round(time_s, 6), a.target) for time_s, a in log if isinstance(a, SendTo)]
    *_, (end_s, end) = [(time_s, a) for time_s, a in log if isinstance(a, Answer | GiveUp)]
    assert dispatcher.open_requests == 0
    return sent, end, pytest.approx(end_s)


BOTH = Route(CLOUD, fallbacks=(EDGE,))
PLAIN = DispatchSettings()
BUSY = Failed("", 0, 0.0, "HTTP 429", retry_after_s=2.0)
WRONG = Failed("", 0, 0.0, "HTTP 400", retryable=False)
IN_TIME = dataclasses.replace(REQUEST, deadline_ms=500)


@pytest.mark.parametrize(
    ("fates", "end", "end_s"),
    [
        ([(0.2, None)], Answer("r1", 1), 0.2),
        ([(0.2, "HTTP 503"), (0.01, None)], Answer("r1", 2), 0.21),
        ([SILENT, (0.01, None)], Answer("r1", 2), 1.01),
        ([(1.1, None), (0.5, None)], Answer("r1", 1), 1.1),  # late, but still first
        ([(1.1, "HTTP 503"), (0.5, None)], Answer("r1", 2), 1.5),  # late, and no news
        ([(0.2, "HTTP 503"), (0.1, "HTTP 500")], GiveUp("r1", "failed", "HTTP 500"), 0.3),
        ([SILENT, SILENT], GiveUp("r1", "timed_out", "no answer within 1000 ms"), 2.0),
        ([SILENT, (0.1, "HTTP 503")], GiveUp("r1", "failed", "HTTP 503"), 1.1),
    ],
)
def test_a_request_falls_back_when_an_attempt_fails_or_takes_too_long(fates, end, end_s):
    sent, ended, ended_s = carry(DispatchSettings(attempt_timeout_ms=1000), BOTH, *fates)
    assert (ended, end_s) == (end, ended_s)
    assert [target for _, target in sent] == [CLOUD, EDGE][: len(fates)]


def test_the_deadline_ends_it():
    late = GiveUp("r1", "timed_out", "no answer within 500 ms")
    assert carry(PLAIN, BOTH, SILENT, request=IN_TIME)[1:] == (late, 0.5)
    assert carry(PLAIN, BOTH, (0.5, None), request=IN_TIME)[1:] == (Answer("r1", 1), 0.5)  # just in time
    assert carry(PLAIN, BOTH, (0.6, None), request=IN_TIME)[1:] == (late, 0.5)
    dispatcher = StandardDispatcher()
    dispatcher.start(IN_TIME, BOTH, 0.0)
    assert dispatcher.on(Answered("r1", 1, 0.6)) == (late,)  # even if TimePassed is later still
    assert dispatcher.on(TimePassed("r1", 0.6)) == ()


def test_retries_come_before_fallbacks_after_a_random_back_off():
    patient = DispatchSettings(retries=2, backoff_ms=100, backoff_max_ms=150)
    no = (0.0, "HTTP 503")
    runs = [carry(patient, BOTH, *[no] * 6, rng=seed)[0] for seed in range(200)]
    assert all([target for _, target in sent] == [CLOUD] * 3 + [EDGE] * 3 for sent in runs)
    waits = np.diff([[time_s for time_s, _ in sent] for sent in runs], axis=1)
    assert waits[:, 0].max() <= 0.1  # 100 ms x 2^0
    assert 0.14 < waits[:, 1].max() <= 0.15  # 100 ms x 2^1, but not over 150 ms
    assert waits[:, 0].mean() == pytest.approx(0.05, abs=0.01)  # "full jitter": from 0 up
    assert (waits[:, 2] == 0).all()  # another target need not wait
    assert runs[7] == carry(patient, BOTH, *[no] * 6, rng=7)[0]


def test_retry_after_is_honoured():
    often = DispatchSettings(retries=1, backoff_ms=10)
    assert carry(often, BOTH, (0.1, BUSY), (0.1, None))[0] == [(0.0, CLOUD), (2.1, CLOUD)]
    # too long for the settings or for the deadline: the next target
    hasty = dataclasses.replace(often, backoff_max_ms=1000)
    assert carry(hasty, BOTH, (0.1, BUSY), (0.1, None))[0] == [(0.0, CLOUD), (0.1, EDGE)]
    assert carry(often, BOTH, (0.1, BUSY), (0.1, None), request=IN_TIME)[0] == [(0.0, CLOUD), (0.1, EDGE)]


def test_a_wrong_request_is_not_sent_again():
    often = DispatchSettings(retries=3, breaker_failures=1)
    sent, end, _ = carry(often, BOTH, (0.1, WRONG))
    assert len(sent) == 1
    assert end == GiveUp("r1", "failed", "HTTP 400")
    dispatcher = StandardDispatcher(often)
    drive(dispatcher, [(0.0, REQUEST, BOTH)], lambda send, now_s: (0.1, WRONG))
    assert dispatcher.healthy(CLOUD, 0.2)  # it answered; the request was at fault


@pytest.mark.parametrize(
    ("fates", "sent", "end"),
    [
        ([(0.04, None)], [(0, CLOUD)], (1, 0.04)),
        ([(0.2, None), (0.1, None)], [(0, CLOUD), (0.05, EDGE)], (2, 0.15)),
        ([(0.1, None), (0.1, None)], [(0, CLOUD), (0.05, EDGE)], (1, 0.1)),
        ([(0.2, None), (0.1, "HTTP 503")], [(0, CLOUD), (0.05, EDGE)], (1, 0.2)),
        ([(0.07, "HTTP 503"), (0.1, None)], [(0, CLOUD), (0.05, EDGE)], (2, 0.15)),
        ([(0.01, "HTTP 503"), (0.1, None)], [(0, CLOUD), (0.01, EDGE)], (2, 0.11)),  # fell back already
    ],
)
def test_a_hedge_asks_a_second_target_and_the_first_answer_wins(fates, sent, end):
    asked, answer, end_s = carry(PLAIN, dataclasses.replace(BOTH, hedge_after_ms=50), *fates)
    assert asked == sent
    assert (answer, end[1]) == (Answer("r1", end[0]), end_s)


def test_a_hedge_does_not_wait_for_a_retry():
    route = dataclasses.replace(BOTH, hedge_after_ms=50)
    sent, end, _ = carry(DispatchSettings(retries=1), route, (0.01, BUSY), (5, None), (0.5, None))
    assert sent == [(0.0, CLOUD), (0.05, EDGE), (2.01, CLOUD)]
    assert end == Answer("r1", 3)


CASCADE = Route(EDGE, (CLOUD,), escalate_below=0.7)


@pytest.mark.parametrize(
    ("fates", "end"),
    [
        ([(0.1, 0.7)], (1, 0.1)),
        ([(0.1, None)], (1, 0.1)),  # unknown is not unsure
        ([(0.1, 0.6), (0.3, 0.9)], (2, 0.4)),
        ([(0.1, 0.6), (0.3, 0.2)], (2, 0.4)),  # the last word is the big model's
        ([(0.1, 0.6), (0.3, "HTTP 503")], (1, 0.4)),  # unsure is better than nothing
        ([(0.1, 0.6), SILENT], (1, 0.5)),
        ([(0.1, "HTTP 503"), (0.3, 0.2)], (2, 0.4)),
        ([(0.1, 0.6), (0.3, WRONG)], (1, 0.4)),
    ],
)
def test_an_unsure_answer_is_escalated(fates, end):
    _, answer, end_s = carry(PLAIN, CASCADE, *fates, request=IN_TIME)
    assert (answer, end[1]) == (Answer("r1", end[0]), end_s)


def test_a_hedge_that_runs_already_is_the_escalation():
    route = dataclasses.replace(CASCADE, hedge_after_ms=50)
    sent, end, end_s = carry(PLAIN, route, (0.1, 0.6), (0.3, 0.9))
    assert len(sent) == 2
    assert (end, 0.35) == (Answer("r1", 2), end_s)


def many(dispatcher, n, route, fate, every_s=1.0):
    """``n`` requests, one after the other."""
    jobs = [(i * every_s, dataclasses.replace(REQUEST, id=f"r{i}"), route) for i in range(n)]
    return drive(dispatcher, jobs, fate)


def targets(log):
    return [action.target for _, action in log if isinstance(action, SendTo)]


def test_a_breaker_opens_probes_and_closes():
    dispatcher = StandardDispatcher(DispatchSettings(breaker_failures=3, breaker_cooldown_s=10))
    mended_s = 25.0

    def fate(send, now_s):
        return (0.1, "HTTP 503" if send.target == CLOUD and now_s < mended_s else None)

    log = many(dispatcher, 40, BOTH, fate)
    cloud = [round(time_s, 1) for time_s, a in log if isinstance(a, SendTo) and a.target == CLOUD]
    # three failures, so it opens at 2.1; the probes at 13 and 24 fail; the one at 35 closes it
    assert cloud == [0, 1, 2, 13, 24, 35, 36, 37, 38, 39]
    assert sum(isinstance(a, Answer) for _, a in log) == 40  # the edge stood in, at once
    assert dispatcher.breaker_state(CLOUD, 40) == "closed"
    assert dispatcher.healthy(Target("never asked"), 0.0)


def test_a_half_open_breaker_lets_one_probe_through():
    dispatcher = StandardDispatcher(DispatchSettings(breaker_failures=1, breaker_cooldown_s=1))
    dispatcher.start(REQUEST, BOTH, 0.0)
    assert dispatcher.on(Failed("r1", 1, 0.0, "HTTP 503")) == (SendTo("r1", 2, EDGE),)
    assert dispatcher.breaker_state(CLOUD, 0.5) == "open"
    assert dispatcher.breaker_state(CLOUD, 1.0) == "half_open"
    hedged = dataclasses.replace(BOTH, hedge_after_ms=100)
    assert dispatcher.start(dataclasses.replace(REQUEST, id="a"), hedged, 2.0)[0] == SendTo("a", 1, CLOUD)
    assert not dispatcher.healthy(CLOUD, 2.0)
    assert dispatcher.start(dataclasses.replace(REQUEST, id="b"), BOTH, 2.0) == (SendTo("b", 1, EDGE),)
    # the hedge answers first, so nobody will hear of the probe: the next request may probe
    assert dispatcher.on(TimePassed("a", 2.1)) == (SendTo("a", 2, EDGE),)
    assert dispatcher.on(Answered("a", 2, 2.2)) == (Answer("a", 2),)
    assert dispatcher.start(dataclasses.replace(REQUEST, id="c"), BOTH, 3.0) == (SendTo("c", 1, CLOUD),)


def test_a_breaker_opens_at_a_rate_of_failures():
    rules = DispatchSettings(breaker_rate=0.5, breaker_window=10, breaker_cooldown_s=1e9)
    for bad, asked in ((3, 100), (2, 10)):  # every third attempt fails, or every second
        dispatcher = StandardDispatcher(rules)
        count = itertools.count(1)

        def fate(send, now_s, count=count, bad=bad):
            return (0.1, None if send.target == EDGE or next(count) % bad else "HTTP 503")

        assert targets(many(dispatcher, 100, BOTH, fate)).count(CLOUD) == asked


def test_silence_until_the_deadline_opens_the_breaker_of_who_was_silent():
    dispatcher = StandardDispatcher(DispatchSettings(breaker_failures=1))
    hedged = dataclasses.replace(BOTH, hedge_after_ms=100)
    drive(dispatcher, [(0.0, IN_TIME, hedged)], lambda send, now_s: SILENT)
    assert not dispatcher.healthy(CLOUD, 1.0)
    assert dispatcher.healthy(EDGE, 1.0)  # it had less time; not its fault


def test_with_every_breaker_open_a_request_fails_at_once():
    dispatcher = StandardDispatcher(DispatchSettings(breaker_failures=1, retries=5))
    log = many(dispatcher, 2, BOTH, lambda send, now_s: (0.1, "HTTP 503"))
    assert targets(log) == [CLOUD, EDGE]  # and no retries against an open breaker
    assert log[-1] == (1.0, GiveUp("r1", "failed", "every circuit breaker is open"))


def test_a_retry_budget_stops_a_storm():
    def retries(budget, n=100, failing=lambda i: True):
        dispatcher = StandardDispatcher(DispatchSettings(retries=3, backoff_ms=0, retry_budget=budget))
        log = many(
            dispatcher, n, Route(CLOUD), lambda send, now_s: (0.1, "HTTP 503" if failing(now_s) else None)
        )
        return len(targets(log)) - n

    assert retries(None) == 300
    assert retries(0.2) == 20
    assert retries(0) == 0
    assert retries(0.1, n=1000, failing=lambda s: s > 990) <= 12  # only so many are saved up


def test_many_requests_share_a_dispatcher_and_strangers_are_ignored():
    dispatcher = StandardDispatcher()
    for name in ("a", "b"):
        request = dataclasses.replace(REQUEST, id=name)
        assert dispatcher.start(request, BOTH, 0.0) == (SendTo(name, 1, CLOUD),)
    with pytest.raises(ValueError, match="a request called 'a' is under way"):
        dispatcher.start(dataclasses.replace(REQUEST, id="a"), BOTH, 0.0)
    assert dispatcher.open_requests == 2
    assert dispatcher.on(Answered("b", 1, 0.1)) == (Answer("b", 1),)
    assert dispatcher.on(Failed("a", 1, 0.1, "HTTP 503")) == (SendTo("a", 2, EDGE),)
    assert dispatcher.on(Failed("a", 1, 0.1, "told twice")) == ()
    assert dispatcher.on(TimePassed("nobody", 0.2)) == ()
    assert dispatcher.open_requests == 1


HEDGED = Route(EDGE, (CLOUD, Target("moon")), hedge_after_ms=50, escalate_below=0.7)


@pytest.mark.parametrize(
    ("retries", "fates", "asked", "end"),
    [
        # the hedge fails while the first attempt is under way: nothing new is sent
        (1, [(0.5, 0.9), (0.1, "HTTP 503")], [EDGE, CLOUD], (1, 0.5)),
        # an unsure edge does not matter while the cloud is at work; an unsure cloud asks the moon
        (0, [(0.3, 0.6), (0.1, 0.2), (0.3, 0.9)], [EDGE, CLOUD, Target("moon")], (3, 0.45)),
        # the edge's unsure answer comes later, but the cloud's is further along
        (0, [(0.2, 0.6), (0.1, 0.2), (0.3, "HTTP 503")], [EDGE, CLOUD, Target("moon")], (2, 0.45)),
        # the last word was spoken: do not wait for the edge
        (0, [(9.0, 0.9), (0.1, 0.2), (0.1, 0.3)], [EDGE, CLOUD, Target("moon")], (3, 0.25)),
        # a retry that waits is not needed once a target further along has answered
        (1, [(0.01, BUSY), (0.1, 0.2), (0.1, 0.3)], [EDGE, CLOUD, Target("moon")], (3, 0.25)),
        # a wrong request: the retry that waits is not sent either
        (1, [(0.01, BUSY), (0.1, WRONG)], [EDGE, CLOUD], (0, 0.15)),
    ],
)
def test_hedge_escalation_and_retries_together(retries, fates, asked, end):
    sent, ended, end_s = carry(DispatchSettings(retries=retries), HEDGED, *fates)
    assert [target for _, target in sent] == asked
    assert ended == (Answer("r1", end[0]) if end[0] else GiveUp("r1", "failed", "HTTP 400"))
    assert end[1] == end_s


def test_an_attempt_counts_once_for_its_breaker():
    rules = DispatchSettings(attempt_timeout_ms=100, breaker_failures=2)
    for late, expected in (((0.15, "HTTP 503"), True), ((0.15, None), False)):
        dispatcher = StandardDispatcher(rules)
        dispatcher.start(REQUEST, BOTH, 0.0)
        assert dispatcher.on(TimePassed("r1", 0.1))[0] == SendTo("r1", 2, EDGE)
        if isinstance(late[1], str):  # already counted when its time was up
            assert dispatcher.on(Failed("r1", 1, *late)) == ()
        else:  # taken, but too late to speak for the target: one more failure opens the breaker
            assert dispatcher.on(Answered("r1", 1, *late)) == (Answer("r1", 1),)
            dispatcher.start(REQUEST, Route(CLOUD), 1.0)
            dispatcher.on(Failed("r1", 1, 1.1, "HTTP 503"))
        assert dispatcher.healthy(CLOUD, 1.2) is expected


def test_a_retry_does_not_wait_for_an_open_breaker():
    once = DispatchSettings(retries=1, breaker_failures=1)
    assert carry(once, BOTH, (0.1, BUSY), (0.1, None))[0] == [(0.0, CLOUD), (0.1, EDGE)]
    # and a breaker that opens during the back-off sends the retry to the next target
    dispatcher = StandardDispatcher(dataclasses.replace(once, breaker_failures=2))
    a, b = (dataclasses.replace(REQUEST, id=name) for name in "ab")
    dispatcher.start(a, BOTH, 0.0)
    dispatcher.start(b, BOTH, 0.0)
    assert dispatcher.on(Failed("a", 1, 0.1, "HTTP 429", 2.0)) == (WaitUntil("a", 2.1),)
    assert dispatcher.on(Failed("b", 1, 0.2, "HTTP 503")) == (SendTo("b", 2, EDGE),)
    assert dispatcher.on(TimePassed("a", 2.1)) == (SendTo("a", 2, EDGE),)


def breaker(*ends, **rules):
    """A circuit breaker after these attempts, one a second, each sent and ended at once."""
    breaker = CircuitBreaker(DispatchSettings(breaker_cooldown_s=0.5, **rules))
    for now_s, ok in enumerate(ends):
        breaker.end(ok, now_s, breaker.begin())
    return breaker


@pytest.mark.parametrize(
    ("ends", "rules", "state"),
    [
        ([False, True, False], {"breaker_failures": 2}, "closed"),  # in a row
        ([True, False, False], {"breaker_failures": 2}, "open"),
        ([False, False, True, False], {"breaker_failures": 2}, "closed"),  # it begins anew once it works
        ([False, False, False], {"breaker_failures": 2}, "open"),  # the probe failed
        ([False, False, True, False], {"breaker_rate": 0.5, "breaker_window": 2}, "open"),
        ([False, True, True, False], {"breaker_rate": 0.6, "breaker_window": 3}, "closed"),
        ([True, False, False, True, False], {"breaker_rate": 0.6, "breaker_window": 3}, "closed"),
        ([True, False, False, False], {"breaker_rate": 1.0, "breaker_window": 2}, "open"),
    ],
)
def test_what_a_breaker_remembers(ends, rules, state):
    assert breaker(*ends, **rules).state(len(ends) - 1) == state


def test_only_the_probe_speaks_for_an_open_breaker():
    opened = breaker(False, breaker_failures=1)
    opened.end(True, 0.1, probe=False)  # sent before it opened
    opened.end(False, 0.4, probe=False)
    assert [opened.state(now_s) for now_s in (0.4, 0.5)] == ["open", "half_open"]
    assert opened.begin()
    opened.end(None, 0.6, probe=True)  # nobody saw how it ended
    assert opened.state(0.6) == "half_open"
    assert opened.allows(0.6)


def test_a_hedge_with_nobody_to_ask_leaves_the_first_attempt_alone():
    dispatcher = StandardDispatcher(DispatchSettings(breaker_failures=1))
    many(dispatcher, 1, Route(EDGE), lambda send, now_s: (0.0, "HTTP 503"))
    dispatcher.start(REQUEST, dataclasses.replace(BOTH, hedge_after_ms=50), 1.0)
    assert dispatcher.on(TimePassed("r1", 1.05)) == ()
    assert dispatcher.on(Answered("r1", 1, 1.2)) == (Answer("r1", 1),)


# ── Every promise, for any route, settings and world ─────────────────────────────────────────────

TARGETS = [Target(name) for name in "abc"]
TIMES_S = st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.3, 1.0, 100.0])


@st.composite
def routes(draw):
    first, *rest = draw(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=4))
    hedge = draw(st.none() | st.sampled_from([0.0, 50.0, 100.0, 1000.0])) if rest else None
    return Route(first, tuple(rest), hedge, draw(st.none() | st.just(0.5)) if rest else None)


FATES = st.tuples(
    TIMES_S,
    st.sampled_from([None, 0.3, 0.4, 0.9, "HTTP 503", "reset", BUSY, WRONG]),
)
RULES = st.builds(
    DispatchSettings,
    attempt_timeout_ms=st.none() | st.sampled_from([50.0, 100.0, 1000.0]),
    retries=st.integers(0, 3),
    backoff_ms=st.sampled_from([0.0, 20.0, 100.0]),
    backoff_max_ms=st.sampled_from([100.0, 5000.0]),
    retry_budget=st.none() | st.sampled_from([0.0, 0.3, 1.0]),
    breaker_failures=st.none() | st.integers(1, 3),
    breaker_rate=st.none() | st.sampled_from([0.3, 1.0]),
    breaker_window=st.integers(1, 4),
    breaker_cooldown_s=st.sampled_from([0.001, 0.1, 1.0]),
)
JOBS = st.lists(
    st.tuples(TIMES_S, routes(), st.none() | st.sampled_from([50.0, 100.0, 300.0, 2000.0])),
    min_size=1,
    max_size=6,
)
WORLDS = st.lists(FATES, min_size=1, max_size=12)
LATENESS = st.lists(st.sampled_from([0.0, 0.0, 0.02, 0.4]), min_size=1, max_size=5)


class Watched:
    """Hands everything on, and notes which targets were healthy just before."""

    def __init__(self, dispatcher: StandardDispatcher) -> None:
        self.dispatcher = dispatcher

    def _check(self, now_s, act, closing=False):
        before = {target: self.dispatcher.healthy(target, now_s) for target in TARGETS}
        actions = act()
        for action in actions:
            if isinstance(action, SendTo):
                open_ = not (before[action.target] or closing)
                assert not open_, "an open breaker lets nothing through"
                half_open = self.dispatcher.breaker_state(action.target, now_s) == "half_open"
                assert not (half_open and self.dispatcher.healthy(action.target, now_s)), "one probe"
        return actions

    def start(self, request, route, now_s):
        return self._check(now_s, lambda: self.dispatcher.start(request, route, now_s))

    def on(self, event):
        return self._check(event.now_s, lambda: self.dispatcher.on(event), isinstance(event, Answered))


def run_and_check(make, rules, jobs, world, lateness):
    """Drive one made-up world and check what it must keep, beyond what `drive` checks at each step."""
    dispatcher = make(rules)
    fates, late = itertools.cycle(world), itertools.cycle(lateness)
    named = [
        (time_s, Request(f"r{i}", payload_bytes=1, deadline_ms=deadline_ms), route)
        for i, (time_s, route, deadline_ms) in enumerate(jobs)
    ]
    log = drive(Watched(dispatcher), named, lambda send, now_s: next(fates), lambda: next(late))
    assert dispatcher.open_requests == 0, "what is over is forgotten"
    retries = 0
    for time_s, request, route in named:
        mine = [(at_s, action) for at_s, action in log if action.request_id == request.id]
        ends = [(at_s, action) for at_s, action in mine if isinstance(action, Answer | GiveUp)]
        assert len(ends) == 1, "every request ends, once"
        end_s, end = ends[0]
        if request.deadline_ms is not None:
            assert end_s <= time_s + request.deadline_ms / 1000 + max(lateness), "not after the deadline"
            sends_s = [at_s for at_s, action in mine if isinstance(action, SendTo)]
            assert all(at_s <= time_s + request.deadline_ms / 1000 for at_s in sends_s), "nor asked"
        if isinstance(end, GiveUp):
            assert end.status in ("failed", "timed_out")
            assert end.reason
        way = (route.target, *route.fallbacks)
        asked = Counter(action.target for _, action in mine if isinstance(action, SendTo))
        assert all(n <= way.count(target) * (1 + rules.retries) for target, n in asked.items())
        retries += sum(max(0, n - way.count(target)) for target, n in asked.items())
        if route.escalate_below is None and route.hedge_after_ms is None and not rules.attempt_timeout_ms:
            order = [action.target for _, action in mine if isinstance(action, SendTo)]
            places = iter(target for target in way for _ in range(1 + rules.retries))
            assert all(target in places for target in order), "in the order of the route"
    if rules.retry_budget is not None:
        assert retries <= rules.retry_budget * len(jobs) + 1e-9, "the budget is kept"
    return log


@settings(max_examples=400, deadline=None)
@given(RULES, JOBS, WORLDS, LATENESS)
def test_every_promise_is_kept(rules, jobs, world, lateness):
    first = run_and_check(StandardDispatcher, rules, jobs, world, lateness)
    assert run_and_check(StandardDispatcher, rules, jobs, world, lateness) == first  # runs repeat


class Planted(StandardDispatcher):
    """A dispatcher with an error in it: the checks above must find each."""

    def change(self, actions):
        return actions

    def start(self, request, route, now_s):
        return self.change(super().start(request, route, now_s))

    def on(self, event):
        return self.change(super().on(event))


class ForgetsWaits(Planted):
    def change(self, actions):
        return [action for action in actions if not isinstance(action, WaitUntil)]


class AnswersTwice(Planted):
    def change(self, actions):
        return [action for action in actions for _ in range(1 + isinstance(action, Answer))]


class CountsFromZero(Planted):
    def change(self, actions):
        return [
            dataclasses.replace(a, attempt=a.attempt - 1) if isinstance(a, SendTo) else a for a in actions
        ]


class NeverForgets(Planted):
    def _end(self, job, answer=None):
        actions = super()._end(job, answer)
        self._jobs[job.request.id] = job
        return actions


class IgnoresBreakers(Planted):
    def _ask_next(self, job, now_s):
        healthy, self.healthy = self.healthy, lambda target, now_s: True
        try:
            return super()._ask_next(job, now_s)
        finally:
            self.healthy = healthy


class IgnoresBudget(Planted):
    def _spend(self):
        return True


class IgnoresDeadlines(Planted):
    def _too_late(self, job, now_s):
        return ()


class AnswersWhenItFailed(Planted):
    def change(self, actions):
        return [Answer(a.request_id, 1) if isinstance(a, GiveUp) else a for a in actions]


@pytest.mark.parametrize("make", Planted.__subclasses__())
def test_planted_errors_are_found(make):
    @settings(max_examples=400, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(RULES, JOBS, WORLDS, LATENESS)
    def check(rules, jobs, world, lateness):
        run_and_check(make, rules, jobs, world, lateness)

    with pytest.raises(AssertionError):
        check()
