"""The server with the real OpenAI client, with hostile clients, and against what theory and libraries say."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from math import inf

import httpx
import numpy as np
import openai
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI

from kit import artifacts, decode, engine, models, serve
from kit.engine import chat_ids, tokenizer
from kit.serve import alerts, filters, keys, load, manifest, schemas, shelf
from kit.serve.limits import Allowance, OverLimit, Window
from kit.serve.metrics import Metrics
from kit.serve.settings import ModelSettings, SettingsError

HELLO = [{"role": "user", "content": "What is the capital of France?"}]


# --- limits


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 8)), max_size=40))
def test_no_window_ever_holds_more_than_its_limit(steps):
    window, now, taken = Window("requests", 10, 7.0), 0.0, []
    for gap, amount in steps:
        now += gap
        if window.wait_s(amount, now) == 0:
            window.take(amount, now)
            taken.append((now, amount))
        inside = sum(a for at, a in taken if at > now - 7.0)
        assert inside <= 10


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 6)), min_size=1, max_size=30), st.integers(1, 10))
def test_the_time_to_wait_is_right_to_the_moment(steps, amount):
    window, now = Window("requests", 10, 5.0), 0.0
    for gap, size in steps:
        now += gap
        if window.wait_s(size, now) == 0:
            window.take(size, now)
    wait = window.wait_s(amount, now)
    assert 0 <= wait <= 5 + 1e-9
    if wait:
        assert window.wait_s(amount, now + wait * (1 - 1e-6)) > 0
    assert window.wait_s(amount, now + wait + 1e-6) == 0


def test_a_request_larger_than_the_limit_never_fits():
    assert Window("requests", 10, 5.0).wait_s(11, 0.0) == inf
    with pytest.raises(OverLimit, match="Ask for fewer"):
        Allowance({"output_tokens": 10}, 60, lambda: 0.0).reserve(1, 11)


def test_two_requests_cannot_both_take_the_last_tokens_and_what_is_left_over_comes_back():
    allowance = Allowance({"output_tokens": 100}, 60, lambda: 0.0)
    first = allowance.reserve(5, 60)
    with pytest.raises(OverLimit, match="40 of 100 in 60 s are left"):
        allowance.reserve(5, 60)
    allowance.settle(first, 5, 20, 0.5)
    allowance.reserve(5, 80)
    assert vars(allowance.used) == {
        "requests": 0, "refused": 1, "prompt_tokens": 5, "completion_tokens": 20, "spend_usd": 0.5,
    }  # fmt: skip


def test_a_refusal_takes_nothing_of_any_kind():
    allowance = Allowance({"input_tokens": 10, "output_tokens": 10}, 60, lambda: 0.0)
    with pytest.raises(OverLimit):
        allowance.reserve(5, 11)
    allowance.reserve(10, 10)


# --- keys


def test_a_key_file_holds_no_key_and_finds_its_owner(tmp_path):
    file = tmp_path / "keys.toml"
    mine = keys.add(file, "mine", limits={"requests": 5})
    other = keys.add(file, "other", admin=True)
    assert mine not in file.read_text()
    assert oct(file.stat().st_mode)[-3:] == "600"
    known = keys.load(file)
    assert keys.find(known, mine).name == "mine"
    assert keys.find(known, mine).limits == {"requests": 5}
    assert keys.find(known, other).admin
    for wrong in ("", mine[:-1], mine + "x", mine.upper(), keys.digest(mine)):
        assert keys.find(known, wrong) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[key]\n", "kit keys"),
        ('[[key]]\nname = "a"\nsha256 = "kit-abc"\n', "64 hexadecimal"),
        ('[[key]]\nsha256 = "00"\n', "needs a name"),
        ('[[key]]\nname = "a"\nsha256 = "' + "0" * 64 + '"\ncolour = 1\n', "colour"),
        ('[[key]]\nname = "a"\nsha256 = "' + "0" * 64 + '"\nlimits = {wishes = 3}\n', "wishes"),
        (('[[key]]\nname = "a"\nsha256 = "' + "0" * 64 + '"\n') * 2, "more than one"),
    ],
)
def test_a_bad_key_file_says_where(tmp_path, text, told):
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(keys.KeyFileError, match=told):
        keys.load(file)


# --- the output filter

WORDS = st.sampled_from(["Call", "me@home.org", "+49 30", "030-1234567", "now", ",", "a.b@c.de!", "x@y"])


@given(st.lists(WORDS, max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_a_filter_does_not_depend_on_where_the_pieces_are_cut(words, cuts):
    text = " ".join(words)
    ends = [c for c in accumulate(cuts) if c < len(text)]
    one = filters.redact()
    out = (
        "".join(one.push(text[a:b]) for a, b in zip([0, *ends], [*ends, len(text)], strict=True))
        + one.finish()
    )
    assert out == filters.CONTACT.sub("[removed]", text)
    assert "me@home.org" not in out


def test_an_unknown_filter_is_refused():
    with pytest.raises(ValueError, match="module:function"):
        filters.find("kit.serve.filters:nothing")


# --- manifests


def test_a_changed_file_and_a_strangers_signature_are_refused(tmp_path):
    def pem(name):
        key = Ed25519PrivateKey.generate()
        private, public = tmp_path / name, tmp_path / f"{name}.pub"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        public.write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        return private, public

    (mine, mine_public), (_, strange) = pem("mine"), pem("strange")
    model, file = tmp_path / "model.onnx", tmp_path / "manifest.json"
    model.write_bytes(b"weights")
    manifest.write(file, [model], mine)
    known = manifest.read(file, mine_public)
    known.check(model)
    with pytest.raises(manifest.ManifestError, match="not signed with"):
        manifest.read(file, strange)
    model.write_bytes(b"weightz")
    with pytest.raises(manifest.ManifestError, match="is not the file"):
        known.check(model)
    with pytest.raises(manifest.ManifestError, match="not in the manifest"):
        known.check(file)
    file.write_text(file.read_text().replace("model", "other"))
    with pytest.raises(manifest.ManifestError, match="not signed with"):
        manifest.read(file, mine_public)


def test_a_model_that_is_not_in_the_manifest_is_not_opened(tmp_path):
    with pytest.raises(manifest.ManifestError):
        shelf.open_version(
            ModelSettings(name="e", kind="classify", source="intent.int8"), "1", manifest.Manifest({})
        )


# --- settings


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = 99999", "port"),
        ("colour = 1", "colour"),
        ('models = [{name="a", kind="chat"}]', "needs a source"),
        ('models = [{name="a", kind="upstream"}]', "base_url"),
        ('models = [{name="a", kind="chat", source="x"}, {name="a", kind="chat", source="y"}]', "same name"),
        ('tls_key = "k.pem"', "both"),
        ("port = ", "Invalid value"),
    ],
)
def test_bad_settings_say_what_is_wrong(tmp_path, text, told):
    file = tmp_path / "serve.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=told):
        serve.load_settings(file)


# --- queueing theory


@given(st.floats(0.2, 3), st.integers(1, 6), st.integers(0, 12))
def test_the_queue_is_what_its_balance_equations_say(load_, servers, queue):
    found = serve.steady(load_ * servers, 1.0, servers, queue)
    n = servers + queue + 1
    q = np.zeros((n, n))
    for i in range(n - 1):
        q[i, i + 1], q[i + 1, i] = load_ * servers, min(i + 1, servers)
    q -= np.diag(q.sum(1))
    p = np.linalg.lstsq(np.vstack([q.T, np.ones(n)]), np.append(np.zeros(n), 1), rcond=None)[0]
    assert found.refused == pytest.approx(p[-1], abs=1e-9)
    waiting = sum(p[i] * max(i - servers, 0) for i in range(n))
    assert found.wait_s == pytest.approx(waiting / (load_ * servers * (1 - p[-1])), abs=1e-9)


# --- alerts


def test_alerts_fire_once_and_say_when_it_is_over():
    metrics, sent = Metrics(dict), []

    async def send(message):
        sent.append(message)

    rules = (alerts.Rule("errors", "error_rate", 0.1), alerts.Rule("slow", "p95_seconds", 1.0, looks=2))
    full, spent = [0.0], [0.0]
    watch = alerts.Watchman(rules, metrics, lambda: full[0], lambda: spent[0], send)

    def serve_some(good, bad, seconds):
        for status, n in (("200", good), ("500", bad)):
            metrics.requests.labels("/v1/chat/completions", status).inc(n)
        for _ in range(good):
            metrics.e2e.labels("m").observe(seconds)

    async def play():
        said = []
        for good, bad, seconds in ((99, 1, 0.1), (5, 5, 0.1), (5, 5, 4), (100, 0, 4), (100, 0, 0.1)):
            serve_some(good, bad, seconds)
            said.append([(m["alert"], m["status"]) for m in await watch.look()])
        return said

    assert asyncio.run(play()) == [
        [], [("errors", "firing")], [], [("errors", "resolved"), ("slow", "firing")], [("slow", "resolved")],
    ]  # fmt: skip
    assert len(sent) == 4


def test_the_example_of_rules_has_one_of_each_kind():
    from typing import get_args

    folder = artifacts.ROOT / "datasets"
    rules = alerts.load(folder / "alerts.toml")
    assert sorted(r.kind for r in rules) == sorted(get_args(alerts.Kind))
    assert f"| rules | {len(rules)} |" in (folder / "alerts.md").read_text("utf-8")
    app = serve.create_app(serve.Settings(models=[], alerts=folder / "alerts.toml"))
    assert asyncio.run(app.state.house.watchman.look()) == [], "a server that does nothing is well"


# --- the load generator


class Running:
    """A uvicorn server in a thread of this process."""

    def __init__(self, app):
        import uvicorn

        self.port = serve.free_port()
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
            assert self.thread.is_alive()
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def known():
    """A server of known delays: 50 ms to the first token, 5 ms between two. It notes when it really sent."""
    from fastapi import FastAPI
    from starlette.responses import StreamingResponse

    app, stamps = FastAPI(), []

    @app.post("/v1/chat/completions")
    async def answer(body: dict):
        begin = time.perf_counter()
        mine = []
        stamps.append(mine)

        async def events():
            for i in range(body["max_tokens"]):
                await asyncio.sleep(max(begin + 0.050 + 0.005 * i - time.perf_counter(), 0))
                mine.append(time.perf_counter() - begin)
                delta = {"choices": [{"index": 0, "delta": {"content": "a b "}, "finish_reason": None}]}
                yield f"data: {json.dumps(delta)}\n\n"
            usage = {"prompt_tokens": 3, "completion_tokens": 2 * body["max_tokens"]}
            yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    running = Running(app)
    yield running.url, stamps
    running.stop()


def test_the_load_generator_measures_known_delays(known):
    url, stamps = known
    stamps.clear()
    asks = [load.Ask(t, "x", 20) for t in np.arange(30) * 0.05]
    report = serve.wait_for(load.drive(url + "/v1", "m", asks))
    records = report.records
    assert (records["outcome"] == "answered").all()
    assert (records["tokens_out"] == 40).all(), "tokens, not events"
    true_first = np.median([s[0] for s in stamps]) * 1000
    true_gaps = np.median([(s[-1] - s[0]) / 39 for s in stamps]) * 1000
    assert np.median(records["ttft_ms"]) == pytest.approx(true_first, rel=0.1)
    assert np.median(report.itl_ms()) == pytest.approx(true_gaps, rel=0.05)


def test_a_server_that_stops_for_a_while_cannot_hide_the_wait():
    """Coordinated omission: 1 s without answers, requests due every 50 ms."""
    from fastapi import FastAPI

    app = FastAPI()
    stop = [0.0]

    @app.post("/v1/chat/completions")
    async def answer(body: dict):
        from starlette.responses import Response

        stop[0] = stop[0] or time.perf_counter() + 1.0
        await asyncio.sleep(max(stop[0] - time.perf_counter(), 0))
        text = 'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: [DONE]\n\n'
        return Response(text, media_type="text/event-stream")

    running = Running(app)
    report = serve.wait_for(
        load.drive(running.url + "/v1", "m", [load.Ask(0.05 * i, "x") for i in range(40)], tokenize=len)
    )
    running.stop()
    waits = report.records["ttft_ms"][:20]
    assert np.corrcoef(waits, 1000 - 50 * np.arange(20))[0, 1] > 0.99
    assert (report.records["tokens_out"] == 1).all()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}", "rejected"),
        (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}", "failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: {}\n\n", "failed"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 34\r\n\r\ndata: {"choices":[{"delta":{}}]}\n\n', "failed"),
    ],
)
def test_what_goes_wrong_has_its_own_outcome(reply, outcome):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once():
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(reply)
            connection.close()

        thread = threading.Thread(target=once)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        report = serve.wait_for(load.drive(url, "m", [load.Ask(0.0, "x")]))
        thread.join()
    assert report.records["outcome"].tolist() == [outcome]


# --- the application, with a stand-in for the engine: its text is known, and so is its speed


class Parrot:
    """Rows that answer with the words of the prompt, over and over, and never end by themselves. The part of
    ``Engine`` that a batcher uses."""

    def __init__(self, rows=4, context=256, step_s=0.0):
        self.rows, self.context, self.vocab, self.step_s = rows, context, 49152, step_s
        self.pasts, self.fail = np.zeros(rows, np.int64), False
        self.words, self.made = [[0]] * rows, [0] * rows

    def _next(self, row):
        logits = np.zeros(self.vocab, np.float32)
        logits[self.words[row][self.made[row] % len(self.words[row])]] = 50
        return logits

    def prefill(self, ids, row=0):
        time.sleep(self.step_s)
        self.words[row], self.made[row] = [t for t in ids if t > 2] or [28], 0
        self.pasts[row] += len(ids)
        return self._next(row)

    def step_rows(self, tokens):
        if self.fail:
            self.fail = False
            raise RuntimeError("out of smoke")
        time.sleep(self.step_s)
        for row in range(len(tokens)):
            self.made[row] += 1
            self.pasts[row] += 1
        return np.stack([self._next(row) for row in range(len(tokens))])

    def copy(self, source, target):
        self.words[target], self.made[target] = self.words[source], self.made[source]
        self.pasts[target] = self.pasts[source]

    def reset(self, row=0):
        self.pasts[row] = 0


@pytest.fixture
def house(monkeypatch, tmp_path):
    """Starts servers with parrots: ``house(step_s=..., **settings)`` -> (running, parrot)."""
    from kit.batch import Batcher

    running = []

    def start(step_s=0.0, rows=4, queue=4, context=256, **more):
        parrots = []

        def opened(settings, path, guessed):
            parrots.append(parrot := Parrot(rows, context, step_s))
            return lambda: Batcher(parrot, queue=queue + rows), rows, context, parrot.vocab

        monkeypatch.setattr(shelf, "opened", opened)
        model = {"name": "parrot", "kind": "chat", "source": __file__, "rows": rows, "queue": queue}
        model |= {"context": context, "usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0}
        app = serve.create_app(serve.Settings(models=[model, *more.pop("models", [])], **more))
        running.append(Running(app))
        running[-1].house = app.state.house
        return running[-1], parrots[0]

    yield start
    for server in running:
        server.stop()


def ask(url, **more):
    body = {"model": "parrot", "messages": HELLO, "max_tokens": 5} | more
    headers = {"content-type": "application/json"}
    return httpx.post(url + "/v1/chat/completions", content=json.dumps(body), headers=headers, timeout=30)


def until(true, seconds=5):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_row(house, stream):
    server, _ = house(step_s=0.01)
    writer = server.house.writers()["parrot"]
    body = json.dumps({"model": "parrot", "messages": HELLO, "max_tokens": 200, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: writer.running == 1)
    until(lambda: writer.running == 0 and writer.open == 0, 1)


def test_a_slow_reader_holds_up_nobody(house):
    server, _parrot = house(step_s=0.002)
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        body = json.dumps({"model": "parrot", "messages": HELLO, "max_tokens": 200, "stream": True}).encode()
        slow.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/json\r\n\r\n".encode()
            + body
        )
        assert all(ask(server.url).status_code == 200 for _ in range(10))
        until(lambda: server.house.writers()["parrot"].running == 0)


def test_a_full_queue_says_when_to_come_back_and_loses_nobody(house):
    server, _ = house(step_s=0.01, rows=2, queue=3)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: ask(server.url, max_tokens=40), range(20)))
    codes = [r.status_code for r in found]
    assert set(codes) == {200, 503}
    assert codes.count(200) >= 5
    for r in found:
        if r.status_code == 503:
            assert int(r.headers["retry-after"]) >= 1
            assert r.json()["error"]["code"] == "queue_full"
        else:
            assert r.json()["usage"]["completion_tokens"] == 40
    assert server.house.writers()["parrot"].open == 0


def test_an_answer_that_takes_too_long_is_ended(house):
    server, _ = house(step_s=0.05, deadline_s=0.4)
    late = ask(server.url, max_tokens=100)
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "deadline_exceeded"
    lines = ask(server.url, max_tokens=100, stream=True).text
    assert '"deadline_exceeded"' in lines
    assert "[DONE]" not in lines
    until(lambda: server.house.writers()["parrot"].running == 0)


def test_a_model_that_fails_ends_its_answers_and_serves_the_next(house):
    server, parrot = house(step_s=0.01)
    parrot.fail = True
    failed = ask(server.url)
    assert failed.status_code == 500
    assert "out of smoke" in failed.json()["error"]["message"]
    assert ask(server.url).status_code == 200


def test_stopping_answers_what_runs_and_refuses_what_comes(house):
    server, _ = house(step_s=0.02)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, server.url, max_tokens=60)
        until(lambda: server.house.writers()["parrot"].running == 1)
        server.house.draining = True
        assert httpx.get(server.url + "/readyz").status_code == 503
        assert httpx.get(server.url + "/healthz").status_code == 200
        refused = ask(server.url)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        server.stop()
        assert running.result().json()["usage"]["completion_tokens"] == 60


def test_limits_by_key_and_nobody_sees_anothers_usage(house, tmp_path):
    file = tmp_path / "keys.toml"
    few = keys.add(file, "few", limits={"requests": 2})
    short = keys.add(file, "short", limits={"output_tokens": 12})
    boss = keys.add(file, "boss", admin=True)
    server, _ = house(keys=file)

    def post(key, path="/v1/chat/completions", **more):
        body = {"model": "parrot", "messages": HELLO, "max_tokens": 5} | more
        return httpx.post(server.url + path, json=body, headers={"Authorization": f"Bearer {key}"})

    assert [post(few).status_code for _ in range(3)] == [200, 200, 429]
    assert 0 < int(post(few).headers["retry-after"]) <= 60
    assert [post(short).status_code for _ in range(3)] == [200, 200, 429]
    assert post(short, max_tokens=13).json()["error"]["param"] == "output_tokens"
    for wrong in ("x", few[:-1]):
        assert post(wrong).status_code == 401
    assert httpx.get(server.url + "/v1/models").status_code == 401
    assert post(few, "/admin/models/parrot", version="2", source="x").status_code in (403, 429)
    usage = httpx.get(server.url + "/v1/usage", headers={"Authorization": f"Bearer {short}"}).json()
    assert (usage["key"], usage["completion_tokens"]) == ("short", 10)
    assert usage["spend_usd"] == pytest.approx((usage["prompt_tokens"] + 2 * 10) / 1e6)
    usage = httpx.get(server.url + "/v1/usage", headers={"Authorization": f"Bearer {boss}"}).json()
    assert usage["completion_tokens"] == 0


def test_large_and_malformed_bodies(house):
    server, _ = house(body_bytes=100_000)
    big = {"model": "parrot", "messages": [{"role": "user", "content": "x" * 200_000}]}
    assert httpx.post(server.url + "/v1/chat/completions", json=big).status_code == 413

    def chunks():
        for _ in range(300):
            yield b"[" * 1000

    r = httpx.post(
        server.url + "/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"}
    )
    assert r.status_code == 413
    for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 50_000):
        r = httpx.post(
            server.url + "/v1/chat/completions", content=body, headers={"content-type": "application/json"}
        )
        assert r.status_code == 400, body[:9]
        assert r.json()["error"]["type"] == "invalid_request_error"
    assert ask(server.url).status_code == 200


def test_two_hundred_connections_at_once(house):
    server, _ = house(rows=8, queue=300)
    with ThreadPoolExecutor(200) as pool:
        assert {r.status_code for r in pool.map(lambda _: ask(server.url), range(200))} == {200}
    assert server.house.writers()["parrot"].open == 0


def test_the_output_filter_sees_every_text(house, monkeypatch):
    class NoFrance:
        def __init__(self):
            self.text = ""

        def push(self, text):
            self.text += text
            if "France" in self.text:
                raise filters.Blocked
            return text

        def finish(self):
            return ""

    monkeypatch.setattr(filters, "no_france", NoFrance, raising=False)
    server, _ = house(output_filter="kit.serve.filters:no_france")
    choice = ask(server.url, max_tokens=60).json()["choices"][0]
    assert choice["finish_reason"] == "content_filter"
    assert "France" not in choice["message"]["content"]
    lines = ask(server.url, max_tokens=60, stream=True).text
    assert "France" not in lines
    assert '"content_filter"' in lines
    assert "[DONE]" in lines
    until(lambda: server.house.writers()["parrot"].running == 0)


def test_forty_slow_readers_hold_up_nobody(house):
    """An answer that is complete gives its place back, though nobody reads it."""
    server, _ = house(rows=2, queue=3)
    body = json.dumps({"model": "parrot", "messages": HELLO, "max_tokens": 200, "stream": True}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n\r\n"
    sockets, writer = [], server.house.writers()["parrot"]
    for i in range(40):
        sockets.append(s := socket.socket())
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        s.connect(("127.0.0.1", server.port))
        s.sendall(head.encode() + body)
        until(lambda i=i: writer._made == i + 1 and writer.open == 0)
    assert ask(server.url).status_code == 200
    for s in sockets:
        s.close()


def test_what_is_refused_costs_nothing(house, tmp_path):
    file = tmp_path / "keys.toml"
    key = {"Authorization": f"Bearer {keys.add(file, 'mine', limits={'total_tokens': 5000})}"}
    server, _ = house(step_s=0.02, rows=1, queue=1, keys=file)

    def post(_=0):
        body = {"model": "parrot", "messages": HELLO, "max_tokens": 20}
        return httpx.post(server.url + "/v1/chat/completions", json=body, headers=key, timeout=30)

    with ThreadPoolExecutor(8) as pool:
        codes = Counter(r.status_code for r in pool.map(post, range(8)))
    usage = httpx.get(server.url + "/v1/usage", headers=key).json()
    assert codes[503] > 0
    assert usage["completion_tokens"] == 20 * codes[200]
    assert usage["prompt_tokens"] == codes[200] * post().json()["usage"]["prompt_tokens"]


def test_without_keys_only_this_machine_may_change_models(house):
    server, _ = house(host="0.0.0.0")  # only what the application makes of it: Running listens on loopback
    refused = httpx.post(server.url + "/admin/models/parrot/rollback")
    assert refused.status_code == 403
    assert ask(server.url).status_code == 200
    here, _ = house()
    for header in ("Origin", "X-Forwarded-For"):
        told = httpx.post(here.url + "/admin/models/parrot/rollback", headers={header: "http://elsewhere"})
        assert told.status_code == 403


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"presence_penalty": 0.0, "frequency_penalty": 0}, 200),
        ({"presence_penalty": 0.5}, 400),
        ({"messages": [*HELLO, {"role": "assistant", "content": "Paris", "refusal": None}, *HELLO]}, 200),
        ({"messages": [{"role": "user", "content": "\ud83d"}]}, 400),
        ({"messages": []}, 400),
        ({"temperature": 1e-308}, 200),
        ({"n": 8}, 200),
        ({"stream_options": {"include_usage": True}}, 400),
        ({"top_logprobs": 3}, 400),
        ({"tools": []}, 400),
    ],
)
def test_fields(house, more, status):
    server, _ = house()
    assert ask(server.url, **more).status_code == status


def test_a_filter_and_logprobs_do_not_go_together(house):
    server, _ = house(output_filter="kit.serve.filters:redact")
    assert ask(server.url, logprobs=True).status_code == 400


def test_the_client_tries_again_by_itself(house):
    server, _ = house(step_s=0.01, rows=1, queue=1)
    client = OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=10)

    def create(_):
        return client.chat.completions.create(model="parrot", messages=HELLO, max_tokens=10)

    with ThreadPoolExecutor(4) as pool:
        assert [r.usage.completion_tokens for r in pool.map(create, range(4))] == [10] * 4


def test_another_server_that_breaks_off_is_told_as_an_error(house):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once():
            connection, _ = listener.accept()
            connection.recv(65536)
            event = b'data: {"choices":[{"index":0,"delta":{"content":"Hello"}}]}\n\n'
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + event)
            connection.close()

        thread = threading.Thread(target=once)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server, _ = house(models=[{"name": "far", "kind": "upstream", "base_url": url}])
        lines = ask(server.url, model="far", stream=True).text
        thread.join()
    assert "Hello" in lines
    assert "upstream_failed" in lines
    assert "[DONE]" not in lines


@pytest.mark.parametrize("text", [b"[1, 2]", b"oops", b'{"choices":'])
def test_a_whole_answer_that_is_none_is_told_as_the_other_servers_fault(house, text):
    """The last one breaks off."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once():
            connection, _ = listener.accept()
            connection.recv(65536)
            size = len(text) + 99 * text.endswith(b":")
            connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + text)
            connection.close()

        thread = threading.Thread(target=once)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server, _ = house(models=[{"name": "far", "kind": "upstream", "base_url": url}])
        told = ask(server.url, model="far")
        thread.join()
    assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_failed")


@pytest.fixture
def far():
    """Another server, in this process: a word every ``step_s``. It counts who is there."""
    from fastapi import FastAPI, Request
    from starlette.responses import JSONResponse, StreamingResponse

    app = FastAPI()
    app.state.step_s, app.state.now, app.state.most = 0.01, 0, 0

    @app.post("/v1/chat/completions")
    async def answer(body: dict, request: Request):
        state, n = app.state, body["max_tokens"]
        if request.headers.get("authorization") == "Bearer wrong":
            return JSONResponse({"error": "Unauthorized"}, 401)  # as vLLM says it

        async def words():
            state.now += 1
            state.most = max(state.most, state.now)
            try:
                for i in range(n):
                    await asyncio.sleep(state.step_s)
                    end = "length" if i == n - 1 else None
                    choice = {"index": 0, "delta": {"content": "a "}, "finish_reason": end}
                    yield f"data: {json.dumps({'choices': [choice]})}\n\n"
            finally:
                state.now -= 1
            yield "data: [DONE]\n\n"

        if body.get("stream"):
            return StreamingResponse(words(), media_type="text/event-stream")
        async for _ in words():
            pass
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "a " * n},
            "finish_reason": "length",
        }
        return JSONResponse({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": n}})

    running = Running(app)
    running.state = app.state
    running.model = {"name": "far", "kind": "upstream", "base_url": running.url + "/v1"}
    running.model |= {"usd_per_mtok_in": 1.0, "usd_per_mtok_out": 2.0}
    yield running
    running.stop()


def posted(port, body, key="x"):
    """A socket on which the request was sent."""
    s, text = socket.socket(), json.dumps(body).encode()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    s.connect(("127.0.0.1", port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    s.sendall(head.encode() + text)
    return s


def total(server, name):
    """A count of the model behind the other server."""
    text = httpx.get(server.url + "/metrics").text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(name + "{") and 'model="far"' in line
    )


@pytest.mark.parametrize("stream", [False, True])
def test_who_hangs_up_on_another_server_pays_for_what_it_did(house, far, tmp_path, stream):
    file = tmp_path / "keys.toml"
    key = keys.add(file, "mine", limits={"total_tokens": 2000})
    gone = far.model | {"name": "gone", "base_url": "http://127.0.0.1:9/v1"}
    server, _ = house(keys=file, models=[far.model | {"rows": 1, "queue": 1}, gone])

    def used():
        return httpx.get(server.url + "/v1/usage", headers={"Authorization": f"Bearer {key}"}).json()

    body = {"model": "far", "messages": HELLO, "max_tokens": 300, "stream": stream}
    with posted(server.port, body, key):
        until(lambda: far.state.now == 1)
        with posted(server.port, body, key):  # waits for the row, and leaves before it gets it
            until(lambda: server.house.load()["far"] == (1, 1))
        until(lambda: server.house.load()["far"] == (1, 0))
        assert used()["prompt_tokens"] == 0
    until(lambda: server.house.load()["far"] == (0, 0))
    until(lambda: used()["prompt_tokens"])
    guess = len(HELLO[0]["content"]) // 4 + 1
    assert used()["prompt_tokens"] == guess
    assert (used()["completion_tokens"] > 0) == stream, "of a whole answer nothing is known"
    assert used()["spend_usd"] == pytest.approx((guess + 2 * used()["completion_tokens"]) / 1e6)
    assert total(server, "kit_prompt_tokens_total") == guess
    refused = httpx.post(
        server.url + "/v1/chat/completions",
        json=body | {"model": "gone"},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert refused.status_code == 502
    assert used()["prompt_tokens"] == guess, "who was not there did nothing"


def test_a_wrong_key_of_ours_is_not_the_callers_fault(house, far):
    server, _ = house(models=[far.model | {"upstream_key": "wrong"}])
    for stream in (False, True):
        told = ask(server.url, model="far", stream=stream)
        assert told.status_code == 502
        assert "refuses our key" in told.json()["error"]["message"]


def test_a_stream_of_another_server_that_takes_too_long_is_counted(house, far):
    far.state.step_s = 0.05
    server, _ = house(deadline_s=0.4, models=[far.model])
    lines = ask(server.url, model="far", max_tokens=100, stream=True).text
    assert '"deadline_exceeded"' in lines
    assert "[DONE]" not in lines
    assert total(server, "kit_stream_errors_total") == 1
    assert ask(server.url, model="far", max_tokens=100).status_code == 504
    assert total(server, "kit_stream_errors_total") == 1
    assert total(server, "kit_request_success_total") == 2  # both as "error"
    assert ask(server.url, model="far", max_tokens=2).status_code == 200
    assert "[DONE]" in ask(server.url, model="far", max_tokens=2, stream=True).text
    assert total(server, "kit_e2e_request_latency_seconds_count") == 4
    until(lambda: server.house.load()["far"] == (0, 0))


def test_another_server_has_a_queue_with_an_end_too(house, far):
    far.state.step_s = 0.005
    server, _ = house(models=[far.model | {"rows": 2, "queue": 3}])
    with ThreadPoolExecutor(20) as pool:
        found = list(
            pool.map(lambda i: ask(server.url, model="far", max_tokens=40, stream=i % 2 == 1), range(20))
        )
    codes = Counter(r.status_code for r in found)
    assert set(codes) == {200, 503}
    assert codes[200] >= 5
    assert far.state.most == 2
    for r in found:
        if r.status_code == 503:
            assert int(r.headers["retry-after"]) >= 1
            assert r.json()["error"]["code"] == "queue_full"
    until(lambda: server.house.load()["far"] == (0, 0))


def test_the_capacity_is_what_rows_and_steps_make_it(house, far):
    far.state.step_s = 0.02
    model = far.model | {"name": "smollm2", "rows": 2, "queue": 20}
    server, _ = house(models=[model])
    found = serve.capacity_rps(server.url, ["x"], n=20, rows=2, max_tokens=5)
    assert 10 < found <= 2 / (5 * 0.02), "two answers at a time, each 0.1 s at least"
    with pytest.raises(ValueError, match="above rows"):
        serve.capacity_rps(server.url, ["x"], n=2, rows=2)
    with pytest.raises(RuntimeError, match="22 of 30 requests"):
        serve.capacity_rps(server.url, ["x"], n=30, rows=2, max_tokens=5)


def test_slow_readers_of_another_server_hold_up_nobody(house, far):
    far.state.step_s = 0
    server, _ = house(models=[far.model | {"rows": 1, "queue": 1}])
    body = {"model": "far", "messages": HELLO, "max_tokens": 20_000, "stream": True}  # more than buffers hold
    slow = []
    for _ in range(3):
        slow.append(posted(server.port, body))
        until(lambda: server.house.load()["far"] == (1, 0))
        until(lambda: server.house.load()["far"] == (0, 0), 30)
    assert ask(server.url, model="far").status_code == 200
    for s in slow:
        s.close()


def test_an_unexpected_error_has_a_number_that_the_log_knows(house, monkeypatch, caplog):
    server, _ = house()

    def broken(*args):
        raise KeyError("oops")

    monkeypatch.setattr(server.house, "lease", broken)
    failed = ask(server.url)
    assert failed.status_code == 500
    assert failed.json()["error"]["code"] == "internal_error"
    assert "oops" not in failed.text
    number = failed.headers["x-request-id"]
    record = next(r for r in caplog.records if r.exc_info and number in r.getMessage())
    assert record.exc_info[0] is KeyError


def test_answers_of_a_version_that_was_replaced_are_still_counted(house):
    server, _ = house(step_s=0.02)
    admin = server.url + "/admin/models/parrot"
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, server.url, max_tokens=100) for _ in range(3)]
        until(lambda: server.house.writers()["parrot"].running == 3)
        for version in "23":  # after the first it is the one before, after the second it is being closed
            httpx.post(admin, json={"version": version, "source": __file__}).raise_for_status()
            text = httpx.get(server.url + "/metrics").text
            assert 'kit_num_requests_running{model="parrot"} 3.0' in text, version
        assert all(a.result().status_code == 200 for a in asked)
    until(lambda: server.house.load() == {"parrot": (0, 0)})


@pytest.mark.parametrize("form", [schemas.EmbeddingRequest, schemas.ClassifyRequest])
def test_one_text_and_several_are_read_alike(form):
    assert form(model="m", input="one").texts() == ["one"]
    assert form(model="m", input=["one", "two"]).texts() == ["one", "two"]
    for wrong in ("", [], [""]):
        with pytest.raises(ValueError, match="at least 1"):
            form(model="m", input=wrong)


def test_a_swap_drops_nobody_and_can_be_undone(house):
    server, _ = house(step_s=0.005)
    admin = server.url + "/admin/models/parrot"
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, server.url, max_tokens=50) for _ in range(4)]
        until(lambda: server.house.writers()["parrot"].running == 4)
        assert httpx.post(admin, json={"version": "2", "source": __file__}).json()["version"] == "2"
        new = ask(server.url).json()["system_fingerprint"]
        old = {a.result().json()["system_fingerprint"] for a in asked}
    assert (new, old) == ("parrot-2", {"parrot-1"})
    assert httpx.post(admin, json={"version": "3", "source": "nowhere"}).status_code == 400
    assert ask(server.url).json()["system_fingerprint"] == "parrot-2"
    assert httpx.post(admin + "/rollback").json()["version"] == "1"
    assert ask(server.url).json()["system_fingerprint"] == "parrot-1"
    assert httpx.post(admin + "/rollback").status_code == 400, "a second time it does no harm"


def test_logs_hold_no_prompt_and_no_key(house, tmp_path, caplog):
    file = tmp_path / "keys.toml"
    key = keys.add(file, "mine")
    server, _ = house(keys=file)
    caplog.set_level("DEBUG")
    secret = [{"role": "user", "content": "my secret is swordfish"}]
    for token in (key, "kit-wrong"):
        httpx.post(
            server.url + "/v1/chat/completions",
            json={"model": "parrot", "messages": secret, "max_tokens": 4},
            headers={"Authorization": f"Bearer {token}"},
        )
    until(lambda: "key=mine" in caplog.text)
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("kit"))
    assert "swordfish" not in ours
    assert key not in caplog.text
    assert "key=mine" in ours


def test_two_thousand_generated_requests_against_the_published_schema(house):
    """schemathesis: no 5xx, and every answer is what /openapi.json says."""
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as openapi

    server, _ = house(models=[{"name": "edge", "kind": "classify", "source": "intent.int8"}], queue=64)
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json")
    rules = [not_a_server_error, openapi.response_schema_conformance, openapi.status_code_conformance]
    rules += [openapi.content_type_conformance, openapi.response_headers_conformance]
    statuses = Counter()
    examples = {
        "/v1/chat/completions": 850,
        "/v1/completions": 800,
        "/v1/classify": 250,
        "/v1/embeddings": 100,
    }
    for operation in schema.get_all_operations():
        api = operation.ok()
        if api.path.startswith("/admin"):
            continue

        @given(case=api.as_strategy())
        @settings(max_examples=examples.get(api.path, 30), deadline=None, database=None, derandomize=True)
        def check(case):
            if isinstance(case.body, dict) and "model" in case.body:
                # a model that is there, and answers that end soon
                case.body = case.body | {
                    "model": "edge" if case.operation.path == "/v1/classify" else "parrot"
                }
                for name in ("max_tokens", "max_completion_tokens"):
                    if isinstance(case.body.get(name), int):
                        case.body = case.body | {name: 1 + case.body[name] % 9}
            response = case.call()
            statuses[response.status_code] += 1
            case.validate_response(response, checks=rules)

        check()
    assert statuses.total() >= 2000, statuses
    assert statuses[200] >= 300, statuses  # not all of them are nonsense


# --- the real model, in a process of its own, with the real client


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    with serve.started() as server:
        yield server


@pytest.fixture(scope="module")
def client(real):
    return OpenAI(base_url=real.url + "/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def bare():
    return engine.Engine(artifacts.get("smollm2.int4"), context=1024, spin=False)


def test_the_openai_client_gets_the_engines_text(client, bare):
    answer = client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=30, temperature=0)
    bare.reset()
    # the chat template adds its own system message, as for chat_ids
    expected = list(bare.generate(chat_ids(HELLO[0]["content"]), 30))
    assert answer.choices[0].message.content == tokenizer().decode(expected)
    assert answer.usage.prompt_tokens == len(chat_ids(HELLO[0]["content"]))
    assert answer.usage.completion_tokens == len(expected)
    assert answer.choices[0].finish_reason == ("length" if len(expected) == 30 else "stop")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_the_same_text_in_pieces_and_tells_its_usage(client):
    more = {"model": "smollm2", "messages": HELLO, "max_tokens": 30, "temperature": 0}
    whole = client.chat.completions.create(**more)
    chunks = list(client.chat.completions.create(**more, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason


def test_choices_seeds_and_stop(client):
    more = {"model": "smollm2", "messages": HELLO, "max_tokens": 16, "temperature": 1.0, "seed": 7}
    first = client.chat.completions.create(**more, n=3)
    texts = [c.message.content for c in first.choices]
    assert len(set(texts)) == 3
    assert [c.index for c in first.choices] == [0, 1, 2]
    again = client.chat.completions.create(**more, n=3)
    assert [c.message.content for c in again.choices] == texts
    stopped = client.chat.completions.create(
        model="smollm2", messages=HELLO, max_tokens=40, temperature=0, stop=["Paris"]
    )
    assert "Paris" not in stopped.choices[0].message.content
    assert stopped.choices[0].finish_reason == "stop"


def test_logprobs_are_the_models(client, bare):
    answer = client.chat.completions.create(
        model="smollm2", messages=HELLO, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    bare.reset()
    ids = chat_ids(HELLO[0]["content"])
    for entry in content:
        logits = bare.prefill(ids).astype(np.float64)
        logs = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        best = np.argsort(-logs)[:3]
        assert entry.logprob == pytest.approx(logs[best[0]], abs=0.05)
        assert [t.logprob for t in entry.top_logprobs] == pytest.approx(logs[best].tolist(), abs=0.1)
        assert bytes(entry.bytes).decode() == entry.token
        ids = [int(best[0])]
    assert "".join(e.token for e in content) == answer.choices[0].message.content


def test_completions_of_texts_and_tokens(client):
    text = "The sea is"
    ids = tokenizer()(text, add_special_tokens=False).input_ids
    more = {"model": "smollm2", "max_tokens": 8, "temperature": 0}
    a = client.completions.create(prompt=text, **more)
    b = client.completions.create(prompt=ids, **more)
    both = client.completions.create(prompt=[text, "One, two,"], logprobs=2, **more)
    assert a.choices[0].text == b.choices[0].text == both.choices[0].text
    found = both.choices[1].logprobs
    assert "".join(found.tokens) == both.choices[1].text
    assert len(found.top_logprobs[0]) == 2
    assert found.text_offset == [0, *accumulate(map(len, found.tokens[:-1]))]


def test_a_text_that_would_be_cut_is_refused(client, real):
    with pytest.raises(openai.BadRequestError, match="reads 64 tokens"):
        client.embeddings.create(model="minilm", input=["word " * 100])
    long = httpx.post(real.url + "/v1/classify", json={"model": "edge", "input": "x" * 200})
    assert long.status_code == 400


def test_the_command_line_loads_a_server_and_writes_the_table(real, tmp_path, capsys):
    from kit import records
    from kit.cli import main

    table, trace = tmp_path / "table.csv", tmp_path / "trace.csv"
    trace.write_text("time\n" + "\n".join(str(0.2 * i) for i in range(6)))
    more = ["--requests", "6", "--max-tokens", "4", "--slo-ttft-ms", "5000", "--csv", str(table)]
    assert main(["load", "--url", real.url + "/v1", "--trace", str(trace), *more]) == 0
    said = capsys.readouterr().out
    assert "TTFT P99 (ms)" in said
    assert "goodput" in said
    found = records.from_csv(table)
    assert found["scheduled_s"].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert (found["outcome"] == "answered").all()
    assert main(["load", "--url", "http://127.0.0.1:9/v1", "--requests", "2", "--rate", "50"]) == 1


def test_the_command_line_makes_a_key(tmp_path, capsys):
    from kit.cli import main

    file = tmp_path / "keys.toml"
    assert main(["keys", "ann", "--file", str(file), "--admin"]) == 0
    assert keys.find(keys.load(file), capsys.readouterr().out.strip()).admin
    assert main(["keys", "ann", "--file", str(file)]) == 2


def test_embeddings_are_minilms(client):
    from kit.quantize.quality import embed

    texts = ["turn on the light", "the lamp should be on"]
    plain = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    coded = client.embeddings.create(model="minilm", input=texts)  # the client asks for base64
    expected = embed(engine.session(artifacts.get("minilm.int8"), spin=False), texts)
    np.testing.assert_allclose([d.embedding for d in plain.data], expected, atol=1e-5)
    np.testing.assert_allclose([d.embedding for d in coded.data], expected, atol=1e-5)


def test_models_and_errors_of_the_client(client):
    assert {m.id for m in client.models.list()} == {"smollm2", "edge", "minilm"}
    assert client.models.retrieve("smollm2").id == "smollm2"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with pytest.raises(openai.BadRequestError, match="context holds 1024"):
        client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=5000)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.create(
            model="smollm2", messages=HELLO, response_format={"type": "json_object"}
        )
    with pytest.raises(openai.BadRequestError, match="embed model"):
        client.chat.completions.create(model="minilm", messages=HELLO)


def test_the_classifier_answers_over_every_wire():
    texts = ["turn off the kitchen lights", "open the garage", "开灯"]
    model = shelf.open_version(ModelSettings(name="edge", kind="classify", source="intent.int8"), "1")
    from kit import data

    expected = [data.INTENTS[int(p.argmax())] for p in model.classify(texts)]
    with serve.wires(texts[0]) as ways:
        assert len(ways) == 4
        for name, way in ways.items():
            assert list(way.ask(texts)) == expected, name


def test_metrics_agree_with_what_is_seen_from_outside(real):
    before = serve.gauges(real.url)
    report = serve.under_load(real.url, [4], 24, decode.requests(), max_tokens=12)[4]
    after = serve.gauges(real.url)

    def counted(name):
        return after[name] - before.get(name, 0)

    assert counted("kit_prompt_tokens_total") == report.records["tokens_in"].sum()
    assert counted("kit_generation_tokens_total") == report.records["tokens_out"].sum()
    assert counted("kit_e2e_request_latency_seconds_count") == 24
    inside = counted("kit_e2e_request_latency_seconds_sum") / 24
    assert inside == pytest.approx(report.records["e2e_ms"].mean() / 1000, rel=0.05, abs=0.02)


def test_sigterm_under_load_loses_nobody():
    with serve.started() as server:
        asks = [load.Ask(0.05 * i, p, 24) for i, p in enumerate(decode.requests()[:40])]

        async def both():
            running = asyncio.create_task(load.drive(server.url + "/v1", "smollm2", asks))
            await asyncio.sleep(1.0)
            server.process.terminate()
            return await running

        report = serve.wait_for(both())
        assert server.process.wait(60) == 0
    outcomes = list(zip(report.records["outcome"], [s.error for s in report.seen], strict=True))
    assert sum(o == "answered" for o, _ in outcomes) >= 10
    # what was not answered was refused: at the door (503), or because nobody listened any more
    assert {e for o, e in outcomes if o == "failed"} <= {"ConnectError"}


def stands_in(url, key, running):
    """Another server does SmolLM2's work behind ours, and the client is unchanged.

    Args:
        url: of its API, which calls the model ``smollm2``. ``key``: that it wants; "": none.
        running: says how many answers it is writing.
    """

    def model(name, url=url, key=key):
        more = f'upstream_model="smollm2", upstream_key="{key}"'
        return f'{{name="{name}", kind="upstream", base_url="{url}", {more}}}'

    models = [
        model("far"),
        model("locked", key="wrong" if key else ""),
        model("gone", "http://127.0.0.1:9/v1"),
    ]
    with serve.started(f"models = [{', '.join(models)}]") as server:
        ours = OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0)
        direct = OpenAI(base_url=url, api_key=key or "x", max_retries=0)
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        more = {"messages": HELLO, "max_tokens": 20, "temperature": 0}
        whole = ours.chat.completions.create(model="far", **more)
        expected = direct.chat.completions.create(model="smollm2", **more)
        assert whole.model == "far"
        assert whole.choices == expected.choices
        assert whole.usage.completion_tokens == expected.usage.completion_tokens
        chunks = list(ours.chat.completions.create(model="far", **more, **usage))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens

        more = {"prompt": "The sea is", "max_tokens": 8, "temperature": 0}
        text = ours.completions.create(model="far", **more).choices[0].text
        assert text == direct.completions.create(model="smollm2", **more).choices[0].text
        chunks = list(ours.completions.create(model="far", **more, **usage))
        assert "".join(c.choices[0].text for c in chunks if c.choices) == text
        assert chunks[-1].usage.completion_tokens == 8

        with pytest.raises(openai.BadRequestError, match=r"(?i)context|tokens"):  # its own words
            ours.completions.create(model="far", prompt="word " * 3000)
        if key:
            with pytest.raises(openai.InternalServerError, match="refuses our key"):
                ours.chat.completions.create(model="locked", messages=HELLO)
        with pytest.raises(openai.InternalServerError, match="ConnectError"):
            ours.chat.completions.create(model="gone", messages=HELLO)

        # many seconds' work, of which nobody waits for the end
        long = {"model": "far", "prompt": "One, two, three, four,", "max_tokens": 900, "temperature": 0}
        stream = ours.completions.create(**long, stream=True)
        for _ in zip(range(3), stream, strict=False):
            pass
        until(lambda: running() == 1)
        stream.close()
        until(lambda: running() == 0)
        with pytest.raises(openai.APITimeoutError):
            ours.with_options(timeout=1).completions.create(**long)
        # we hung up, too; llama.cpp's server goes on with an answer that is not streamed, whoever asks it
        until(lambda: 'kit_num_requests_running{model="far"} 0.0' in httpx.get(server.url + "/metrics").text)


def test_another_server_stands_where_smollm2_stands():
    """llama.cpp's server behind ours. ``bench_serve.py --vllm`` holds vLLM against the same check."""
    pytest.importorskip("xllamacpp")
    port = serve.free_port()
    code = (
        "import xllamacpp, time; s = xllamacpp.CommonParams();"
        f"s.model.path = {str(models.smollm2_gguf())!r}; s.n_ctx = 2048; s.n_parallel = 2; s.port = {port};"
        "s.hostnames = ['127.0.0.1']; server = xllamacpp.Server(s); time.sleep(600)"
    )
    import subprocess
    import sys

    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"

    def running():
        return sum(slot["is_processing"] for slot in httpx.get(url + "/slots", timeout=10).json())

    try:
        until(lambda: _answers(url + "/v1/models"), 60)
        stands_in(url + "/v1", "", running)  # given a key, xllamacpp 2026.10 never ends loading
    finally:
        process.kill()
        process.wait()


def _answers(url):
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_model_with_a_draft_writes_its_text_and_counts_its_guesses():
    model = '{name="smollm2", kind="chat", source="smollm2.fp32", draft="head", context=256}'
    with serve.started(f"models = [{model}]") as server:
        api = OpenAI(base_url=server.url + "/v1", api_key="x", max_retries=0)
        answer = api.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=24, temperature=0)
        plain = engine.Engine(artifacts.get("smollm2.fp32"), context=256, spin=False)
        expected = list(plain.generate(chat_ids(HELLO[0]["content"]), 24))
        assert answer.choices[0].message.content == tokenizer().decode(expected)
        found = serve.gauges(server.url)
        assert (
            0
            < found["kit_spec_decode_num_accepted_tokens_total"]
            <= found["kit_spec_decode_num_draft_tokens_total"]
        )


def test_tls(tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    cert, key, root = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "root.pem"
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(root)
    text = 'models = [{name="edge", kind="classify", source="intent.int8"}]\n'
    text += f'tls_certificate = "{cert.as_posix()}"\ntls_key = "{key.as_posix()}"\n'
    import ssl

    with serve.started(text) as server:
        context = ssl.create_default_context(cafile=str(root))
        assert server.url.startswith("https")
        assert httpx.get(server.url + "/healthz", verify=context).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/healthz")


def test_traces_go_to_an_otlp_endpoint_with_the_conventions_names():
    """A collector of one's own: it keeps what it is sent."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    got = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            got.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    collector = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    text = 'trace = "otlp"\nmodels = [{name="smollm2", kind="chat", source="smollm2.int4", context=128}]'
    where = f"http://127.0.0.1:{collector.server_port}"
    with serve.started(text, OTEL_EXPORTER_OTLP_ENDPOINT=where) as server:
        httpx.post(
            server.url + "/v1/chat/completions",
            json={"model": "smollm2", "messages": HELLO, "max_tokens": 4},
            timeout=60,
        ).raise_for_status()
    collector.shutdown()
    spans = [s for r in got for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]
    names = {a.key: a.value for s in spans for a in s.attributes}
    assert names["gen_ai.request.model"].string_value == "smollm2"
    assert names["gen_ai.usage.output_tokens"].int_value == 4
    assert not any("France" in str(s) for s in spans)
