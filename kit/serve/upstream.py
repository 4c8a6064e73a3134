"""Any server that speaks the OpenAI API can stand where SmolLM2 stands: the request is handed on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from kit.serve.errors import ApiError
from kit.serve.settings import ModelSettings


@dataclass
class Counted:
    """Tokens that the other server says it used."""

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
    async def _post(self, path: str, body: dict[str, Any]) -> AsyncIterator[httpx.Response]:
        """The answer's head; what goes wrong until then is an ApiError, later an error of httpx."""
        s = self._settings
        body = {**body, "model": s.upstream_model or s.name}
        url = s.base_url.rstrip("/") + path
        request = self._client.build_request("POST", url, json=body, headers=self._headers)
        try:
            response = await self._client.send(request, stream=True)
        except httpx.TimeoutException:
            told = f"the server behind {s.name!r} did not answer in time."
            raise ApiError(504, told, "upstream_timeout") from None
        except httpx.HTTPError as e:
            told = f"the server behind {s.name!r}: {type(e).__name__}."
            raise ApiError(502, told, "upstream_failed") from None
        try:
            if response.status_code != 200:
                await response.aread()
                raise _refused(s.name, response)
            yield response
        finally:
            await response.aclose()

    async def answer(self, path: str, body: dict[str, Any], counted: Counted) -> dict[str, Any]:
        """The whole answer, under our model's name."""
        async with self._post(path, body) as response:
            try:
                found = json.loads(await response.aread())
            except ValueError:
                raise ApiError(502, f"the server behind {self._settings.name!r} sent no JSON.") from None
        counted.note(found.get("usage"))
        return {**found, "model": self._settings.name}

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
                event = json.loads(data)
                if event.get("choices"):
                    counted.completion_tokens += 1  # until it tells its own count
                counted.note(event.get("usage"))
                if event.get("choices") or wants or "error" in event:
                    yield {**event, "model": self._settings.name}

        async with self._post(path, body) as response:
            yield events(response)
