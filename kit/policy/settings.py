"""How a dispatcher carries routes out: one number per habit, each from a named source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How routes are carried out. By default nothing is added to what the route says.

    Attributes:
        attempt_timeout_ms: an attempt without an answer after this time counts as failed, though a
            late answer is still taken. Counted from `SendTo`, so connecting is included. None: never.
        retries: how often a target is asked again before the next fallback is.
        backoff_ms: before retry k = 0, 1, 2, ... wait a random time between 0 and ``backoff_ms`` x 2^k
            ("full jitter": Brooker, "Exponential Backoff And Jitter", 2015).
        backoff_max_ms: the longest wait. A target whose Retry-After is longer is not asked again.
        retry_budget: retries are at most this fraction of requests, over all requests (Beyer et al.,
            "Site Reliability Engineering", 2016, chapter 21). Fallbacks and hedges are not retries.
            None: no limit.
        breaker_failures: a target's circuit breaker opens after so many failures in a row; None: never.
        breaker_rate: or when this share, 0 to 1, of its last ``breaker_window`` attempts failed; None: never.
        breaker_window: how many attempts ``breaker_rate`` looks back.
        breaker_cooldown_s: an open breaker lets one attempt through after this time.

    Raises:
        ValueError: a value that cannot be.
    """

    attempt_timeout_ms: float | None = None
    retries: int = 0
    backoff_ms: float = 100.0
    backoff_max_ms: float = 10_000.0
    retry_budget: float | None = None
    breaker_failures: int | None = None
    breaker_rate: float | None = None
    breaker_window: int = 20
    breaker_cooldown_s: float = 30.0

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("attempt_timeout_ms", lambda v: v is None or v > 0, "> 0: no answer takes no time"),
            ("retries", lambda v: v >= 0, ">= 0: 0 asks every target once"),
            ("backoff_ms", lambda v: v >= 0, ">= 0: a retry cannot start before the failure"),
            ("backoff_max_ms", lambda v: v >= self.backoff_ms, ">= backoff_ms"),
            ("retry_budget", lambda v: v is None or v >= 0, ">= 0: a fraction of requests, such as 0.1"),
            ("breaker_failures", lambda v: v is None or v >= 1, ">= 1: None turns the breaker off"),
            ("breaker_rate", lambda v: v is None or 0 < v <= 1, "a share, more than 0 and up to 1"),
            ("breaker_window", lambda v: v >= 1, ">= 1: a share of no attempts has no meaning"),
            ("breaker_cooldown_s", lambda v: v >= 0, ">= 0: a breaker cannot close before it opens"),
        ):
            if not ok(getattr(self, name)):
                raise ValueError(f"{name} must be {expected}; got {getattr(self, name)}.")
