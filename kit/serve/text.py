"""Chat and completions: from a checked request to its answer, here or at another server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from kit.batch import Job, QueueFull
from kit.engine import tokenizer
from kit.serve import filters, telemetry
from kit.serve.answers import DONE, Answer, Form, Streamed, sampling, sse, unless_gone
from kit.serve.errors import ApiError
from kit.serve.house import Bill, House
from kit.serve.metrics import Watch
from kit.serve.prompts import count, prompt_tokens
from kit.serve.shelf import Chat, Upstream
from kit.serve.upstream import Counted, Forward

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
            raise ApiError(
                503, f"The queue is full: {e}", "queue_full", retry_after_s=version.writer.retry_after_s()
            ) from None
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
        bill.prompt_tokens = counted.prompt_tokens or guess
        bill.completion_tokens = counted.completion_tokens
        watch.handed_on(bill.prompt_tokens if bill.accepted else 0, bill.completion_tokens)
        telemetry.finished(bill.completion_tokens)

    stack.callback(over)
    telemetry.describe(body, version.id, guess)
    deadline_s = house.settings.deadline_s
    late = ApiError(504, f"The answer was not complete after {deadline_s:g} s.", "deadline_exceeded")
    if not body.stream:
        try:
            async with asyncio.timeout(deadline_s):
                found = await unless_gone(request, hands.answer(form.path, told, counted))
        except TimeoutError:
            raise late from None
        bill.accepted = True
        return JSONResponse(choices.apply(found))
    events = await stack.enter_async_context(hands.stream(form.path, told, counted))
    bill.accepted = True

    async def lines() -> AsyncIterator[str]:
        try:
            async with asyncio.timeout(deadline_s):
                async for event in events:
                    watch.first_event()
                    yield sse(choices.apply(event))
        except TimeoutError:
            yield sse(late.body())
            return
        except (httpx.HTTPError, ValueError) as e:
            watch.failed(stream=True)
            told = f"the server behind {version.settings.name!r} broke off: {type(e).__name__}."
            yield sse(ApiError(502, told, "upstream_failed").body())
            return
        if counted.complete:
            yield DONE

    return Streamed(lines(), stack.pop_all(), deadline_s)
