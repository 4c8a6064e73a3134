"""The application: paths of the OpenAI API, health, metrics, and the swap of models."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from kit import data
from kit.serve import telemetry
from kit.serve.answers import ChatForm, CompletionForm, HungUp
from kit.serve.door import Door
from kit.serve.errors import ApiError
from kit.serve.house import Bill, House
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
from kit.serve.shelf import Classify, Embed, NoModel, TooLong, Version
from kit.serve.text import write

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
            await house.close()
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
        nobody=house.nobody,
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

    @app.exception_handler(TooLong)
    async def too_long(request: Request, e: TooLong) -> Response:
        return ApiError(400, str(e), "context_length_exceeded", "input").response()

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


def _health(app: FastAPI, house: House) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> JSONResponse:
        """It may be sent requests: models are open, and it is not about to stop."""
        good = house.ready and house.alive() and not house.draining
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

    @app.get("/v1/models/{name:path}", tags=["models"])
    async def model(name: str) -> Model:
        """One model."""
        async with AsyncExitStack() as stack:
            return _card(house.lease(name, (Version,), stack))

    @app.get("/v1/usage", tags=["models"])
    async def usage(request: Request) -> dict[str, Any]:
        """What the key that asks has used since the server started."""
        return {"key": request.state.key.name, **vars(request.state.allowance.used)}


def _text(app: FastAPI, house: House) -> None:
    @app.post("/v1/chat/completions", response_model=Chat, responses=STREAM, tags=["text"])
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        return await write(house, request, body, ChatForm(body))

    @app.post("/v1/completions", response_model=Completion, responses=STREAM, tags=["text"])
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Go on with a text."""
        return await write(house, request, body, CompletionForm(body))


def _vectors(app: FastAPI, house: House) -> None:
    @app.post("/v1/embeddings", tags=["vectors"])
    async def embeddings(body: EmbeddingRequest, request: Request) -> Embeddings:
        """Texts as vectors of length 1."""
        async with AsyncExitStack() as stack:
            model = house.lease(body.model, (Embed,), stack)
            texts = body.texts()
            tokens = await house.quick(request, model.count, texts)
            bill = Bill(request, model, tokens, 0, stack)
            vectors = await house.quick(request, model.embed, texts)
            bill.accepted = True
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
            model = house.lease(body.model, (Classify,), stack)
            texts = body.texts()
            size = sum(len(t.encode()) for t in texts)  # this model reads bytes: each is a token
            bill = Bill(request, model, size, 0, stack)
            shares = await house.quick(request, model.classify, texts)
            bill.accepted = True
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
    @app.post("/admin/models/{name:path}/rollback", tags=["admin"])
    async def rollback(name: str) -> Model:
        """The version before takes over again."""
        try:
            return _card(await house.shelf.rollback(name))
        except NoModel as e:
            raise ApiError(404, str(e), "model_not_found") from None
        except ValueError as e:
            raise ApiError(400, str(e), "no_earlier_version") from None

    @app.post("/admin/models/{name:path}", tags=["admin"])
    async def load(name: str, body: LoadRequest) -> Model:
        """Open a new version beside the old one and let it take over."""
        try:
            return _card(await house.shelf.load(name, body.version, body.source))
        except NoModel as e:
            raise ApiError(404, str(e), "model_not_found") from None
        except ValueError as e:
            raise ApiError(400, str(e), "cannot_load", "source") from None
