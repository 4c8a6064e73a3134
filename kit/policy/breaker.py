"""A circuit breaker: stop asking a target that only fails, and try it again later."""

from __future__ import annotations

from collections import deque
from typing import Literal

from kit.policy.settings import DispatchSettings

BreakerState = Literal["closed", "open", "half_open"]
"""``closed``: requests pass. ``open``: none passes. ``half_open``: one passes, to see if it works again."""


class CircuitBreaker:
    """Watches the attempts at one target (Nygard, "Release It!", 2007). It reads no clock.

    Args:
        settings: the ``breaker_...`` fields say when it opens, and for how long.
    """

    def __init__(self, settings: DispatchSettings) -> None:
        self._failures, self._rate = settings.breaker_failures, settings.breaker_rate
        self._cooldown_s = settings.breaker_cooldown_s
        self._failed: deque[bool] = deque(maxlen=settings.breaker_window)
        self._in_a_row = 0
        self._opened_s: float | None = None  # None: closed
        self._probing = False

    def state(self, now_s: float) -> BreakerState:
        """What the breaker does at ``now_s``."""
        if self._opened_s is None:
            return "closed"
        return "open" if now_s < self._opened_s + self._cooldown_s else "half_open"

    def allows(self, now_s: float) -> bool:
        """Whether an attempt may be sent at ``now_s``. Half-open allows one at a time."""
        return self._opened_s is None or (self.state(now_s) == "half_open" and not self._probing)

    def begin(self) -> bool:
        """Note that an attempt is sent. True if it is the probe, whose end must be reported."""
        self._probing = self._opened_s is not None
        return self._probing

    def end(self, ok: bool | None, now_s: float, probe: bool) -> None:
        """Note how an attempt ended: it worked, it did not, or (None) nobody waited to see."""
        if probe:
            self._probing = False
        elif self._opened_s is not None:
            return  # sent before the breaker opened; now only the probe decides
        if ok:
            self._in_a_row = 0
            if probe:  # it works again: forget the past
                self._opened_s = None
                self._failed.clear()
            self._failed.append(False)
        elif ok is False:
            self._in_a_row += 1
            self._failed.append(True)
            if probe or self._too_many():
                self._opened_s = now_s

    def _too_many(self) -> bool:
        if self._failures is not None and self._in_a_row >= self._failures:
            return True
        full = len(self._failed) == self._failed.maxlen
        return self._rate is not None and full and sum(self._failed) >= self._rate * len(self._failed)
