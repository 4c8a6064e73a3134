"""HTTP/1.1 to one server over connections that are kept: little more than `h11` and asyncio's streams.

A general client spends more time on a request than the gateway may. Not here: redirects, cookies, proxies,
compression, HTTP/2. It never sends anything a second time: that is the dispatcher's to decide.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any
from urllib.parse import urlsplit

import h11

KEEP_S = 3.0
"""Idle connections are closed after this time: before uvicorn does it (5 s), so that none breaks in use."""
PIECE = 65_536
REST_S = 1.0


class WireError(Exception):
    """The other side is not there, broke off, or does not speak HTTP; in a few words."""


class _Connection:
    """A connection, and where it is in HTTP's to and fro."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.http = h11.Connection(h11.CLIENT)
        self.idle_since_s = 0.0

    def usable(self) -> bool:
        fresh = time.monotonic() - self.idle_since_s < KEEP_S
        return fresh and not self.reader.at_eof() and not self.writer.is_closing()

    def send(self, request: h11.Request, body: bytes) -> None:
        parts = [self.http.send(request)]
        if body:
            parts.append(self.http.send(h11.Data(body)))
        parts.append(self.http.send(h11.EndOfMessage()))
        self.writer.write(b"".join(p for p in parts if p))  # one piece: one packet, mostly

    async def event(self) -> h11.Event:
        """What comes next. Raises WireError."""
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self.http.receive_data(await self.reader.read(PIECE))
        except h11.RemoteProtocolError:
            raise WireError("the connection broke off") from None
        except OSError:
            raise WireError("the connection broke") from None
        if not isinstance(event, h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage):
            raise WireError("the connection broke off")
        return event

    def close(self) -> None:
        self.writer.transport.abort()


class Received:
    """The head of an answer; its body is read or not.

    Attributes:
        status: HTTP status. ``headers``: by lower-case name.
    """

    def __init__(self, wire: Wire, connection: _Connection, head: h11.Response) -> None:
        self._wire, self._connection = wire, connection
        self.status = head.status_code
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        self._open = True

    async def piece(self) -> bytes | None:
        """More of the body; None: that was all, and the connection is kept. Raises WireError."""
        try:
            event = await self._connection.event()
        except BaseException:
            self.close()
            raise
        if isinstance(event, h11.Data):
            return bytes(event.data)
        self._open = False
        self._wire.give_back(self._connection)
        return None

    async def read(self) -> bytes:
        """The whole body. Raises WireError."""
        pieces = []
        while (piece := await self.piece()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    async def lines(self) -> AsyncIterator[str]:
        """The body line by line, without their ends. Raises WireError."""
        rest = b""
        while (piece := await self.piece()) is not None:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line.rstrip(b"\r").decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def leave(self) -> None:
        """What matters was read: the rest is read aside, so that the connection can be kept."""
        if self._open:
            self._open = False
            _spawn(self._rest())

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(REST_S):
                while not isinstance(await self._connection.event(), h11.EndOfMessage):
                    pass
            self._wire.give_back(self._connection)
        except (WireError, TimeoutError):
            self._connection.close()

    def close(self) -> None:
        """Nobody reads on: the connection is closed, unless all was read."""
        if self._open:
            self._open = False
            self._connection.close()


_ASIDE: set[asyncio.Task] = set()  # the loop itself holds tasks only weakly


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _ASIDE.add(task)
    task.add_done_callback(_ASIDE.discard)


class Wire:
    """Connections to one server.

    Args:
        url: of the server; the path is put in front of those that are asked for.
        connect_s: a connection that is not there within this time is given up.
    """

    def __init__(self, url: str, connect_s: float) -> None:
        parts = urlsplit(url)
        self._host, self._base = parts.hostname or "", parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._netloc, self._connect_s = parts.netloc.rpartition("@")[2].encode(), connect_s
        self._idle: list[_Connection] = []

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> Received:
        """Send one request, once. Returns the head of the answer.

        Raises:
            WireError: there is none.
        """
        told = [(b"host", self._netloc), (b"content-length", str(len(body)).encode())]
        told += [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        request = h11.Request(method=method, target=(self._base + path).encode(), headers=told)
        connection = await self._connection()
        try:
            connection.send(request, body)
            while not isinstance(head := await connection.event(), h11.Response):
                pass  # 100 Continue and the like
            return Received(self, connection, head)
        except BaseException:
            connection.close()
            raise

    async def _connection(self) -> _Connection:
        while self._idle:
            if (connection := self._idle.pop()).usable():
                return connection
            connection.close()
        try:
            async with asyncio.timeout(self._connect_s):
                return _Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._tls))
        except TimeoutError:
            raise WireError("no connection in time") from None
        except OSError:
            raise WireError("no connection") from None

    def give_back(self, connection: _Connection) -> None:
        """An answer was read to its end: keep the connection, if both sides want to."""
        if connection.http.our_state is h11.DONE and connection.http.their_state is h11.DONE:
            connection.http.start_next_cycle()
            connection.idle_since_s = time.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
