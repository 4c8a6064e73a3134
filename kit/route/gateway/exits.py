"""The one place where bytes of a request leave this process, and the last line of defence for what is private.

Whatever policy, dispatcher or settings say: before a request goes to a tier, its privacy class is held against
the tier's kind (`kit.policy.ALLOWED_KINDS`). What must not leave does not, the attempt fails, and is counted.
No other module of the gateway has a connection to anywhere; nothing follows a redirect; the proxies that an
environment may name are not used, and no header of the caller is handed on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import httpx

from kit.policy import ALLOWED_KINDS, Request
from kit.route.gateway.driver import NoAnswer
from kit.route.gateway.settings import TierSettings

KEEP_S = 3.0
"""Idle connections are closed after this time: before uvicorn closes them (5 s), so that none breaks in use."""


class Leak(NoAnswer):
    """A request was about to go where it must not; it did not."""


class Exits:
    """Connections to all tiers.

    Args:
        tiers: where they are.
        connect_timeout_ms: a tier that does not take a connection within this time is not there.

    Attributes:
        refused: (tier, privacy) -> requests that were kept back here.
        sent: tier -> requests that left.
    """

    def __init__(self, tiers: Sequence[TierSettings], connect_timeout_ms: float) -> None:
        self._tiers = {tier.name: tier for tier in tiers}
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(
                None, connect=connect_timeout_ms / 1000
            ),  # the dispatcher knows when to stop
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=KEEP_S),
            trust_env=False,
            follow_redirects=False,
        )
        self.refused: Counter[tuple[str, str]] = Counter()
        self.sent: Counter[str] = Counter()

    async def post(self, name: str, request: Request, path: str, body: Mapping[str, Any]) -> httpx.Response:
        """Ask a tier. Returns the head of its answer, 200; the caller reads and closes it.

        Raises:
            Leak: this request must not go there.
            NoAnswer: nobody is there, or the answer is a refusal.
        """
        tier = self._tiers[name]
        if tier.kind not in ALLOWED_KINDS[request.privacy]:
            self.refused[name, request.privacy] += 1
            raise Leak(f"privacy: a {request.privacy} request must not go to {name} ({tier.kind})")
        key = tier.key.get_secret_value()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        asked = self._client.build_request(
            "POST", tier.base_url.rstrip("/") + path, json=body, headers=headers
        )
        self.sent[name] += 1
        try:
            response = await self._client.send(asked, stream=True)
        except httpx.HTTPError as e:
            raise NoAnswer(broken(e)) from None
        if response.status_code != 200:
            raise await _refusal(response)
        return response

    async def look(self, name: str, path: str, limit_s: float) -> str | None:
        """Ask a tier how it is; nothing of a request is in it. The text of its answer; None: no good answer."""
        try:
            response = await self._client.get(self._tiers[name].root + path, timeout=limit_s)
        except httpx.HTTPError:
            return None
        return response.text if response.status_code == 200 else None

    async def close(self) -> None:
        await self._client.aclose()


def broken(e: httpx.HTTPError) -> str:
    """What went wrong on the way, in a few words."""
    known = {
        httpx.ConnectTimeout: "no connection in time",
        httpx.ConnectError: "no connection",
        httpx.ReadError: "the connection broke",
        httpx.WriteError: "the connection broke",
        httpx.RemoteProtocolError: "the connection broke off",
    }
    return known.get(type(e), type(e).__name__)


async def _refusal(response: httpx.Response) -> NoAnswer:
    """A refusal as the dispatcher understands it: whose fault it is, and when to ask again."""
    status = response.status_code
    try:
        await response.aread()
        body = response.json()
        message = str(body["error"]["message"]) if isinstance(body, dict) else ""
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        body, message = None, ""
    finally:
        await response.aclose()
    ours = status in (400, 413, 415, 422)  # the request is at fault: nobody else would like it better
    reason = f"HTTP {status}" + (f": {message[:200]}" if ours and message else "")
    return NoAnswer(reason, retry_after_s(response.headers), not ours, status, body if ours else None)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for: a number or a date (RFC 9110); None: it does not say."""
    told = headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        return max(float(told), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(told).timestamp() - time(), 0.0)
    except ValueError:
        return None
