"""From a request to its answer: chat and completions, whole or as a stream."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from kit.batch import Job
from kit.decode import Sampling
from kit.decode.decoder import EOS
from kit.serve import logprobs
from kit.serve.errors import ApiError
from kit.serve.filters import Blocked, Filter
from kit.serve.logprobs import Chosen, Watched
from kit.serve.metrics import Watch
from kit.serve.schemas import ChatRequest, CompletionRequest, Usage
from kit.serve.writer import EngineFailed, Piece

DONE = "data: [DONE]\n\n"
GRACE_S = 10.0
COLDEST = 1e-3  # a lower temperature is greedy: logits divided by it would be too large for a float


class Form(Protocol):
    """How an answer looks on the wire."""

    path: str
    prefix: str
    object: str
    chunk_object: str

    def whole(self, choices: Sequence[Choice]) -> list[dict[str, Any]]: ...
    def opening(self) -> list[dict[str, Any]]: ...
    def chunk(self, choice: Choice, text: str, new: Sequence[Chosen], finish: str) -> dict[str, Any]: ...


@dataclass
class Choice:
    """One answer as it grows."""

    index: int
    filter: Filter
    watched: Watched | None
    text: str = ""
    finish: str = ""
    told: int = 0  # log-probabilities that have been sent

    def add(self, piece: Piece) -> str:
        """Take a piece; returns what may go out of its text."""
        try:
            new = self.filter.push(piece.text)
            if piece.finish:
                new += self.filter.finish()
                self.finish = piece.finish
        except Blocked:
            new, self.finish = "", "content_filter"
        self.text += new
        return new

    def chosen(self) -> list[Chosen]:
        """Log-probabilities since the last call."""
        if self.watched is None:
            return []
        new = self.watched.log[self.told :]
        self.told += len(new)
        return [c for c in new if c.token != EOS]


class ChatForm:
    """``/v1/chat/completions``."""

    path, prefix = "/chat/completions", "chatcmpl"
    object, chunk_object = "chat.completion", "chat.completion.chunk"

    def __init__(self, body: ChatRequest) -> None:
        self._n, self._logprobs = body.n or 1, bool(body.logprobs)

    def whole(self, choices: Sequence[Choice]) -> list[dict[str, Any]]:
        return [
            {
                "index": c.index,
                "message": {"role": "assistant", "content": c.text, "refusal": None},
                "logprobs": logprobs.for_chat(c.chosen()) if self._logprobs else None,
                "finish_reason": c.finish,
            }
            for c in choices
        ]

    def opening(self) -> list[dict[str, Any]]:
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [{"index": i, "delta": delta, "logprobs": None, "finish_reason": None} for i in range(self._n)]

    def chunk(self, choice: Choice, text: str, new: Sequence[Chosen], finish: str) -> dict[str, Any]:
        return {
            "index": choice.index,
            "delta": {"content": text} if text else {},
            "logprobs": logprobs.for_chat(new) if self._logprobs else None,
            "finish_reason": finish or None,
        }


class CompletionForm:
    """``/v1/completions``."""

    path, prefix = "/completions", "cmpl"
    object = chunk_object = "text_completion"

    def __init__(self, body: CompletionRequest) -> None:
        self._logprobs = body.logprobs is not None

    def whole(self, choices: Sequence[Choice]) -> list[dict[str, Any]]:
        return [
            {
                "index": c.index,
                "text": c.text,
                "logprobs": logprobs.for_completion(c.chosen()) if self._logprobs else None,
                "finish_reason": c.finish,
            }
            for c in choices
        ]

    def opening(self) -> list[dict[str, Any]]:
        return []

    def chunk(self, choice: Choice, text: str, new: Sequence[Chosen], finish: str) -> dict[str, Any]:
        offset = len(choice.text) - len(text)
        return {
            "index": choice.index,
            "text": text,
            "logprobs": logprobs.for_completion(new, offset) if self._logprobs else None,
            "finish_reason": finish or None,
        }


def sampling(body: ChatRequest | CompletionRequest, choice: int) -> Sampling:
    """How tokens are chosen. As in OpenAI's API the temperature is 1 unless told; choices differ by seed."""
    temperature = 1.0 if body.temperature is None else body.temperature
    told = {
        "temperature": temperature if temperature >= COLDEST else 0.0,
        "top_p": body.top_p or 1.0,
        "seed": None if body.seed is None else (body.seed + choice) % 2**63,
    }
    if (n := body.how_many_logprobs()) is not None:
        return Watched(**told, alternatives=n)
    return Sampling(**told)


@dataclass
class Answer:
    """What is needed to write one answer."""

    form: Form
    model: str
    fingerprint: str
    jobs: Sequence[Job]
    make_filter: Callable[[], Filter]
    watch: Watch
    deadline_s: float
    prompt_tokens: int
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = f"{self.form.prefix}-{uuid.uuid4().hex}"
        self._choices = [
            Choice(i, self.make_filter(), job.sampling if isinstance(job.sampling, Watched) else None)
            for i, job in enumerate(self.jobs)
        ]

    def usage(self) -> Usage:
        made = self.watch.completion_tokens
        return Usage(
            prompt_tokens=self.prompt_tokens, completion_tokens=made, total_tokens=self.prompt_tokens + made
        )

    def envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    async def pieces(self, source: AsyncIterator[Piece]) -> AsyncGenerator[tuple[Choice, str], None]:
        """What may go out, as it comes: choice and new text. Ends when all choices have ended."""
        open_ = set(range(len(self._choices)))
        async for piece in source:
            choice = self._choices[piece.choice]
            if choice.index not in open_:
                continue  # it was blocked; what its row still makes is not shown
            new = choice.add(piece)
            self.watch.piece(piece.choice, piece.token is not None, choice.finish, piece.at_s, piece.joined_s)
            yield choice, new
            if choice.finish:
                open_.discard(choice.index)
                if not open_:
                    return

    async def whole(self, source: AsyncIterator[Piece]) -> dict[str, Any]:
        """The whole answer.

        Raises:
            ApiError: it took too long, or the model failed.
        """
        try:
            async with asyncio.timeout(self.watch.left_s(self.deadline_s)):
                async for _ in self.pieces(source):
                    pass
        except TimeoutError:
            self.watch.failed()
            raise late(self.deadline_s) from None
        except EngineFailed as e:
            self.watch.failed()
            raise ApiError(500, str(e), "engine_failed") from None
        return self.envelope(self.form.object) | {
            "choices": self.form.whole(self._choices),
            "usage": self.usage().model_dump(),
        }

    async def events(self, source: AsyncIterator[Piece], with_usage: bool) -> AsyncIterator[str]:
        """The answer as server-sent events. One that breaks off ends with an error, and without [DONE]."""
        empty: dict[str, Any] = {"usage": None} if with_usage else {}

        def event(choices: list[dict[str, Any]], **more: Any) -> str:
            return sse(self.envelope(self.form.chunk_object) | {"choices": choices} | empty | more)

        for opening in self.form.opening():
            yield event([opening])
        try:
            left_s = self.watch.left_s(self.deadline_s)
            async with asyncio.timeout(left_s), aclosing(self.pieces(source)) as pieces:
                async for choice, new in pieces:
                    chosen = choice.chosen()
                    if new or chosen or choice.finish:
                        yield event([self.form.chunk(choice, new, chosen, choice.finish)])
        except TimeoutError:
            self.watch.failed(stream=True)
            yield sse(late(self.deadline_s).body())
            return
        except EngineFailed as e:
            self.watch.failed(stream=True)
            yield sse(ApiError(500, str(e), "engine_failed").body())
            return
        if with_usage:
            yield event([], usage=self.usage().model_dump())
        yield DONE


def late(deadline_s: float) -> ApiError:
    """504: the answer took too long."""
    return ApiError(504, f"The answer was not complete after {deadline_s:g} s.", "deadline_exceeded")


def sse(body: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


class Streamed(StreamingResponse):
    """Server-sent events. However it ends, what ``held`` holds is given back; also if nobody reads it.

    Args:
        events: as texts.
        held: closed at the end.
        limit_s: a client that has not read all by then, and some seconds more, is cut off.
    """

    def __init__(self, events: AsyncIterator[str], held: AsyncExitStack, limit_s: float) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._held, self._limit_s = held, limit_s + GRACE_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limit_s):
                    await super().__call__(scope, receive, send)


class HungUp(Exception):
    """The client is gone: nobody reads the answer."""


async def unless_gone(request: Request, work: Any) -> Any:
    """The result of ``work``, a coroutine; it is cancelled when the client hangs up.

    Raises:
        HungUp: it did.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HungUp
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
