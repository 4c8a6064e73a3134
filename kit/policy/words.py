"""The words of routing: what a policy may know, what it decides, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Privacy = Literal["public", "personal", "private"]
"""``public`` may go anywhere; ``personal`` may leave the home, but not to the central cloud;
``private`` never leaves the home."""

TierKind = Literal["device", "access_edge", "regional_edge", "central_cloud"]
"""The four places where a model can run, from the nearest to the farthest."""

Status = Literal["answered", "failed", "timed_out", "rejected"]
"""How a request ends: with an answer; with errors only; later than it is useful; or refused at the door."""

AttemptStatus = Literal["answered", "failed", "timed_out", "open"]
"""How one attempt ended; ``open``: the request was over before it did."""

_PRIVACIES = get_args(Privacy)


def _at_least(name: str, value: float, least: float, why: str) -> None:
    if not value >= least:
        raise ValueError(f"{name} must be >= {least:g}, got {value}: {why}.")


@dataclass(frozen=True, slots=True)
class Request:
    """What a live router can know about a request, before anybody has answered it.

    It never holds what a router cannot know: the length of the answer, or how hard the question is.

    Attributes:
        id: name of the request, unique within a run.
        payload_bytes: size of what must be sent.
        prompt_tokens: length of the prompt in tokens (0 for a classifier).
        privacy: how far it may travel, see `Privacy`.
        language: ISO 639-1 code, such as ``"en"``.
        edge_confidence: how sure the edge model is, 0 to 1; None if it was not asked.
        deadline_ms: the answer is useless after this time; None for no deadline.
        origin: where it was spoken, such as a home or a region.
        model: the model that the caller asks for; None for any.
        intent: the edge model's guess of the intent; None if it was not asked.

    Raises:
        ValueError: a value that cannot be.
    """

    id: str
    payload_bytes: int
    prompt_tokens: int = 0
    privacy: Privacy = "public"
    language: str = "en"
    edge_confidence: float | None = None
    deadline_ms: float | None = None
    origin: str = "home"
    model: str | None = None
    intent: str | None = None

    def __post_init__(self) -> None:
        sure, deadline_ms = self.edge_confidence, self.deadline_ms
        if (
            self.payload_bytes >= 0
            and self.prompt_tokens >= 0
            and self.privacy in _PRIVACIES
            and (sure is None or 0 <= sure <= 1)
            and (deadline_ms is None or deadline_ms > 0)
        ):
            return  # a simulator makes many: only a wrong one pays for the words below
        _at_least("payload_bytes", self.payload_bytes, 0, "a request has a size")
        _at_least("prompt_tokens", self.prompt_tokens, 0, "a prompt has a length")
        if self.privacy not in _PRIVACIES:
            raise ValueError(f"privacy must be one of {', '.join(_PRIVACIES)}, got {self.privacy!r}.")
        if sure is not None and not 0 <= sure <= 1:
            raise ValueError(f"edge_confidence is a probability, 0 to 1, got {sure}.")
        raise ValueError(f"deadline_ms must be > 0, got {deadline_ms}: no answer takes no time.")


@dataclass(frozen=True, slots=True)
class TierView:
    """What can be seen of one tier from where the policy runs. A view is up to ``age_s`` old, never fresh.

    Attributes:
        name: what a `Route` calls it, such as ``"edge"`` or ``"cloud"``.
        kind: where it stands, see `TierKind`.
        models: names of the models that it serves.
        rtt_ms: estimated round trip to it, without any computing (0 on the device itself).
        service_ms: estimated time to serve one request there once it starts.
        queue: requests waiting or in service.
        servers: requests that it serves at a time.
        healthy: False when its health check fails or its circuit breaker is open.
        price_usd_per_mtok: price of a million output tokens (0 for one that is already paid for).
        price_usd_per_request: price of a call, beside its tokens.
        age_s: how old this information can be at most.
    """

    name: str
    kind: TierKind
    models: tuple[str, ...] = ()
    rtt_ms: float = 0.0
    service_ms: float = 0.0
    queue: int = 0
    healthy: bool = True
    price_usd_per_mtok: float = 0.0
    age_s: float = 0.0
    servers: int = 1
    price_usd_per_request: float = 0.0

    def __post_init__(self) -> None:
        if self.rtt_ms >= 0 and self.service_ms >= 0 and self.queue >= 0 and self.age_s >= 0:
            if self.servers >= 1:
                return
            raise ValueError(f"servers must be >= 1, got {self.servers}: somebody has to work.")
        _at_least("rtt_ms", self.rtt_ms, 0, "a round trip takes time")
        _at_least("service_ms", self.service_ms, 0, "an answer takes time")
        _at_least("queue", self.queue, 0, "a queue cannot be shorter than empty")
        _at_least("age_s", self.age_s, 0, "a router cannot see the future")


@dataclass(frozen=True, slots=True)
class FleetView:
    """Every tier that a policy can choose from: ``fleet["edge"].queue``; ``healthy``: those that are."""

    tiers: tuple[TierView, ...]
    healthy: tuple[TierView, ...] = field(init=False, repr=False, compare=False)
    _first: dict[Callable[[TierView], Any], TierView] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "healthy", tuple([tier for tier in self.tiers if tier.healthy]))
        object.__setattr__(self, "_first", {})

    def first(self, by: Callable[[TierView], Any]) -> TierView:
        """The healthy tier with the smallest ``by(tier)``. A view never changes, so it is found once.

        Raises:
            ValueError: no tier is healthy.
        """
        found = self._first.get(by)
        if found is None:
            found = self._first[by] = min(self.healthy, key=by)
        return found

    def __getitem__(self, name: str) -> TierView:
        """The tier called ``name``.

        Raises:
            KeyError: no such tier; the message lists those that there are.
        """
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise KeyError(f"no tier is called {name!r}; this fleet has: {', '.join(t.name for t in self.tiers)}")


@dataclass(frozen=True, slots=True)
class Target:
    """One place to ask: a tier, and the model there (None for the tier's own choice)."""

    tier: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A decision: whom to ask, and what to do if that does not go well.

    Attributes:
        target: whom to ask first.
        fallbacks: whom to ask next, in order, when an attempt fails.
        hedge_after_ms: if no answer came after this time, ask the first fallback as well and take
            the answer that comes first (Dean and Barroso, "The Tail at Scale", 2013). None: never.
        escalate_below: if the answer's confidence is below this, ask the next fallback. None: never.

    Raises:
        ValueError: a value that cannot be, or a hedge or an escalation with nobody to turn to.
    """

    target: Target
    fallbacks: tuple[Target, ...] = ()
    hedge_after_ms: float | None = None
    escalate_below: float | None = None

    def __post_init__(self) -> None:
        if self.hedge_after_ms is None and self.escalate_below is None:
            return
        if self.hedge_after_ms is not None:
            _at_least("hedge_after_ms", self.hedge_after_ms, 0, "a hedge cannot start before the request")
        if self.escalate_below is not None and not 0 <= self.escalate_below <= 1:
            raise ValueError(f"escalate_below is a confidence, 0 to 1, got {self.escalate_below}.")
        if not self.fallbacks:
            raise ValueError("to hedge or to escalate, a route needs somebody to turn to: add a fallback.")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One time that somebody was asked, as far as it was seen when the request ended.

    Attributes:
        target: who was asked.
        status: how it ended, see `AttemptStatus`.
        latency_ms: from sending to the last token or the failure; ``open``: to the end of the request.
        ttft_ms: to the first token; None: there was none, or it was not seen.
        output_tokens: that came; 0 where a model writes no text.
        retry_after_s: it asked to be left alone for so long; None: it did not say.
    """

    target: Target
    status: AttemptStatus
    latency_ms: float
    ttft_ms: float | None = None
    output_tokens: int = 0
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        _at_least("latency_ms", self.latency_ms, 0, "an attempt takes time")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended, told to policies that learn.

    Attributes:
        request: the request.
        route: what the policy decided.
        status: how it ended, see `Status`.
        answered_by: whose answer was given; None if there was none.
        latency_ms: from the decision to the last token, or to giving up.
        attempts: how many times somebody was asked, hedges included.
        confidence: how sure the answer is, 0 to 1; None if unknown.
        cost_usd: what all attempts cost together.
        tried: each attempt, in the order in which they were sent.
        now_s: when it ended, on the driver's clock; None: not told.
    """

    request: Request
    route: Route
    status: Status
    answered_by: Target | None
    latency_ms: float
    attempts: int = 1
    confidence: float | None = None
    cost_usd: float = 0.0
    tried: tuple[Attempt, ...] = ()
    now_s: float | None = None

    def __post_init__(self) -> None:
        if (self.status == "answered") != (self.answered_by is not None):
            raise ValueError(
                f"status {self.status!r} does not fit answered_by={self.answered_by}: "
                "an answered request names who answered it, and no other does."
            )
