"""Chat and completions: from a checked request to its answer, here or at another server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kit.batch import Job, QueueFull
from kit.engine import tokenizer
from kit.serve import filters, telemetry
from kit.serve.answers import DONE, Answer, Form, Streamed, late, sampling, sse, unless_gone
from kit.serve.errors import ApiError
from kit.serve.house import Bill, House
from kit.serve.metrics import Watch
from kit.serve.places import Places
from kit.serve.prompts import count, prompt_tokens
from kit.serve.shelf import Chat, Upstream
from kit.serve.upstream import Counted, Forward, ahead

log = logging.getLogger("kit.serve")


def _jobs(model: Chat, body: Any, prompts: Sequence[list[int]]) -> list[Job]:
    """A job for each prompt and choice. Raises ApiError if one does not fit."""
    jobs = []
    for ids in prompts:
        if max(ids) >= model.vocab:
            raise ApiError(400, f"Tokens are from 0 to {model.vocab - 1}.", "unknown_token", "prompt")
        room = model.context - len(ids)
        most = body.most_tokens() or room
        if room < most or room < 1:
            raise ApiError(
                400,
                f"This model's context holds {model.context} tokens. The prompt has {len(ids)}, and "
                f"{max(most, 1)} "
                "more are asked for. Shorten the prompt, or ask for fewer tokens.",
                "context_length_exceeded",
            )
        for choice in range(body.n or 1):
            stop = body.stop or ()
            jobs.append(Job("", ids, most, sampling(body, choice), stop))
    if len(jobs) > (most := model.writer.rows + model.writer.queue):
        raise ApiError(
            400, f"{len(jobs)} answers are asked for at once; {most} is the most.", "too_many", "n"
        )
    return jobs


def _full(e: QueueFull, places: Places) -> ApiError:
    """503, with the time after which a place may be free."""
    return ApiError(503, f"The queue is full: {e}", "queue_full", retry_after_s=places.retry_after_s())


async def write(house: House, request: Request, body: Any, form: Form) -> Response:
    """Answer a chat or a completion, whole or as a stream."""
    async with AsyncExitStack() as stack:
        version = house.lease(body.model, (Chat, Upstream), stack)
        if house.settings.output_filter and body.how_many_logprobs() is not None:
            raise ApiError(400, "With an output filter there are no logprobs.", "not_offered", "logprobs")
        watch = Watch(house.metrics, body.model)
        if isinstance(version, Upstream):
            return await forward(house, request, body, form, version, watch, stack)
        if version.settings.draft and body.how_many_logprobs() is not None:
            raise ApiError(400, "A model with a draft does not tell logprobs.", "not_offered", "logprobs")
        prompts = await asyncio.to_thread(prompt_tokens, body)
        jobs = _jobs(version, body, prompts)
        tokens_in = sum(map(len, prompts))
        if house.settings.log_prompts:
            log.info("prompts %s", [tokenizer().decode(ids) for ids in prompts])
        bill = Bill(request, version, tokens_in, sum(j.max_tokens for j in jobs), stack)
        try:
            source = await stack.enter_async_context(version.writer.write(jobs))
        except QueueFull as e:
            raise _full(e, version.writer) from None
        bill.accepted = True
        house.metrics.prompt.labels(body.model).inc(tokens_in)
        telemetry.describe(body, version.id, tokens_in)

        def over() -> None:
            bill.completion_tokens = watch.completion_tokens
            telemetry.finished(watch.completion_tokens)

        stack.callback(over)
        deadline_s = house.settings.deadline_s
        answer = Answer(form, body.model, version.id, jobs, house.make_filter, watch, deadline_s, tokens_in)
        if body.stream:
            wants = bool(body.stream_options and body.stream_options.include_usage)
            return Streamed(answer.events(source, wants), stack.pop_all(), deadline_s)
        return JSONResponse(await unless_gone(request, answer.whole(source)))


async def forward(
    house: House,
    request: Request,
    body: Any,
    form: Form,
    version: Upstream,
    watch: Watch,
    stack: AsyncExitStack,
) -> Response:
    """Hand the request to the server behind this model."""
    told, counted = body.model_dump(exclude_none=True), Counted()
    answers = (body.n or 1) * body.how_many_prompts()
    guess = count(body)  # the other tokenizer is not here: about four characters a token
    most_new = (body.most_tokens() or version.settings.context) * answers
    bill = Bill(request, version, guess, most_new, stack)
    hands, choices = Forward(version.settings, house.client), filters.Choices(house.make_filter)

    def over() -> None:
        bill.accepted = counted.asked
        bill.prompt_tokens = counted.prompt_tokens or guess
        bill.completion_tokens = counted.completion_tokens
        watch.handed_on(bill.prompt_tokens if bill.accepted else 0, bill.completion_tokens)
        telemetry.finished(bill.completion_tokens)

    stack.callback(over)
    telemetry.describe(body, version.id, guess)
    deadline_s = house.settings.deadline_s

    async def begin() -> Any:
        """The whole answer, or its events."""
        row = await stack.enter_async_context(AsyncExitStack())
        await row.enter_async_context(version.turns.take())
        if not body.stream:
            return await hands.answer(form.path, told, counted)
        events = await row.enter_async_context(hands.stream(form.path, told, counted))
        return await stack.enter_async_context(ahead(events, row.aclose))

    def filtered(event: dict[str, Any]) -> dict[str, Any]:
        """As it may go out; what ends with it is noted."""
        event = choices.apply(event)
        for choice in event.get("choices") or ():
            if choice.get("finish_reason"):
                watch.ended(choice["finish_reason"], time.perf_counter())
        return event

    try:
        async with asyncio.timeout(watch.left_s(deadline_s)):
            found = await unless_gone(request, begin())
    except QueueFull as e:
        raise _full(e, version.turns) from None
    except TimeoutError:
        watch.failed()
        raise late(deadline_s) from None
    except ApiError as e:
        if e.status_code in (502, 504):  # it failed; others are refusals
            watch.failed()
        raise
    if not body.stream:
        return JSONResponse(filtered(found))

    async def lines() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(watch.left_s(deadline_s)):
                async for event in found:
                    watch.first_event()
                    if "error" in event:  # its own words; it may still say [DONE]
                        watch.failed(stream=True)
                    yield sse(filtered(event))
        except TimeoutError:
            watch.failed(stream=True)
            yield sse(late(deadline_s).body())
            return
        except (httpx.HTTPError, ValueError) as e:
            watch.failed(stream=True)
            told = f"the server behind {version.settings.name!r} broke off: {type(e).__name__}."
            yield sse(ApiError(502, told, "upstream_failed").body())
            return
        if counted.complete:
            yield DONE

    return Streamed(lines(), stack.pop_all(), deadline_s)
