"""What the application holds, and what every answer does with it: lease a model, reserve tokens, settle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import httpx
from starlette.requests import Request

from kit.serve import alerts, filters, keys, manifest
from kit.serve.answers import unless_gone
from kit.serve.door import ANYBODY, OWNER
from kit.serve.errors import ApiError, over_limit
from kit.serve.limits import Allowance, OverLimit
from kit.serve.metrics import Metrics
from kit.serve.settings import LOOPBACK, Settings
from kit.serve.shelf import Chat, NoModel, Shelf, Version

QUICK = 64  # embeddings and classifications at a time, those that wait included
T = TypeVar("T")


class House:
    """What the application holds: models, keys, allowances, counts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = keys.load(settings.keys) if settings.keys else None
        self.nobody = OWNER if settings.host in LOOPBACK else ANYBODY
        everyone = self.keys if self.keys is not None else (self.nobody,)
        self.allowances = {k.name: Allowance(k.limits, settings.window_s, time.monotonic) for k in everyone}
        self.make_filter = filters.find(settings.output_filter)
        known = manifest.read(settings.manifest, settings.manifest_key) if settings.manifest else None
        self.metrics = Metrics(self.load)
        self.shelf = Shelf(settings.models, known, self.metrics.guessed)
        self.client = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.deadline_s, connect=5.0),
            limits=httpx.Limits(max_connections=None),  # the rows of each model are the limit
        )
        self.draining = self.ready = False
        self._quick, self._pool = 0, ThreadPoolExecutor(1)
        rules = alerts.load(settings.alerts) if settings.alerts else ()
        self.watchman = alerts.Watchman(
            rules, self.metrics, self.saturation, self.spend, alerts.webhook(settings.webhook)
        )

    def writers(self) -> dict[str, Any]:
        return {v.settings.name: v.writer for v in self.shelf.active() if isinstance(v, Chat)}

    def load(self) -> dict[str, tuple[int, int]]:
        """Answers that run and wait, by model; those of a version that was replaced, too."""
        found: dict[str, tuple[int, int]] = {}
        for version in self.shelf.every():
            if version.places is not None:
                runs, waits = found.get(version.settings.name, (0, 0))
                now = (runs + version.places.running, waits + version.places.waiting)
                found[version.settings.name] = now
        return found

    def saturation(self) -> float:
        """Part of the places that is taken, of the fullest model."""
        places = [v.places for v in self.shelf.active() if v.places is not None]
        return max((p.open / (p.rows + p.queue) for p in places), default=0.0)

    def spend(self) -> float:
        """Spend of the key that is nearest to its budget, as a part of it."""
        budgets = {k.name: k.budget_usd for k in self.keys or () if k.budget_usd}
        return max((self.allowances[n].used.spend_usd / b for n, b in budgets.items()), default=0.0)

    def alive(self) -> bool:
        """Every model can still answer."""
        return all(w.alive for w in self.writers().values())

    def lease(self, name: str, kinds: tuple[type[Version], ...], stack: AsyncExitStack) -> Any:
        """The model of that name, open until ``stack`` is left.

        Raises:
            ApiError: there is none, or it cannot do this.
        """
        try:
            version = stack.enter_context(self.shelf.lease(name))
        except NoModel as e:
            raise ApiError(404, str(e), "model_not_found", "model") from None
        if not isinstance(version, kinds):
            raise ApiError(
                400,
                f"model {name!r} is a {version.settings.kind} model; it cannot do this.",
                "wrong_model",
                "model",
            )
        return version

    async def quick(self, request: Request, work: Callable[..., T], *args: Any) -> T:
        """Run a small piece of work in a thread, one after the other.

        Raises:
            ApiError: too many wait, or it took too long.
        """
        if self._quick >= QUICK:
            raise ApiError(503, f"{QUICK} requests are open already.", "queue_full", retry_after_s=1)
        self._quick += 1
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                future = asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
                return await unless_gone(request, future)
        except TimeoutError:
            raise ApiError(504, "The answer was not complete in time.", "deadline_exceeded") from None
        finally:
            self._quick -= 1

    async def close(self) -> None:
        """Give everything back, once all requests are answered."""
        await self.shelf.close()
        await self.client.aclose()
        self._pool.shutdown(wait=False, cancel_futures=True)


class Bill:
    """What one request may use and did use. It is settled when ``stack`` is left.

    Args:
        request, version: who asks whom.
        prompt_tokens, most_new: what it may need; reserved now.
        stack: of the request.

    Attributes:
        accepted: set it once the model has taken the request; until then nothing is charged.
        prompt_tokens, completion_tokens: what it used; set them as they become known.

    Raises:
        ApiError: the key has not so much left.
    """

    def __init__(
        self,
        request: Request,
        version: Version,
        prompt_tokens: int,
        most_new: int,
        stack: AsyncExitStack,
    ) -> None:
        self._allowance: Allowance = request.state.allowance
        self._prices = version.settings
        self.accepted, self.prompt_tokens, self.completion_tokens = False, prompt_tokens, 0
        try:
            self._reserved = self._allowance.reserve(prompt_tokens, most_new)
        except OverLimit as e:
            raise over_limit(e) from None
        stack.callback(self._settle)

    def _settle(self) -> None:
        told, made = (self.prompt_tokens, self.completion_tokens) if self.accepted else (0, 0)
        usd = (told * self._prices.usd_per_mtok_in + made * self._prices.usd_per_mtok_out) / 1e6
        self._allowance.settle(self._reserved, told, made, usd)
