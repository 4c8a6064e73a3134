"""Routing: the words hold, the two simplest policies do what they say, the contract can be implemented."""

import dataclasses
import heapq
import typing

import numpy as np
import pytest

from kit import records
from kit.policy import (
    Action,
    AlwaysCloud,
    AlwaysEdge,
    Answer,
    Answered,
    Dispatcher,
    Event,
    Failed,
    FleetView,
    GiveUp,
    LearningPolicy,
    Outcome,
    Policy,
    Request,
    Route,
    SendTo,
    Sent,
    StatelessPolicy,
    Status,
    Target,
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

    with pytest.raises(ValueError, match="sum to 1"):
        route(Wrong())


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
        (lambda: Route(EDGE, hedge_after_ms=5), "add a fallback"),
        (lambda: Route(EDGE, escalate_below=0.5), "add a fallback"),
        (lambda: Route(EDGE, (CLOUD,), escalate_below=50), "a confidence, 0 to 1"),
        (lambda: Outcome(REQUEST, Route(EDGE), "failed", EDGE, 1.0), "does not fit"),
        (lambda: Outcome(REQUEST, Route(EDGE), "answered", None, 1.0), "does not fit"),
    ],
)
def test_values_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ── The contract of dispatcher and driver, carried out once ──────────────────────────────────────


class SendThenFallBack:
    """The smallest dispatcher: one attempt at a time, 1 s each, then the next fallback."""

    TIMEOUT_S = 1.0

    def __init__(self) -> None:
        self.targets: dict[str, tuple[Target, ...]] = {}
        self.attempt: dict[str, int] = {}
        self.sent_s: dict[str, float] = {}

    def start(self, request: Request, route: Route, now_s: float) -> list[Action]:
        self.targets[request.id] = (route.target, *route.fallbacks)
        self.attempt[request.id] = 0
        return self._next(request.id, "timed_out", "")

    def _next(self, request_id: str, status: Status, reason: str) -> list[Action]:
        n = self.attempt[request_id]
        if n == len(self.targets[request_id]):
            del self.attempt[request_id]
            return [GiveUp(request_id, status, reason)]
        self.attempt[request_id] = n + 1
        return [SendTo(request_id, n + 1, self.targets[request_id][n])]

    def on(self, event: Event) -> list[Action]:
        current = self.attempt.get(event.request_id)
        if current is None:
            return []  # over
        match event:
            case Answered(request_id, attempt):
                del self.attempt[request_id]
                return [Answer(request_id, attempt)]
            case Sent(request_id, attempt, now_s) if attempt == current:
                self.sent_s[request_id] = now_s
                return [WaitUntil(request_id, now_s + self.TIMEOUT_S)]
            case Failed(request_id, attempt, _, reason) if attempt == current:
                return self._next(request_id, "failed", reason)
            case TimePassed(request_id, now_s) if now_s >= self.sent_s[request_id] + self.TIMEOUT_S:
                return self._next(request_id, "timed_out", "no answer within 1 s")
        return []


def drive(dispatcher: Dispatcher, route: Route, world: dict[str, tuple[float, bool] | None]):
    """The smallest driver: events in order of time. ``world``: tier -> (seconds, works), None: silent.

    Returns (action, time) of everything that the dispatcher asked for, late events included.
    """
    queue: list[tuple[float, int, Event]] = []
    log: list[tuple[Action, float]] = []

    def carry_out(actions, now_s):
        for action in actions:
            log.append((action, now_s))
            new: list[tuple[float, Event]] = []
            if isinstance(action, SendTo):
                who = (action.request_id, action.attempt)
                new.append((now_s, Sent(*who, now_s)))
                if fate := world[action.target.tier]:
                    then_s = now_s + fate[0]
                    new.append(
                        (then_s, Answered(*who, then_s) if fate[1] else Failed(*who, then_s, "HTTP 503"))
                    )
            elif isinstance(action, WaitUntil):
                new.append((action.time_s, TimePassed(action.request_id, action.time_s)))
            for time_s, event in new:
                heapq.heappush(queue, (time_s, len(log) * 10 + len(queue), event))

    carry_out(dispatcher.start(REQUEST, route, 0.0), 0.0)
    while queue:
        now_s, _, event = heapq.heappop(queue)
        carry_out(dispatcher.on(event), now_s)
    return log


BOTH = Route(CLOUD, fallbacks=(EDGE,))


@pytest.mark.parametrize(
    ("world", "end", "end_s"),
    [
        ({"cloud": (0.2, True), "edge": (0.01, True)}, Answer("r1", 1), 0.2),
        ({"cloud": (0.2, False), "edge": (0.01, True)}, Answer("r1", 2), 0.21),
        ({"cloud": None, "edge": (0.01, True)}, Answer("r1", 2), 1.01),
        ({"cloud": (1.1, True), "edge": (0.5, True)}, Answer("r1", 1), 1.1),  # late, but still first
        ({"cloud": (0.2, False), "edge": (0.1, False)}, GiveUp("r1", "failed", "HTTP 503"), 0.3),
        ({"cloud": None, "edge": None}, GiveUp("r1", "timed_out", "no answer within 1 s"), 2.0),
    ],
)
def test_the_contract_can_be_implemented_and_driven(world, end, end_s):
    log = drive(SendThenFallBack(), BOTH, world)
    ends = [(action, time_s) for action, time_s in log if isinstance(action, Answer | GiveUp)]
    assert [action for action, _ in ends] == [end]  # exactly one, whatever comes late
    assert ends[0][1] == pytest.approx(end_s)
    sent = [action for action, _ in log if isinstance(action, SendTo)]
    assert [s.attempt for s in sent] == list(range(1, len(sent) + 1))
    assert [s.target for s in sent] == [CLOUD, EDGE][: len(sent)]


def test_a_dispatcher_serves_many_requests_and_ignores_strangers():
    dispatcher = SendThenFallBack()
    for name in ("a", "b"):
        request = dataclasses.replace(REQUEST, id=name)
        assert dispatcher.start(request, BOTH, 0.0) == [SendTo(name, 1, CLOUD)]
    assert dispatcher.on(Answered("b", 1, 0.1)) == [Answer("b", 1)]
    assert dispatcher.on(Failed("a", 1, 0.1, "HTTP 503")) == [SendTo("a", 2, EDGE)]
    assert dispatcher.on(TimePassed("nobody", 0.2)) == []
