"""Errors in OpenAI's form: ``{"error": {"message", "type", "param", "code"}}``, as any client reads them."""

from __future__ import annotations

import math
from typing import Any

from fastapi import HTTPException
from starlette.responses import JSONResponse

from kit.serve.limits import OverLimit
from kit.serve.schemas import Error, ErrorBody

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    502: "upstream_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class ApiError(HTTPException):
    """A request is refused or has failed.

    Args:
        status: HTTP status.
        message: for the person who reads it: what was wrong, what was expected.
        code: for programs, such as ``"model_not_found"``.
        param: the field that was wrong.
        retry_after_s: when it makes sense to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        headers = None
        if retry_after_s is not None and math.isfinite(retry_after_s):
            headers = {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
        super().__init__(status, message, headers)
        self.code, self.param = code, param

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = TYPES.get(self.status_code, "server_error" if self.status_code >= 500 else TYPES[400])
        return ErrorBody(
            error=Error(message=self.detail, type=kind, param=self.param, code=self.code)
        ).model_dump()

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body(), self.status_code, self.headers)


def over_limit(error: OverLimit) -> ApiError:
    """429, with the time after which it makes sense to try again."""
    return ApiError(429, str(error), "rate_limit_exceeded", error.kind, error.retry_after_s)
