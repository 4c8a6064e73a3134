"""The draft on a device, the target in the cloud: every check costs a round trip."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from kit.engine import Engine


class Faraway:
    """A target behind a network: what it is asked arrives after half a round trip, and so does what it says.

    Only waiting is simulated; the few numbers that travel fit in one packet each way, if the cloud picks the
    tokens and tells which guesses stood. The prompt travels once, too.

    Args:
        target: the engine.
        rtt_ms: round trip.

    Raises:
        ValueError: a negative round trip.
    """

    def __init__(self, target: Engine, rtt_ms: float) -> None:
        if rtt_ms < 0:
            raise ValueError(f"rtt_ms must be at least 0, got {rtt_ms}: a round trip takes time.")
        self.target, self.rtt_ms = target, rtt_ms
        self.vocab, self.context = target.vocab, target.context

    @property
    def past(self) -> int:
        return self.target.past

    @past.setter
    def past(self, tokens: int) -> None:
        self.target.past = tokens

    @property
    def hidden(self) -> np.ndarray:
        return self.target.hidden

    def reset(self) -> None:
        self.target.reset()

    def forward(self, ids: Sequence[int]) -> np.ndarray:
        time.sleep(self.rtt_ms / 1000)
        return self.target.forward(ids)

    def extend(self, ids: Sequence[int]) -> np.ndarray:
        time.sleep(self.rtt_ms / 1000)
        return self.target.extend(ids)
