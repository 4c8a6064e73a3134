"""What a scenario holds: who asks, over which links, which places can answer, and what they promise.

A scenario is a TOML file in ``datasets/scenarios/``; `kit.simulate.files` reads it into these classes. Every
value has its unit in its name. What a class cannot be is said by its ``__post_init__``, as one `Wrong` that
names the field: the reader of files adds the line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from kit.policy import Privacy, TierKind
from kit.simulate.llm import Speed

Arrivals = Literal["poisson", "gamma", "on_off", "daily", "recorded"]
Batching = Literal["continuous", "static"]
Precision = Literal["fp32", "fp16", "int8", "int4"]
BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Bytes of one weight."""


class Wrong(ValueError):
    """A value that cannot be. ``field`` is its name, and the message says what was expected."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field, self.message = field, message


class ScenarioError(ValueError):
    """A scenario file or a change that cannot be. The message says where, why, and what to do."""


def _check(thing: object, *, positive: str = "", at_least_0: str = "", part: str = "") -> None:
    """Raise for a number that is out of range; None is allowed everywhere, NaN nowhere."""
    rules = (
        (positive, lambda v: 0 < v < math.inf, "must be above 0"),
        (at_least_0, lambda v: 0 <= v < math.inf, "must be at least 0"),
        (part, lambda v: 0 <= v <= 1, "is a part of all: from 0 to 1"),
    )
    for names, good, expected in rules:
        for name in names.split():
            value = getattr(thing, name)
            if value is not None and not good(value):
                raise Wrong(name, f"{expected}, got {value:g}.")


def _one_of(thing: object, name: str, allowed: object) -> None:
    if getattr(thing, name) not in get_args(allowed):
        raise Wrong(name, f"must be one of {', '.join(get_args(allowed))}, got {getattr(thing, name)!r}.")


@dataclass(frozen=True, kw_only=True)
class Class:
    """One kind of request.

    Attributes:
        share: its part of all requests, relative to the other classes.
        payload_bytes, answer_bytes: what goes up, and what comes down.
        prompt_tokens, output_tokens: medians; 0 for a model that writes no text.
        tokens_cv: how much lengths differ: standard deviation over mean of a log-normal distribution.
        max_tokens: no answer is longer; None: four times the median.
        work: multiplies the service time of places that are not language models.
        privacy: how far it may travel; see `kit.policy.Privacy`.
        language: ISO 639-1.
        difficulty: 0 to 1. The simulator alone knows it: a wrong answer is likelier where it is high.
        deadline_ms: the answer is useless later; None: no deadline.
        deferrable: it may wait in an offline queue until the link is back.
        cacheable: part of these requests whose answer is remembered at the door.
        answers: a file in ``datasets/`` with answers of real models (`kit.simulate.recorded`): requests are
            drawn from its rows, and what is right stands there instead of following from ``difficulty``.
        where: which rows, by values of columns: ``{ split = "test", kind = "people" }``.
    """

    share: float = 1.0
    payload_bytes: float = 1000.0
    answer_bytes: float = 1000.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    tokens_cv: float = 1.0
    max_tokens: int | None = None
    work: float = 1.0
    privacy: Privacy = "public"
    language: str = "en"
    difficulty: float = 0.3
    deadline_ms: float | None = None
    deferrable: bool = False
    cacheable: float = 0.0
    answers: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self, positive="share work deadline_ms max_tokens", part="difficulty cacheable")
        _check(self, at_least_0="payload_bytes answer_bytes prompt_tokens output_tokens tokens_cv")
        _one_of(self, "privacy", Privacy)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Who asks, how often, for how long.

    Attributes:
        requests_per_s: mean rate.
        seconds: how long requests come.
        arrivals: ``poisson``; ``gamma`` (gaps with ``cv``); ``on_off`` (bursts of ``on_s`` with all
            requests, silence of ``off_s``, both exponential); ``daily`` (a day's wave whose highest rate is
            ``peak`` times the mean, over ``day_s``); ``recorded`` (``trace``, at ``requests_per_s``).
        trace: a row of ``datasets/workloads.csv``; lengths of prompts and answers come from it too.
        lengths: ``recorded`` takes lengths of prompts and answers from the trace, whenever requests come.
        classes: kinds of request, by name.
    """

    requests_per_s: float
    seconds: float
    arrivals: Arrivals = "poisson"
    cv: float = 2.0
    on_s: float = 10.0
    off_s: float = 30.0
    peak: float = 2.0
    day_s: float = 86_400.0
    trace: str = "azure_llm_2023_conversation"
    lengths: Literal["classes", "recorded"] = "classes"
    classes: Mapping[str, Class] = field(default_factory=lambda: {"request": Class()})

    def __post_init__(self) -> None:
        _check(self, positive="requests_per_s seconds cv on_s day_s", at_least_0="off_s")
        _one_of(self, "arrivals", Arrivals)
        if not 1 <= self.peak <= 2:
            raise Wrong("peak", f"the highest rate is 1 to 2 times the mean of a wave, got {self.peak:g}.")
        if not self.classes:
            raise Wrong("classes", "needs at least one kind of request: [workload.classes.NAME].")


@dataclass(frozen=True, kw_only=True)
class Link:
    """A link. Its round trip comes from measured quantiles; a request takes half of one each way.

    Attributes:
        profile: a row of ``datasets/networks.csv``; None: only what stands here.
        rtt_ms: median; the profile's other quantiles move with it in proportion. None: the profile's.
        jitter_ms: without a profile, the standard deviation of the round trip (log-normal).
        up_mbps, down_mbps: bandwidth; None: the profile's; unknown there too: no limit.
        loss_percent: messages that are lost and sent again after ``resend_ms``.
        usd_per_gb: of the data that goes through, both ways, such as a mobile tariff's.
        outage_every_s, outage_lasts_s: the link works and fails in turn, exponential times with these means
            (Gilbert 1960); None: it does not fail by chance.
    """

    profile: str | None = None
    rtt_ms: float | None = None
    jitter_ms: float = 0.0
    up_mbps: float | None = None
    down_mbps: float | None = None
    loss_percent: float | None = None
    resend_ms: float = 200.0
    usd_per_gb: float = 0.0
    outage_every_s: float | None = None
    outage_lasts_s: float = 60.0

    def __post_init__(self) -> None:
        _check(self, positive="up_mbps down_mbps outage_every_s outage_lasts_s")
        _check(self, at_least_0="rtt_ms jitter_ms resend_ms usd_per_gb")
        if self.profile is None and self.rtt_ms is None:
            raise Wrong("rtt_ms", "say how long a round trip takes, or name a profile of networks.csv.")
        if self.loss_percent is not None and not 0 <= self.loss_percent < 100:
            raise Wrong("loss_percent", f"is from 0 to below 100, got {self.loss_percent:g}.")


@dataclass(frozen=True, kw_only=True)
class Autoscale:
    """Servers come and go: the formula of Kubernetes' horizontal pod autoscaler, and how slow it is.

    desired = ceil(current * load / target), where load is the requests that wait or are served for each
    server (rows of an engine count as so many); nothing is done while load / target is within ``tolerance``
    of 1, and never less than the highest wish of the last ``down_window_s``. Source: Kubernetes
    documentation, "Horizontal Pod Autoscaling".

    Attributes:
        least, most: servers. With ``least`` 0 the first request waits for a **cold start**.
        target: part of the servers that should be busy.
        every_s: how often it looks. ``start_s``: until a new server works.
    """

    least: int = 1
    most: int = 10
    target: float = 0.6
    tolerance: float = 0.1
    every_s: float = 15.0
    start_s: float = 120.0
    down_window_s: float = 300.0

    def __post_init__(self) -> None:
        _check(self, positive="target every_s most", at_least_0="least tolerance start_s down_window_s")
        if self.least > self.most:
            raise Wrong("least", f"must not be above most = {self.most}, got {self.least}.")
        if self.target > 1:
            raise Wrong(
                "target", f"is the part of servers that are busy: above 0, at most 1; got {self.target:g}."
            )


@dataclass(frozen=True, kw_only=True)
class Tier:
    """A place that can answer: stations with servers and one queue each, at the end of some links.

    What a request needs there is one of five:

    - ``service_quantiles_ms``: measured times at evenly spaced levels, from the shortest to the longest, with
      straight lines between them (`kit.simulate.calibrate` makes them of a run);
    - ``service_ms``: a mean, with ``service_cv`` (0: always the same; 1: exponential; else gamma);
    - ``device``, ``parameters`` and ``gflop``: a **roofline**. The slower of reading the weights and of
      calculating, from the row of ``datasets/devices.csv`` times ``derate`` (nominal to realised); also with
      ``service_cv``;
    - ``device`` and ``llm``: a language model that writes tokens with ``batching``: a step takes the
      weights' bytes and the KV cache's bytes over bandwidth, a prompt takes arithmetic;
    - ``speed``: such a model, with measured times of its calls (see `kit.simulate.llm.Speed`).

    Attributes:
        kind: see `kit.policy.TierKind`.
        path: links to it, from the user on.
        servers: that work at the same time, of each station. ``stations``: with a queue each, taken in turn.
        queue: places to wait in each station; None: no bound.
        retry_after_s: what a full queue tells those that it refuses (Retry-After, RFC 9110); None: nothing.
        quality: chance that a request of difficulty 0 is answered right. ``weakness``: how much of it is
            lost at difficulty 1.
        answers_as: whose recorded answers it gives, where classes have them: a model of their table.
        rows: conversations that an engine can hold. ``kv_gb``: memory for their KV cache.
        overhead_ms: of a step or a call, that no device makes faster.
        throttle_after_s, throttle_factor: a device that was busy for so long without a pause, on average,
            slows down by the factor (heat); None: never.
        usd_per_hour: of one server, busy or not. ``usd_per_mtok_in``, ``usd_per_mtok_out``,
            ``usd_per_request``: of a call to somebody else's model. ``usd_per_gb``: of answers, which leave
            that place.
        off_peak_factor: price from midnight to six, of a rented server.
        power_w_idle, power_w_busy: of one server.
        mtbf_s, mttr_s: a station fails after, and is repaired within (means, exponential).
        spot: part of the servers that can be taken away, each ``spot_every_s`` on average, for
            ``spot_back_s``.
    """

    kind: TierKind
    path: tuple[str, ...] = ()
    servers: int = 1
    stations: int = 1
    queue: int | None = None
    retry_after_s: float | None = None
    service_ms: float | None = None
    service_cv: float = 0.0
    service_quantiles_ms: tuple[float, ...] = ()
    speed: Speed | None = None
    device: str | None = None
    precision: Precision = "fp16"
    parameters: float | None = None
    gflop: float | None = None
    derate: float = 0.6
    llm: str | None = None
    batching: Batching = "continuous"
    rows: int = 8
    kv_gb: float | None = None
    overhead_ms: float = 0.0
    throttle_after_s: float | None = None
    throttle_factor: float = 1.5
    quality: float = 0.95
    weakness: float = 0.3
    answers_as: str | None = None
    usd_per_hour: float = 0.0
    usd_per_request: float = 0.0
    usd_per_mtok_in: float = 0.0
    usd_per_mtok_out: float = 0.0
    usd_per_gb: float = 0.0
    off_peak_factor: float = 1.0
    power_w_idle: float = 0.0
    power_w_busy: float = 0.0
    mtbf_s: float | None = None
    mttr_s: float = 60.0
    spot: float = 0.0
    spot_every_s: float = 3600.0
    spot_back_s: float = 300.0
    autoscale: Autoscale | None = None

    def __post_init__(self) -> None:
        _one_of(self, "kind", TierKind)
        _one_of(self, "precision", Precision)
        _one_of(self, "batching", Batching)
        _check(
            self, positive="servers stations service_ms parameters gflop derate rows kv_gb throttle_after_s"
        )
        _check(self, positive="mtbf_s mttr_s spot_every_s spot_back_s throttle_factor retry_after_s")
        _check(
            self, part="quality weakness spot derate", at_least_0="queue service_cv overhead_ms usd_per_hour"
        )
        _check(self, at_least_0="usd_per_request usd_per_mtok_in usd_per_mtok_out usd_per_gb off_peak_factor")
        _check(self, at_least_0="power_w_idle power_w_busy")
        said = [n for n in ("service_ms", "service_quantiles_ms", "device", "speed") if getattr(self, n)]
        if len(said) != 1:
            raise Wrong(
                "service_ms",
                "say one of service_ms, service_quantiles_ms, device and speed; "
                f"got {' and '.join(said) or 'none'}.",
            )
        levels = self.service_quantiles_ms
        if levels and (len(levels) < 2 or min(levels) < 0 or list(levels) != sorted(levels)):
            raise Wrong(
                "service_quantiles_ms", "needs two times or more, at least 0 and none below the one before."
            )
        if self.device and not self.llm and (self.parameters is None or self.gflop is None):
            raise Wrong(
                "device", "a roofline needs the model's parameters and its gflop for one request, or an llm."
            )
        if self.throttle_after_s is not None and self.servers > 1:
            raise Wrong("throttle_after_s", "a station that gets hot has one server: use stations instead.")
        if self.llm and not self.device:
            raise Wrong("llm", "a language model runs on a device: name a row of devices.csv.")

    @property
    def writes(self) -> bool:
        """Is it an engine that writes tokens?"""
        return bool(self.llm or self.speed)


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """How decisions are carried out; see `kit.policy.DispatchSettings`, whose names these are.

    Attributes:
        connect_timeout_ms: somebody who cannot be reached is noticed after this time.
        signals_every_s: how often a policy's view of the tiers is taken.
        signals_delay_s: how old the view is when it arrives.
        offline_queue: requests that can wait for a link that is down, if their class may.
        edge_first: a tier whose classifier is asked before anything is decided, so that policies know its
            guess of the intent and its confidence. Whoever is asked next is asked later by so much.
    """

    retries: int = 0
    attempt_timeout_ms: float | None = None
    backoff_ms: float = 100.0
    backoff_max_ms: float = 10_000.0
    retry_budget: float | None = None
    breaker_failures: int | None = None
    breaker_cooldown_s: float = 10.0
    connect_timeout_ms: float = 1000.0
    signals_every_s: float = 1.0
    signals_delay_s: float = 0.0
    offline_queue: int = 0
    cache_ms: float = 1.0
    edge_first: str | None = None

    def __post_init__(self) -> None:
        _check(self, positive="attempt_timeout_ms connect_timeout_ms signals_every_s breaker_cooldown_s")
        _check(
            self,
            at_least_0="retries backoff_ms backoff_max_ms signals_delay_s offline_queue cache_ms",
        )
        _check(self, at_least_0="retry_budget")


@dataclass(frozen=True, kw_only=True)
class Outage:
    """Something that is down at a known time.

    Attributes:
        what: a link or a tier.
        at_s, lasts_s: from when, and how long.
    """

    what: str
    at_s: float
    lasts_s: float

    def __post_init__(self) -> None:
        _check(self, at_least_0="at_s", positive="lasts_s")


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """What the service promises, and how much of it: ``p95_ms = 100``, ``availability = 0.999``.

    Attributes:
        p50_ms, p95_ms, p99_ms: end to end, at most. ``ttft_p95_ms``: to the first token.
        availability: part of requests that are answered, at least.
        quality: part of the answers that are right, at least.
        usd_per_1k: of a thousand requests, at most.
        private_leaks: requests that went farther than they may, at most.
    """

    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    ttft_p95_ms: float | None = None
    availability: float | None = None
    quality: float | None = None
    usd_per_1k: float | None = None
    private_leaks: int | None = None

    def __post_init__(self) -> None:
        _check(self, positive="p50_ms p95_ms p99_ms ttft_p95_ms", at_least_0="usd_per_1k private_leaks")
        _check(self, part="availability quality")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A whole what-if.

    Attributes:
        title, about: for people.
        policy: who decides, a name of `kit.simulate.POLICIES`. ``options``: its arguments.
        links, tiers: by name. Tiers stand from the nearest to the farthest.
        topologies: name -> the policy and options of another way to run the same workload.
    """

    title: str
    workload: Workload
    tiers: Mapping[str, Tier]
    about: str = ""
    policy: str = "nearest"
    options: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, Link] = field(default_factory=dict)
    dispatch: Dispatch = field(default_factory=Dispatch)
    outages: tuple[Outage, ...] = ()
    slo: Objectives = field(default_factory=Objectives)
    topologies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tiers:
            raise Wrong("tiers", "needs at least one place that can answer: [tiers.NAME].")
        for name, tier in self.tiers.items():
            for link in tier.path:
                if link not in self.links:
                    known = ", ".join(self.links) or "none"
                    raise Wrong(f"tiers.{name}.path", f"no link is called {link!r}; there are: {known}.")
        if both := [name for name in self.tiers if name in self.links]:
            raise Wrong(f"tiers.{both[0]}", "a link has this name too; rename one of them.")
        if self.dispatch.edge_first not in (None, *self.tiers):
            known = ", ".join(self.tiers)
            said = f"no tier is called {self.dispatch.edge_first!r}; there are: {known}."
            raise Wrong("dispatch.edge_first", said)
        if self.dispatch.edge_first and self.tiers[self.dispatch.edge_first].writes:
            raise Wrong(
                "dispatch.edge_first", "an engine that writes tokens classifies nothing: name another."
            )
        for name, how in self.topologies.items():
            if "policy" not in how:
                raise Wrong(f"topologies.{name}", 'says no policy: add policy = "nearest" or another.')
        for i, outage in enumerate(self.outages):
            if outage.what not in self.links and outage.what not in self.tiers:
                known = ", ".join([*self.links, *self.tiers])
                raise Wrong(f"outages.{i}.what", f"nothing is called {outage.what!r}; there are: {known}.")

    def but(self, **changes: Any) -> Scenario:
        """The same scenario with other fields."""
        return replace(self, **changes)


def names(kind: type) -> list[str]:
    """Fields of one of the classes above, in order."""
    return [f.name for f in fields(kind)]
