"""Any server that speaks the OpenAI API can stand where SmolLM2 stands: the request is handed on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from kit.serve.errors import ApiError
from kit.serve.settings import ModelSettings


@dataclass
class Counted:
    """What the other server did for us: tokens that it says it used."""

    asked: bool = False  # it has the request, and has not refused it: it may work, though nobody listens
    prompt_tokens: int = 0
    completion_tokens: int = 0
    complete: bool = False  # the stream said that it was

    def note(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens") or 0
            self.completion_tokens = usage.get("completion_tokens") or 0


def _refused(model: str, response: httpx.Response) -> ApiError:
    """The other server's refusal as ours, with its own words."""
    try:
        message = str(response.json()["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = response.text[:200]
    status = response.status_code
    if status in (401, 403):  # its key is ours to mend, not the caller's
        return ApiError(502, f"the server behind {model!r} refuses our key.", "upstream_refused")
    if status >= 500 and status != 503:
        return ApiError(502, f"the server behind {model!r} failed: {message}", "upstream_failed")
    wait = response.headers.get("retry-after", "")
    return ApiError(status, message, "upstream_refused", None, float(wait) if wait.isdecimal() else None)


def _broken(model: str, e: httpx.HTTPError) -> ApiError:
    """What went wrong between us and the other server."""
    if isinstance(e, httpx.TimeoutException):
        return ApiError(504, f"the server behind {model!r} did not answer in time.", "upstream_timeout")
    return ApiError(502, f"the server behind {model!r}: {type(e).__name__}.", "upstream_failed")


def _read(text: str | bytes) -> dict[str, Any]:
    """The object that a JSON text holds. Raises ValueError, which says what it holds instead."""
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("no JSON") from None
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} where an object belongs")
    return found


class Forward:
    """Hands requests on.

    Args:
        settings: where to.
        client: shared connections.
    """

    def __init__(self, settings: ModelSettings, client: httpx.AsyncClient) -> None:
        self._settings, self._client = settings, client
        key = settings.upstream_key.get_secret_value()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    @asynccontextmanager
    async def _post(self, path: str, body: dict[str, Any], counted: Counted) -> AsyncIterator[httpx.Response]:
        """The answer's head; what goes wrong until then is an ApiError, later an error of httpx."""
        s = self._settings
        body = {**body, "model": s.upstream_model or s.name}
        url = s.base_url.rstrip("/") + path
        request = self._client.build_request("POST", url, json=body, headers=self._headers)
        counted.asked = True
        try:
            response = await self._client.send(request, stream=True)
        except httpx.HTTPError as e:
            counted.asked = isinstance(e, httpx.ReadTimeout)
            raise _broken(s.name, e) from None
        try:
            if response.status_code != 200:
                counted.asked = False
                try:
                    await response.aread()
                except httpx.HTTPError as e:
                    raise _broken(s.name, e) from None
                raise _refused(s.name, response)
            yield response
        finally:
            await response.aclose()

    async def answer(self, path: str, body: dict[str, Any], counted: Counted) -> dict[str, Any]:
        """The whole answer, under our model's name."""
        name = self._settings.name
        async with self._post(path, body, counted) as response:
            try:
                found = _read(await response.aread())
            except httpx.HTTPError as e:
                raise _broken(name, e) from None
            except ValueError as e:
                raise ApiError(502, f"the server behind {name!r} sent {e}.", "upstream_failed") from None
        counted.note(found.get("usage"))
        return {**found, "model": name}

    @asynccontextmanager
    async def stream(
        self, path: str, body: dict[str, Any], counted: Counted
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The answer's events; usage is always asked for, and shown if the caller asked."""
        wants = bool((body.get("stream_options") or {}).get("include_usage"))
        body = {**body, "stream_options": {"include_usage": True}}

        async def events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
            async for line in response.aiter_lines():
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:"):
                    continue
                if data == "[DONE]":
                    counted.complete = True
                    return
                event = _read(data)
                if event.get("choices"):
                    counted.completion_tokens += 1  # until it tells its own count
                counted.note(event.get("usage"))
                if event.get("choices") or wants or "error" in event:
                    yield {**event, "model": self._settings.name}

        async with self._post(path, body, counted) as response:
            yield events(response)


@asynccontextmanager
async def ahead(
    events: AsyncIterator[dict[str, Any]], done: Callable[[], Awaitable[object]]
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The same events, read as fast as they come: a slow reader of ours does not hold up the other server.

    Args:
        events: of a stream.
        done: called as soon as the last is here, whether or not anybody has read it.
    """
    queue: asyncio.Queue[dict[str, Any] | Exception | None] = asyncio.Queue()

    async def read() -> None:
        try:
            async for event in events:
                queue.put_nowait(event)
            queue.put_nowait(None)
        except Exception as e:
            queue.put_nowait(e)
        finally:
            await done()

    async def each() -> AsyncIterator[dict[str, Any]]:
        while (event := await queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    task = asyncio.create_task(read())
    try:
        yield each()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
