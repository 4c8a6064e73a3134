"""An open-loop load generator for any OpenAI-compatible server.

*Open loop*: requests leave at their times, whether or not earlier ones were answered, as people do not wait
for each other. Latency counts **from the time at which a request was due**, so a generator that falls behind
cannot hide a wait (coordinated omission; Tene, "How NOT to measure latency", 2015). How far it fell behind is
reported as its lag.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from kit.records import SLO, Builder, Records, percentile

MOST_CONNECTIONS = 1000
TIMER_S = 0.002


@dataclass(frozen=True)
class Ask:
    """One request of a run.

    Attributes:
        at_s: when it is due, from the start of the run.
        prompt: what is asked.
        max_tokens: most tokens of its answer.
    """

    at_s: float
    prompt: str
    max_tokens: int = 64


@dataclass
class Seen:
    """What became of it, in seconds from the start of the run; NaN: did not happen.

    Attributes:
        sent_s: when it left. ``first_s``, ``last_s``: first and last text.
        tokens_in, tokens_out: as the server counts them, not as events come.
        status: HTTP status; 0: no answer at all.
        error: what went wrong.
        event_s: times of all events with text.
    """

    sent_s: float
    first_s: float = float("nan")
    last_s: float = float("nan")
    tokens_in: float = float("nan")
    tokens_out: float = float("nan")
    status: int = 0
    error: str = ""
    event_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """What a run showed.

    Attributes:
        records: one row for each request.
        seen: the same in detail, in the order of the asks.
        lag_ms: how much later than due each request left, [n].
    """

    records: Records
    seen: list[Seen]
    lag_ms: np.ndarray

    def itl_ms(self) -> np.ndarray:
        """Inter-token latency, one value for each answer of more than one token: its time from first to last
        text divided by the gaps between tokens."""
        times = (self.records["last_token_s"] - self.records["first_token_s"]) * 1000
        gaps = self.records["tokens_out"] - 1
        return (times / np.where(gaps > 0, gaps, np.nan))[gaps > 0]

    def rows(self, slo: SLO | None = None) -> list[dict[str, Any]]:
        """The run in the field's words: one line for each measure."""
        s = self.records.summary(slo)
        lines = [
            {"measure": "requests", "value": s.requests},
            {"measure": "answered", "value": s.answered},
            {"measure": "throughput (requests/s)", "value": s.throughput_rps},
            {"measure": "throughput (tokens/s)", "value": s.throughput_tps},
        ]
        for name, label in (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "end to end")):
            done = self.records.where(self.records["outcome"] == "answered")
            for level in (50, 95, 99):
                lines.append({"measure": f"{label} P{level} (ms)", "value": percentile(done[name], level)})
        if slo is not None:
            lines.append({"measure": "within the SLO (%)", "value": 100 * s.slo_attainment})
            lines.append({"measure": "goodput (requests/s)", "value": s.goodput_rps})
        lines.append({"measure": "own lag P99 (ms)", "value": float(np.percentile(self.lag_ms, 99))})
        return lines


async def drive(
    base_url: str,
    model: str,
    asks: Sequence[Ask],
    *,
    key: str = "",
    temperature: float = 0.0,
    deadline_s: float = 300.0,
    tokenize: Callable[[str], int] | None = None,
    verify: bool | str = True,
) -> Report:
    """Send all requests at their times and wait for all answers.

    Args:
        base_url: such as ``http://localhost:8000/v1``.
        model: its name there.
        asks: the requests.
        key: API key.
        temperature: of the answers.
        deadline_s: an answer that is not complete by then counts as timed out.
        tokenize: text -> number of tokens, for servers that do not count themselves.
        verify: TLS: False, or a file of certificates.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=MOST_CONNECTIONS, max_keepalive_connections=MOST_CONNECTIONS)
    timeout = httpx.Timeout(deadline_s)
    url = base_url.rstrip("/") + "/chat/completions"
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=timeout, verify=verify) as client:

        def written(ask: Ask) -> httpx.Request:
            body = {
                "model": model,
                "messages": [{"role": "user", "content": ask.prompt}],
                "max_tokens": ask.max_tokens,
                "temperature": temperature,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            return client.build_request("POST", url, json=body)

        requests = [written(ask) for ask in asks]  # before the clock starts
        start = time.perf_counter()

        async def one(ask: Ask, request: httpx.Request) -> Seen:
            await _until(start + ask.at_s)
            seen = Seen(time.perf_counter() - start)
            try:
                async with asyncio.timeout(deadline_s):
                    response = await client.send(request, stream=True)
                    try:
                        await _read(response, seen, start, tokenize)
                    finally:
                        await response.aclose()
            except (TimeoutError, httpx.TimeoutException):
                seen.error = "timed out"
            except httpx.HTTPError as e:
                seen.error = type(e).__name__
            return seen

        seen = await asyncio.gather(*(one(*pair) for pair in zip(asks, requests, strict=True)))
    lag_ms = [1000 * (s.sent_s - a.at_s) for a, s in zip(asks, seen, strict=True)]
    return Report(_records(asks, seen, model), list(seen), np.array(lag_ms))


async def _until(time_s: float) -> None:
    """Wait until then, on ``time.perf_counter``. Timers are a millisecond late, so the end comes in small
    steps."""
    await asyncio.sleep(max(time_s - time.perf_counter() - TIMER_S, 0))
    while time.perf_counter() < time_s:
        await asyncio.sleep(0)


async def _read(
    response: httpx.Response, seen: Seen, start: float, tokenize: Callable[[str], int] | None
) -> None:
    """Read an answer: a refusal, or a stream of server-sent events."""
    seen.status = response.status_code
    if response.status_code != 200:
        seen.error = (await response.aread()).decode(errors="replace")[:200]
        return
    text, done = "", False
    async for line in response.aiter_lines():
        if not line.startswith("data:"):
            continue
        told = line[5:].strip()
        if told == "[DONE]":
            done = True
            continue
        try:
            event = json.loads(told)
        except ValueError:
            seen.error = "an event that is no JSON"
            return
        if "error" in event:
            seen.error = event["error"].get("message", "error")
            return
        if event.get("usage"):
            seen.tokens_in = event["usage"]["prompt_tokens"]
            seen.tokens_out = event["usage"]["completion_tokens"]
        for choice in event.get("choices") or ():
            new = choice.get("delta", {}).get("content") or ""
            if new or choice.get("finish_reason"):
                seen.last_s = time.perf_counter() - start
                if new:
                    seen.event_s.append(seen.last_s)
                if np.isnan(seen.first_s):
                    seen.first_s = seen.last_s
            text += new
    if not done:
        seen.error = "the stream broke off"
    if np.isnan(seen.tokens_out) and tokenize is not None:
        seen.tokens_out = tokenize(text)


def _records(asks: Sequence[Ask], seen: Sequence[Seen], model: str) -> Records:
    book = Builder()
    for i, (ask, s) in enumerate(zip(asks, seen, strict=True), 1):
        row: dict[str, Any] = {"id": str(i), "scheduled_s": ask.at_s, "sent_s": max(s.sent_s, ask.at_s)}
        row |= {"model": model, "tier": "cloud", "outcome": _outcome(s)}
        if row["outcome"] == "answered":
            row |= {"first_token_s": s.first_s, "last_token_s": s.last_s}
            row |= {"tokens_in": s.tokens_in, "tokens_out": s.tokens_out}
        book.append(**row)
    return book.build()


def _outcome(seen: Seen) -> str:
    if seen.error == "timed out":
        return "timed_out"
    if seen.status in (429, 503):
        return "rejected"
    return "failed" if seen.error or seen.status != 200 or np.isnan(seen.first_s) else "answered"
