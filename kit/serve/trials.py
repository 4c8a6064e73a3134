"""What the chapter tries on a running server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import httpx
import numpy as np

from kit.arrivals import gamma, poisson
from kit.serve.load import Ask, Report, drive

T = TypeVar("T")


def wait_for(work: Awaitable[T]) -> T:
    """The result of a coroutine, also where an event loop runs already, as in a notebook."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()  # type: ignore[arg-type]


@cache
def _client() -> httpx.Client:
    """One client for all: a new one takes some 30 ms to make."""
    return httpx.Client(timeout=60)


def on_the_wire(url: str, body: dict[str, Any]) -> list[tuple[float, str]]:
    """Every line that a streamed answer sends, and when, in ms after the request."""
    _client().get(url + "/healthz")  # the connection is open now
    start, lines = time.perf_counter(), []
    with _client().stream("POST", url + "/v1/chat/completions", json=body | {"stream": True}) as response:
        for line in response.iter_lines():
            if line:
                lines.append((1000 * (time.perf_counter() - start), line))
    return lines


def overhead_ms(url: str, prompts: Sequence[str], repeats: int = 3) -> dict[str, np.ndarray]:
    """Time to the first token as a client sees it, and what the engine took of it: name -> ms, [n].

    One request at a time; both times are of the same request.

    Args:
        url: of the server.
        prompts: questions.
        repeats: of each.
    """
    found: dict[str, list[float]] = {"engine": [], "client": []}
    name = "kit_request_prefill_time_seconds_sum"
    for prompt in prompts:
        for _ in range(repeats):
            before = gauges(url).get(name, 0.0)
            found["client"].append(_first_ms(url, prompt))
            found["engine"].append(1000 * (gauges(url)[name] - before))
    return {name: np.array(ms) for name, ms in found.items()}


def _first_ms(url: str, prompt: str) -> float:
    """From the request to the first text."""
    body = {"model": "smollm2", "max_tokens": 1, "temperature": 0}
    lines = on_the_wire(url, body | {"messages": [{"role": "user", "content": prompt}]})
    return next(ms for ms, line in lines if '"content": "' in line and '"content": ""' not in line)


@dataclass(frozen=True)
class Refusal:
    """What a bad request got."""

    what: str
    status: int
    code: str
    message: str


def refusals(url: str) -> list[Refusal]:
    """Send requests that cannot be answered."""
    hello = [{"role": "user", "content": "Hello"}]
    chat = {"model": "smollm2", "messages": hello}
    bad: dict[str, dict[str, Any] | bytes] = {
        "no JSON": b"{oops",
        "a model that is not there": chat | {"model": "gpt-9"},
        "temperature 3": chat | {"temperature": 3},
        "max_tokens as text": chat | {"max_tokens": "ten"},
        "an unknown field": chat | {"creativity": 1},
        "JSON mode": chat | {"response_format": {"type": "json_object"}},
        "100,000 tokens": chat | {"max_tokens": 100_000},
        "a chat with the classifier": chat | {"model": "edge"},
        "a body of 2 MB": chat | {"user": "x" * 2_000_000},
    }
    found = []
    for what, body in bad.items():
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = _client().post(
            url + "/v1/chat/completions", content=content, headers={"content-type": "application/json"}
        )
        error = response.json()["error"]
        found.append(Refusal(what, response.status_code, error["code"] or "", error["message"]))
    return found


def under_load(
    url: str,
    rates_per_s: Sequence[float],
    n: int,
    prompts: Sequence[str],
    max_tokens: int = 24,
    cv: float = 1.0,
) -> dict[float, Report]:
    """An open loop at each rate, one after the other: rate -> report. ``cv``: burstiness, see ``gamma``."""
    found = {}
    for rate in rates_per_s:
        asks = [
            Ask(float(t), prompts[i % len(prompts)], max_tokens) for i, t in enumerate(gamma(rate, n, cv))
        ]
        found[rate] = wait_for(drive(url + "/v1", "smollm2", asks))
    return found


def capacity_rps(url: str, prompts: Sequence[str], n: int = 40, rows: int = 8, max_tokens: int = 24) -> float:
    """Answers per second of a server that is never idle: more requests than that, and the queue grows.

    All are asked at once; what counts ends with the last moment at which no row was empty.

    Args:
        url: of the server. ``rows``: answers that it writes at a time.
        prompts, max_tokens: as in ``under_load``.
        n: requests; more than ``rows``, and no more than find a place.

    Raises:
        ValueError: n is not above rows.
        RuntimeError: not all were answered.
    """
    if not n > rows:
        raise ValueError(f"n must be above rows, or some rows are always empty; got {n} and {rows}.")
    asks = [Ask(0.0, prompts[i % len(prompts)], max_tokens) for i in range(n)]
    records = wait_for(drive(url + "/v1", "smollm2", asks)).records
    if (answered := int((records["outcome"] == "answered").sum())) < n:
        raise RuntimeError(f"{answered} of {n} requests were answered: ask for fewer than find a place.")
    full = n - rows + 1
    return full / float(np.sort(records["last_token_s"])[full - 1])


def closed_loop_ttft_ms(url: str, n: int, prompts: Sequence[str], max_tokens: int = 24) -> np.ndarray:
    """What a tester sees who asks, waits for the answer, and asks again: ms to the first token, [n]."""
    found = []
    for i in range(n):
        report = wait_for(drive(url + "/v1", "smollm2", [Ask(0.0, prompts[i % len(prompts)], max_tokens)]))
        found.append(float(report.records["ttft_ms"][0]))
    return np.array(found)


def gauges(url: str) -> dict[str, float]:
    """Metrics without labels but the model's: name -> value, of the language model."""
    text = _client().get(url + "/metrics").text
    found = re.findall(r'^(kit_\w+)\{model="smollm2"\} ([\d.e+-]+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def hang_up(url: str, after_events: int = 3) -> tuple[float, float]:
    """Ask for a long answer and leave after a few events: answers that had a row, and ms until none had."""
    body = {"model": "smollm2", "max_tokens": 400, "temperature": 0, "stream": True}
    body["messages"] = [{"role": "user", "content": "Write a long story about a lamp."}]
    with _client().stream("POST", url + "/v1/chat/completions", json=body) as response:
        for i, _ in enumerate(response.iter_lines()):
            if i >= after_events:
                break
        running = gauges(url)["kit_num_requests_running"]
    start = time.perf_counter()
    while gauges(url)["kit_num_requests_running"] and time.perf_counter() - start < 10:
        time.sleep(0.002)
    return running, 1000 * (time.perf_counter() - start)


@dataclass(frozen=True)
class Swap:
    """What happened while a model was swapped.

    Attributes:
        answered, failed: requests.
        by: version -> answers that it gave.
        took_s: until the new version was there.
        during_ms, else_ms: times of the answers that ran while it was opened, and of the others.
    """

    answered: int
    failed: int
    by: dict[str, int]
    took_s: float
    during_ms: list[float]
    else_ms: list[float]


def swap_under_load(url: str, source: str, rate_per_s: float, n: int, prompts: Sequence[str]) -> Swap:
    """Load a new version while requests come at a rate."""
    times, start = poisson(rate_per_s, n), time.perf_counter()
    _client()  # made before the threads need it

    def ask(i: int) -> tuple[str, float, float]:
        """Who answered ("" if nobody did), when it began, and when it ended."""
        time.sleep(max(times[i] - (time.perf_counter() - start), 0))
        body: dict[str, Any] = {"model": "smollm2", "max_tokens": 12}
        body["messages"] = [{"role": "user", "content": prompts[i % len(prompts)]}]
        begin = time.perf_counter()
        response = _client().post(url + "/v1/chat/completions", json=body)
        name = response.json()["system_fingerprint"] if response.status_code == 200 else ""
        return name, begin, time.perf_counter()

    def swap() -> tuple[float, float]:
        time.sleep(times[n // 4])
        begin = time.perf_counter()
        body = {"version": "2", "source": source}
        _client().post(url + "/admin/models/smollm2", json=body).raise_for_status()
        return begin, time.perf_counter()

    with ThreadPoolExecutor(n + 1) as pool:
        swapping = pool.submit(swap)
        asked = list(pool.map(ask, range(n)))
        begin, end = swapping.result()
    by = Counter(name for name, _, _ in asked)
    failed = by.pop("", 0)
    during, rest = [], []
    for _, a, b in asked:
        (during if a < end and b > begin else rest).append(1000 * (b - a))
    return Swap(by.total(), failed, dict(by), end - begin, during, rest)
