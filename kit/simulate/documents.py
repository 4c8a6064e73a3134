"""From a document, the nested tables of a TOML file, to a `Scenario`, value by value; or what to say instead.

Is there such a field, is it of the right kind, in the right unit, in range? What only the whole shows is for
`kit.simulate.checks`. Messages say where the fault is, through a ``where`` that turns a path such as
``("tiers", "cloud", "servers")`` into a place for people.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kit import facts
from kit.simulate.scenario import Link, Scenario, ScenarioError, Tier, Workload, Wrong

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
        return plain(kind, value, str(path[-1]))
    except ValueError as e:
        raise ScenarioError(f"{where(path)}: {e}") from None


def plain(kind: Any, value: Any, name: str) -> Any:
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
