"""What became of the last requests: rows of `kit.records`, and the attempts behind each."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kit.records import Builder, Records
from kit.route.gateway.driver import Attempt


@dataclass
class Trace:
    """One request.

    Attributes:
        id: its name. ``row``: of the table, as far as it is known. ``reason``: why this answer.
        attempts: who was asked, when (s on the gateway's clock), and what came of it.
    """

    id: str
    row: dict[str, Any]
    reason: str = ""
    privacy: str = "public"
    attempts: list[dict[str, Any]] = field(default_factory=list)

    def took(self, attempts: Sequence[Attempt], zero_s: float) -> None:
        """Note who was asked."""
        self.attempts = [
            {
                "tier": a.target.tier,
                "model": a.target.model,
                "start_s": round(a.start_s - zero_s, 6),
                "end_s": None if a.end_s is None else round(a.end_s - zero_s, 6),
                "how": a.how,
                "confidence": None if a.reply is None else a.reply.confidence,
            }
            for a in attempts
        ]

    def line(self) -> str:
        """All attempts in one line, for a header: ``edge answered 3.1 ms 0.42; cloud HTTP 503 80.2 ms``."""
        told = []
        for a in self.attempts:
            took = "" if a["end_s"] is None else f" {1000 * (a['end_s'] - a['start_s']):.1f} ms"
            sure = "" if a["confidence"] is None else f" {a['confidence']:.2f}"
            told.append(f"{a['tier']} {a['how']}{took}{sure}")
        return "; ".join(told)


class Book:
    """The last requests.

    Args:
        kept: how many.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._traces: OrderedDict[str, Trace] = OrderedDict()

    def add(self, trace: Trace) -> None:
        """A request is over."""
        self._traces[trace.id] = trace
        if len(self._traces) > self._kept:
            self._traces.popitem(last=False)

    def find(self, id: str) -> Trace | None:
        """One request; None: not known (any more)."""
        return self._traces.get(id)

    def records(self) -> Records:
        """The table of them, in the order in which they ended."""
        book = Builder()
        for trace in self._traces.values():
            book.append(**trace.row)
        return book.build()

    def csv(self) -> bytes:
        """The same as `kit.records.from_csv` reads it."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "records.csv"
            self.records().to_csv(file)
            return file.read_bytes()
