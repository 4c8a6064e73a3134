"""From a carried request to what the caller gets: a whole answer, a stream, a ticket, or a reason."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kit.route.gateway.asks import Ask, Reply, shown
from kit.route.gateway.book import Trace
from kit.route.gateway.driver import Attempt, Carried
from kit.route.gateway.house import House
from kit.route.gateway.waiting import MOST_TRIES, Full, Ticket
from kit.route.gateway.why import Job, reason
from kit.route.gateway.wire import WireError
from kit.serve.answers import DONE, HungUp, Streamed, sse, unless_gone
from kit.serve.errors import ApiError

log = logging.getLogger("kit.gateway")
MEMORY = "memory"  # the tier's name for answers that are remembered
DRAIN_AT_ONCE = 4


async def answer(house: House, http: Request, ask: Ask) -> Response:
    """Answer one request of a caller."""
    headers = http.headers
    job = Job(ask, house.request(ask, headers), house.driver.now_s())
    job.may_wait = headers.get("x-may-wait", "").lower() == "true"
    if job.may_wait and ask.stream:
        raise ApiError(400, "A request that may wait cannot be a stream.", "invalid_value", "stream")
    if len(house.names) >= house.settings.most:
        house.finish(job, "rejected", "too many requests are open")
        raise ApiError(
            503, f"{house.settings.most} requests are open already.", "queue_full", retry_after_s=1
        )
    house.names.add(job.request.id)
    try:
        return await unless_gone(http, _answered(house, job))
    except HungUp:
        house.finish(job, "failed", "the caller hung up")
        raise
    finally:
        house.names.discard(job.request.id)


async def _answered(house: House, job: Job) -> Response:
    try:
        route = await house.decide(job)
    except ApiError as e:
        house.finish(job, "rejected", e.detail)
        raise
    if job.may_wait and not house.view()[route.target.tier].healthy:
        return hold(house, job)
    carried = await house.carry(job)
    if carried.answer is None:
        return _unanswered(house, job, carried)
    why = reason(job, carried)
    reply = carried.answer.reply
    assert reply is not None
    if reply.rest is None:
        house.memory.keep(job.ask, job.request, reply)
    if job.ask.stream:
        return _stream(house, job, carried.answer, reply, why)
    trace = house.finish(job, "answered", why, carried.answer)
    return JSONResponse(reply.body, headers=told(house, trace, reply))


def _unanswered(house: House, job: Job, carried: Carried[Reply]) -> Response:
    """Nobody answered: a remembered answer, a place in the queue, or the reason."""
    assert carried.none is not None
    failed = carried.attempts[-1].error if carried.attempts else None
    if failed is not None and not failed.retryable and failed.body is not None:  # the request is at fault
        trace = house.finish(job, "failed", failed.args[0])
        return JSONResponse(failed.body, failed.status, told(house, trace))
    if (kept := house.memory.find(job.ask, job.request)) is not None:
        house.metrics.remembered.inc()
        why = f"remembered, since nobody answers: {carried.none.reason}"
        trace = house.finish(job, "answered", why, tier=MEMORY)
        if job.ask.stream:
            return Response(
                _events(job.ask, kept) + DONE,
                media_type="text/event-stream",
                headers=told(house, trace, kept),
            )
        return JSONResponse(kept.body, headers=told(house, trace, kept))
    if job.may_wait:
        return hold(house, job)
    return _refused(house, job, carried)


def _refused(house: House, job: Job, carried: Carried[Reply]) -> Response:
    assert carried.none is not None
    why = reason(job, carried)
    trace = house.finish(job, carried.none.status, why)
    late = carried.none.status == "timed_out"
    error = ApiError(
        504 if late else 502, f"Nobody answered: {why}.", "deadline_exceeded" if late else "no_answer"
    )
    return JSONResponse(error.body(), error.status_code, told(house, trace))


def told(house: House, trace: Trace, reply: Reply | None = None) -> dict[str, str]:
    """Headers: who answered, and why."""
    row = trace.row
    headers = {
        "x-kit-id": trace.id,
        "x-kit-tier": row["tier"] or "nobody",
        "x-kit-attempts": str(row["attempts"]),
        "x-kit-reason": trace.reason,
        "x-kit-trace": trace.line(),
        "x-kit-policy": house.settings.policy,
    }
    if reply is not None:
        headers["x-kit-model"] = reply.model
        if reply.confidence is not None:
            headers["x-kit-confidence"] = f"{reply.confidence:.4f}"
    return {name: _plain(value) for name, value in headers.items()}


def _plain(text: str) -> str:
    """As a header may hold it."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:2000]


# -- streams


def _events(ask: Ask, reply: Reply) -> str:
    """The events that were read so far, as the caller sees them."""
    return "".join(sse(event) for event in shown(reply.events, ask.usage))


def _stream(house: House, job: Job, attempt: Attempt[Reply], reply: Reply, why: str) -> Response:
    """The events as they come. After the first token nobody else is asked: what was said cannot be unsaid, so
    a stream that breaks off ends with an error event and without [DONE]."""
    if reply.rest is None:
        trace = house.finish(job, "answered", why, attempt)
        text = _events(job.ask, reply) + DONE
        return Response(text, media_type="text/event-stream", headers=told(house, trace, reply))
    first_s, ended = house.driver.now_s(), ["failed", f"{why}; the caller hung up"]
    shape = Trace(job.request.id, {"tier": attempt.target.tier, "attempts": len(job.attempts)}, why)
    shape.took(job.attempts, house.zero_s)
    rest, held = reply.rest, AsyncExitStack()

    async def close() -> None:
        await reply.close()
        house.finish(job, ended[0], ended[1], attempt, first_s)  # type: ignore[arg-type]

    async def lines() -> AsyncIterator[str]:
        yield _events(job.ask, reply)
        try:
            async with asyncio.timeout(house.settings.stream_s):
                async for event in rest:
                    reply.note(event.get("usage"))
                    if seen := shown([event], job.ask.usage):
                        yield sse(seen[0])
                    if "error" in event:
                        raise ValueError("an error")
        except (WireError, ValueError, TimeoutError) as e:
            house.metrics.broken.inc()
            ended[:] = ["failed", f"{why}; {attempt.target.tier} broke off: {e or 'too slow'}"]
            said = f"{attempt.target.tier} broke off in the middle of its answer."
            yield sse(ApiError(502, said, "broke_off").body())
            return
        ended[:] = ["answered", why]
        yield DONE

    held.push_async_callback(close)
    response = Streamed(lines(), held, house.settings.stream_s)
    response.headers.update(told(house, shape, reply))
    return response


# -- the offline queue


def hold(house: House, job: Job) -> Response:
    """A ticket for a request that may wait."""
    try:
        ticket = house.waiting.hold(job, house.driver.now_s())
    except Full as e:
        house.finish(job, "rejected", str(e))
        raise ApiError(503, f"The offline queue is full: {e}", "queue_full", retry_after_s=5) from None
    return JSONResponse(_ticket(ticket), 202, {"Location": f"/v1/queue/{ticket.id}", "x-kit-reason": "waits"})


def _ticket(ticket: Ticket[Job]) -> dict[str, Any]:
    return {"object": "ticket", "id": ticket.id, "status": "waiting", "tries": ticket.tries}


def fetch(house: House, id: str) -> Response:
    """What became of a ticket."""
    ticket = house.waiting.find(id)
    if ticket is None:
        raise ApiError(404, "This ticket is not known (any more).", "ticket_not_found")
    if ticket.status == 202:
        return JSONResponse(_ticket(ticket), 202)
    return JSONResponse(ticket.body, ticket.status, ticket.headers)


async def drain(house: House) -> None:
    """Send what waits, as far as those whom it waits for are back. Called after each look at the tiers."""
    free = asyncio.Semaphore(DRAIN_AT_ONCE)

    async def one(ticket: Ticket[Job]) -> None:
        async with free:
            await _again(house, ticket)

    await asyncio.gather(*(one(ticket) for ticket in house.waiting.waits()))


async def _again(house: House, ticket: Ticket[Job]) -> None:
    """Decide about it anew, as the simulator does."""
    old = ticket.job
    job = Job(old.ask, old.request, house.driver.now_s(), may_wait=True)
    if job.request.id in house.names:
        return  # somebody uses its name; the next time
    house.names.add(job.request.id)
    try:
        await _try(house, ticket, job)
    finally:
        house.names.discard(job.request.id)


async def _try(house: House, ticket: Ticket[Job], job: Job) -> None:
    """Once."""
    try:
        route = await house.decide(job)
    except ApiError as e:
        house.finish(job, "rejected", e.detail)
        house.waiting.close(ticket, e.status_code, e.body(), {})
        return
    if not house.view()[route.target.tier].healthy:
        return
    ticket.tries += 1
    carried = await house.carry(job)
    job.begin_s = ticket.since_s
    if carried.answer is not None:
        reply = carried.answer.reply
        assert reply is not None
        trace = house.finish(job, "answered", f"waited; {reason(job, carried)}", carried.answer)
        house.waiting.close(ticket, 200, reply.body, told(house, trace, reply))
    elif ticket.tries >= MOST_TRIES:
        response = _refused(house, job, carried)
        house.waiting.close(ticket, response.status_code, json.loads(bytes(response.body)), {})
