"""The application: paths of the OpenAI API, health, metrics, and the swap of models."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from kit import data
from kit.batch import Job, QueueFull
from kit.engine import tokenizer
from kit.serve import alerts, filters, keys, manifest, telemetry
from kit.serve.answers import (
    DONE,
    Answer,
    ChatForm,
    CompletionForm,
    Form,
    HungUp,
    Streamed,
    sampling,
    sse,
    unless_gone,
)
from kit.serve.door import ANYBODY, Door
from kit.serve.errors import ApiError, over_limit
from kit.serve.limits import Allowance, OverLimit
from kit.serve.metrics import Metrics, Watch
from kit.serve.prompts import count, prompt_tokens
from kit.serve.schemas import (
    Chat,
    ChatRequest,
    Classes,
    ClassifyRequest,
    Completion,
    CompletionRequest,
    EmbeddingRequest,
    Embeddings,
    ErrorBody,
    LoadRequest,
    Model,
    Models,
)
from kit.serve.settings import Settings
from kit.serve.shelf import Chat as ChatModel
from kit.serve.shelf import Classify, Embed, NoModel, Shelf, Upstream, Version
from kit.serve.upstream import Counted, Forward

LOOK_EVERY_S = 5.0
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text}
    for status, text in {
        400: "The request is not one, or asks for what is not offered",
        401: "No key, or an unknown one",
        403: "The key may not do this",
        404: "No such model",
        413: "The body is too large",
        429: "The key has used up what it may use",
        500: "The model failed",
        502: "The server behind this model failed",
        503: "The queue is full, or the server stops; try again",
        504: "The answer was not complete in time",
    }.items()
}
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
log = logging.getLogger("kit.serve")


class House:
    """What the application holds: models, keys, allowances, counts."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = keys.load(settings.keys) if settings.keys else None
        everyone = self.keys if self.keys is not None else (ANYBODY,)
        self.allowances = {k.name: Allowance(k.limits, settings.window_s, time.monotonic) for k in everyone}
        self.make_filter = filters.find(settings.output_filter)
        known = manifest.read(settings.manifest, settings.manifest_key) if settings.manifest else None
        self.metrics = Metrics(self.load)
        self.shelf = Shelf(settings.models, known, self.metrics.guessed)
        self.client = httpx.AsyncClient(timeout=httpx.Timeout(settings.deadline_s, connect=5.0))
        self.draining = self.ready = False
        rules = alerts.load(settings.alerts) if settings.alerts else ()
        self.watchman = alerts.Watchman(
            rules, self.metrics, self.saturation, self.spend, alerts.webhook(settings.webhook)
        )

    def writers(self) -> dict[str, Any]:
        return {v.settings.name: v.writer for v in self.shelf.active() if isinstance(v, ChatModel)}

    def load(self) -> dict[str, tuple[int, int]]:
        """Answers that run and wait, by model."""
        return {name: (w.running, w.waiting) for name, w in self.writers().items()}

    def saturation(self) -> float:
        """Part of the places that is taken, of the fullest model."""
        return max((w.open / (w.rows + w.queue) for w in self.writers().values()), default=0.0)

    def spend(self) -> float:
        """Spend of the key that is nearest to its budget, as a part of it."""
        budgets = {k.name: k.budget_usd for k in self.keys or () if k.budget_usd}
        return max((self.allowances[n].used.spend_usd / b for n, b in budgets.items()), default=0.0)


def _lease(house: House, name: str, kinds: tuple[type[Version], ...], stack: AsyncExitStack) -> Any:
    """The model of that name. Raises ApiError if there is none, or it cannot do this."""
    try:
        version = stack.enter_context(house.shelf.lease(name))
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


def _jobs(model: ChatModel, body: Any, prompts: Sequence[list[int]]) -> list[Job]:
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
    return jobs


async def write(
    house: House, request: Request, body: Any, form: Form, kind: str, chunk_kind: str
) -> Response:
    """Answer a chat or a completion, whole or as a stream."""
    async with AsyncExitStack() as stack:
        version = _lease(house, body.model, (ChatModel, Upstream), stack)
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
        reserve(house, request, version, watch, tokens_in, sum(j.max_tokens for j in jobs), stack)
        try:
            source = await stack.enter_async_context(version.writer.write(jobs))
        except QueueFull as e:
            raise ApiError(
                503, f"The queue is full: {e}", "queue_full", retry_after_s=version.writer.retry_after_s()
            ) from None
        house.metrics.prompt.labels(body.model).inc(tokens_in)
        answer = Answer(
            form, body.model, version.id, jobs, house.make_filter, watch, house.settings.deadline_s, tokens_in
        )
        telemetry.describe(body, version.id, tokens_in)
        stack.callback(lambda: telemetry.finished(watch.completion_tokens))
        if body.stream:
            wants = bool(body.stream_options and body.stream_options.include_usage)
            return Streamed(answer.events(source, chunk_kind, wants), stack.pop_all())
        return JSONResponse(await unless_gone(request, answer.whole(source, kind)))


def reserve(
    house: House,
    request: Request,
    version: Version,
    watch: Watch,
    tokens_in: int,
    most_new: int,
    stack: AsyncExitStack,
    counted: Counted | None = None,
) -> None:
    """Take the tokens that an answer may need; leaving ``stack`` gives back what it did not. Raises
    ApiError."""
    allowance: Allowance = request.state.allowance
    try:
        taken = allowance.reserve(tokens_in, most_new)
    except OverLimit as e:
        raise over_limit(e) from None
    prices = version.settings

    def settle() -> None:
        told, made = tokens_in, watch.completion_tokens
        if counted is not None:
            told, made = counted.prompt_tokens or tokens_in, counted.completion_tokens
        usd = (told * prices.usd_per_mtok_in + made * prices.usd_per_mtok_out) / 1e6
        allowance.settle(taken, told, made, usd)

    stack.callback(settle)


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
    guess = count(body)  # the other tokenizer is not here: about four characters a token
    reserve(house, request, version, watch, guess, body.most_tokens() or 0, stack, counted)
    hands = Forward(version.settings, house.client)
    choices = filters.Choices(house.make_filter)

    def over() -> None:
        house.metrics.prompt.labels(body.model).inc(counted.prompt_tokens)
        house.metrics.generated.labels(body.model).inc(counted.completion_tokens)
        house.metrics.e2e.labels(body.model).observe(time.perf_counter() - watch.start_s)
        telemetry.finished(counted.completion_tokens)

    stack.callback(over)
    telemetry.describe(body, version.id, guess)
    if not body.stream:
        found = await unless_gone(request, hands.answer(form.path, told, counted))
        return JSONResponse(choices.apply(found))
    events = await stack.enter_async_context(hands.stream(form.path, told, counted))

    async def lines() -> AsyncIterator[str]:
        first = True
        async for event in events:
            if first:
                house.metrics.ttft.labels(body.model).observe(time.perf_counter() - watch.start_s)
                first = False
            yield sse(choices.apply(event))
        yield DONE

    return Streamed(lines(), stack.pop_all())


def create_app(settings: Settings) -> FastAPI:
    """The application. Opening the models takes some seconds, and happens here."""
    house = House(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watch = asyncio.create_task(house.watchman.watch(LOOK_EVERY_S))
        house.ready = True
        try:
            yield
        finally:
            house.ready = False
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            await house.shelf.close()
            await house.client.aclose()
            await asyncio.to_thread(app.state.flush)

    app = FastAPI(
        title="kit serve",
        description="Models of the kit behind an OpenAI-compatible API",
        version="1",
        lifespan=lifespan,
        responses=REFUSALS,
    )
    app.state.house = house
    _errors(app)
    _health(app, house)
    _models(app, house)
    _text(app, house)
    _vectors(app, house)
    _admin(app, house)
    app.add_middleware(
        Door,
        known=house.keys,
        allowances=house.allowances,
        metrics=house.metrics,
        body_bytes=settings.body_bytes,
        draining=lambda: house.draining,
    )
    app.state.flush = telemetry.instrument(app, settings.trace)
    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, e: ApiError) -> Response:
        return e.response()

    @app.exception_handler(HungUp)
    async def gone(request: Request, e: HungUp) -> Response:
        return Response(status_code=499)  # nobody reads it; the log does

    @app.exception_handler(HTTPException)
    async def other(request: Request, e: HTTPException) -> Response:
        error = ApiError(e.status_code, str(e.detail))
        error.headers = e.headers
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, e: RequestValidationError) -> Response:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"] if p != "body")
        if first["type"] == "json_invalid":
            return ApiError(
                400, f"The body is not JSON, from character {where} on.", "invalid_json"
            ).response()
        said = "this field is not offered here" if first["type"] == "extra_forbidden" else first["msg"]
        return ApiError(400, f"{where or 'body'}: {said}.", "invalid_value", where or None).response()

    @app.exception_handler(Exception)
    async def failed(request: Request, e: Exception) -> Response:
        log.exception("unexpected error")
        return ApiError(500, "The server failed; its log says why.", "internal_error").response()


def _health(app: FastAPI, house: House) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> JSONResponse:
        """It may be sent requests: models are open, and it is not about to stop."""
        good = house.ready and not house.draining
        return JSONResponse({"status": "ready" if good else "not ready"}, 200 if good else 503)

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(house.metrics.text(), media_type="text/plain; version=0.0.4")


def _card(version: Version) -> Model:
    s = version.settings
    return Model(
        id=s.name,
        created=version.created,
        owned_by="kit" if s.kind != "upstream" else "upstream",
        kind=s.kind,
        version=version.version,
        max_model_len=s.context if s.kind == "chat" else None,
    )


def _models(app: FastAPI, house: House) -> None:
    @app.get("/v1/models", tags=["models"])
    async def models() -> Models:
        """All models."""
        return Models(data=[_card(v) for v in house.shelf.active()])

    @app.get("/v1/models/{name}", tags=["models"])
    async def model(name: str) -> Model:
        """One model."""
        async with AsyncExitStack() as stack:
            return _card(_lease(house, name, (Version,), stack))

    @app.get("/v1/usage", tags=["models"])
    async def usage(request: Request) -> dict[str, Any]:
        """What the key that asks has used since the server started."""
        return {"key": request.state.key.name, **vars(request.state.allowance.used)}


def _text(app: FastAPI, house: House) -> None:
    @app.post("/v1/chat/completions", response_model=Chat, responses=STREAM, tags=["text"])
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await write(house, request, body, ChatForm(body), "chat.completion", "chat.completion.chunk")

    @app.post("/v1/completions", response_model=Completion, responses=STREAM, tags=["text"])
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Go on with a text."""
        return await write(house, request, body, CompletionForm(body), "text_completion", "text_completion")


def _vectors(app: FastAPI, house: House) -> None:
    @app.post("/v1/embeddings", tags=["vectors"])
    async def embeddings(body: EmbeddingRequest, request: Request) -> Embeddings:
        """Texts as vectors of length 1."""
        async with AsyncExitStack() as stack:
            model = _lease(house, body.model, (Embed,), stack)
            texts = body.texts()
            tokens = await asyncio.to_thread(model.count, texts)
            reserve(house, request, model, Watch(house.metrics, body.model), tokens, 0, stack)
            vectors = await asyncio.to_thread(model.embed, texts)
        items = [
            {
                "index": i,
                "embedding": base64.b64encode(v.astype("<f4").tobytes()).decode()
                if body.encoding_format == "base64"
                else v.tolist(),
            }
            for i, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return Embeddings.model_validate({"data": items, "model": body.model, "usage": usage})

    @app.post("/v1/classify", tags=["vectors"])
    async def classify(body: ClassifyRequest, request: Request) -> Classes:
        """The intent of each text."""
        async with AsyncExitStack() as stack:
            model = _lease(house, body.model, (Classify,), stack)
            texts = body.texts()
            size = sum(len(t.encode()) for t in texts)  # this model reads bytes: each is a token
            reserve(house, request, model, Watch(house.metrics, body.model), size, 0, stack)
            shares = await asyncio.to_thread(model.classify, texts)
        found = [
            {
                "index": i,
                "label": data.INTENTS[int(p.argmax())],
                "probs": [round(float(x), 6) for x in p],
                "num_classes": len(p),
            }
            for i, p in enumerate(shares)
        ]
        return Classes.model_validate(
            {
                "id": f"classify-{uuid.uuid4().hex}",
                "created": int(time.time()),
                "model": body.model,
                "data": found,
                "usage": {"prompt_tokens": size, "total_tokens": size},
            }
        )


def _admin(app: FastAPI, house: House) -> None:
    @app.post("/admin/models/{name}", tags=["admin"])
    async def load(name: str, body: LoadRequest) -> Model:
        """Open a new version beside the old one and let it take over."""
        try:
            return _card(await house.shelf.load(name, body.version, body.source))
        except NoModel as e:
            raise ApiError(404, str(e), "model_not_found") from None
        except ValueError as e:
            raise ApiError(400, str(e), "cannot_load", "source") from None

    @app.post("/admin/models/{name}/rollback", tags=["admin"])
    async def rollback(name: str) -> Model:
        """The version before takes over again."""
        try:
            return _card(await house.shelf.rollback(name))
        except NoModel as e:
            raise ApiError(404, str(e), "model_not_found") from None
        except ValueError as e:
            raise ApiError(400, str(e), "no_earlier_version") from None
