"""A server that answers after times that were recorded elsewhere, and misbehaves on command.

All processes of a lesson share a few cores, so a real model in "the cloud" would slow down the edge beside
it. This one takes its time without work: service times from a list or from quantiles, ``servers`` at a time,
the others wait in order. It speaks as much of the OpenAI API as the gateway asks (`kit.route.speech`), writes
down every byte that it receives, and can be told to fail in the ways in which clouds fail.

``echo '{"service_ms": 80}' | python -m kit.route.replay`` runs one; it prints its port. ``POST /fault`` with
``{"fault": "hang"}`` changes what it does (see `FAULTS`), ``{}`` mends it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kit.route import speech
from kit.route.delays import precise

FAULTS = {
    "hang": "takes requests, never answers",
    "slow": "answers after `ms` more",
    "error": "answers with `status` (500), and Retry-After if `retry_after_s` is given",
    "garbage": "answers 200 and no JSON",
    "truncated": "answers 200 and half of a JSON text",
    "break": "closes the connection in the middle of its answer, after `after` events of a stream",
    "close": "closes the connection without an answer",
}


@dataclass(frozen=True)
class Fault:
    """What goes wrong from now on.

    Attributes:
        fault: one of `FAULTS`; empty: nothing, "any": each time another one.
        rate: part of the requests that it happens to.
    """

    fault: str = ""
    rate: float = 1.0
    ms: float = 500.0
    status: int = 500
    retry_after_s: float | None = None
    after: int = 1

    def __post_init__(self) -> None:
        if self.fault not in ("", "any", *FAULTS):
            raise ValueError(f"no fault is called {self.fault!r}; there are: {', '.join(FAULTS)}.")


@dataclass(frozen=True)
class Script:
    """What the server answers, and how long it takes.

    Attributes:
        service_ms: of every request. Or ``service_quantiles_ms``: at evenly spaced levels, as
            `kit.simulate.calibrate.service_quantiles_ms` makes them; or ``service_list_ms``: in turn.
        servers: requests at a time; the others wait. ``queue``: how many may wait; more get 503.
        gap_ms: between two tokens of a stream, after the first.
        model: its name.
        answers: text asked -> ``{"text", "confidence", "label"}``, each may be left out; "" is for others.
        record: file of all bytes that were received; None: they are kept in memory only.
        seed: of times and faults.
    """

    service_ms: float = 20.0
    service_quantiles_ms: Sequence[float] = ()
    service_list_ms: Sequence[float] = ()
    servers: int = 1
    queue: int = 10_000
    gap_ms: float = 0.0
    model: str = "replay"
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    record: str | None = None
    seed: int = 0
    port: int = 0

    def times_ms(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """The next ``n`` service times."""
        if len(self.service_list_ms):
            return np.resize(np.asarray(self.service_list_ms, float), n)
        if len(self.service_quantiles_ms):
            levels = np.linspace(0, 1, len(self.service_quantiles_ms))
            return np.interp(rng.random(n), levels, self.service_quantiles_ms)
        return np.full(n, self.service_ms)


class Replay:
    """The server, in the event loop that runs.

    Attributes:
        received: every byte, as it came. ``answered``: how many requests were answered.
        served, busy_s: services that ended, and how long they kept a server busy, all together.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script, self.fault = script or Script(), Fault()
        self.received, self.answered, self.asked = bytearray(), 0, 0
        self.running = self.waiting = self.served = 0
        self.busy_s = 0.0
        self._rng = np.random.default_rng(self.script.seed)
        self._times: list[float] = []
        self._record = Path(self.script.record) if self.script.record else None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> int:
        """Listen on this machine only. Returns the port."""
        self._free = asyncio.Semaphore(self.script.servers)
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.script.port, backlog=512)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As if the process was killed: every connection breaks."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def again(self, port: int) -> None:
        """Listen once more, after `stop`."""
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", port, backlog=512)

    # -- HTTP/1.1, as much as is needed

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = self._note(await reader.readuntil(b"\r\n\r\n"))
                line, *lines = head.decode("latin-1").split("\r\n")
                method, path, _ = line.split(" ", 2)
                length = next((int(v[15:]) for v in lines if v.lower().startswith("content-length:")), 0)
                body = self._note(await reader.readexactly(length)) if length else b""
                await self._answer(reader, writer, method, path, body)
                await writer.drain()
        except asyncio.IncompleteReadError as e:
            self._note(e.partial)
        except (OSError, asyncio.CancelledError):
            pass  # the other side is gone, or this process stops
        finally:
            self._writers.discard(writer)
            writer.close()

    def _note(self, data: bytes) -> bytes:
        self.received += data
        if self._record:
            with self._record.open("ab") as f:
                f.write(data)
        return data

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
    ) -> None:
        if method == "GET":
            self._get(writer, path)
        elif path == "/fault":
            try:
                self.fault = Fault(**json.loads(body or b"{}"))
                _write(writer, 200, {"fault": self.fault.fault})
            except (ValueError, TypeError) as e:
                _write(writer, 400, _error(str(e)))
        else:
            await self._serve(reader, writer, path, body)

    def _get(self, writer: asyncio.StreamWriter, path: str) -> None:
        if path == "/metrics":
            text = f"kit_num_requests_running {self.running}\nkit_num_requests_waiting {self.waiting}\n"
            text += f"kit_served_total {self.served}\nkit_busy_seconds_total {self.busy_s:.6f}\n"
            _send(writer, 200, text.encode(), "text/plain")
        elif path == "/v1/models":
            _write(writer, 200, {"object": "list", "data": [{"id": self.script.model, "object": "model"}]})
        elif path in ("/readyz", "/healthz"):
            _write(writer, 200, {"status": "ready"})
        else:
            _write(writer, 404, _error("there is no such path"))

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes
    ) -> None:
        """Wait for a server, then for the service, then answer, well or not."""
        self.asked += 1
        fault = self._drawn()
        if fault.fault in ("hang", "close", "error"):
            return await self._refuse(reader, writer, fault)
        if self.waiting >= self.script.queue:
            return _write(writer, 503, _error("the queue is full"), {"Retry-After": "1"})
        extra_ms = fault.ms if fault.fault == "slow" else 0.0
        self.waiting += 1
        async with self._free:
            self.waiting -= 1
            self.running += 1
            start = time.perf_counter()
            try:
                await asyncio.sleep((self._time_ms() + extra_ms) / 1000)
            finally:
                self.running -= 1
                self.served += 1
                self.busy_s += time.perf_counter() - start
        await asyncio.sleep(0)  # whoever waits begins first; a real server answers on another core
        await self._tell(writer, path, json.loads(body), fault)
        self.answered += 1
        return None

    def _drawn(self) -> Fault:
        f = self.fault
        if not f.fault or (f.rate < 1 and self._rng.random() >= f.rate):
            return Fault()
        return f if f.fault != "any" else Fault(str(self._rng.choice(list(FAULTS))), ms=f.ms, status=f.status)

    def _time_ms(self) -> float:
        if not self._times:
            n = len(self.script.service_list_ms) or 1024
            self._times = self.script.times_ms(n, self._rng).tolist()[::-1]
        return self._times.pop()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        if fault.fault == "hang":
            while self.fault.fault in ("hang", "any") and not (reader.at_eof() or writer.is_closing()):
                await asyncio.sleep(0.05)
            writer.transport.abort()
        elif fault.fault == "close":
            writer.transport.abort()
        else:
            wait = fault.retry_after_s
            _write(
                writer,
                fault.status,
                _error("told to fail"),
                {} if wait is None else {"Retry-After": f"{wait:g}"},
            )

    async def _tell(
        self, writer: asyncio.StreamWriter, path: str, asked: dict[str, Any], fault: Fault
    ) -> None:
        answer = self._say(asked, path)
        if fault.fault == "garbage":
            return _send(writer, 200, b"<html>502 Bad Gateway</html>", "text/html")
        if asked.get("stream") and not path.endswith("classify"):
            return await self._stream(writer, path, asked, answer, fault)
        whole = json.dumps(speech.whole(path, asked, answer), ensure_ascii=False).encode()
        more = {} if answer.get("confidence") is None else {"x-kit-confidence": f"{answer['confidence']}"}
        if fault.fault == "truncated":
            return _send(writer, 200, whole[: len(whole) // 2], "application/json", more)
        _send(writer, 200, whole, "application/json", more, broken=fault.fault == "break")
        return None

    def _say(self, asked: dict[str, Any], path: str) -> Mapping[str, Any]:
        text = speech.said(asked)
        answers = self.script.answers
        return {"model": asked.get("model", self.script.model)} | dict(
            answers.get(text) or answers.get("") or {}
        )

    async def _stream(
        self,
        writer: asyncio.StreamWriter,
        path: str,
        asked: dict[str, Any],
        answer: Mapping[str, Any],
        fault: Fault,
    ) -> None:
        """Server-sent events in chunks, a word each."""
        more = "" if answer.get("confidence") is None else f"x-kit-confidence: {answer['confidence']}\r\n"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{more}"
        writer.write(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        words = [w + " " for w in str(answer.get("text", "An answer.")).split()] or [""]
        wants = (asked.get("stream_options") or {}).get("include_usage")
        for i, word in enumerate(words):
            if fault.fault in ("break", "truncated") and i >= fault.after:
                return writer.transport.abort() if fault.fault == "break" else writer.close()
            if i and self.script.gap_ms:
                await asyncio.sleep(self.script.gap_ms / 1000)
            _chunk(writer, speech.event(path, answer, word, i == len(words) - 1))
        if fault.fault in ("break", "truncated"):
            return writer.transport.abort()
        if wants:
            _chunk(
                writer,
                speech.envelope(path, answer) | {"choices": [], "usage": speech.usage(asked, len(words))},
            )
        end = b"data: [DONE]\n\n"
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(end), end))
        return None


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "server_error", "param": None, "code": "replay"}}


def _write(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], more: Mapping[str, str] | None = None
) -> None:
    _send(writer, status, json.dumps(body, ensure_ascii=False).encode(), "application/json", more)


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    kind: str,
    more: Mapping[str, str] | None = None,
    broken: bool = False,
) -> None:
    """An answer with its length; a broken one ends in the middle."""
    head = "".join(f"{name}: {value}\r\n" for name, value in (more or {}).items())
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    writer.write(head.encode("latin-1") + (body[: len(body) // 2] if broken else body))
    if broken:
        writer.close()


def _chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    data = f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


async def serve(told: Mapping[str, Any]) -> None:
    """Run the server that a JSON object describes (fields of `Script`), until the process is ended."""
    replay = Replay(Script(**told))
    print(json.dumps({"port": await replay.start()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    gc.freeze()  # what is there now stays: no pause to look through it
    precise(serve(json.load(sys.stdin)))
