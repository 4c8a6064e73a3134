"""The output filter: the last to see a text before it leaves.

A filter sees the pieces of one answer as they come, and says what may go out. As a secret can be spread over
pieces, it may hold some back until it knows more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol


class Blocked(Exception):
    """This answer must not go on. What is out is out; the answer ends with ``content_filter``."""


class Filter(Protocol):
    """For one answer."""

    def push(self, text: str) -> str:
        """More text; returns what may go out now. Raises Blocked."""
        ...

    def finish(self) -> str:
        """The answer ended; returns what was held back. Raises Blocked."""
        ...


class Open:
    """Lets everything through."""

    def push(self, text: str) -> str:
        return text

    def finish(self) -> str:
        return ""


class Redact:
    """Replaces what looks like a pattern, wherever the pieces are cut.

    The text after the last white space is held back, since a match may go on there.

    Args:
        patterns: what to replace. A match must not contain white space.
        instead: by what.
    """

    def __init__(self, patterns: re.Pattern[str], instead: str = "[removed]") -> None:
        self._patterns, self._instead, self._held = patterns, instead, ""

    def push(self, text: str) -> str:
        self._held += text
        cut = max((m.end() for m in re.finditer(r"\s", self._held)), default=0)
        certain, self._held = self._held[:cut], self._held[cut:]
        return self._patterns.sub(self._instead, certain)

    def finish(self) -> str:
        text, self._held = self._patterns.sub(self._instead, self._held), ""
        return text


class Choices:
    """The filter on the answers of another server, whole or in events; each choice has a filter of its own.

    Args:
        make: makes one.
    """

    def __init__(self, make: Callable[[], Filter]) -> None:
        self._make, self._by = make, dict[int, Filter]()

    def apply(self, event: dict[str, Any]) -> dict[str, Any]:
        """The same answer or event, with its texts as they may go out."""
        for choice in event.get("choices") or ():
            at = choice.get("message") or choice.get("delta") or choice
            name = "text" if "text" in choice else "content"
            one = self._by.setdefault(choice.get("index", 0), self._make())
            try:
                text = one.push(at.get(name) or "")
                if choice.get("finish_reason"):
                    text += one.finish()
            except Blocked:
                text, choice["finish_reason"] = "", "content_filter"
                self._by[choice.get("index", 0)] = Shut()
            if text or name in at:
                if at is choice and name == "content":  # an empty delta, and text that was held back
                    at = choice["delta"] = {}
                at[name] = text
        return event


class Shut:
    """Lets nothing through: what comes after a text that was blocked."""

    def push(self, text: str) -> str:
        return ""

    def finish(self) -> str:
        return ""


CONTACT = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w|\+?\d[\d()/-]{6,}\d")


def redact() -> Filter:
    """No e-mail addresses and no telephone numbers."""
    return Redact(CONTACT)


def find(name: str) -> Callable[[], Filter]:
    """The function that makes a filter for each answer.

    Args:
        name: ``module:function``; empty: nothing is filtered.

    Raises:
        ValueError: there is no such function.
    """
    if not name:
        return Open
    module, _, function = name.partition(":")
    try:
        return getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as e:
        raise ValueError(f"output_filter {name!r}: {e}. It is written as module:function.") from None
