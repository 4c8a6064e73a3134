"""One request as the gateway holds it, and its answers: whole, as events, or made of a classification."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict

from kit.data import INTENTS
from kit.policy import Request
from kit.route.gateway.driver import NoAnswer
from kit.route.gateway.exits import Exits
from kit.route.gateway.settings import NoCommand, TierSettings
from kit.route.gateway.wire import Received, WireError
from kit.serve.schemas import ChatRequest, ClassifyRequest, CompletionRequest

Kind = Literal["chat", "completion", "classify"]
PATHS: dict[Kind, str] = {"chat": "/chat/completions", "completion": "/completions", "classify": "/classify"}
NO_COMMAND = INTENTS[-1]
DONE = "[DONE]"


class Chat(ChatRequest):
    """As `kit serve` reads it; fields that it does not know are handed on."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str = "auto"


class Completion(CompletionRequest):
    """As `kit serve` reads it; fields that it does not know are handed on."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str = "auto"


class Classify(ClassifyRequest):
    """As `kit serve` reads it."""

    model: str = "auto"


@dataclass(frozen=True)
class Ask:
    """What a caller wants.

    Attributes:
        kind: of the three forms. ``body``: as it came. ``text``: what was said last.
        stream: whether the answer is to come in pieces. ``usage``: and end with a count.
    """

    kind: Kind
    body: dict[str, Any]
    text: str
    stream: bool = False
    usage: bool = False

    @staticmethod
    def of(form: Chat | Completion | Classify) -> Ask:
        """From a checked request."""
        body = form.model_dump(exclude_unset=True)
        if isinstance(form, Classify):
            return Ask("classify", body, form.texts()[0])
        wants = bool(form.stream_options and form.stream_options.include_usage)
        if isinstance(form, Chat):
            return Ask("chat", body, form.messages[-1].text(), bool(form.stream), wants)
        prompt = form.prompts()[0]
        return Ask("completion", body, prompt if isinstance(prompt, str) else "", bool(form.stream), wants)

    def whole(self) -> Ask:
        """The same, not as a stream."""
        body = {k: v for k, v in self.body.items() if k not in ("stream", "stream_options")}
        return Ask(self.kind, body, self.text)

    def wire(self, model: str) -> dict[str, Any]:
        """The body for a tier. Every stream is to end with a count; the caller sees it if it asked for it."""
        more = {"stream_options": {"include_usage": True}} if self.stream else {}
        return {**self.body, "model": model, **more}


@dataclass
class Reply:
    """An answer: ``body`` if it is whole; otherwise the ``events`` read so far, and ``rest`` to come.

    Attributes:
        confidence: how sure the tier is, 0 to 1; None: it did not say.
        tokens_in, tokens_out: as the tier counts them; NaN: it did not.
        label: the intent, if a classifier answered.
    """

    body: dict[str, Any] | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    rest: AsyncIterator[dict[str, Any]] | None = None
    confidence: float | None = None
    model: str = ""
    tokens_in: float = float("nan")
    tokens_out: float = float("nan")
    label: str | None = None
    response: Received | None = None

    async def close(self) -> None:
        """Nobody reads on."""
        if self.response is not None:
            self.response.close()

    def note(self, usage: Any) -> None:
        """The tier's count."""
        if isinstance(usage, dict):
            self.tokens_in = float(usage.get("prompt_tokens") or 0)
            self.tokens_out = float(usage.get("completion_tokens") or 0)


# -- reading what a tier sends


async def read_whole(response: Received) -> Reply:
    """A whole answer. Raises NoAnswer if it is none."""
    try:
        body = json.loads(await response.read())
    except WireError as e:
        raise NoAnswer(str(e)) from None
    except ValueError:
        raise NoAnswer("the answer is no JSON") from None
    if not isinstance(body, dict) or not _are_objects(body.get("choices", body.get("data"))):
        raise NoAnswer("the answer is no answer of this API")
    reply = Reply(body=body, model=str(body.get("model", "")), confidence=_sure(response.headers))
    reply.note(body.get("usage"))
    return reply


async def read_stream(response: Received, judged: bool) -> Reply:
    """A stream, up to its first token; or, if it may still be judged, to its end. Raises NoAnswer."""
    events = _events(response)
    reply = Reply(rest=events, confidence=_sure(response.headers), response=response)
    wait_for_all = judged and reply.confidence is None
    try:
        async for event in events:
            if "error" in event:
                raise NoAnswer("the stream ended with an error")
            reply.events.append(event)
            reply.note(event.get("usage"))
            reply.model = reply.model or str(event.get("model", ""))
            if is_token(event) and not wait_for_all:
                return reply
        if any(map(is_token, reply.events)):
            return reply
        raise NoAnswer("the stream ended before it began")
    except WireError as e:
        raise NoAnswer(str(e)) from None
    except ValueError as e:
        raise NoAnswer(f"the stream holds {e}") from None


async def _events(response: Received) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream. Raises ValueError for what is none, WireError if it ends too early.

    Not every server says [DONE]; then the last choice must have told why it ended.
    """
    finished = False
    async for line in response.lines():
        if not line.startswith("data:"):
            if line and line[0] == "<":
                raise ValueError("no events")
            continue
        data = line[5:].strip()
        if data == DONE:
            response.leave()
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise ValueError("an event that is no JSON") from None
        if not isinstance(event, dict) or not _are_objects(event.get("choices") or []):
            raise ValueError("an event that is none of this API")
        finished = finished or any(choice.get("finish_reason") for choice in event.get("choices") or ())
        yield event
    if not finished:
        raise WireError("the stream ended without [DONE]")


def _are_objects(choices: object) -> bool:
    return isinstance(choices, list) and all(isinstance(choice, dict) for choice in choices)


def is_token(event: Mapping[str, Any]) -> bool:
    """Does it bring text, or the end of it?"""
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if (
            delta.get("content")
            or delta.get("tool_calls")
            or choice.get("text")
            or choice.get("finish_reason")
        ):
            return True
    return False


def _sure(headers: Mapping[str, str]) -> float | None:
    try:
        sure = float(headers.get("x-kit-confidence", ""))
    except ValueError:
        return None
    return sure if 0 <= sure <= 1 else None


# -- a classification as an answer


def classified(reply: Reply) -> Reply:
    """Read label and confidence of a classification; of several texts, the least sure one counts.

    Raises:
        NoAnswer: it is none.
    """
    try:
        found = [(str(row["label"]), [float(p) for p in row["probs"]]) for row in (reply.body or {})["data"]]
        reply.label = found[0][0]
        if reply.confidence is None:
            reply.confidence = min(min(max(probs), 1.0) for _, probs in found)
        reply.tokens_out = float(len(found))  # a classification is one token
    except (LookupError, TypeError, ValueError):
        raise NoAnswer("the answer is no classification") from None
    return reply


def command_confidence(reply: Reply, no_command: NoCommand) -> float:
    """How sure a classifier is that its answer will do. What is no command is not its business, however sure
    it is of that: 0, so that somebody else is asked; unless the settings let it answer so."""
    passes_on = reply.label == NO_COMMAND and no_command == "pass_on"
    return 0.0 if passes_on else reply.confidence or 0.0


def as_text(ask: Ask, reply: Reply, no_command: NoCommand = "pass_on") -> Reply:
    """A classification in the form in which the caller asked: the intent is the text."""
    text, model = reply.label or NO_COMMAND, reply.model
    sure = command_confidence(reply, no_command)
    tokens_in = reply.tokens_in
    counts = {"prompt_tokens": int(tokens_in) if tokens_in == tokens_in else 0, "completion_tokens": 1}
    usage = counts | {"total_tokens": counts["prompt_tokens"] + 1}
    made = Reply(confidence=sure, model=model, label=reply.label)
    made.note(usage)
    base = {"id": f"kit-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
    if not ask.stream:
        what = {"message": {"role": "assistant", "content": text}} if ask.kind == "chat" else {"text": text}
        kind = "chat.completion" if ask.kind == "chat" else "text_completion"
        choice = {"index": 0, **what, "logprobs": None, "finish_reason": "stop"}
        made.body = base | {"object": kind, "choices": [choice], "usage": usage}
        return made
    what = {"delta": {"role": "assistant", "content": text}} if ask.kind == "chat" else {"text": text}
    base["object"] = "chat.completion.chunk" if ask.kind == "chat" else "text_completion"
    choice = {"index": 0, **what, "logprobs": None, "finish_reason": "stop"}
    made.events = [base | {"choices": [choice]}, base | {"choices": [], "usage": usage}]
    return made


def shown(events: Sequence[dict[str, Any]], usage: bool) -> list[dict[str, Any]]:
    """The events that the caller sees: not the count at the end, unless it was asked for."""
    return [e for e in events if usage or e.get("choices") or "error" in e]


# -- asking a tier


async def call(
    exits: Exits, tier: TierSettings, request: Request, ask: Ask, model: str, judged: bool
) -> Reply:
    """Ask a tier once.

    Args:
        judged: the answer may be passed over if it is not sure enough, so a stream is read to its end first.

    Raises:
        NoAnswer: it brought none.
    """
    if tier.speaks == "classify" and ask.kind != "classify":
        return as_text(ask, await _intent(exits, tier, request, ask.text, model), tier.no_command)
    response = await exits.post(tier.name, request, PATHS[ask.kind], ask.wire(model))
    if not ask.stream:
        reply = await read_whole(response)
        return classified(reply) if ask.kind == "classify" else reply
    try:
        return await read_stream(response, judged)
    except BaseException:
        response.close()
        raise


async def _intent(exits: Exits, tier: TierSettings, request: Request, text: str, model: str) -> Reply:
    try:
        response = await exits.post(tier.name, request, PATHS["classify"], {"model": model, "input": text})
    except NoAnswer as e:
        if e.status != 400:
            raise
        return Reply(label=NO_COMMAND, model=model)  # longer than the classifier reads: no command is
    return classified(await read_whole(response))
