"""What if: changes such as ``network.wan.rtt_ms=80`` to a scenario, and the values of a sweep.

A change names a value by its path in the file. Leading parts may be left out as long as what remains is
unique: ``requests_per_s=40``, ``device.precision=int8``. The value is written as in TOML, but a word needs no
quotation marks, and ``none`` takes the value away, so that its default holds.
"""

from __future__ import annotations

import copy
import difflib
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin

from kit.simulate import documents
from kit.simulate.documents import Path, bare, dotted, kinds
from kit.simulate.scenario import Scenario, ScenarioError

POINTS = 12
"""Values of a sweep of which only the ends are given."""


def apply(scenario: Scenario, changes: Iterable[str]) -> Scenario:
    """The same scenario with some values changed.

    Each value is checked, but not the whole: a what-if may ask what happens when a queue cannot empty. See
    `checks.check` and `checks.warnings`. For changes to a text, see `kit.simulate.files.parse`.

    Args:
        scenario: stays as it is.
        changes: ``path=value``, carried out in order. A new ``policy`` starts without options.

    Raises:
        ScenarioError: no such path, several such paths, or a value that cannot be.
    """
    document, said = put(documents.document(scenario), changes)
    return documents.build(
        document, lambda path: f"{said[path]}, {dotted(path)}" if path in said else dotted(path)
    )


def put(document: Mapping[str, Any], changes: Iterable[str]) -> tuple[dict[str, Any], dict[Path, str]]:
    """Carry changes out in nested tables.

    Args:
        document: as ``tomllib`` returns it; stays as it is.
        changes: as for `apply`.

    Returns:
        The new tables; and for each path that was changed, the change that did it, for messages.

    Raises:
        ScenarioError: no such path, or several.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    said: dict[Path, str] = {}
    for change in changes:
        path, value = resolve(changed, change)
        last = path[-1]
        table = _inner(changed, path[:-1], f"change {change!r}")
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value
        if last == "policy":
            others = changed.pop("options", {}) if len(path) == 1 else table
            for key in [key for key in others if key != "policy"]:
                del others[key]
        said[path] = f"change {change!r}"
    return changed, said


def _inner(table: Any, path: Path, place: str, above: Path = ()) -> Any:
    """The table at ``path``; tables that are not there are made."""
    if not isinstance(table, dict | list):
        raise ScenarioError(f"{place}: {dotted(above)} must be a table, and is {table!r}.")
    if not path:
        return table
    if isinstance(table, dict):
        table.setdefault(path[0], {})
    return _inner(table[path[0]], path[1:], place, (*above, path[0]))  # type: ignore[index]


def resolve(document: Mapping[str, Any], change: str) -> tuple[Path, Any]:
    """The whole path and the value of a change; the value of ``none`` is None.

    Raises:
        ScenarioError: not of the form ``path=value``; no such path; several such paths.
    """
    name, equals, text = change.partition("=")
    if not equals or not name.strip() or not text.strip():
        raise ScenarioError(f"change {change!r}: write it as path=value, such as network.wan.rtt_ms=80.")
    return find(document, name.strip(), change), _value(text.strip())


def find(document: Mapping[str, Any], name: str, change: str | None = None) -> Path:
    """The whole path of a value: ``cloud.servers`` is ``("tiers", "cloud", "servers")``.

    Args:
        document: nested tables; says which tiers, links, classes and topologies there are.
        name: the path with dots; leading parts may be left out.
        change: what a message should call it.

    Raises:
        ScenarioError: no such path, or several; the message lists candidates.
    """
    wanted = [int(part) if part.isdigit() else part for part in name.split(".")]
    place = f"change {change or name!r}"
    there, could_be = list(_paths(Scenario, document, (), False)), list(_paths(Scenario, document, (), True))
    anything = ("options",) if len(wanted) > 1 else ()  # a policy's own check knows what it takes
    if len(wanted) > 2 and wanted[1] in document.get("topologies", ()):
        anything = ("topologies",)
    if tuple(wanted) in could_be or wanted[0] in anything:
        return tuple(wanted)
    for paths in (there, could_be):
        found = [path for path in paths if list(path[-len(wanted) :]) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            candidates = ", ".join(dotted(path) for path in found)
            raise ScenarioError(f"{place}: {name} could be any of {candidates}. Write more of the path.")
    # nobody is called so: show what is nearest, by the last part first
    ends = {str(path[-1]) for path in could_be}
    near = difflib.get_close_matches(str(wanted[-1]), ends, n=2, cutoff=0.6)
    shown = [dotted(path) for path in could_be if path[-1] in near]
    shown = difflib.get_close_matches(name, shown, n=6, cutoff=0.0) or [str(key) for key in kinds(Scenario)]
    raise ScenarioError(f"{place}: nothing is called {name}. Did you mean {' or '.join(shown)}?")


def sweep_values(text: str) -> tuple[str, list[Any]]:
    """The path and the values of a sweep.

    Args:
        text: ``requests_per_s=1:200`` (12 values), ``rtt_ms=10:100:20`` (20 values), or a list:
            ``precision=fp16,int8``. A range is cut geometrically if its end is above ten times its start,
            else into equal steps. A path that wants whole numbers gets whole numbers, each once.

    Raises:
        ScenarioError: not of that form; the message shows it.
    """
    name, _, values = (part.strip() for part in text.partition("="))
    place = f"sweep {text!r}"
    if not name or not values:
        raise ScenarioError(f"{place}: write it as path=low:high, path=low:high:points or path=a,b,c.")
    if ":" not in values:
        return name, [_value(one.strip()) for one in values.split(",") if one.strip()]
    try:
        low, high, *points = (float(part) for part in values.split(":"))
        count = int(points[0]) if points else POINTS
    except ValueError:
        raise ScenarioError(f"{place}: low, high and points are numbers, such as rtt_ms=10:100:20.") from None
    if len(points) > 1 or not -math.inf < low < high < math.inf or count < 2:
        raise ScenarioError(f"{place}: goes from a lower to a higher number, in at least 2 points.")
    steps = [i / (count - 1) for i in range(count)]
    if low > 0 and high / low > 10:
        numbers = [low * (high / low) ** step for step in steps]
    else:
        numbers = [low + (high - low) * step for step in steps]
    numbers = [low, *(float(f"{number:.4g}") for number in numbers[1:-1]), high]
    if _wants_whole(name):
        return name, list(dict.fromkeys(round(number) for number in numbers))
    return name, numbers


def _wants_whole(name: str) -> bool:
    """True if what a path names is an ``int`` in every class that has it."""
    last = name.split(".")[-1]
    found = [bare(hints[last]) for cls in _classes(Scenario) if last in (hints := kinds(cls))]
    return bool(found) and all(kind is int for kind in found)


def _classes(cls: type) -> Iterator[type]:
    """A class of `kit.simulate.scenario`, and all that are inside it."""
    yield cls
    for kind in kinds(cls).values():
        for inner in (bare(kind), *get_args(kind)):
            if isinstance(inner, type) and is_dataclass(inner):
                yield from _classes(inner)


def _paths(cls: type, table: Any, path: Path, absent: bool) -> Iterator[Path]:
    """Every value that a document can have below ``path``.

    Args:
        cls: the class that the table stands for.
        table: the table.
        path: of the table.
        absent: also values of tables that may be there and are not.
    """
    for key, hint in kinds(cls).items():
        kind, at = bare(hint), (*path, key)
        inner = table.get(key) if isinstance(table, Mapping) else None
        if is_dataclass(kind):
            if inner is not None or absent or kind is hint:
                yield from _paths(kind, inner, at, absent)  # type: ignore[arg-type]
        elif get_origin(kind) is Mapping:
            for name, one in inner.items() if isinstance(inner, Mapping) else ():
                yield from _below(get_args(kind)[1], one, (*at, name), absent)
        elif get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
            for i, one in enumerate(inner) if isinstance(inner, list) else ():
                yield from _below(get_args(kind)[0], one, (*at, i), absent)
        else:
            yield at


def _below(kind: Any, one: Any, path: Path, absent: bool) -> Iterator[Path]:
    """Values of one entry of a table or a list."""
    if is_dataclass(kind):
        yield from _paths(kind, one, path, absent)  # type: ignore[arg-type]
    elif get_origin(kind) is Mapping:
        for key in one if isinstance(one, Mapping) else ():
            yield (*path, key)
    else:
        yield path


def _value(text: str) -> Any:
    """A value as TOML has it; a bare word is a text, and ``none`` is None."""
    if text == "none":
        return None
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text
