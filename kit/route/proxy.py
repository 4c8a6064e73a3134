"""A network between two real processes of this machine: a TCP proxy that delays, loses and is cut.

What it does to a request is what `kit.simulate` does to one, by the same function (`Path.delays`): one round
trip is drawn for each exchange, half of it delays what goes up, half what comes down; bytes take their time
on top; what is lost is sent again after ``resend_ms``, once a message, since TCP hides a loss and shows a
delay. Outages in runs come from the same draws as the simulator's.

An *exchange* begins when the client speaks after the server did: with HTTP/1.1 on a connection that is kept
open, that is one request and its answer, streamed or not. Not here: TCP's handshake and slow start (the
kernel accepts at once), a link that connections share (each has the bandwidth for itself), back-pressure.

``echo '{"target": "127.0.0.1:80", "links": {"a": {"rtt_ms": 40}}}' | python -m kit.route.proxy`` runs one. It
prints its two ports: where it listens, and where it takes commands, a line each (see `COMMANDS`).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np

from kit.route.delays import Delays, down, precise
from kit.simulate.scenario import Link

Mode = Literal["up", "cut", "hang"]
LINGER = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)  # close with a reset

COMMANDS = {
    "state": "say what it does and what it has seen",
    "cut": "break all connections, and every new one, until mend",
    "hang": "accept, and pass nothing on, until mend; what was held then goes on its way",
    "mend": "work again, without faults",
    "reset": "break all connections once",
    "break": "BYTES: break the next answer after so many bytes",
    "slow": "MS: that much longer, each round trip",
    "restart": "draw from the beginning again; the clock of outages starts at 0",
}


class Proxy:
    """The proxy, in the event loop that runs.

    Args:
        target: host and port behind it.
        links: the network; see `Delays`.
        seed: of delays and outages.
        notice_ms: until it is noticed that the network is cut, as ``connect_timeout_ms`` of a scenario.
    """

    def __init__(
        self, target: tuple[str, int], links: Mapping[str, Link], seed: int = 0, notice_ms: float = 0.0
    ) -> None:
        self.target, self.notice_s = target, notice_ms / 1000
        self.delays = Delays(links, seed)
        self._down = down(links, seed)
        self.mode: Mode = "up"
        self.slow_s, self.break_after = 0.0, -1
        self.exchanges = self.broken = 0
        self.late_ms: deque[float] = deque(maxlen=10_000)
        self.pairs: set[_Pair] = set()
        self._timers: list[asyncio.TimerHandle] = []

    async def start(self, port: int = 0) -> int:
        """Listen on this machine only. Returns the port."""
        self.loop = asyncio.get_running_loop()
        self._server = await self.loop.create_server(
            lambda: _Pair(self).client, "127.0.0.1", port, backlog=512
        )
        self._schedule()
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Break everything and listen no more."""
        self._server.close()
        self.reset()
        for timer in self._timers:
            timer.cancel()

    def _schedule(self, i: int = 0) -> None:
        """Outages from the ``i``-th on, one after the other."""
        if i == 0:
            self._zero_s = self.loop.time()
        for timer in self._timers:
            timer.cancel()
        if i < len(self._down.begin_s):
            begin_s, end_s = self._zero_s + self._down.begin_s[i], self._zero_s + self._down.end_s[i]
            self._timers = [self.loop.call_at(begin_s, self.cut), self.loop.call_at(end_s, self._over, i)]

    def _over(self, i: int) -> None:
        self.mend()
        self._schedule(i + 1)

    # -- commands

    def command(self, line: str) -> dict[str, Any]:
        """Carry out one of `COMMANDS`, and say the state.

        Raises:
            ValueError: it is none.
        """
        name, _, value = line.strip().partition(" ")
        if name not in COMMANDS:
            raise ValueError(f"no command is called {name!r}; there are: {', '.join(COMMANDS)}.")
        if name == "break":
            self.break_after = int(value)
        elif name == "slow":
            self.slow_s = float(value) / 1000
        elif name != "state":
            getattr(self, name)()
        return self.state()

    def state(self) -> dict[str, Any]:
        """What it does and what it has seen; ``late_ms``: median and P99 of timers that came late."""
        late = np.percentile(self.late_ms, [50, 99]).round(3).tolist() if self.late_ms else [0.0, 0.0]
        seen = {"exchanges": self.exchanges, "broken": self.broken, "connections": len(self.pairs)}
        return {"mode": self.mode, "slow_ms": 1000 * self.slow_s, **seen, "late_ms": late}

    def cut(self) -> None:
        self.mode = "cut"
        for pair in list(self.pairs):
            pair.give_up(self.notice_s)

    def hang(self) -> None:
        self.mode = "hang"

    def mend(self) -> None:
        self.mode, self.slow_s, self.break_after = "up", 0.0, -1
        for pair in list(self.pairs):
            pair.go_on()

    def reset(self) -> None:
        for pair in list(self.pairs):
            pair.break_off()

    def restart(self) -> None:
        self.mend()
        self.delays.restart()
        self._schedule()


class _Way:
    """One direction of a connection: bytes in order, each piece at its time."""

    def __init__(self, pair: _Pair, s_per_byte: float) -> None:
        self.pair, self.s_per_byte = pair, s_per_byte
        self.to: asyncio.Transport | None = None
        self.delay_s = self._free_s = self._last_s = 0.0
        self._queue: deque[tuple[float, bytes | None]] = deque()

    def put(self, data: bytes | None) -> None:
        """Bytes have come, or the end of them (None)."""
        loop = self.pair.proxy.loop
        self._free_s = max(loop.time(), self._free_s) + self.s_per_byte * len(data or b"")
        self._last_s = max(self._last_s, self._free_s + self.delay_s)
        self._queue.append((self._last_s, data))
        loop.call_at(self._last_s, self.flush)

    def flush(self) -> None:
        """Pass on what is due."""
        proxy = self.pair.proxy
        now_s = proxy.loop.time()
        while self._queue and self.to is not None and proxy.mode == "up":
            due_s, data = self._queue[0]
            if due_s > now_s + 1e-6:
                return
            self._queue.popleft()
            proxy.late_ms.append(1000 * (now_s - due_s))
            if data is None:
                self.to.close()
            else:
                self.to.write(data)


class _Pair:
    """A client's connection and the one that was opened for it."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.up, self.down = _Way(self, proxy.delays.up_s_per_byte), _Way(self, proxy.delays.down_s_per_byte)
        self.client, self.server = _End(self, self._from_client), _End(self, self._from_server)
        self._asking, self._left = False, -1  # bytes until the answer is broken off

    def opened(self, end: _End, transport: asyncio.Transport) -> None:
        if end is self.server:
            self.up.to = transport
            self.up.flush()
            return
        self.down.to = transport
        self.proxy.pairs.add(self)
        if self.proxy.mode == "cut":
            self.give_up(self.proxy.notice_s)
        else:
            self._task = self.proxy.loop.create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await self.proxy.loop.create_connection(lambda: self.server, *self.proxy.target)
        except OSError:  # nobody there: told after a round trip
            self.give_up(sum(self.proxy.delays.draw()) + self.proxy.slow_s)

    def _from_client(self, data: bytes) -> None:
        if not self._asking:
            p = self.proxy
            up_s, down_s = p.delays.draw()
            self.up.delay_s, self.down.delay_s = up_s + p.slow_s / 2, down_s + p.slow_s / 2
            self._asking, self._left, p.break_after = True, p.break_after, -1
            p.exchanges += 1
        self.up.put(data)

    def _from_server(self, data: bytes) -> None:
        self._asking = False
        if self._left >= 0:
            data, self._left = data[: self._left], max(self._left - len(data), 0)
            if self._left == 0:
                self.down.put(data)
                self.give_up(self.down.delay_s + 0.001)
                return
        self.down.put(data)

    def closed(self, end: _End) -> None:
        """One end is closed: the other hears of it after what is still on its way."""
        way = self.down if end is self.server else self.up
        way.put(None)
        if self.client.transport is None and self.server.transport is None:
            self.proxy.pairs.discard(self)

    def give_up(self, after_s: float) -> None:
        """Break off, once somebody has noticed."""
        self.proxy.loop.call_later(after_s, self.break_off)

    def go_on(self) -> None:
        self.up.flush()
        self.down.flush()

    def break_off(self) -> None:
        """Both ends get a reset."""
        if self in self.proxy.pairs:
            self.proxy.broken += 1
            self.proxy.pairs.discard(self)
        for end in (self.client, self.server):
            if end.transport is not None:
                end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
                end.transport.abort()


class _End(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, pair: _Pair, took: Any) -> None:
        self.pair, self.data_received = pair, took
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pair.opened(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        (self.pair.up if self is self.pair.server else self.pair.down).to = None
        self.pair.closed(self)


# -- a process of its own


async def _control(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Commands of one caller, a line each; each is answered by a line of JSON."""
    while line := (await reader.readline()).decode(errors="replace").strip():
        try:
            told = proxy.command(line)
        except ValueError as e:
            told = {"error": str(e)}
        writer.write(json.dumps(told).encode() + b"\n")
        await writer.drain()
    writer.close()


async def serve(told: Mapping[str, Any]) -> None:
    """Run the proxy that a JSON object describes, until the process is ended."""
    host, _, port = told["target"].rpartition(":")
    links = {name: Link(**link) for name, link in told.get("links", {}).items()}
    proxy = Proxy((host, int(port)), links, told.get("seed", 0), told.get("notice_ms", 0.0))
    listens = await proxy.start(told.get("port", 0))
    control = await asyncio.start_server(partial(_control, proxy), "127.0.0.1", told.get("control", 0))
    print(json.dumps({"port": listens, "control": control.sockets[0].getsockname()[1]}), flush=True)
    await control.serve_forever()


def described(target: str, links: Mapping[str, Link], seed: int = 0, notice_ms: float = 0.0) -> str:
    """The JSON object for `serve`."""
    plain = {name: {k: v for k, v in asdict(link).items() if v is not None} for name, link in links.items()}
    return json.dumps({"target": target, "links": plain, "seed": seed, "notice_ms": notice_ms})


if __name__ == "__main__":
    gc.freeze()  # what is there now stays: no pause to look through it
    precise(serve(json.load(sys.stdin)))
