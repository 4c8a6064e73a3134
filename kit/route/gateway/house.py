"""What the gateway holds, and the way of a request through it: read, decide, carry out, note."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from math import isnan

import numpy as np

from kit import policy as p
from kit.policy import (
    FleetView,
    Outcome,
    Policy,
    PolicyError,
    Request,
    Route,
    StandardDispatcher,
    Target,
    tell,
)
from kit.route.gateway import policies
from kit.route.gateway.asks import Ask, Reply, call
from kit.route.gateway.book import Book, Trace
from kit.route.gateway.driver import Attempt, Carried, Driver, NoAnswer
from kit.route.gateway.exits import Exits, Leak
from kit.route.gateway.memory import Memory
from kit.route.gateway.metrics import Metrics
from kit.route.gateway.settings import Settings
from kit.route.gateway.signals import Signals
from kit.route.gateway.waiting import Waiting
from kit.route.gateway.why import Job, tried
from kit.serve import keys
from kit.serve.door import ANYBODY, OWNER
from kit.serve.errors import ApiError
from kit.serve.limits import Allowance
from kit.serve.settings import LOOPBACK

log = logging.getLogger("kit.gateway")
FARTHEST: tuple[p.Privacy, ...] = (
    "public",
    "personal",
    "private",
)  # each may go less far than the one before


class House:
    """What the application holds."""

    def __init__(self, settings: Settings, policy: Policy | None = None) -> None:
        self.settings = settings
        self.keys = keys.load(settings.keys) if settings.keys else None
        self.nobody = OWNER if settings.host in LOOPBACK else ANYBODY
        everyone = self.keys if self.keys is not None else (self.nobody,)
        self.allowances = {k.name: Allowance(k.limits, settings.window_s, time.monotonic) for k in everyone}
        self.tiers = {tier.name: tier for tier in settings.tiers}
        self.dispatcher = StandardDispatcher(settings.dispatching(), settings.seed)
        self.rng = np.random.default_rng(settings.seed)
        self.policy = policies.build(settings, self._failed, policy)
        self.memory, self.book = Memory(settings.remember), Book(settings.kept)
        self.waiting: Waiting[Job] = Waiting(settings.waiting)
        self.metrics = Metrics(lambda: self.signals.view, lambda: len(self.waiting))
        self.exits = Exits(settings.tiers, settings.connect_timeout_ms)
        self.driver: Driver[Reply] = Driver(self.dispatcher, tell=self._heard)
        self.signals = Signals(
            settings.tiers, self.exits, self.dispatcher, self.driver.now_s, settings.signals_every_s
        )
        self.names: set[str] = set()  # of requests that are under way
        self.draining, self._fault, self.zero_s = False, "", 0.0

    # -- read

    def request(self, ask: Ask, headers: Mapping[str, str]) -> Request:
        """What a policy may know. Raises ApiError."""
        s, told = self.settings, ask.body.get("model") or "auto"
        known = {model for tier in s.tiers for model in tier.serves}
        if told != "auto" and told not in known:
            names = ", ".join(["auto", *sorted(known)])
            raise ApiError(
                404, f"no model is called {told!r}; there are: {names}.", "model_not_found", "model"
            )
        id = headers.get("x-request-id") or uuid.uuid4().hex
        if id in self.names:
            raise ApiError(
                409, f"a request called {id!r} is under way: each needs a name of its own.", "same_id"
            )
        size = len(ask.text.encode())
        try:
            return Request(
                id=id,
                payload_bytes=int(headers.get("content-length") or size),
                prompt_tokens=-(-size // 4),
                privacy=headers.get("x-privacy") or s.privacy,  # type: ignore[arg-type]
                language="zh" if any("\u4e00" <= c <= "\u9fff" for c in ask.text) else "en",
                deadline_ms=float(headers.get("x-deadline-ms") or s.deadline_ms),
                origin=headers.get("x-origin") or s.origin,
                model=None if told == "auto" else told,
            )
        except ValueError as e:
            raise ApiError(400, f"a header says what cannot be: {e}", "invalid_value") from None

    # -- decide

    async def decide(self, job: Job) -> Route:
        """Whom to ask. Raises ApiError if nobody may be."""
        if self.settings.edge_first:
            await self._ask_edge(job)
        view, now_s = self.signals.view, self.driver.now_s()
        self._fault = ""
        try:
            job.route = self.policy.route(job.request, view, now_s, self.rng)
        except ValueError as e:  # PrivacyFirst finds nobody who may be asked
            raise ApiError(403, str(e), "privacy") from None
        job.fault = self._fault
        return job.route

    async def _ask_edge(self, job: Job) -> None:
        """Intent and confidence before the decision; a tier that does not tell leaves them unknown."""
        tier = self.tiers[self.settings.edge_first]
        limit_ms = self.dispatcher.settings.attempt_timeout_ms or self.settings.connect_timeout_ms
        try:
            async with asyncio.timeout(limit_ms / 1000):
                job.first = await call(self.exits, tier, job.request, job.ask, tier.model, judged=True)
        except (NoAnswer, TimeoutError):
            return
        least = self.settings.intents.get(job.first.label or "", "public")
        job.request = replace(
            job.request,
            edge_confidence=job.first.confidence,
            intent=job.first.label,
            privacy=max(job.request.privacy, least, key=FARTHEST.index),
        )

    def _failed(self, error: PolicyError) -> None:
        """The policy did not decide."""
        self._fault = error.fault
        self.metrics.policy.labels("observe" if error.fault.startswith("observe") else "route").inc()
        log.warning("the policy failed: %s", error)

    # -- carry out

    async def carry(self, job: Job) -> Carried[Reply]:
        """Along its route, to its end."""
        assert job.route is not None
        spent_ms = 1000 * (self.driver.now_s() - job.begin_s)
        left_ms = max((job.request.deadline_ms or self.settings.deadline_ms) - spent_ms, 1e-3)
        last = (job.route.target, *job.route.fallbacks)[-1]
        judging = job.route.escalate_below is not None

        async def ask(request: Request, target: Target) -> Reply:
            if job.first is not None and target.tier == self.settings.edge_first:
                found, job.first = job.first, None
                return found
            return await self._call(job, target, judging and target.tier != last.tier)

        return await self.driver.carry(
            replace(job.request, deadline_ms=left_ms), job.route, ask, job.attempts
        )

    async def _call(self, job: Job, target: Target, judged: bool) -> Reply:
        tier, wanted = self.tiers[target.tier], job.request.model
        model = target.model or (wanted if wanted in tier.serves else None) or tier.model
        start_s, took_ms = self.driver.now_s(), None
        self.signals.sent(tier.name)
        try:
            reply = await call(self.exits, tier, job.request, job.ask, model, judged)
            took_ms = 1000 * (self.driver.now_s() - start_s)
        except Leak:
            self.metrics.private.labels(tier.name, job.request.privacy).inc()
            log.error("kept back at the exit: a %s request for %s", job.request.privacy, tier.name)
            raise
        finally:
            self.signals.ended(tier.name, took_ms)
        reply.model = reply.model or model
        return reply

    def _heard(self, request: Request, attempt: Attempt[Reply]) -> None:
        how = "cancelled" if attempt.how == "open" else "answered" if attempt.reply else "failed"
        self.metrics.attempts.labels(attempt.target.tier, how).inc()
        if attempt.end_s is not None and attempt.reply:
            self.metrics.took.labels(attempt.target.tier).observe(attempt.end_s - attempt.start_s)

    # -- note

    def finish(
        self,
        job: Job,
        status: p.Status,
        reason: str,
        answer: Attempt[Reply] | None = None,
        first_s: float | None = None,
        tier: str = "",
    ) -> Trace:
        """The request is over: a row for the table, a line for the counters, a lesson for the policy."""
        end_s = self.driver.now_s()
        reply = answer.reply if answer else None
        tier = answer.target.tier if answer else tier
        usd = sum(self._usd(job, a) for a in job.attempts)
        row = {
            "id": job.request.id,
            "policy": self.settings.policy,
            "scheduled_s": job.begin_s - self.zero_s,
            "outcome": status,
            "attempts": len(job.attempts),
            "tier": tier,
            "tokens_in": float(job.request.prompt_tokens),
            "cost_usd": usd,
        }
        if job.attempts:
            row["sent_s"] = job.attempts[0].start_s - self.zero_s
        if status == "answered":
            row |= {"first_token_s": (first_s or end_s) - self.zero_s, "last_token_s": end_s - self.zero_s}
        if reply is not None:
            row |= {"model": reply.model, "tokens_out": reply.tokens_out}
            row |= {} if isnan(reply.tokens_in) else {"tokens_in": reply.tokens_in}
        trace = Trace(job.request.id, row, reason, job.request.privacy)
        trace.took(job.attempts, self.zero_s)
        self.book.add(trace)
        self.metrics.answers.labels(tier or "nobody", status).inc()
        self._teach(job, status, answer, end_s, usd)
        return trace

    def _teach(
        self, job: Job, status: p.Status, answer: Attempt[Reply] | None, end_s: float, usd: float
    ) -> None:
        if job.route is None or not job.attempts:
            return
        good = status == "answered" and answer is not None
        outcome = Outcome(
            request=job.request,
            route=job.route,
            status=status if good or status != "answered" else "failed",
            answered_by=answer.target if good and answer else None,
            latency_ms=1000 * (end_s - job.begin_s),
            attempts=len(job.attempts),
            confidence=answer.reply.confidence if answer and answer.reply else None,
            cost_usd=usd,
            tried=tuple(tried(a, end_s, self.dispatcher.settings.attempt_timeout_ms) for a in job.attempts),
            now_s=end_s,
        )
        tell(self.policy, outcome)

    def _usd(self, job: Job, attempt: Attempt[Reply]) -> float:
        tier, reply = self.tiers[attempt.target.tier], attempt.reply
        usd = tier.usd_per_request
        if reply is not None:
            told = 0.0 if isnan(reply.tokens_in) else reply.tokens_in
            made = 0.0 if isnan(reply.tokens_out) else reply.tokens_out
            usd += (told * tier.usd_per_mtok_in + made * tier.usd_per_mtok_out) / 1e6
        return usd

    def view(self) -> FleetView:
        """What policies see now."""
        return self.signals.view

    def close(self) -> None:
        """Give connections back."""
        self.exits.close()
