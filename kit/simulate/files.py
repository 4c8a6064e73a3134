"""Scenarios as TOML files: where they are, how they are read, and on which line a fault is.

``tomllib`` says what a file holds, but not where. `lines` finds that out: it reads a text that ``tomllib``
has accepted, so it need not look for faults itself.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from kit.artifacts import DATASETS
from kit.simulate import changes as _changes
from kit.simulate import checks, documents
from kit.simulate.scenario import Scenario, ScenarioError

FOLDER = DATASETS / "scenarios"


def names() -> list[str]:
    """Scenarios of the kit, such as ``smart_home``."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name_or_path: str | Path, changes: Iterable[str] = ()) -> Scenario:
    """Read a scenario.

    Args:
        name_or_path: one of `names`, or the path of a TOML file.
        changes: such as ``network.wan.rtt_ms=80``; see `kit.simulate.changes`.

    Raises:
        ScenarioError: no such file, or `parse` found a fault.
    """
    name = str(name_or_path)
    file = FOLDER / f"{name}.toml" if name in names() else Path(name_or_path)
    try:
        text = file.read_text("utf-8-sig")
    except OSError as e:
        raise ScenarioError(
            f"no scenario is called {name!r}, and no such file can be read ({e.strerror}). "
            f"There are: {', '.join(names())}."
        ) from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{name}: is not UTF-8. Save it as UTF-8 in your editor.") from None
    return parse(text, file.name if name in names() else name, changes)


def parse(text: str, file: str = "scenario", changes: Iterable[str] = ()) -> Scenario:
    """Read a scenario from the text of a TOML file.

    Args:
        text: see ``datasets/scenarios.md`` for what can stand in it.
        file: what messages call it.
        changes: carried out before anything is checked.

    Raises:
        ScenarioError: the first fault: not TOML; a value that cannot be (`documents.build`), or a whole that
            cannot be (`checks.check`). The message names file and line, and says what to do.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ScenarioError(_not_toml(text, file, str(e))) from None
    known = lines(text)
    document, said = _changes.put(document, changes)

    def where(path: documents.Path) -> str:
        """The change or the line that a value comes from; else the nearest table around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in said:
                return f"{said[path[:length]]}, {documents.dotted(path)}"
            if path[:length] in known:
                return f"{file}, line {known[path[:length]]}, {documents.dotted(path)}"
        return f"{file}, line 1, {documents.dotted(path)}"

    scenario = documents.build(document, where)
    checks.check(scenario, where)
    return scenario


def _not_toml(text: str, file: str, message: str) -> str:
    """What to say about a text that is not TOML."""
    found = re.search(r" \(at line (\d+), column \d+\)", message)
    line = int(found[1]) if found else text.count("\n") + 1
    said = re.sub(r" \(at .*\)$", "", message)
    hints = {
        "Cannot overwrite a value": "This key stands here for the second time: remove one of the two.",
        "Cannot declare": "This table stands here for the second time: put both parts together.",
        "Invalid value": 'Text needs quotation marks, name = "text"; a number has no unit, rtt_ms = 80.',
        "Expected newline": "One line holds one name = value. A number has no unit: rtt_ms = 80.",
        "Expected '=' after a key": "A line is name = value, [table] or # comment.",
        "Unescaped": "Is a backslash meant? Write two, or use single quotation marks.",
    }
    hint = next((hint for start, hint in hints.items() if said.startswith(start)), "See https://toml.io.")
    return f"{file}, line {line}: this is not TOML: {said}. {hint}"


# --- lines

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_TEXT = re.compile(
    r'"""(?:\\.|[^\\])*?""""{0,2}' + r"|'''.*?''''{0,2}" + r'|"(?:\\.|[^"\\])*"' + r"|'[^']*'", re.DOTALL
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\n#]+")
_DOT = re.compile(r"[ \t]*\.[ \t]*")


def lines(text: str) -> dict[documents.Path, int]:
    """The line of every key, table and list entry of a TOML text, by its path.

    Args:
        text: TOML that ``tomllib`` can read.

    Returns:
        ``{("network", "wan", "rtt_ms"): 12, ...}``; entries of lists are numbers, ``("outages", 0, "at_s")``.
    """
    return _Lines(text.replace("\r\n", "\n")).found


class _Lines:
    """Reads a text from left to right. ``at`` is the place, ``found`` what `lines` returns."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.found: dict[documents.Path, int] = {}
        self._line, self._counted = 1, 0
        self._entries: dict[documents.Path, int] = {}  # how often [[path]] has come
        table: documents.Path = ()
        self._skip(_SPACE)
        while self.at < len(text):
            if text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_SPACE)

    def _header(self) -> documents.Path:
        """``[table]`` or ``[[list of tables]]``; returns the path of what follows."""
        many = self.text.startswith("[[", self.at)
        self.at += 1 + many
        path: documents.Path = ()
        self._skip(_SPACE)
        keys = self._keys()
        for i, key in enumerate(keys):
            path = (*path, key)
            self._note(path)
            if many and i == len(keys) - 1:
                self._entries[path] = self._entries.get(path, -1) + 1
            if path in self._entries:  # what follows belongs to the newest entry
                path = (*path, self._entries[path])
                self._note(path)
        self._skip(_SPACE)
        self.at += 1 + many
        return path

    def _pair(self, table: documents.Path) -> None:
        """``key = value``; the key may have dots."""
        path = table
        for key in self._keys():
            path = (*path, key)
            self._note(path)
        self._skip(_SPACE)
        self.at += 1  # the equals sign
        self._value(path)

    def _value(self, path: documents.Path) -> None:
        self._skip(_SPACE)
        opening = self.text[self.at]
        if opening == "{":
            self._many("}", lambda i: self._pair(path))
        elif opening == "[":
            self._many("]", lambda i: (self._note((*path, i)), self._value((*path, i))))
        else:
            self._skip(_TEXT if opening in "\"'" else _SCALAR)

    def _many(self, closing: str, read) -> None:
        """What stands between brackets, with commas in between."""
        self.at += 1
        self._skip(_SPACE)
        i = 0
        while self.text[self.at] != closing:
            read(i)
            i += 1
            self._skip(_SPACE)
            if self.text[self.at] == ",":
                self.at += 1
                self._skip(_SPACE)
        self.at += 1

    def _keys(self) -> list[str]:
        """``a."b.c".d``"""
        keys = []
        while True:
            start = self.at
            if self.text[start] in "\"'":
                self._skip(_TEXT)
                keys.append(tomllib.loads("key = " + self.text[start : self.at])["key"])
            else:
                self._skip(_BARE)
                keys.append(self.text[start : self.at])
            if not (dot := _DOT.match(self.text, self.at)):
                return keys
            self.at = dot.end()

    def _note(self, path: documents.Path) -> None:
        """Write down that ``path`` begins here, unless it has begun before."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        self.found.setdefault(path, self._line)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self.text, self.at)
        assert found, f"tomllib and this reader disagree at {self.text[self.at : self.at + 20]!r}"
        self.at = found.end()
