"""What the chapter tries on a living gateway: ask, pull the plug, come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from kit import records, serve
from kit.arrivals import poisson
from kit.policy import Policy
from kit.route import gateway
from kit.route.evaluation import HOME
from kit.route.replay import Script
from kit.simulate import load, recorded

UNKNOWN = {"text": "Nobody has recorded an answer to this.", "confidence": 0.5}
HABITS = {"attempt_timeout_ms": 700, "breaker_failures": 3, "breaker_cooldown_s": 1.0}
"""How the chapter's gateway carries routes out: fields of `kit.policy.DispatchSettings`."""


@dataclass
class Home:
    """A gateway with a real edge, a replaying cloud and a network between them; ``close`` stops all of it."""

    stack: gateway.Here
    _exit: ExitStack

    def close(self) -> None:
        """Stop everything."""
        self._exit.close()


def cloud(cloud: str = "cloud") -> Script:
    """A cloud that gives the answers, and takes the times, that were recorded of the real models.

    Args:
        cloud: whose answers, see `kit.route.answers`.
    """
    place = load(HOME).tiers["cloud"]
    table = recorded.table("answers.csv")
    rows = zip(table["text"].tolist(), table["cloud_said"].tolist(), table.sure(cloud).tolist(), strict=True)
    known = {text: {"text": said, "label": said, "confidence": sure} for text, said, sure in rows}
    return Script(
        model="big",
        service_quantiles_ms=place.service_quantiles_ms,
        servers=place.servers,
        answers={**known, "": UNKNOWN},
    )


def open_home(policy: Policy, network: str = "cable_assumed", **settings: Any) -> Home:
    """Start a gateway that decides with this very object. Takes some seconds."""
    keep = ExitStack()
    stack = keep.enter_context(
        gateway.here(
            policy,
            cloud=cloud(),
            network=network,
            dispatch=HABITS,
            signals_every_s=0.5,
            edge_tier={"no_command": "answer"},  # and so say how sure it is, as in the simulator
            **settings,
        )
    )
    return Home(stack, keep)


def ask(home: Home, texts: Sequence[str], **headers: str) -> list[dict[str, Any]]:
    """Ask one after the other: what was answered, by whom, why, and after how long.

    Args:
        headers: of the requests, with _ for -: ``x_privacy="private"``.
    """
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    found = []
    with httpx.Client(base_url=home.stack.url, timeout=30, headers=more) as client:
        for text in texts:
            start = time.perf_counter()
            told = client.post("/v1/chat/completions", json=_said(text))
            took_ms = 1000 * (time.perf_counter() - start)
            found.append(
                {
                    "said": text,
                    "answer": _content(told),
                    "by": told.headers.get("x-kit-tier", "nobody"),
                    "why": told.headers.get("x-kit-reason", ""),
                    "ms": took_ms,
                }
            )
    return found


def _said(text: str) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}]}


@dataclass(frozen=True)
class Evening:
    """Some seconds of life, with a cut line in the middle.

    Attributes:
        seen: what the gateway noted of each request.
        cut_s, mended_s: on the clock of ``seen``.
    """

    seen: records.Records
    cut_s: float
    mended_s: float

    def between(self, begin_s: float, end_s: float) -> records.Records:
        """The requests that came in this time."""
        at_s = self.seen["scheduled_s"]
        return self.seen.where((at_s >= begin_s) & (at_s < end_s))


def evening(
    home: Home, seconds: float = 9.0, per_s: float = 25.0, cut: tuple[float, float] = (3.0, 6.0)
) -> Evening:
    """Ask what people say, at random times; the line to the cloud is cut meanwhile, and mended.

    Args:
        seconds, per_s: of the run. ``cut``: from when to when, in seconds from its begin.
    """
    texts = recorded.table("answers.csv").where({"split": "test", "lang": "en"})["text"]
    at_s = poisson(per_s, int(seconds * per_s), seed=0)
    said = np.random.default_rng(0).choice(texts, len(at_s)).tolist()
    asks = [serve.Ask(float(t), text, 24) for t, text in zip(at_s, said, strict=True)]
    before = len(_noted(home))
    times: list[float] = []
    proxy = home.stack.proxy
    assert proxy is not None

    async def lived() -> None:
        start = time.perf_counter()

        async def then(after_s: float, command: str) -> None:
            await asyncio.sleep(after_s)
            await asyncio.to_thread(proxy.say, command)
            times.append(time.perf_counter() - start)

        run = serve.drive(home.stack.url + "/v1", "auto", asks)
        await asyncio.gather(run, then(cut[0], "cut"), then(cut[1], "mend"))

    serve.wait_for(lived())
    seen = _noted(home)
    seen = seen.where(np.arange(len(seen)) >= before)
    zero_s = float(seen["scheduled_s"].min()) - float(at_s[0])
    columns = {name: seen[name] for name in records.COLUMNS}
    for name in ("scheduled_s", "sent_s", "first_token_s", "last_token_s"):
        columns[name] = columns[name] - zero_s
    return Evening(records.Records(columns), *times)


def _noted(home: Home) -> records.Records:
    assert home.stack.house is not None
    return home.stack.house.book.records()


def later(text: str, wait_s: float = 10.0) -> list[dict[str, Any]]:
    """Ask a gateway that knows only the cloud, while the line is cut, for what may wait; then mend the line.

    Returns:
        A line for each step: HTTP status, and what was answered.
    """
    steps = []
    always = {"policy": "always_cloud", "signals_every_s": 0.5}
    with (
        gateway.started(edge=Script(), cloud=cloud(), network="cable_assumed", **always) as stack,
        httpx.Client(base_url=stack.url, timeout=30) as client,
    ):
        assert stack.proxy is not None
        stack.proxy.say("cut")
        for name, more in (("it must be now", {}), ("it may wait", {"x-may-wait": "true"})):
            told = client.post("/v1/chat/completions", json=_said(text), headers=more)
            steps.append({"line": "cut", "asked": name, "status": told.status_code, "said": _content(told)})
        stack.proxy.say("mend")
        end, where = time.monotonic() + wait_s, told.headers.get("location", "/healthz")
        while (told := client.get(where)).status_code == 202 and time.monotonic() < end:
            time.sleep(0.1)
        steps.append(
            {"line": "mended", "asked": "its ticket", "status": told.status_code, "said": _content(told)}
        )
    return steps


def _content(told: httpx.Response) -> str:
    body = told.json()
    if "choices" in body:
        return body["choices"][0]["message"]["content"].strip()
    return "a ticket" if told.status_code == 202 else str(body["error"]["message"])
