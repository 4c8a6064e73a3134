"""The live gateway: what it promises holds while the cloud dies, hangs, lies and comes back."""

import ast
import asyncio
import io
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from email.utils import formatdate
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI

from kit import policy as p
from kit import records, serve
from kit.policy import (
    Answered,
    DispatchSettings,
    Failed,
    Request,
    Route,
    SendTo,
    Sent,
    Target,
    TimePassed,
    WaitUntil,
)
from kit.route import gateway
from kit.route.delays import precise
from kit.route.gateway import policies
from kit.route.gateway.driver import Driver, NoAnswer
from kit.route.gateway.exits import retry_after_s
from kit.route.proxy import Proxy
from kit.route.replay import FAULTS, Fault, Replay, Script
from kit.serve.settings import SettingsError
from kit.simulate.scenario import Link

EDGE, CLOUD = Target("edge"), Target("cloud")
SURE, UNSURE = "turn on the light", "why is the sky blue"
INTENTS = {SURE: {"label": "TurnOn", "confidence": 0.95}, "": {"label": "TurnOff", "confidence": 0.3}}
SAYS = {"": {"text": "Because air scatters blue light more."}}
NEAR = Script(model="edge", service_ms=1, answers=INTENTS)
FAR = Script(model="big", service_ms=5, gap_ms=1, servers=50, answers=SAYS)
LIMIT_S = 60


def live(work, limit_s=LIMIT_S):
    """Run a test in an event loop with precise timers; it must end."""

    async def limited():
        async with asyncio.timeout(limit_s):
            return await work()

    return precise(limited())


class Got:
    """An answer: status, headers, body, and when each piece of it came."""

    def __init__(self):
        self.status, self.headers, self.body, self.at_s = 0, {}, b"", []

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
        elif message.get("body"):
            self.body += message["body"]
            self.at_s.append(time.perf_counter())

    def json(self):
        return json.loads(self.body)

    @property
    def tier(self):
        return self.headers.get("x-kit-tier")

    @property
    def text(self):
        return self.json()["choices"][0]["message"]["content"]

    def events(self):
        lines = [line[6:] for line in self.body.decode().splitlines() if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]


class Home:
    """A gateway in this process, with an edge and a cloud that replay, on real sockets.

    ``async with Home(policy=...) as home: await home.ask("turn on the light")``
    """

    def __init__(self, near=NEAR, far=FAR, links=None, edge=None, cloud=None, **more):
        self.near, self.far, self.links, self.more = near, far, links, more
        self.tiers = ({"speaks": "classify"} | (edge or {}), cloud or {})

    async def __aenter__(self):
        self.edge, self.cloud = Replay(self.near), Replay(self.far)
        edge, self.port = await self.edge.start(), await self.cloud.start()
        far, self.proxy = self.port, None
        if self.links is not None:
            self.proxy = Proxy(("127.0.0.1", self.port), self.links, seed=1)
            far = await self.proxy.start()
        tiers = [
            {"name": "edge", "kind": "device", "model": "edge", "base_url": f"http://127.0.0.1:{edge}/v1"},
            {
                "name": "cloud",
                "kind": "central_cloud",
                "model": "big",
                "base_url": f"http://127.0.0.1:{far}/v1",
            },
        ]
        tiers = [tier | more for tier, more in zip(tiers, self.tiers, strict=True)]
        told = {"signals_every_s": 0.1, "policy": "cascade"} | self.more
        self.app = gateway.create_app(gateway.Settings(tiers=tiers, **told))
        self.house = self.app.state.house
        self.life = self.app.router.lifespan_context(self.app)
        await self.life.__aenter__()
        return self

    async def __aexit__(self, *_):
        await self.life.__aexit__(None, None, None)
        for server in (self.edge, self.cloud, self.proxy):
            if server is not None:
                await server.stop()

    async def call(self, method, path, body=b"", headers=None, gone=None):
        """One request, straight into the application. ``gone``: when that is set, the caller hangs up."""
        got, asked, gone = Got(), [body], gone or asyncio.Event()

        async def receive():
            if asked:
                return {"type": "http.request", "body": asked.pop(), "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        told = {"content-type": "application/json", "content-length": str(len(body))} | (headers or {})
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
            "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(k.encode(), v.encode()) for k, v in told.items()],
        }  # fmt: skip
        await self.app(scope, receive, got.send)
        return got

    async def ask(self, text, headers=None, gone=None, **more):
        body = {"model": "auto", "messages": [{"role": "user", "content": text}]} | more
        return await self.call("POST", "/v1/chat/completions", json.dumps(body).encode(), headers, gone)

    async def get(self, path):
        return await self.call("GET", path)

    async def until(self, true, seconds=10):
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it did not happen"
            await asyncio.sleep(0.01)

    async def recovers(self, stream=False, seconds=10):
        """Ask until the cloud answers (again)."""
        end = time.monotonic() + seconds
        while (await self.ask(SURE, stream=stream)).tier != "cloud":
            assert time.monotonic() < end, "it did not recover"
            await asyncio.sleep(0.05)

    def healthy(self, name):
        return self.house.view()[name].healthy


# --- the driver: what it promises the dispatcher


class Virtual(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer: an hour of time-outs takes no time.

    Its timers fire up to 50 ms early, as asyncio's may by the resolution of the clock.
    """

    class Selector(selectors.SelectSelector):
        jumped_s = 0.0

        def select(self, timeout=None):
            self.jumped_s += timeout or 0.0
            return super().select(0)

    def __init__(self):
        self.mine = self.Selector()
        super().__init__(self.mine)
        self._clock_resolution = 0.05

    def time(self):
        return self.mine.jumped_s


class Notary:
    """A dispatcher around the real one that writes down what the driver does, and when."""

    def __init__(self, settings):
        self.inner, self.log, self.over = p.StandardDispatcher(settings, 1), [], {}

    def start(self, request, route, now_s):
        return self._note(request.id, None, now_s, self.inner.start(request, route, now_s))

    def on(self, event):
        assert event.request_id not in self.over, "a request that is over needs no events"
        return self._note(event.request_id, event, event.now_s, self.inner.on(event))

    def _note(self, id, event, now_s, actions):
        self.log.append((id, event, now_s, tuple(actions)))
        for action in actions:
            if isinstance(action, p.Answer | p.GiveUp):
                self.over[action.request_id] = action
        return actions


class Said:
    """An answer that may be closed."""

    def __init__(self, confidence=None):
        self.confidence, self.closed = confidence, 0

    async def close(self):
        self.closed += 1


ATTEMPTS = st.tuples(
    st.sampled_from(["answered", "unsure", "failed", "busy", "ours", "bug", "never"]), st.floats(0, 3)
)
TIMES = st.floats(0, 2)
ROUTES = st.sampled_from(
    [
        Route(CLOUD),
        Route(CLOUD, (EDGE,)),
        Route(EDGE, (CLOUD,), escalate_below=0.5),
        Route(CLOUD, (EDGE,), hedge_after_ms=300),
        Route(CLOUD, (EDGE, Target("town")), hedge_after_ms=200, escalate_below=0.5),
    ]
)
HABITS = st.builds(
    DispatchSettings,
    attempt_timeout_ms=st.sampled_from([None, 500.0]),
    retries=st.integers(0, 2),
    backoff_ms=st.sampled_from([0.0, 100.0]),
    breaker_failures=st.sampled_from([None, 1, 2]),
    breaker_cooldown_s=st.just(0.5),
)


@settings(max_examples=200, deadline=None)
@given(
    HABITS,
    st.lists(
        st.tuples(ROUTES, st.lists(ATTEMPTS, min_size=9, max_size=9), TIMES, st.none() | TIMES),
        min_size=1, max_size=5,
    ),
)  # fmt: skip
def test_the_driver_keeps_what_the_contract_promises(habits, jobs):
    """Random routes, fates and callers that hang up; the promises of `kit.policy.Dispatcher`, one by one."""
    notary, replies, left, late = Notary(habits), [], set(), []
    driver = Driver(notary)

    async def one(i, route, fates, at_s, patience_s):
        fates = iter(fates)

        async def ask(request, target):
            late.extend(left & {request.id})
            how, after_s = next(fates)
            await asyncio.sleep(1e6 if how == "never" else after_s)
            if how in ("answered", "unsure"):
                replies.append(Said(0.1 if how == "unsure" else 0.9))
                return replies[-1]
            if how == "bug":
                raise KeyError("a bug")
            raise NoAnswer(how, retry_after_s=0.1 if how == "busy" else None, retryable=how != "ours")

        await asyncio.sleep(at_s)
        request = Request(f"r{i}", 10, deadline_ms=4000)
        try:
            async with asyncio.timeout(patience_s):
                carried = await driver.carry(request, route, ask)
        except TimeoutError:
            left.add(request.id)
            return None
        if carried.answer is not None:
            await carried.answer.reply.close()
        return carried

    async def everybody():
        found = await asyncio.gather(*(one(i, *job) for i, job in enumerate(jobs)))
        await asyncio.sleep(20)  # whoever hung up: his request ends as well
        return found

    with asyncio.Runner(loop_factory=Virtual) as runner:
        found = runner.run(everybody())

    times = [at for _, _, at, _ in notary.log]
    assert times == sorted(times), "time never goes backwards"
    for i, carried in enumerate(found):
        id = f"r{i}"
        mine = [entry[1:] for entry in notary.log if entry[0] == id]
        sends = [a.attempt for _, _, actions in mine for a in actions if isinstance(a, SendTo)]
        waits = [a.time_s for _, _, actions in mine for a in actions if isinstance(a, WaitUntil)]
        sent = [e.attempt for e, _, _ in mine if isinstance(e, Sent)]
        ends = [e.attempt for e, _, _ in mine if isinstance(e, Answered | Failed)]
        passed = [at for e, at, _ in mine if isinstance(e, TimePassed)]
        assert id in notary.over, "every request ends"
        for events in (sent, ends):
            assert len(set(events)) == len(events), "each attempt leaves once and ends once"
            assert set(events) <= set(sends), "and somebody wanted it"
        assert len(passed) <= len(waits)
        assert all(at >= due for at, due in zip(passed, sorted(waits), strict=False)), "never before its time"
        end = notary.over[id]
        if carried is not None and carried.answer is not None:
            assert end == p.Answer(id, carried.answer.number)
        elif carried is not None:
            assert end == carried.none
    assert not late, "nobody is asked for a caller who hung up"
    assert notary.inner.open_requests == 0
    assert not driver.open
    assert all(reply.closed == 1 for reply in replies), "every answer is given or closed"


def test_who_hangs_up_is_asked_for_no_more():
    async def work():
        dispatcher, cancelled, asked = p.StandardDispatcher(DispatchSettings(retries=5)), [], []
        driver = Driver(dispatcher)

        async def ask(request, target):
            asked.append(target)
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancelled.append(target)
                raise

        task = asyncio.create_task(driver.carry(Request("r", 1), Route(CLOUD, (EDGE,)), ask))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.01)
        assert (asked, cancelled, dispatcher.open_requests) == ([CLOUD], [CLOUD], 0)

    live(work)


def test_who_hangs_up_between_two_attempts_is_asked_for_no_more():
    """The dispatcher waits to try again, so nothing is open that could be told to end."""

    async def work():
        dispatcher, asked = p.StandardDispatcher(DispatchSettings(retries=5, backoff_ms=200)), []
        driver = Driver(dispatcher)

        async def ask(request, target):
            asked.append(target)
            raise NoAnswer("HTTP 503")

        task = asyncio.create_task(driver.carry(Request("r", 1), Route(CLOUD, (EDGE,)), ask))
        await asyncio.sleep(0.01)
        task.cancel()
        while dispatcher.open_requests:
            await asyncio.sleep(0.01)
        assert asked == [CLOUD]

    live(work)


# --- who answers, and how that is told


def test_what_the_edge_is_sure_of_stays_and_the_rest_goes_to_the_cloud(tmp_path):
    async def work():
        async with Home(cloud={"usd_per_request": 0.01, "usd_per_mtok_out": 1000}) as home:
            sure, unsure = await home.ask(SURE), await home.ask(UNSURE)
            assert (sure.tier, sure.text, sure.headers["x-kit-reason"]) == ("edge", "TurnOn", "first choice")
            assert (unsure.tier, unsure.text) == ("cloud", SAYS[""]["text"])
            assert unsure.headers["x-kit-attempts"] == "2"
            assert unsure.headers["x-kit-reason"] == "escalated: edge was unsure (0.30)"
            assert re.match(r"edge answered [\d.]+ ms 0.30; cloud answered", unsure.headers["x-kit-trace"])
            assert (unsure.headers["x-kit-model"], sure.headers["x-kit-confidence"]) == ("big", "0.9500")
            one = (await home.get("/v1/records/" + unsure.headers["x-kit-id"])).json()
            assert [a["tier"] for a in one["tried"]] == ["edge", "cloud"]
            (tmp_path / "r.csv").write_bytes((await home.get("/v1/records")).body)
            metrics = (await home.get("/metrics")).body.decode()
            assert 'kit_gateway_requests_total{outcome="answered",tier="cloud"} 1.0' in metrics
            assert "why is" not in metrics

    live(work)
    table = records.from_csv(tmp_path / "r.csv")
    assert table["tier"].tolist() == ["edge", "cloud"]
    assert table["attempts"].tolist() == [1, 2]
    assert table["cost_usd"].tolist() == pytest.approx([0, 0.01 + 6 * 0.001])
    assert table["tokens_out"].tolist() == [1, 6]


def test_what_is_no_command_is_not_the_edges_business_however_sure_it_is():
    async def work():
        near = Script(model="edge", service_ms=1, answers={"": {"label": "NotACommand", "confidence": 0.99}})
        async with Home(near=near) as home:
            got = await home.ask(UNSURE)
            assert (got.tier, got.headers["x-kit-reason"]) == ("cloud", "escalated: edge was unsure (0.00)")
            home.edge.fault = Fault("error", status=400)  # longer than the classifier reads
            got = await home.ask(UNSURE)
            assert (got.tier, got.headers["x-kit-reason"]) == ("cloud", "escalated: edge was unsure (0.00)")

    live(work)


def test_commands_can_be_asked_for_as_classifications():
    async def work():
        async with Home(far=Script(model="big", service_ms=5, answers={"": {"label": "TurnOn"}})) as home:
            body = json.dumps({"model": "auto", "input": UNSURE}).encode()
            got = await home.call("POST", "/v1/classify", body)
            assert (got.tier, got.json()["data"][0]["label"]) == ("cloud", "TurnOn")
            body = json.dumps({"model": "auto", "prompt": SURE}).encode()
            got = await home.call("POST", "/v1/completions", body)
            assert (got.tier, got.json()["choices"][0]["text"]) == ("edge", "TurnOn")

    live(work)


def test_a_stream_is_handed_on_as_it_comes():
    async def work():
        async with Home(far=Script(model="big", service_ms=5, gap_ms=60, answers=SAYS)) as home:
            got = await home.ask(UNSURE, stream=True)
            events = got.events()
            said = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1])
            assert (said.strip(), events[-1], got.tier) == (SAYS[""]["text"], "[DONE]", "cloud")
            assert got.at_s[-1] - got.at_s[0] > 0.2, "words come one after the other"
            counted = (await home.ask(UNSURE, stream=True, stream_options={"include_usage": True})).events()
            assert counted[-2]["usage"]["completion_tokens"] == 6
            assert not any(e.get("usage") for e in events[:-1]), "nobody asked for it"
            sure = (await home.ask(SURE, stream=True)).events()
            assert (sure[0]["choices"][0]["delta"]["content"], sure[-1]) == ("TurnOn", "[DONE]")
            rows = home.house.book.records()
            assert rows["last_token_s"][0] - rows["first_token_s"][0] > 0.2

    live(work)


def test_a_stream_that_may_be_passed_over_is_read_to_its_end_first():
    """As in the simulator: nobody sees a word of an answer that may yet be escalated."""

    async def work():
        slow = Script(model="edge", service_ms=1, gap_ms=50, answers=SAYS)
        async with Home(near=slow, edge={"speaks": "chat"}) as home:
            got = await home.ask(UNSURE, stream=True)
            assert got.tier == "edge"
            assert got.at_s[-1] - got.at_s[0] < 0.05
            assert got.events()[-1] == "[DONE]"

    live(work)


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_who_hangs_up_leaves_nothing_behind(stream):
    async def work():
        far = Script(model="big", service_ms=20_000 if not stream else 1, gap_ms=5000, answers=SAYS)
        async with Home(far=far) as home:
            gone = asyncio.Event()
            task = asyncio.create_task(home.ask(UNSURE, gone=gone, stream=stream))
            await home.until(lambda: home.cloud.asked == 1)
            await asyncio.sleep(0.05)
            gone.set()
            await task
            await home.until(
                lambda: home.house.dispatcher.open_requests == 0 and len(home.house.book.records())
            )
            rows = home.house.book.records()
            assert rows["outcome"].tolist() == ["failed"]
            assert not home.house.driver.open

    live(work)


def test_who_is_not_waited_for_any_more_is_told_by_a_closed_connection():
    """After a time-out, and when the caller hung up: nobody is kept busy for an answer that nobody reads."""

    async def work():
        habits = {"attempt_timeout_ms": 300}
        async with Home(policy="always_cloud", fallback="edge", dispatch=habits) as home:
            home.cloud.fault = Fault("hang")
            for _ in range(3):
                assert (await home.ask(SURE)).tier == "edge"
            gone = asyncio.Event()
            task = asyncio.create_task(home.ask(SURE, gone=gone))
            await home.until(lambda: home.cloud.asked == 4)
            gone.set()
            await task
            await home.until(lambda: len(home.cloud._writers) <= 2)  # those that look how it is

    live(work)


def test_a_hedge_is_sent_and_the_first_answer_counts():
    async def work():
        options = {"tier": "cloud", "fallback": "edge", "after_ms": 30}
        far = Script(model="big", service_ms=3000)
        async with Home(far=far, policy="hedged", options=options) as home:
            got = await home.ask(SURE)
            assert (got.tier, got.headers["x-kit-attempts"]) == ("edge", "2")
            assert got.headers["x-kit-reason"] == "cloud was slower"

    live(work)


def test_the_model_that_is_asked_for_is_what_the_policy_sees():
    async def work():
        async with Home(
            policy="nearest", edge={"models": ["edge"]}, cloud={"models": ["big", "huge"]}
        ) as home:
            assert (await home.ask(SURE)).tier == "edge"
            got = await home.ask(SURE, model="huge")
            assert (got.tier, got.json()["model"]) == ("cloud", "huge")
            listed = [m["id"] for m in (await home.get("/v1/models")).json()["data"]]
            assert listed == ["auto", "edge", "big", "huge"]
            missing = await home.ask(SURE, model="gpt-9")
            assert (missing.status, missing.json()["error"]["code"]) == (404, "model_not_found")

    live(work)


@pytest.mark.parametrize(
    ("headers", "more", "status"),
    [
        ({"x-privacy": "secret"}, {}, 400),
        ({"x-deadline-ms": "soon"}, {}, 400),
        ({"x-deadline-ms": "-1"}, {}, 400),
        ({"x-may-wait": "true"}, {"stream": True}, 400),
        ({}, {"temperature": 9}, 400),
        ({}, {"messages": []}, 400),
        ({"content-length": "9999999"}, {}, 413),
        ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, 200),
    ],
)
def test_what_cannot_be_is_refused_and_what_is_not_known_is_handed_on(headers, more, status):
    async def work():
        async with Home() as home:
            got = await home.ask(UNSURE, headers=headers, **more)
            assert got.status == status
            assert status == 200 or got.json()["error"]["message"]
            assert b'"tools"' in home.cloud.received or status != 200

    live(work)


def test_a_refusal_that_is_the_callers_fault_comes_back_in_the_servers_words():
    async def work():
        async with Home(policy="always_cloud", fallback="edge") as home:
            home.cloud.fault = Fault("error", status=400)
            got = await home.ask(UNSURE)
            assert (got.status, got.json()["error"]["message"]) == (400, "told to fail")
            assert home.edge.asked == 0, "nobody else would like it better"

    live(work)


def test_retry_after_is_obeyed():
    async def work():
        habits = {"retries": 3, "backoff_ms": 1, "backoff_max_ms": 300}
        async with Home(policy="always_cloud", dispatch=habits, fallback="edge") as home:
            home.cloud.fault = Fault("error", status=503, retry_after_s=0.2)
            start = time.perf_counter()
            assert (await home.ask(SURE)).tier == "edge"
            assert time.perf_counter() - start >= 0.6
            assert home.cloud.asked == 4
            home.cloud.fault = Fault("error", status=503, retry_after_s=60)
            assert (await home.ask(SURE)).tier == "edge"
            assert home.cloud.asked == 5, "longer than it may wait: not asked again"

    live(work)
    assert retry_after_s({"retry-after": "1.5"}) == 1.5
    assert retry_after_s({"retry-after": formatdate(time.time() + 30, usegmt=True)}) == pytest.approx(
        30, abs=2
    )
    assert retry_after_s({"retry-after": "later"}) is None
    assert retry_after_s({}) is None


# --- faults: commands are answered at home, within their deadline

HABITS_LIVE = {"attempt_timeout_ms": 400, "breaker_failures": 3, "breaker_cooldown_s": 0.3}
DEADLINE_MS = 2500


async def _kill(home):
    await home.cloud.stop()


async def _revive(home):
    await home.cloud.again(home.port)


def _fault(**told):
    async def begin(home):
        home.cloud.fault = Fault(**told)

    async def end(home):
        home.cloud.fault = Fault()

    return begin, end


def _network(command):
    async def begin(home):
        home.proxy.command(command)

    async def end(home):
        home.proxy.command("mend")

    return begin, end


TROUBLES = {
    "killed": (_kill, _revive),
    "slow": _fault(fault="slow", ms=5000),
    "garbage": _fault(fault="garbage"),
    "error 500": _fault(fault="error"),
    "error 503": _fault(fault="error", status=503, retry_after_s=2),
    "no key of ours": _fault(fault="error", status=401),
    "hang": _fault(fault="hang"),
    "truncated": _fault(fault="truncated", after=0),
    "break": _fault(fault="break", after=0),
    "close": _fault(fault="close"),
    "network cut": _network("cut"),
    "network hangs": _network("hang"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_commands_are_answered_at_the_edge_whatever_the_cloud_does(trouble, stream):
    """The cloud is asked first, so every request meets the trouble. Afterwards the cloud answers again."""
    begin, end = TROUBLES[trouble]

    async def work():
        told = {
            "policy": "always_cloud",
            "fallback": "edge",
            "dispatch": HABITS_LIVE,
            "connect_timeout_ms": 200,
        }
        async with Home(links={}, **told) as home:
            await home.recovers(stream)
            await begin(home)
            took = []
            for _ in range(6):
                start = time.perf_counter()
                got = await home.ask(SURE, headers={"x-deadline-ms": str(DEADLINE_MS)}, stream=stream)
                took.append(1000 * (time.perf_counter() - start))
                assert (got.status, got.tier) == (200, "edge"), got.headers
                assert b"TurnOn" in got.body
                assert "cloud" in got.headers["x-kit-reason"] or not home.house.dispatcher.healthy(CLOUD, 0.0)
            assert max(took) < DEADLINE_MS
            await end(home)
            await home.recovers(stream)

    live(work)


def test_the_cascade_gives_the_unsure_answer_when_the_cloud_is_gone():
    async def work():
        async with Home(dispatch=HABITS_LIVE) as home:
            await home.cloud.stop()
            got = await home.ask(UNSURE)
            assert (got.status, got.tier, got.text) == (200, "edge", "TurnOff")
            assert got.headers["x-kit-reason"] == "nobody surer answered"

    live(work)


def test_a_stream_that_breaks_after_its_first_word_says_so():
    """What was said cannot be unsaid: no other tier is asked, and the caller is told."""

    async def work():
        async with Home() as home:
            home.cloud.fault = Fault("break", after=2)
            got = await home.ask(UNSURE, stream=True)
            *words, error = got.events()
            assert (got.status, len(words)) == (200, 2)
            assert error["error"]["code"] == "broke_off"
            rows = home.house.book.records()
            assert rows["outcome"].tolist() == ["failed"]

    live(work)


def test_the_network_is_cut_in_the_middle_of_an_answer():
    async def work():
        told = {"policy": "always_cloud", "fallback": "edge", "dispatch": HABITS_LIVE, "signals_every_s": 60}
        async with Home(links={"wan": Link(rtt_ms=4)}, **told) as home:
            await home.until(lambda: home.house.view()["cloud"].rtt_ms > 0)  # the only look is over
            await home.ask(UNSURE)
            home.proxy.command("break 60")  # in its head: nothing was said yet
            got = await home.ask(SURE, stream=True)
            assert (got.tier, got.events()[-1]) == ("edge", "[DONE]")
            home.proxy.command("break 420")  # after the first word
            got = await home.ask(SURE, stream=True)
            assert got.tier == "cloud"
            assert got.events()[-1]["error"]["code"] == "broke_off"
            home.proxy.command("break 100")
            got = await home.ask(SURE)
            assert (got.status, got.tier) == (200, "edge")

    live(work)


OK = b"HTTP/1.1 200 OK\r\n"
JSON_ = OK + b"Content-Type: application/json\r\n"
SSE = OK + b"Content-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WORD = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]}\n\n'
END = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
STRANGE = {
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "nothing": b"",
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "elsewhere": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "too short": JSON_ + b'Content-Length: 99\r\n\r\n{"choices": []}',
    "a list": JSON_ + b"Content-Length: 2\r\n\r\n[]",
    "no choices": JSON_ + b"Content-Length: 2\r\n\r\n{}",
    "choices of nothing": JSON_ + b'Content-Length: 19\r\n\r\n{"choices": [null]}',
    "half a character": JSON_ + b"Content-Length: 3\r\n\r\n\xff\xfe{",
    "a header without end": OK + b"X: " + b"y" * 200_000,
    "a bad chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no events": SSE + b"hello\n\n",
    "an event of no choice": SSE + b'data: {"choices": [3]}\n\n',
    "an error at once": SSE + b'data: {"error": {"message": "out of memory"}}\n\n',
    "only an opening": SSE
    + b'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}\n\ndata: [DONE]\n\n',
}


async def _says(told):
    """A server that says this to everybody, whatever he asks, and hangs up. Returns it and its port."""

    async def talk(reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head, re.I)[1]))
            writer.write(told)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", STRANGE)
def test_whatever_a_cloud_says_the_edge_answers(what, stream):
    async def work():
        server, port = await _says(STRANGE[what])
        cloud = {"base_url": f"http://127.0.0.1:{port}/v1", "health": "", "load": ""}
        async with Home(policy="always_cloud", fallback="edge", cloud=cloud) as home:
            got = await home.ask(SURE, stream=stream)
            assert (got.status, got.tier) == (200, "edge"), got.body
            assert got.headers["x-kit-reason"].startswith("after cloud")
            assert "in the gateway" not in got.headers["x-kit-reason"], "a bug of ours"
        server.close()

    live(work)


@pytest.mark.parametrize(
    ("told", "ends"), [(WORD + END, "[DONE]"), (WORD, "broke_off"), (WORD + b"data: oops\n\n", "broke_off")]
)
def test_a_stream_without_done_is_whole_if_it_told_why_it_ended(told, ends):
    async def work():
        server, port = await _says(SSE + told)
        cloud = {"base_url": f"http://127.0.0.1:{port}/v1", "health": "", "load": ""}
        async with Home(policy="always_cloud", cloud=cloud) as home:
            last = (await home.ask(SURE, stream=True)).events()[-1]
            assert (last if ends == "[DONE]" else last["error"]["code"]) == ends
        server.close()

    live(work)


def test_nobody_at_all_is_told_as_such():
    async def work():
        async with Home(dispatch=HABITS_LIVE) as home:
            await home.cloud.stop()
            await home.edge.stop()
            got = await home.ask(SURE)
            assert (got.status, got.json()["error"]["code"]) == (502, "no_answer")
            home.edge.fault = home.cloud.fault = Fault("hang")
            got = await home.ask(SURE, headers={"x-deadline-ms": "100"})
            assert got.status in (502, 504)
            await home.until(lambda: not home.healthy("edge") and not home.healthy("cloud"))
            assert (await home.get("/readyz")).status == 503
            assert (await home.get("/healthz")).status == 200

    live(work)


def test_no_request_is_left_unanswered_while_faults_come_and_go():
    async def work():
        habits = {"attempt_timeout_ms": 600, "retries": 1, "backoff_ms": 10, "breaker_failures": 5,
                  "breaker_cooldown_s": 0.1}  # fmt: skip
        near = Script(model="edge", service_ms=1, servers=50, answers=INTENTS)
        async with Home(near, links={}, dispatch=habits, fallback="edge", connect_timeout_ms=300) as home:
            rng, statuses = np.random.default_rng(0), Counter()

            async def trouble():
                while True:
                    home.cloud.fault = Fault("any", rate=0.7, ms=300)
                    home.proxy.command(str(rng.choice(["cut", "hang", "reset", "break 90", "slow 20"])))
                    await asyncio.sleep(0.1)
                    home.proxy.command("mend")
                    await asyncio.sleep(0.1)

            async def one(i):
                await asyncio.sleep(0.015 * i)
                text = SURE if i % 2 else UNSURE
                got = await home.ask(text, headers={"x-deadline-ms": "5000"}, stream=i % 3 == 0)
                statuses[got.status, got.tier if text == SURE else ""] += 1

            task = asyncio.create_task(trouble())
            await asyncio.gather(*(one(i) for i in range(300)))
            task.cancel()
            assert sum(statuses.values()) == 300
            assert statuses[200, "edge"] > 140, "commands: at home, but for a few on a machine that is busy"
            assert {s for s, _ in statuses} == {200}
            assert home.house.dispatcher.open_requests == 0
            assert len(home.house.book.records()) == 300

    live(work)


# --- privacy


async def _ten_thousand(policy, n, **told):
    """Mixed requests through one gateway, with faults; returns what the cloud received, and outcomes."""
    habits = {"attempt_timeout_ms": 60, "retries": 1, "backoff_ms": 1, "breaker_failures": 20,
              "breaker_cooldown_s": 0.02}  # fmt: skip
    near = Script(model="edge", service_ms=0, servers=1000, answers=INTENTS)
    far = Script(model="big", service_ms=0, servers=1000, answers=SAYS)
    outcomes: Counter = Counter()
    async with Home(near=near, far=far, policy=policy, dispatch=habits, waiting=50, **told) as home:
        home.cloud.fault = Fault("any", rate=0.1, ms=30)
        rng, gate = np.random.default_rng(7), asyncio.Semaphore(40)
        privacies = rng.choice(["public", "personal", "private"], n)

        async def one(i):
            privacy = str(privacies[i])
            text = f"{SURE if i % 2 else UNSURE} {privacy}-{i:05d}"
            headers = {"x-privacy": privacy, "x-deadline-ms": "400", "x-request-id": f"id-{i}"}
            if i % 7 == 0:
                headers["x-may-wait"] = "true"
            async with gate:
                got = await home.ask(text, headers, stream=i % 3 == 0 and i % 7 != 0)
            outcomes[privacy, got.status, got.tier] += 1

        async def edge_trouble():
            while True:
                await asyncio.sleep(0.3)
                home.edge.fault = Fault("any", rate=0.2, ms=20)
                await asyncio.sleep(0.05)
                home.edge.fault = Fault()

        task = asyncio.create_task(edge_trouble())
        await asyncio.gather(*(one(i) for i in range(n)))
        task.cancel()
        for _ in range(3):  # what waits is sent as well
            await asyncio.sleep(0.1)
        kept_back = sum(home.house.exits.refused.values())
        return bytes(home.cloud.received), outcomes, kept_back


class Reckless:
    """A policy that sends everything to the cloud, twice, and tells nobody."""

    def route(self, request, fleet, now, rng):
        return Route(CLOUD, (EDGE, CLOUD), hedge_after_ms=5, escalate_below=0.99)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("cascade", {}),
        ("simple_shuffle", {"fallback": "edge"}),
        (f"{__name__}:Reckless", {}),
        (f"{__name__}:Reckless", {"privacy_first": False}),
    ],
    ids=["cascade", "shuffle", "reckless", "reckless, last line only"],
)
def test_not_one_private_byte_reaches_the_cloud(policy, told):
    """A cloud that writes down every byte, faults all over, 10,000 requests over the four cases."""
    received, outcomes, kept_back = live(lambda: _ten_thousand(policy, 2500, **told))
    assert sum(outcomes.values()) == 2500
    assert b"public-" in received, "the cloud was asked"
    assert b"private" not in received
    assert b"personal" not in received
    assert (kept_back > 0) == (told.get("privacy_first") is False)
    private = Counter()
    for (privacy, status, tier), n in outcomes.items():
        private[tier] += n * (privacy == "private" and status == 200)
    assert set(+private) == {"edge"}
    assert private["edge"] > 200


def test_where_nobody_may_be_asked_the_request_is_refused():
    async def work():
        async with Home(policy="always_cloud", edge={"kind": "regional_edge"}) as home:
            got = await home.ask(SURE, headers={"x-privacy": "private"})
            assert (got.status, got.json()["error"]["code"]) == (403, "privacy")
            assert (await home.ask(SURE, headers={"x-privacy": "personal"})).tier == "edge"
            assert home.cloud.asked == 0

    live(work)


def test_privacy_by_default_and_by_intent():
    async def work():
        near = Script(
            model="edge", service_ms=1, answers={"who is at home": {"label": "GetState", "confidence": 0.2}}
        )
        told = {"edge_first": "edge", "intents": {"GetState": "private"}}
        async with Home(near=near, **told) as home:
            got = await home.ask("who is at home")
            assert got.tier == "edge", "an unsure answer would have gone to the cloud, but for its intent"
            assert home.edge.asked == 1, "what the edge said before the decision is not asked again"
            assert home.cloud.asked == 0
        async with Home(policy="always_cloud", privacy="personal") as home:
            assert (await home.ask(SURE)).tier == "edge"
            assert (await home.ask(SURE, headers={"x-privacy": "public"})).tier == "cloud"

    live(work)


def test_the_policy_knows_what_the_edge_said_if_it_was_asked_first():
    async def work():
        async with Home(edge_first="edge") as home:
            seen = []
            inner = home.house.policy.policy.policy
            home.house.policy.policy.policy = policies.Deciding(
                lambda request, *rest: seen.append(request) or inner.route(request, *rest)
            )
            got = await home.ask(UNSURE)
            assert got.headers["x-kit-attempts"] == "1", "straight to the cloud"
            assert got.headers["x-kit-reason"] == "the edge said TurnOff (0.30)"
            await home.ask("开灯 please")
            assert [(r.edge_confidence, r.intent, r.language) for r in seen] == [
                (0.3, "TurnOff", "en"), (0.3, "TurnOff", "zh"),
            ]  # fmt: skip

    live(work)


def test_no_proxy_of_the_environment_is_used_and_no_redirect_followed(monkeypatch):
    async def work():
        spy = Replay(Script())
        port = await spy.start()
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        async with Home() as home:
            await home.ask(SURE, headers={"x-privacy": "private"})
            home.edge.fault = Fault("error", status=307)
            got = await home.ask(SURE, headers={"x-privacy": "private"})
            assert got.status == 502
        assert not spy.received
        await spy.stop()

    live(work)


def test_bytes_leave_at_one_place_only():
    """No module of the gateway but ``exits`` can reach another machine, and it sends after it has looked."""
    folder = Path(gateway.__file__).parent
    reach = {"kit.route.gateway.wire": {"exits", "asks", "answers"}, "kit.route.gateway.exits": None}
    for file in folder.glob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        if file.stem not in ("wire", "run"):  # run waits for its own process to be ready
            assert not names & {"httpx", "socket", "http.client", "urllib.request", "h11"}, file.name
        for module, who in reach.items():
            assert who is None or module not in names or file.stem in who
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        assert not [c for c in calls if getattr(c, "attr", "") == "open_connection"] or file.stem == "wire"
        assert not [c for c in calls if getattr(c, "id", "") == "Wire"] or file.stem == "exits"
    text = (folder / "exits.py").read_text("utf-8")
    assert text.index("not in ALLOWED_KINDS[request.privacy]") < text.index('.ask("POST"')
    assert text.count('.ask("POST"') == 1


# --- remembered answers, and requests that can wait


def test_an_answer_is_remembered_when_nobody_gives_a_new_one():
    async def work():
        async with Home(policy="always_cloud", dispatch=HABITS_LIVE, remember=2) as home:
            for text in ("one", UNSURE, "two"):
                assert (await home.ask(text)).status == 200
            await home.ask("mine", headers={"x-privacy": "private"})
            await home.cloud.stop()
            await home.edge.stop()
            got = await home.ask(UNSURE)
            assert (got.status, got.tier, got.text) == (200, "memory", SAYS[""]["text"])
            assert got.headers["x-kit-reason"].startswith("remembered, since nobody answers: ")
            assert (await home.ask("one")).status == 502, "forgotten: only two are kept"
            assert (await home.ask(UNSURE, headers={"x-privacy": "private"})).status == 502
            assert (await home.ask("mine", headers={"x-privacy": "private"})).status == 502

    live(work)


def test_what_can_wait_waits_until_the_cloud_is_back():
    async def work():
        wait = {"x-may-wait": "true"}
        async with Home(policy="always_cloud", dispatch=HABITS_LIVE, waiting=3, remember=0) as home:
            assert (await home.ask("zero", wait)).status == 200, "nobody waits without a reason"
            await home.cloud.stop()
            tickets = [await home.ask(text, wait) for text in ("one", "two", "three")]
            assert [t.status for t in tickets] == [202] * 3
            full = await home.ask("four", wait)
            assert (full.status, full.headers["retry-after"]) == (503, "5")
            assert (await home.ask("five")).status == 502, "this one did not want to wait"
            where = [t.headers["location"] for t in tickets]
            assert (await home.get(where[0])).status == 202
            await home.until(lambda: not home.healthy("cloud"))
            private = await home.ask(SURE, wait | {"x-privacy": "private"})
            assert (private.status, private.tier) == (200, "edge"), "it has nothing to wait for"
            await home.cloud.again(home.port)
            await home.until(lambda: not len(home.house.waiting))
            for place in where:
                got = await home.get(place)
                assert (got.status, got.text) == (200, SAYS[""]["text"])
                assert got.headers["x-kit-reason"] == "waited; first choice"
            assert (await home.get("/v1/queue/other")).status == 404
            rows = home.house.book.records()
            waited = rows.where(rows["outcome"] == "answered")["e2e_ms"]
            assert max(waited) > 50

    live(work)


# --- signals


def test_the_view_is_as_old_as_the_last_look():
    async def work():
        async with Home(links={"wan": Link(rtt_ms=30)}, signals_every_s=0.2, dispatch=HABITS_LIVE) as home:
            await home.until(lambda: home.house.view()["cloud"].rtt_ms >= 30)
            view = home.house.view()
            assert view["edge"].rtt_ms < view["cloud"].rtt_ms < 200
            assert view["cloud"].age_s == pytest.approx(0.6)
            await home.cloud.stop()
            assert home.healthy("cloud"), "nobody has looked yet"
            await home.until(lambda: not home.healthy("cloud"))
            assert home.healthy("edge")
            await home.cloud.again(home.port)
            await home.until(lambda: home.healthy("cloud"))
            told = (await home.get("/v1/fleet")).json()
            assert told["cloud"]["healthy"] is True

    live(work)


def test_queues_are_seen_and_a_tier_that_hangs_does_not_hide_the_others():
    async def work():
        far = Script(model="big", service_ms=1500)
        async with Home(links={}, far=far, policy="always_cloud", signals_every_s=0.15) as home:
            open_ = [asyncio.create_task(home.ask(SURE)) for _ in range(3)]
            await home.until(lambda: home.house.view()["cloud"].queue == 3)
            home.proxy.command("hang")
            await home.until(lambda: not home.healthy("cloud"))
            await home.until(lambda: home.healthy("edge"))
            for task in open_:
                task.cancel()
            await asyncio.gather(*open_, return_exceptions=True)
            await home.until(lambda: home.house.signals.seen["cloud"].open == 0)

    live(work)


def test_a_server_that_has_no_health_path_lives_all_the_same():
    """Any OpenAI-compatible server may stand here, and most have other paths."""

    async def work():
        tiers = {"health": "/nowhere", "load": ""}
        async with Home(edge=tiers, cloud=tiers) as home:
            await home.until(lambda: home.house.view()["cloud"].rtt_ms > 0)
            assert home.healthy("cloud")
            home.cloud.fault = Fault("hang")
            assert (await home.ask(SURE)).tier == "edge"

    live(work)


def test_only_the_last_requests_are_kept_and_what_was_asked_is_not():
    async def work():
        async with Home(kept=3) as home:
            ids = [(await home.ask(f"{SURE} secret-{i}")).headers["x-kit-id"] for i in range(5)]
            table = await home.get("/v1/records")
            assert [row.split(",")[0] for row in table.body.decode().split()[1:]] == ids[2:]
            assert (await home.get("/v1/records/" + ids[0])).status == 404
            one = await home.get("/v1/records/" + ids[4])
            assert (one.status, one.json()["privacy"]) == (200, "public")
            for told in (table, one, await home.get("/metrics"), await home.get("/v1/fleet")):
                assert b"secret" not in told.body

    live(work)


def test_an_open_circuit_is_not_healthy():
    async def work():
        habits = {"breaker_failures": 1, "breaker_cooldown_s": 60, "attempt_timeout_ms": 500}
        async with Home(policy="always_cloud", dispatch=habits) as home:
            home.cloud.fault = Fault("error")
            await home.ask(SURE)
            await home.until(lambda: not home.healthy("cloud"))
            assert (await home.get("/readyz")).json() == {
                "status": "ready",
                "tiers": {"edge": True, "cloud": False},
            }

    live(work)


# --- policies


def test_a_split_is_stable_and_as_wide_as_it_was_told():
    async def tiers(weights):
        async with Home(policy="stable_split", options={"weights": weights, "salt": "s"}) as home:
            found = {}
            for i in range(120):
                found[i] = (await home.ask(SURE, headers={"x-request-id": f"home-{i}"})).tier
            return found

    first, again, more = (
        live(lambda w=w: tiers(w)) for w in ({"cloud": 1, "edge": 9},) * 2 + ({"cloud": 5, "edge": 5},)
    )
    assert first == again
    assert 2 <= Counter(first.values())["cloud"] <= 30
    on_it = {i for i, tier in first.items() if tier == "cloud"}
    assert on_it <= {i for i, tier in more.items() if tier == "cloud"}, (
        "whoever was on the canary stays on it"
    )


RAISES = "class Mine:\n    def route(self, request, fleet, now, rng):\n        return fleet['moon']\n"
NONSENSE = "class Mine:\n    def route(self, request, fleet, now, rng):\n        return 'edge'\n"
SLOW = "import time\nclass Mine:\n    def route(self, request, fleet, now, rng):\n        time.sleep(0.5)\n"
BAD_LESSON = (
    "from kit.policy import AlwaysEdge\nclass Mine(AlwaysEdge):\n"
    "    def observe(self, outcome):\n        raise RuntimeError('no thanks')\n"
)
GOOD = (
    "from kit.policy import Route, Target\nclass Mine:\n    def route(self, request, fleet, now, rng):\n"
    "        return Route(Target('cloud'), (Target('edge'),))\n"
)


@pytest.mark.parametrize(
    ("source", "says"),
    [(RAISES, "KeyError"), (NONSENSE, "returned 'edge'"), (SLOW, "no decision within 40 ms")],
)
def test_a_readers_policy_that_fails_is_told_and_passed_over(tmp_path, caplog, source, says):
    file = tmp_path / "mine.py"
    file.write_text(source)

    async def work():
        async with Home(policy=str(file), policy_limit_ms=40) as home:
            start = time.perf_counter()
            got = await home.ask(SURE)
            assert (got.status, got.tier) == (200, "edge")
            assert time.perf_counter() - start < 0.45
            assert got.headers["x-kit-reason"].startswith("the policy failed (")
            assert says in got.headers["x-kit-reason"]
            metrics = (await home.get("/metrics")).body.decode()
            assert 'kit_gateway_policy_failures_total{how="route"} 1.0' in metrics

    live(work)
    assert says in caplog.text


def test_a_readers_policy_decides_and_learns(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(GOOD + "    def observe(self, outcome):\n        self.last = outcome\n")

    async def work():
        async with Home(policy=f"{file}:Mine", dispatch=HABITS_LIVE) as home:
            assert (await home.ask(SURE)).tier == "cloud"
            home.cloud.fault = Fault("error", status=503, retry_after_s=9)
            assert (await home.ask(SURE)).tier == "edge"
            mine = home.house.policy.policy.policy.policy
            last = mine.last
            assert (last.status, last.answered_by, last.attempts) == ("answered", EDGE, 2)
            assert [(a.target, a.status) for a in last.tried] == [(CLOUD, "failed"), (EDGE, "answered")]
            assert last.tried[0].retry_after_s == 9
            assert last.confidence == 0.95

    live(work)


def test_a_lesson_that_raises_harms_nobody(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(BAD_LESSON)

    async def work():
        async with Home(policy=f"{file}:Mine") as home:
            for _ in range(2):
                assert (await home.ask(SURE)).tier == "edge"
            assert 'failures_total{how="observe"} 2.0' in (await home.get("/metrics")).body.decode()

    live(work)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("magic", "no known name .*confidence_cascade.*no module"),
        ("nowhere.py", "there is no file"),
        ("kit.policy:Nothing", "AttributeError"),
        ("kit.policy:SimpleShuffle", "missing 1 required"),
        ("kit.policy:Target", "missing"),
        ("kit:__version__", "has no route"),
    ],
)
def test_a_policy_that_is_not_there_is_told_at_the_start(policy, says):
    tier = {"name": "edge", "kind": "device", "base_url": "http://127.0.0.1:1/v1"}
    with pytest.raises(SettingsError, match=says):
        gateway.create_app(gateway.Settings(tiers=[tier], policy=policy))


def test_the_policy_and_the_dispatcher_are_those_of_the_simulator():
    from kit.route.gateway import house
    from kit.simulate import events

    assert house.StandardDispatcher is events.StandardDispatcher is p.StandardDispatcher
    tier = {"name": "edge", "kind": "device", "base_url": "http://127.0.0.1:1/v1"}
    cloud = {"name": "cloud", "kind": "central_cloud", "base_url": "http://127.0.0.1:2/v1"}
    app = gateway.create_app(
        gateway.Settings(tiers=[tier, cloud], policy="cascade", options={"threshold": 0.6})
    )
    guarded = app.state.house.policy.policy
    assert guarded.policy == p.make(
        "confidence_cascade", {"edge": "edge", "cloud": "cloud", "threshold": 0.6}
    )


# --- settings, keys, names

ONE = '{name = "edge", kind = "device", base_url = "http://127.0.0.1:1/v1"}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "at least one is needed"),
        (f"tiers = [{ONE}, {ONE}]", "a name of its own"),
        (
            f"tiers = [{ONE.replace('127.0.0.1', 'example.com')}]",
            "not an address of this machine or of the home",
        ),
        (f"tiers = [{ONE}]\ncolour = 1", "colour"),
        (f"tiers = [{ONE}]\ndispatch = {{tries = 3}}", "tries is not known; there are: attempt_timeout_ms"),
        (f"tiers = [{ONE}]\ndispatch = {{retries = -1}}", "retries must be >= 0"),
        (f'tiers = [{ONE}]\nfallback = "moon"', "no tier is called 'moon'"),
        (f'tiers = [{ONE}]\nintents = {{GetState = "private"}}', "edge_first must name its tier"),
        ("tiers = ", "Invalid value"),
    ],
)
def test_bad_settings_say_what_is_wrong(tmp_path, text, says):
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(says)):
        gateway.load_settings(file)


def test_settings_come_from_file_and_environment(tmp_path, monkeypatch):
    file = tmp_path / "gateway.toml"
    file.write_text(f'tiers = [{ONE}]\npolicy = "nearest"\n')
    monkeypatch.setenv("KIT_GATEWAY_SIGNALS_EVERY_S", "7")
    found = gateway.load_settings(file, port=9999)
    assert (found.policy, found.signals_every_s, found.port) == ("nearest", 7, 9999)


def test_two_requests_of_one_name_at_once_are_refused_and_keys_are_asked_for(tmp_path):
    file = tmp_path / "keys.toml"
    key = serve.add_key(file, "reader")

    async def work():
        async with Home(
            far=Script(model="big", service_ms=400), policy="always_cloud", keys=file, most=1
        ) as home:
            mine = {"authorization": f"Bearer {key}", "x-request-id": "a"}
            assert (await home.ask(SURE)).status == 401
            first = asyncio.create_task(home.ask(SURE, headers=mine))
            await home.until(lambda: home.cloud.asked == 1)
            assert (await home.ask(SURE, headers=mine)).status == 409
            assert (await home.ask(SURE, headers=mine | {"x-request-id": "b"})).status == 503, "one at a time"
            assert (await first).status == 200

    live(work)


# --- real processes


@pytest.fixture(scope="module")
def processes_():
    """Edge, cloud, a network between, and the gateway: each a process of its own."""
    near = Script(model="edge", service_ms=2, answers=INTENTS)
    far = Script(model="big", service_ms=10, gap_ms=2, answers=SAYS, port=serve.free_port())
    told = {"dispatch": HABITS_LIVE, "signals_every_s": 0.2, "connect_timeout_ms": 300}
    with gateway.started(near, far, {"wan": Link(rtt_ms=20)}, policy="cascade", **told) as stack:
        yield stack


def test_the_openai_client_works_unchanged(processes_):
    client = OpenAI(base_url=processes_.url + "/v1", api_key="x", max_retries=0)
    ask = [{"role": "user", "content": UNSURE}]
    whole = client.chat.completions.create(model="auto", messages=ask)
    assert whole.choices[0].message.content == SAYS[""]["text"]
    assert whole.usage.completion_tokens == 6
    stream = client.chat.completions.create(model="auto", messages=ask, stream=True)
    assert "".join(e.choices[0].delta.content or "" for e in stream).strip() == SAYS[""]["text"]
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=[{"role": "user", "content": SURE}], extra_headers={"x-privacy": "private"}
    )
    assert raw.headers["x-kit-tier"] == "edge"
    assert raw.parse().choices[0].message.content == "TurnOn"
    assert [m.id for m in client.models.list()] == ["auto", "edge", "big"]
    text = client.completions.create(model="big", prompt=UNSURE)
    assert text.choices[0].text


def test_the_load_generator_and_the_gateways_own_table_agree(processes_):
    url = processes_.url
    asks = [serve.Ask(0.02 * i, SURE if i % 2 else UNSURE) for i in range(80)]
    report = serve.wait_for(serve.drive(url + "/v1", "auto", asks))
    assert (report.records["outcome"] == "answered").all()
    file = io.BytesIO(httpx.get(url + "/v1/records").content)
    rows = file.getvalue().decode().splitlines()[-80:]
    assert Counter(row.split(",")[8] for row in rows) == {"edge": 40, "cloud": 40}
    cloud = report.records["e2e_ms"][::2]
    assert np.median(cloud) >= 30, "20 ms of network, 10 ms of service"
    assert processes_.proxy.say("state")["exchanges"] >= 40


def test_killed_hung_and_back_again_between_processes(processes_):
    stack = processes_
    body = {"model": "auto", "messages": [{"role": "user", "content": SURE}]}
    hard = {"model": "auto", "messages": [{"role": "user", "content": UNSURE}]}
    with httpx.Client(base_url=stack.url, timeout=20) as client:

        def tier(told):
            answer = client.post("/v1/chat/completions", json=told, headers={"x-deadline-ms": "3000"})
            assert answer.status_code == 200
            return answer.headers["x-kit-tier"]

        for begin, end in (("hang", "mend"), ("cut", "mend")):
            stack.proxy.say(begin)
            assert [tier(body), tier(hard)] == ["edge", "edge"]
            stack.proxy.say(end)
            until(lambda: tier(hard) == "cloud")
        os.kill(stack.cloud.process.pid, signal.SIGSTOP)  # hung: its connections are open, nobody is at home
        assert [tier(body), tier(hard)] == ["edge", "edge"]
        os.kill(stack.cloud.process.pid, signal.SIGCONT)
        until(lambda: tier(hard) == "cloud")
        stack.cloud.process.kill()
        assert [tier(body), tier(hard)] == ["edge", "edge"]
        until(lambda: not client.get("/readyz").json()["tiers"]["cloud"])


def until(true, seconds=15):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_the_command_line_starts_all_of_it_and_stops_it(tmp_path):
    """``kit gateway`` in front of an edge that is there, with a cloud and a network that it starts itself."""
    from kit.route import processes

    edge, port = processes.replay(NEAR), serve.free_port()
    command = [sys.executable, "-m", "kit", "gateway", "--policy", "cascade", "--edge", edge.url + "/v1"]
    command += ["--cloud-ms", "5", "--network", "cable_assumed", "--port", str(port)]
    with processes.ending(edge):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _up(url) or process.poll() is not None, 60)
            body = {"messages": [{"role": "user", "content": UNSURE}]}
            answer = httpx.post(url + "/v1/chat/completions", json=body, timeout=20)
            assert answer.headers["x-kit-tier"] == "cloud"
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert f"gateway  {url}/v1  (policy cascade)" in out
    assert "cable_assumed; commands at port" in out
    assert process.returncode == 0


def _up(url):
    try:
        return httpx.get(url + "/healthz", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def test_wrong_use_of_the_command_line_is_explained_before_anything_starts(tmp_path, capsys, monkeypatch):
    from kit import cli

    monkeypatch.setattr(sys.modules["kit.route.gateway.run"], "serving", None)

    file = tmp_path / "g.toml"
    file.write_text(f"tiers = [{ONE}]\n")
    assert cli.main(["gateway", "--settings", str(file), "--network", "cable_assumed"]) == 2
    assert "leave out --edge, --cloud and --network" in capsys.readouterr().err
    for argv, says in (
        (["--cloud", "http://127.0.0.1:1", "--cloud-ms", "3"], "give one of them"),
        (["--policy", "magic"], "'magic' is no known name"),
        (["--network", "string_and_cans"], "string_and_cans"),
        (["--network", "5g_germany_loss_2025"], "say rtt_ms"),
        (["--port", "99999"], "port"),
    ):
        assert cli.main(["gateway", *argv]) == 2
        assert says in capsys.readouterr().err


assert set(FAULTS) == {"hang", "slow", "error", "garbage", "truncated", "break", "close"}, (
    "TROUBLES has them all"
)
