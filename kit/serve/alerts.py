"""Alerts: rules over the metrics, and a webhook that hears when one begins and when it ends.

A rule looks at what happened since it looked last, so a good hour does not hide a bad minute.
"""

from __future__ import annotations

import asyncio
import logging
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import httpx

from kit.serve.metrics import Metrics

Kind = Literal["error_rate", "p95_seconds", "saturation", "spend"]
OPEN = ("/healthz", "/readyz", "/metrics")  # their requests are not counted
log = logging.getLogger("kit.serve")


@dataclass(frozen=True)
class Rule:
    """When to call for help.

    Attributes:
        name: of the alert.
        kind: ``error_rate``: part of the requests that ended in 5xx; ``p95_seconds``: 95% of the answers were
            complete in this time; ``saturation``: part of the places, rows and queue, that is taken, of the
            fullest model; ``spend``: spend of the key that is nearest to its budget, as a part of it.
        above: fires when the value is above this.
        looks: so many looks in a row, before it fires.
    """

    name: str
    kind: Kind
    above: float
    looks: int = 1


def load(path: Path) -> tuple[Rule, ...]:
    """Read rules from a TOML file, ``[[rule]]`` for each.

    Raises:
        ValueError: the file cannot be read, or a rule is not one.
    """
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("rule", [])
        rules = tuple(Rule(**entry) for entry in entries)
    except (OSError, tomllib.TOMLDecodeError, TypeError) as e:
        raise ValueError(f"{path}: {e}. A rule has a name, a kind and above.") from None
    for rule in rules:
        if rule.kind not in get_args(Kind):
            raise ValueError(f"{path}, rule {rule.name!r}: kind must be one of {', '.join(get_args(Kind))}.")
    return rules


def _totals(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """Samples of a metric: label values -> value."""
    return {
        tuple(s.labels.values()): s.value
        for family in metrics.registry.collect()
        for s in family.samples
        if s.name == name
    }


def error_rate(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> float:
    """Part of the requests between two counts, (path, status) -> requests, that ended in 5xx; 0 if none
    came."""
    new = {key: value - before.get(key, 0.0) for key, value in after.items() if key[0] not in OPEN}
    total = sum(new.values())
    return sum(v for (_, status), v in new.items() if status.startswith("5")) / total if total else 0.0


def p95(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> float:
    """Upper end of the bucket that holds the 95th percentile between two counts, in s; 0 if nothing came.

    The counts are a histogram's: (label, upper end) -> how many up to there.
    """
    counts: dict[float, float] = {}
    for (*_, end), value in after.items():
        key = float(end)
        counts[key] = counts.get(key, 0.0) + value
    for (*_, end), value in before.items():
        counts[float(end)] -= value
    total = counts.get(math.inf, 0.0)
    return min((end for end, n in counts.items() if n >= 0.95 * total), default=0.0) if total else 0.0


class Watchman:
    """Looks at the rules every few seconds.

    Args:
        rules: what to look for.
        metrics: where.
        saturation, spend: values that are not in the metrics.
        send: what to do with a message; see ``webhook``.
    """

    def __init__(
        self,
        rules: tuple[Rule, ...],
        metrics: Metrics,
        saturation: Callable[[], float],
        spend: Callable[[], float],
        send: Callable[[dict[str, Any]], Any],
    ) -> None:
        self._rules, self._metrics, self._send = rules, metrics, send
        self._saturation, self._spend = saturation, spend
        self._above = {rule.name: 0 for rule in rules}
        self._errors, self._times = self._counts()

    def _counts(self) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        return (
            _totals(self._metrics, "kit_http_requests_total"),
            _totals(self._metrics, "kit_e2e_request_latency_seconds_bucket"),
        )

    async def look(self) -> list[dict[str, Any]]:
        """Work out every rule once, send what changed, and return it."""
        errors, times = self._counts()
        values = {
            "error_rate": error_rate(self._errors, errors),
            "p95_seconds": p95(self._times, times),
            "saturation": self._saturation(),
            "spend": self._spend(),
        }
        self._errors, self._times = errors, times
        messages = []
        for rule in self._rules:
            value, before = values[rule.kind], self._above[rule.name]
            now = self._above[rule.name] = before + 1 if value > rule.above else 0
            if now == rule.looks:
                self._metrics.fired.labels(rule.name).inc()
                messages.append(_message(rule, "firing", value))
            elif not now and before >= rule.looks:
                messages.append(_message(rule, "resolved", value))
        for message in messages:
            await self._send(message)
        return messages

    async def watch(self, every_s: float) -> None:
        """Look for ever. A look that fails is logged, and the next one comes all the same."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.look()
            except Exception as e:
                log.warning("alerts: %s", e)


def _message(rule: Rule, status: str, value: float) -> dict[str, Any]:
    return {"alert": rule.name, "status": status, "kind": rule.kind, "value": value, "above": rule.above}


def webhook(url: str) -> Callable[[dict[str, Any]], Any]:
    """Sends a message as JSON to ``url``; without one, to the log. A failure is logged."""

    async def send(message: dict[str, Any]) -> None:
        log.warning("alert %s", message)
        if not url:
            return
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                (await client.post(url, json=message)).raise_for_status()
        except httpx.HTTPError as e:
            log.warning("webhook: %s", type(e).__name__)  # its address may be a secret

    return send
