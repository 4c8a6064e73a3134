"""The door: what every request passes before the application sees it, and what is noted when it leaves.

Plain ASGI, so that a stream passes through unchanged and a client that hangs up is noticed.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit.serve import keys
from kit.serve.errors import ApiError, over_limit
from kit.serve.keys import Key
from kit.serve.limits import Allowance, OverLimit
from kit.serve.metrics import Metrics

OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/docs")  # nobody needs a key here
ANYBODY = Key("anybody", "")  # who calls a server without keys
OWNER = Key("anybody", "", admin=True)  # the same, if nobody but this machine can call
log = logging.getLogger("kit.serve")


class Door:
    """Middleware: request id, key, requests per window, size of the body, metrics, one line of log.

    Args:
        app: the application.
        known: the keys; None: anybody may call, as ``nobody``.
        nobody: who calls without a key, where none is needed.
        allowances: by name of key.
        metrics: counts.
        body_bytes: largest body.
        draining: whether the server is about to stop.
    """

    def __init__(
        self,
        app: ASGIApp,
        known: Sequence[Key] | None,
        nobody: Key,
        allowances: Mapping[str, Allowance],
        metrics: Metrics,
        body_bytes: int,
        draining: Callable[[], bool],
    ) -> None:
        self._app, self._known, self._nobody = app, known, nobody
        self._allowances, self._metrics = allowances, metrics
        self._body_bytes, self._draining = body_bytes, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, name, status, begun = time.perf_counter(), "", 500, False
        id = f"req_{uuid.uuid4().hex}"

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id.encode())]
            await send(message)

        try:
            key = self._enter(scope)
            if key is not None:
                name = key.name
                scope.setdefault("state", {}).update(key=key, allowance=self._allowances[key.name])
            await self._app(scope, self._counting(scope, receive), answer)
        except ApiError as e:
            await e.response()(scope, receive, answer)
        except Exception:
            log.exception("%s unexpected error", id)
            if begun:
                raise  # too late for another status: the connection is closed
            told = ApiError(500, "The server failed; its log says why.", "internal_error")
            await told.response()(scope, receive, answer)
        finally:
            path = getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - start
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(seconds)
            log.info("%s %s %s %d %.1f ms key=%s", id, scope["method"], path, status, 1000 * seconds, name)

    def _enter(self, scope: Scope) -> Key | None:
        """Whose request it is; None where no key is needed. Raises ApiError."""
        path = scope["path"]
        if path in OPEN:
            return None
        headers = {k.lower(): v for k, v in scope["headers"]}
        if self._draining():
            raise ApiError(503, "The server is about to stop. Try again.", "shutting_down", retry_after_s=1)
        key = self._key(headers.get(b"authorization", b"").decode("latin-1"))
        # without keys a web page (Origin) or a proxy in front of us must not change models either
        from_elsewhere = self._known is None and (b"origin" in headers or b"x-forwarded-for" in headers)
        if path.startswith("/admin") and (from_elsewhere or not key.admin):
            raise ApiError(403, "This key may not change models.", "not_admin")
        length = headers.get(b"content-length", b"0").decode("latin-1")
        if length.isdecimal() and int(length) > self._body_bytes:
            raise self._too_large()
        try:
            self._allowances[key.name].request()
        except OverLimit as e:
            raise over_limit(e) from None
        return key

    def _key(self, header: str) -> Key:
        if self._known is None:
            return self._nobody
        scheme, _, presented = header.partition(" ")
        if scheme.lower() != "bearer" or not presented:
            raise ApiError(401, "No API key. Send one as: Authorization: Bearer KEY", "missing_api_key")
        key = keys.find(self._known, presented.strip())
        if key is None:
            raise ApiError(401, "This API key is not known here.", "invalid_api_key")
        return key

    def _too_large(self) -> ApiError:
        return ApiError(413, f"The body is larger than {self._body_bytes:,} bytes.", "body_too_large")

    def _counting(self, scope: Scope, receive: Receive) -> Receive:
        """``receive`` that stops a body which is larger than it may be, whatever it said at first."""
        got = 0

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                if got > self._body_bytes:
                    raise self._too_large()
            return message

        return limited
