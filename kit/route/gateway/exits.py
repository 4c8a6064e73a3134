"""The one place where bytes of a request leave this process: the last line of defence for what is private.

Whatever policy, dispatcher or settings say: before a request goes to a tier, its privacy class is held
against the tier's kind (`kit.policy.ALLOWED_KINDS`). What must not leave does not, the attempt fails, and is
counted. No other module of the gateway has a connection to anywhere. Nothing follows a redirect, proxies that
an environment may name are not used, and no header of the caller is handed on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from kit.policy import ALLOWED_KINDS, Request
from kit.route.gateway.driver import NoAnswer
from kit.route.gateway.settings import TierSettings
from kit.route.gateway.wire import Received, Wire, WireError

OURS = (400, 413, 415, 422)
"""Refusals for which the request is at fault: nobody else would like it better."""


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
        self._wires = {tier.name: Wire(tier.root, connect_timeout_ms / 1000) for tier in tiers}
        self._headers = {tier.name: _headers(tier) for tier in tiers}
        self.refused: Counter[tuple[str, str]] = Counter()
        self.sent: Counter[str] = Counter()

    async def post(self, name: str, request: Request, path: str, body: Mapping[str, Any]) -> Received:
        """Ask a tier. Returns the head of its answer, 200; the caller reads it, or closes it.

        Raises:
            Leak: this request must not go there.
            NoAnswer: nobody is there, or the answer is a refusal.
        """
        tier = self._tiers[name]
        if tier.kind not in ALLOWED_KINDS[request.privacy]:
            self.refused[name, request.privacy] += 1
            raise Leak(f"privacy: a {request.privacy} request must not go to {name} ({tier.kind})")
        self.sent[name] += 1
        told = json.dumps(body, ensure_ascii=False).encode()
        try:
            answer = await self._wires[name].ask("POST", tier.path + path, self._headers[name], told)
        except WireError as e:
            raise NoAnswer(str(e)) from None
        if answer.status != 200:
            raise await _refusal(answer)
        return answer

    async def look(self, name: str, path: str, limit_s: float) -> tuple[int, str] | None:
        """Ask a tier how it is; nothing of a request is in it. Status and text; None: nobody answers."""
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._wires[name].ask("GET", path, {})
                text = (await answer.read()).decode(errors="replace")
        except (WireError, TimeoutError):
            return None
        return answer.status, text

    def close(self) -> None:
        """Close what is idle."""
        for wire in self._wires.values():
            wire.close()


def _headers(tier: TierSettings) -> dict[str, str]:
    key = tier.key.get_secret_value()
    return {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})


async def _refusal(answer: Received) -> NoAnswer:
    """A refusal as the dispatcher understands it: whose fault it is, and when to ask again."""
    status, body = answer.status, None
    with suppress(WireError, ValueError):
        body = json.loads(await answer.read())
    ours = status in OURS  # its words go to the caller only: they may repeat what was asked
    told = body if ours and isinstance(body, dict) else None
    return NoAnswer(f"HTTP {status}", retry_after_s(answer.headers), not ours, status, told)


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
