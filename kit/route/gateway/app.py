"""The application: paths of the OpenAI API, tickets, records, health, metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from kit.policy import Policy
from kit.route.gateway import answers
from kit.route.gateway.asks import Ask, Chat, Classify, Completion
from kit.route.gateway.house import House
from kit.route.gateway.settings import Settings
from kit.serve import telemetry
from kit.serve.answers import HungUp
from kit.serve.door import Door
from kit.serve.errors import ApiError
from kit.serve.schemas import Model, Models

log = logging.getLogger("kit.gateway")


def create_app(settings: Settings, policy: Policy | None = None) -> FastAPI:
    """The application. Nothing is asked of the tiers before it starts.

    Args:
        settings: all of them.
        policy: decides, instead of the one that the settings name.

    Raises:
        SettingsError: the policy cannot be made.
    """
    house = House(settings, policy)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        house.zero_s = house.driver.now_s()
        watch = asyncio.create_task(_watch(house))
        try:
            yield
        finally:
            house.draining = True
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
            house.close()
            await asyncio.to_thread(app.state.flush)

    app = FastAPI(
        title="kit gateway",
        description="Edge and cloud behind one OpenAI-compatible address",
        version="1",
        lifespan=lifespan,
    )
    app.state.house = house
    _errors(app)
    _health(app, house)
    _text(app, house)
    _models(app, house)
    _seen(app, house)
    app.add_middleware(
        Door,
        known=house.keys,
        nobody=house.nobody,
        allowances=house.allowances,
        metrics=house.metrics,  # type: ignore[arg-type]  # it counts requests and seconds
        body_bytes=settings.body_bytes,
        draining=lambda: house.draining,
    )
    app.state.flush = telemetry.instrument(app, settings.trace)
    return app


async def _watch(house: House) -> None:
    """Look at the tiers, and then send what waited for them, for ever."""
    drain: asyncio.Task | None = None
    while True:
        start = time.perf_counter()
        try:
            await house.signals.look()
        except Exception:
            log.exception("a look at the tiers failed")
        if len(house.waiting) and (drain is None or drain.done()):
            drain = asyncio.create_task(_drain(house))
        await asyncio.sleep(max(house.settings.signals_every_s - (time.perf_counter() - start), 0.01))


async def _drain(house: House) -> None:
    try:
        await answers.drain(house)
    except Exception:
        log.exception("the offline queue was not drained")


def _errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, e: ApiError) -> Response:
        return e.response()

    @app.exception_handler(HungUp)
    async def gone(request: Request, e: HungUp) -> Response:
        return Response(status_code=499)  # nobody reads it; the log does

    @app.exception_handler(HTTPException)
    async def other(request: Request, e: HTTPException) -> Response:
        return ApiError(e.status_code, str(e.detail)).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, e: RequestValidationError) -> Response:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        if first["type"] == "json_invalid":
            return ApiError(400, "The body is not JSON.", "invalid_json").response()
        return ApiError(400, f"{where or 'body'}: {first['msg']}.", "invalid_value", where or None).response()


def _health(app: FastAPI, house: House) -> None:
    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"])
    async def readyz() -> JSONResponse:
        """It may be sent requests: some tier is healthy, and it is not about to stop."""
        tiers = {tier.name: tier.healthy for tier in house.view().tiers}
        good = any(tiers.values()) and not house.draining
        return JSONResponse(
            {"status": "ready" if good else "not ready", "tiers": tiers}, 200 if good else 503
        )

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(house.metrics.text(), media_type="text/plain; version=0.0.4")


def _text(app: FastAPI, house: House) -> None:
    @app.post("/v1/chat/completions", tags=["text"])
    async def chat(body: Chat, request: Request) -> Response:
        """Answer a conversation, here or there."""
        return await answers.answer(house, request, Ask.of(body))

    @app.post("/v1/completions", tags=["text"])
    async def completions(body: Completion, request: Request) -> Response:
        """Go on with a text, here or there."""
        return await answers.answer(house, request, Ask.of(body))

    @app.post("/v1/classify", tags=["text"])
    async def classify(body: Classify, request: Request) -> Response:
        """The intent of each text, told here or there."""
        return await answers.answer(house, request, Ask.of(body))


def _models(app: FastAPI, house: House) -> None:
    @app.get("/v1/models", tags=["models"])
    async def models() -> Models:
        """All models; "auto" lets the policy choose."""
        told = {"auto": "gateway"}
        for tier in house.settings.tiers:
            told |= {model: tier.name for model in tier.serves if model not in told}
        now = int(time.time())
        cards = [
            Model(id=m, created=now, owned_by=by, kind="gateway" if m == "auto" else "upstream", version="1")
            for m, by in told.items()
        ]
        return Models(data=cards)


def _seen(app: FastAPI, house: House) -> None:
    @app.get("/v1/queue/{id}", tags=["gateway"])
    async def queue(id: str) -> Response:
        """What became of a request that waits."""
        return answers.fetch(house, id)

    @app.get("/v1/records", tags=["gateway"], response_class=Response)
    async def records() -> Response:
        """The last requests, as `kit.records` reads them."""
        return Response(await asyncio.to_thread(house.book.csv), media_type="text/csv")

    @app.get("/v1/records/{id}", tags=["gateway"])
    async def record(id: str) -> dict[str, Any]:
        """One request with all its attempts."""
        if (trace := house.book.find(id)) is None:
            raise ApiError(404, "This request is not known (any more).", "record_not_found")
        row = {k: None if v != v else v for k, v in trace.row.items()}
        return row | {"reason": trace.reason, "privacy": trace.privacy, "tried": trace.attempts}

    @app.get("/v1/fleet", tags=["gateway"])
    async def fleet() -> dict[str, Any]:
        """What policies see of the tiers now."""
        return {tier.name: {f: getattr(tier, f) for f in tier.__slots__} for tier in house.view().tiers}
