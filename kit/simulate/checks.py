"""Can a whole scenario be: do the queues empty, can the promises be kept, do the options fit the policy?

Each value by itself is looked at before, by `kit.simulate.documents`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from kit import facts
from kit.policy import DispatchSettings
from kit.simulate import network, policies, recorded, services
from kit.simulate.documents import Path, Where, anywhere, dotted, kinds, plain
from kit.simulate.scenario import Class, Dispatch, Scenario, ScenarioError, Wrong

EVERYTHING_TO = ("always_edge", "always_cloud")
"""Policies that send everything to one tier."""

FIRST_TO = {"hedged": "tier", "confidence_cascade": "edge", "fallback_chain": "tiers"}
"""Policies that ask one tier about everything first: the option that names it, or begins with it."""

OPTIONS = {"tier": str, "fallback": str, "edge": str, "cloud": str, "threshold": float}
OPTIONS |= {"after_ms": float, "tiers": tuple, "weights": Mapping}
"""Options of policies, and what they must be."""


def check(scenario: Scenario, where: Where = anywhere) -> None:
    """Look at what only the whole scenario shows. What is not sure is left to `warnings`.

    Raises:
        ScenarioError: a link's profile knows no round trip; a device's speed is not known, or its memory too
            small; no such recorded answers; no such policy or option, or no such tier for it; a queue without
            a bound must grow without end; no tier can keep a promise.
    """
    for name, link in scenario.links.items():
        if link.profile and link.rtt_ms is None and facts.networks()[link.profile].rtt_p50_ms is None:
            raise ScenarioError(
                f"{where(('network', name, 'profile'))}: {link.profile} does not say how long a round trip "
                "takes. Add rtt_ms, or choose a profile with rtt_p50_ms."
            )
    for name, tier in scenario.tiers.items():
        try:
            services.mean_s(tier, next(iter(scenario.workload.classes.values())))
            if tier.writes:
                services.kv_tokens(tier)
        except Wrong as e:
            raise ScenarioError(f"{where(('tiers', name, e.field))}: {e.message}") from e
    try:
        recorded.answers(scenario)
    except Wrong as e:
        place = ("tiers",) if e.field == "answers_as" else ("workload",)
        raise ScenarioError(f"{where(place)}: {e.message}") from e
    try:
        shared = [f.name for f in fields(DispatchSettings) if f.name in kinds(Dispatch)]
        DispatchSettings(**{name: getattr(scenario.dispatch, name) for name in shared})
    except ValueError as e:
        raise ScenarioError(f"{where(('dispatch', str(e).split()[0]))}: {e}") from None
    for _, path, policy, options in ways(scenario):
        _check_options(scenario, policy, options, path, where)
    for _, _, policy, options in ways(scenario):
        tier = _asked(scenario, policy, options) if policy in EVERYTHING_TO else None
        short = tier and _shortage(scenario, tier, scenario.workload.requests_per_s)
        if short and scenario.dispatch.attempt_timeout_ms is None:
            raise ScenarioError(f"{where(('tiers', str(tier), 'servers'))}: {short}")
    for path, said in _impossible(scenario, list(scenario.tiers)):
        raise ScenarioError(f"{where(path)}: {said}")


def warnings(scenario: Scenario) -> list[str]:
    """What may be meant, but should be known: queues that may grow, promises that one topology cannot keep.

    Returns:
        Sentences for people, each once; none for a scenario where nothing stands out.
    """
    found: dict[str, None] = {}
    work = scenario.workload
    busiest = {"on_off": (work.on_s + work.off_s) / work.on_s, "daily": work.peak}.get(work.arrivals, 1.0)
    for way, _, policy, options in ways(scenario):
        tier = _asked(scenario, policy, options)
        if tier is None:
            continue
        if short := _shortage(scenario, tier, work.requests_per_s):
            found[f"{way}: {short}"] = None
        elif short := _shortage(scenario, tier, work.requests_per_s * busiest):
            found[f"{way}: at the busiest time, {short}"] = None
        if policy in EVERYTHING_TO:
            for path, said in _impossible(scenario, [tier]):
                found[f"{way}: {dotted(path)}: {said}"] = None
            for said in _narrow(scenario, tier):
                found[f"{way}: {said}"] = None
    return list(found)


def ways(scenario: Scenario) -> Iterator[tuple[str, Path, str, Mapping[str, Any]]]:
    """The scenario's own policy and its topologies: name, where the options stand, policy, options."""
    yield scenario.policy, ("options",), scenario.policy, scenario.options
    for name, how in scenario.topologies.items():
        yield name, ("topologies", name), how["policy"], {k: v for k, v in how.items() if k != "policy"}


def _check_options(scenario: Scenario, policy: str, options: Mapping, path: Path, where: Where) -> None:
    """Raise if a policy cannot be made, or an option names a tier that is not there."""
    for key, value in options.items():
        try:
            _option(key, value)
        except ValueError as e:
            raise ScenarioError(f"{where((*path, key))}: {e}") from None
    try:
        policies.make(policy, options)
    except Wrong as e:
        place = (*path, *options)[: len(path) + 1]
        if e.field == "policy":
            outer = (*path[:-1], "policy") if path == ("options",) else (*path, "policy")
            place = (*path, "inner") if policy in policies.POLICIES else outer
        raise ScenarioError(f"{where(place)}: {e.message}") from e
    for key, value in options.items():
        for name in policies.targets({key: value}):
            if name not in scenario.tiers:
                known = ", ".join(scenario.tiers)
                raise ScenarioError(f"{where((*path, key))}: no tier is called {name!r}; there are: {known}.")


def _option(name: str, value: Any) -> None:
    """Look at one option of a policy.

    Raises:
        ValueError: it is not of the right kind, or below 0.
    """
    kind = OPTIONS.get(name)
    if name == "inner":
        if not isinstance(value, str | Mapping):
            raise ValueError(f'must be a name or a table, inner = {{ policy = "nearest" }}, got {value!r}.')
    elif kind is tuple:
        if not isinstance(value, list | tuple) or not value or not all(isinstance(v, str) for v in value):
            raise ValueError(f'must be a list of names, {name} = ["edge", "cloud"], got {value!r}.')
    elif kind is Mapping:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a table, {name} = {{ edge = 9, cloud = 1 }}, got {value!r}.")
        for one in value.values():
            plain(float, one, "weight")
    elif kind and plain(kind, value, name) is not None and kind is float and value < 0:
        raise ValueError(f"must be at least 0, got {value:g}.")


def _asked(scenario: Scenario, policy: str, options: Mapping[str, Any]) -> str | None:
    """The tier that a policy asks about everything, at least at first; None if there is no such."""
    if policy == "privacy_first":
        if any(c.privacy != "public" for c in scenario.workload.classes.values()):
            return None
        inner = options["inner"]
        policy, options = (inner, options) if isinstance(inner, str) else (inner["policy"], inner)
    if policy == "nearest":
        return next(iter(scenario.tiers))
    tier = options.get("tier" if policy in EVERYTHING_TO else FIRST_TO.get(policy, ""))
    return tier if tier is None or isinstance(tier, str) else tier[0]


def _shortage(scenario: Scenario, name: str, requests_per_s: float) -> str | None:
    """What to say if a tier's queue has no bound and cannot empty, were it asked about everything."""
    tier = scenario.tiers[name]
    if tier.queue is not None:
        return None
    classes = scenario.workload.classes.values()
    asked = sum(c.share * (1 - c.cacheable) * services.mean_s(tier, c) for c in classes)
    needed = requests_per_s * asked / sum(c.share for c in classes)
    servers, setting = (1, "stations") if tier.writes else (tier.servers, "servers")
    if tier.autoscale and tier.autoscale.most > servers:
        servers, setting = tier.autoscale.most, "autoscale.most"
    there = servers * tier.stations * (tier.rows if tier.writes else 1)
    if needed < there:
        return None
    what = "rows of an engine" if tier.writes else "servers"
    return (
        f"tier {name}: {requests_per_s:g} requests/s need {needed:.1f} {what}, there are {there}: the queue "
        f"would grow without end; raise {setting}, set a queue bound, or lower requests_per_s."
    )


def _narrow(scenario: Scenario, name: str) -> Iterator[str]:
    """What to say of links that are too narrow for everything that one tier would be asked."""
    work = scenario.workload
    total = sum(c.share for c in work.classes.values())
    for link_name in scenario.tiers[name].path:
        link = scenario.links[link_name]
        profile = facts.networks()[link.profile] if link.profile else None
        for way, size, mbps in (
            ("up", "payload_bytes", link.up_mbps or (profile and profile.bandwidth_up_mbps)),
            ("down", "answer_bytes", link.down_mbps or (profile and profile.bandwidth_down_mbps)),
        ):
            mean = sum(c.share * (1 - c.cacheable) * getattr(c, size) for c in work.classes.values()) / total
            asked_mbps = mean * 8e-6 * work.requests_per_s
            if mbps and asked_mbps > mbps:
                yield (
                    f"link {link_name}: {asked_mbps:.3g} Mbit/s go {way} a link of {mbps:g}. Messages "
                    "do not wait for each other in the simulator: true delays are longer."
                )


def _impossible(scenario: Scenario, tiers: list[str]) -> Iterator[tuple[Path, str]]:
    """Promises that cannot be kept if only these tiers answer: where each stands, and why not.

    What is compared with a promise is less than any request can take: the shortest round trip that is known,
    the payload at full bandwidth, and the service where it does not vary. Nobody waits.
    """
    slo, classes = scenario.slo, scenario.workload.classes
    for name, part in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99), ("ttft_p95_ms", 0.95)):
        promised = getattr(slo, name)
        if promised is None:
            continue
        least: list[tuple[float, float, str]] = []
        for c in classes.values():
            ms, how = min(_least_ms(scenario, tier, c, name == "ttft_p95_ms") for tier in tiers)
            least += [(ms, c.share * (1 - c.cacheable), how), (0.0, c.share * c.cacheable, "the cache")]
        least.sort()
        below = part * sum(share for _, share, _ in least)
        reached = [sum(share for _, share, _ in least[: i + 1]) for i in range(len(least))]
        ms, _, how = next(
            one for one, sofar in zip(least, reached, strict=True) if sofar >= below * (1 - 1e-9)
        )
        if ms > promised:
            yield (
                ("slo", name),
                f"{name} = {promised:g} cannot be kept: {how}. Raise {name}, or bring a tier nearer.",
            )
    for name, c in classes.items():
        ms, how = min(_least_ms(scenario, tier, c, False) for tier in tiers)
        if c.deadline_ms is not None and ms > c.deadline_ms:
            said = f"{c.deadline_ms:g} ms cannot be kept: {how}. Raise deadline_ms, or bring a tier nearer."
            yield ("workload", "classes", name, "deadline_ms"), said


def _least_ms(scenario: Scenario, name: str, asked: Class, first_token: bool) -> tuple[float, str]:
    """Less than an answer of a tier can take, in ms, with the sentence that says so."""
    tier = scenario.tiers[name]
    trip_ms, sent_ms = network.Path(tier.path, scenario.links).least_rtt_ms(), 0.0
    for link in (scenario.links[link] for link in tier.path):
        profile = facts.networks()[link.profile] if link.profile else None
        up = link.up_mbps or (profile and profile.bandwidth_up_mbps) or math.inf
        down = link.down_mbps or (profile and profile.bandwidth_down_mbps) or math.inf
        # 1 Mbit/s is 1000 bits in a millisecond
        sent_ms += asked.payload_bytes * 8e-3 / up + (0 if first_token else asked.answer_bytes * 8e-3 / down)
    varies = first_token or (tier.service_ms is not None and tier.service_cv > 0)
    varies = varies or (tier.writes and (asked.tokens_cv > 0 or scenario.workload.arrivals == "recorded"))
    work_ms = 0.0 if varies else services.mean_s(tier, asked) * 1e3
    total_ms = trip_ms + sent_ms + work_ms
    return total_ms, (
        f"even tier {name} needs {total_ms:.3g} ms (round trip {trip_ms:.3g}, payload {sent_ms:.3g}, "
        f"service {work_ms:.3g})"
    )
