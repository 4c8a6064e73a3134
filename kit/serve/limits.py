"""What one key may use: requests and tokens in a sliding window, and what it used so far.

A request reserves the tokens that it may need. When it ends, what it did not need is given back. So two
requests at once cannot both take the last token. (Libraries for rate limits count hits; none gives back.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

KINDS = ("requests", "input_tokens", "output_tokens", "total_tokens")


class OverLimit(Exception):
    """A key has used up what it may use.

    Attributes:
        kind: of what; one of ``KINDS``.
        retry_after_s: until it may use so much again; infinity: never, the request is larger than the limit.
    """

    def __init__(self, window: Window, amount: int, retry_after_s: float, left: int) -> None:
        self.kind, self.retry_after_s = window.kind, retry_after_s
        what, limit, when = window.kind.replace("_", " "), window.limit, f"in {window.window_s:g} s"
        if window.kind == "requests":
            text = f"The limit of {limit} requests {when} is reached."
        else:
            text = f"This request may need {amount} {what}, and {left} of {limit} {when} are left."
        if math.isinf(retry_after_s):
            text += " Ask for fewer: so many are never allowed."
        else:
            text += f" Try again in {retry_after_s:.1f} s."
        super().__init__(text)


@dataclass
class _Taken:
    """So much was taken at a time."""

    at_s: float
    amount: int


class Window:
    """At most ``limit`` of something in any ``window_s`` seconds.

    Args:
        kind: for messages.
        limit: how much.
        window_s: in how long.
    """

    def __init__(self, kind: str, limit: int, window_s: float) -> None:
        if limit < 1 or not window_s > 0:
            raise ValueError(f"limit and window_s must be above 0, got {limit} and {window_s}.")
        self.kind, self.limit, self.window_s = kind, limit, window_s
        self._taken: deque[_Taken] = deque()

    def _forget(self, now_s: float) -> int:
        """Drop what is too old; returns what is left."""
        while self._taken and self._taken[0].at_s <= now_s - self.window_s:
            self._taken.popleft()
        return sum(t.amount for t in self._taken)

    def left(self, now_s: float) -> int:
        """How much may be taken now."""
        return self.limit - self._forget(now_s)

    def wait_s(self, amount: int, now_s: float) -> float:
        """Seconds until ``amount`` more is allowed; 0: now; infinity: never."""
        if amount > self.limit:
            return math.inf
        over = self._forget(now_s) + amount - self.limit
        if over <= 0:
            return 0.0
        for taken in self._taken:  # the oldest first
            over -= taken.amount
            if over <= 0:
                return taken.at_s + self.window_s - now_s
        raise AssertionError("all of it is forgotten at some time")

    def take(self, amount: int, now_s: float) -> _Taken:
        """Take it. ``wait_s`` must have said 0."""
        taken = _Taken(now_s, amount)
        self._taken.append(taken)
        return taken


@dataclass
class Used:
    """What a key has used since the server started."""

    requests: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    spend_usd: float = 0.0


@dataclass
class Reserved:
    """What a request took, by window, until it ends."""

    taken: list[tuple[str, _Taken]] = field(default_factory=list)


class Allowance:
    """The windows of one key.

    Args:
        limits: kind -> how much in ``window_s``; a kind that is left out has no limit.
        window_s: length of the window.
        now: a clock, in seconds.
    """

    def __init__(self, limits: Mapping[str, int], window_s: float, now: Callable[[], float]) -> None:
        if unknown := set(limits) - set(KINDS):
            raise ValueError(f"unknown limits {sorted(unknown)}: there are {', '.join(KINDS)}.")
        self._windows = {kind: Window(kind, limit, window_s) for kind, limit in limits.items()}
        self._now = now
        self.used = Used()

    def request(self) -> None:
        """A request came. Raises OverLimit if it is one too many."""
        self._take({"requests": 1})
        self.used.requests += 1

    def reserve(self, prompt_tokens: int, most_new: int) -> Reserved:
        """Take the tokens that an answer may need; all kinds or none.

        Raises:
            OverLimit: that would be too many.
        """
        return self._take(
            {
                "input_tokens": prompt_tokens,
                "output_tokens": most_new,
                "total_tokens": prompt_tokens + most_new,
            }
        )

    def _take(self, amounts: Mapping[str, int]) -> Reserved:
        now_s = self._now()
        windows = [(w, amounts[kind]) for kind, w in self._windows.items() if kind in amounts]
        waits = [(w.wait_s(amount, now_s), w, amount) for w, amount in windows]
        longest, window, amount = max(waits, key=lambda found: found[0], default=(0.0, None, 0))
        if longest > 0 and window is not None:
            self.used.refused += 1
            raise OverLimit(window, amount, longest, window.left(now_s))
        return Reserved([(w.kind, w.take(amount, now_s)) for w, amount in windows])

    def settle(
        self, reserved: Reserved, prompt_tokens: int, completion_tokens: int, usd: float = 0.0
    ) -> None:
        """An answer ended: give back what it did not need, and count it."""
        used = {
            "input_tokens": prompt_tokens,
            "output_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        for kind, taken in reserved.taken:
            taken.amount = used[kind]
        self.used.prompt_tokens += prompt_tokens
        self.used.completion_tokens += completion_tokens
        self.used.spend_usd += usd
