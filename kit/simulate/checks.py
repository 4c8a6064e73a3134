"""From a document, the nested tables of a TOML file, to a `Scenario` that can be; and what to say otherwise.

`build` looks at each value by itself: is there such a field, is it of the right kind, in the right unit, in
range? `check` looks at the whole: can the queues empty, can the promises be kept? Both say where the fault
is, through a ``where`` that turns a path such as ``("tiers", "cloud", "servers")`` into a place for people.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kit import facts
from kit.policy import DispatchSettings
from kit.simulate import network, policies, recorded, services
from kit.simulate.scenario import Class, Dispatch, Link, Scenario, ScenarioError, Tier, Workload, Wrong

Path = tuple[str | int, ...]
Where = Callable[[Path], str]

IN_FILES = {"links": "network"}
"""Fields of `Scenario` that have another name in files."""

FACTS = {
    (Workload, "trace"): (facts.workloads, "workloads.csv"),
    (Link, "profile"): (facts.networks, "networks.csv"),
    (Tier, "device"): (facts.devices, "devices.csv"),
    (Tier, "llm"): (facts.llms, "llms.csv"),
}
"""Fields that name a row of a table in ``datasets/``."""

UNITS = (
    {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0, "min": 60.0, "minutes": 60.0}
    | {"h": 3600.0, "hour": 3600.0, "hours": 3600.0, "day": 86_400.0, "days": 86_400.0},
    {"bytes": 1.0, "kb": 1e3, "kib": 1024.0, "mb": 1e6, "mib": 1024.0**2, "gb": 1e9, "gib": 1024.0**3},
    {"kbps": 1e3, "mbps": 1e6, "gbps": 1e9},
    {"mflop": 1e6, "gflop": 1e9, "tflop": 1e12},
    {"mw": 1e-3, "w": 1.0, "kw": 1e3},
    {"cent": 0.01, "usd": 1.0},
    {"percent": 0.01, "fraction": 1.0, "ratio": 1.0, "part": 1.0},
)
"""Units that appear in names, by what they measure, each in a common one."""


def anywhere(path: Path) -> str:
    """The place of a value that stands in no file: its path."""
    return dotted(path)


def dotted(path: Path) -> str:
    """``network.wan.rtt_ms``."""
    return ".".join(map(str, path)) or "the scenario"


@cache
def kinds(cls: type) -> dict[str, Any]:
    """The fields of a class of `kit.simulate.scenario` as files call them, with the type of each."""
    hints = get_type_hints(cls)
    return {IN_FILES.get(f.name, f.name): hints[f.name] for f in fields(cls)}


def bare(kind: Any) -> Any:
    """A type without ``| None``."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(option for option in get_args(kind) if option is not type(None))
    return kind


# --- each value by itself


def build(document: Mapping[str, Any], where: Where = anywhere) -> Scenario:
    """Make a scenario of nested tables.

    Args:
        document: as ``tomllib`` returns it.
        where: says for people where the value of a path stands.

    Raises:
        ScenarioError: unknown key, wrong type, wrong unit, out of range, unknown row of a table, unknown
            link, tier or policy option; with the place and what to do.
    """
    return _make(Scenario, document, (), where)


def document(scenario: Scenario) -> dict[str, Any]:
    """The nested tables that `build` makes this scenario of. Fields that have their default are left out."""
    return _tables(scenario)


def _tables(value: Any) -> Any:
    if is_dataclass(value):
        shown = {}
        for f in fields(value):
            inner = getattr(value, f.name)
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            if inner != default:
                shown[IN_FILES.get(f.name, f.name)] = _tables(inner)
        return shown
    if isinstance(value, Mapping):
        return {name: _tables(inner) for name, inner in value.items()}
    return [_tables(inner) for inner in value] if isinstance(value, tuple | list) else value


def _make(cls: type, table: Any, path: Path, where: Where) -> Any:
    """An instance of a class of `kit.simulate.scenario`."""
    if not isinstance(table, Mapping):
        raise ScenarioError(f"{where(path)}: must be a table, [{dotted(path)}], got {table!r}.")
    known = kinds(cls)
    given: dict[str, Any] = {}
    for key, value in table.items():
        at = (*path, key)
        if key not in known:
            raise ScenarioError(f"{where(at)}: {_unknown(key, value, cls)}")
        given[key] = _value(known[key], value, at, where)
        if (cls, key) in FACTS:
            _look_up(cls, key, given[key], where(at))
    needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    missing = [name for name in needed if name not in given]
    if missing:
        name = missing[0]
        example = f"[{name}]" if is_dataclass(known[name]) or name == "tiers" else f"{name} = ..."
        raise ScenarioError(f"{where(path)}: {name} is missing. Add {example}: it has no default.")
    for field, name in IN_FILES.items():
        if name in given:
            given[field] = given.pop(name)
    try:
        return cls(**given)
    except Wrong as e:
        inside = tuple(int(part) if part.isdigit() else part for part in e.field.split("."))
        raise ScenarioError(f"{where(path + inside)}: {e.message}") from e


def _value(kind: Any, value: Any, path: Path, where: Where) -> Any:
    """``value`` as ``kind``; lists become tuples, and tables the class that they stand for."""
    kind = bare(kind)
    if is_dataclass(kind):
        return _make(kind, value, path, where)  # type: ignore[arg-type]
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ScenarioError(f"{where(path)}: must be a list, {path[-1]} = [...], got {value!r}.")
        return tuple(_value(get_args(kind)[0], one, (*path, i), where) for i, one in enumerate(value))
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):
            raise ScenarioError(f"{where(path)}: must be a table, [{dotted(path)}], got {value!r}.")
        inner = get_args(kind)[1]
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ScenarioError(f"{where((*path, name))}: a name is made of letters, digits, _ and -.")
        if inner is Any:
            return dict(value)
        return {name: _value(inner, one, (*path, name), where) for name, one in value.items()}
    try:
        return _plain(kind, value, str(path[-1]))
    except ValueError as e:
        raise ScenarioError(f"{where(path)}: {e}") from None


def _plain(kind: Any, value: Any, name: str) -> Any:
    """A text, a number or a truth value.

    Raises:
        ValueError: it is something else; the message says what to write.
    """
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, got {value!r}.")
        return value
    if kind is str or get_origin(kind) is Literal:
        if not isinstance(value, str):
            raise ValueError(f'must be a text in quotation marks, got {value!r}: write {name} = "...".')
        return value
    if isinstance(value, str):
        raise ValueError(f"must be a number, got the text {value!r}. {_number_in(value, name)}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, got {value!r}.")
    if not math.isfinite(value):
        raise ValueError(f"must be a finite number, got {value}. To have no limit, leave the line out.")
    if kind is int:
        if value != int(value):
            raise ValueError(f"must be a whole number, got {value:g}.")
        return int(value)
    return float(value)


def _number_in(text: str, name: str) -> str:
    """What to write instead of ``"80 ms"``."""
    found = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*([A-Za-z%]*)\s*", text)
    if found:
        unit = {"%": "percent"}.get(found[2], found[2].lower())
        try:
            value = float(found[1])
        except ValueError:
            return f"Write {name} = ... with a number only."
        words = name.split("_")
        for family in UNITS:
            mine = [word for word in words if word in family]
            if mine and unit in family:
                value *= family[unit] / family[mine[-1]]
                return f"Write {name} = {value:.6g}: the unit is in the name."
        if not unit:
            return f"Write {name} = {value:.6g}, without quotation marks."
    return f"Write {name} = ... with a number only: the unit is in the name."


def _unknown(key: str, value: Any, cls: type) -> str:
    """What to say about a key that ``cls`` does not have."""
    known = list(kinds(cls))
    if key in IN_FILES:
        return f"files call this table {IN_FILES[key]}: write [{IN_FILES[key]}.NAME]."
    if cls is not Scenario and key in kinds(Scenario):
        return (
            f"in TOML a line belongs to the table above it. Put {key} at the top of the file, or in [{key}]."
        )
    for name in known:
        if said := _other_unit(key, value, name):
            return said
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    what = "a scenario" if cls is Scenario else f"a {cls.__name__.lower()}"
    return f"{what} has nothing called {key!r}.{hint} It has: {', '.join(known)}."


def _other_unit(key: str, value: Any, name: str) -> str | None:
    """What to say if ``key`` is ``name`` in another unit, or without one; None if it is not."""
    mine, wanted = key.lower().split("_"), name.split("_")
    family_of = {unit: family for family in UNITS for unit in family}
    for i, unit in enumerate(wanted):
        if unit not in family_of or name == unit:
            continue
        if mine == wanted[:i] + wanted[i + 1 :]:
            return f"write {name}: the unit is a part of the name."
    if len(mine) != len(wanted):
        return None
    differ = [(a, b) for a, b in zip(mine, wanted, strict=True) if a != b]
    if len(differ) != 1 or differ[0][0] not in family_of.get(differ[0][1], {}):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"this file wants {name}."
    given, unit = differ[0]
    factor = family_of[unit][given] / family_of[unit][unit]
    per = wanted[: wanted.index(unit)][-1:] == ["per"]
    converted = value / factor if per else value * factor
    said = f"{value:g} {'per ' * per}{given}"
    return f"this file wants {name}; {said} is {name} = {converted:.6g}."


def _look_up(cls: type, key: str, row: str, place: str) -> None:
    """Raise if ``row`` is not in its table, or does not say enough."""
    table, file = FACTS[cls, key]
    try:
        table()[row]
    except facts.FactError as e:
        raise ScenarioError(f"{place}: {e} The ids stand in datasets/{file}.") from None


# --- the whole

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
            _plain(float, one, "weight")
    elif kind and _plain(kind, value, name) is not None and kind is float and value < 0:
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
