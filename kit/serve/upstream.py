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

    def note(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self.prompt_tokens = usage.get("prompt_tokens") or 0
            self.completion_tokens = usage.get("completion_tokens") or 0


def _refused(model: str, response: httpx.Response) -> ApiError:
    """The other server's refusal as ours, with its own words."""
    try:
        told = response.json().get("error", {})
        message = told.get("message", "") if isinstance(told, dict) else str(told)
    except ValueError:
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
        s = self._settings
        body = {**body, "model": s.upstream_model or s.name}
        url = s.base_url.rstrip("/") + path
        try:
            async with self._client.stream("POST", url, json=body, headers=self._headers) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise _refused(s.name, response)
                yield response
        except httpx.TimeoutException:
            raise ApiError(
                504, f"the server behind {s.name!r} did not answer in time.", "upstream_timeout"
            ) from None
        except httpx.HTTPError as e:
            raise ApiError(
                502, f"the server behind {s.name!r}: {type(e).__name__}.", "upstream_failed"
            ) from None

    async def answer(self, path: str, body: dict[str, Any], counted: Counted) -> dict[str, Any]:
        """The whole answer, under our model's name."""
        async with self._post(path, body) as response:
            found = json.loads(await response.aread())
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
                if not line.startswith("data:") or data == "[DONE]":
                    continue
                event = json.loads(data)
                counted.note(event.get("usage"))
                if event.get("choices") or wants or "error" in event:
                    yield {**event, "model": self._settings.name}

        async with self._post(path, body) as response:
            yield events(response)
