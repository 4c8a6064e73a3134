"""Who is first, and who keeps the budget? Shares in closed form, for a slider that answers at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BUDGET_MS = 100.0
"""An answer within a tenth of a second feels immediate (Nielsen, "Usability Engineering", 1993)."""


@dataclass(frozen=True)
class WhatIf:
    """Who answers first, and who keeps the budget. Shares are from 0 to 1."""

    device_first: np.ndarray | float
    device_within: np.ndarray | float
    cloud_within: np.ndarray | float
    break_even_ms: np.ndarray | float


def cloud_by(
    t_ms: np.ndarray | float, fastest_ms: np.ndarray | float, jitter_ms: float
) -> np.ndarray | float:
    """Share of cloud answers that are there after ``t_ms``.

    An answer takes ``fastest_ms`` plus an exponential delay of mean ``jitter_ms``. Two such answers in a
    row then differ by ``jitter_ms`` on average too, which is how ``kit.facts`` defines jitter.
    """
    slack = np.asarray(t_ms) - fastest_ms
    if jitter_ms == 0:
        return np.where(slack >= 0, 1.0, 0.0)[()]
    return -np.expm1(-np.maximum(slack, 0) / jitter_ms)


def what_if(
    round_trip_ms: np.ndarray | float,
    jitter_ms: float,
    device_ms: np.ndarray | float,
    cloud_ms: np.ndarray | float,
    budget_ms: float = BUDGET_MS,
) -> WhatIf:
    """Compare a device that needs ``device_ms`` with a cloud. Arrays are compared one by one.

    Args:
        round_trip_ms: the fastest round trip.
        jitter_ms: mean delay that comes on top of it; see ``cloud_by``.
        device_ms: computing on the device.
        cloud_ms: computing in the cloud.
        budget_ms: what a response may take.

    Returns:
        The shares, and the round trip at which the cloud's median equals the device's time. It is
        negative if the cloud would lose even without any distance.

    Raises:
        ValueError: a negative time.
    """
    times = {"round_trip_ms": round_trip_ms, "jitter_ms": jitter_ms, "device_ms": device_ms}
    for name, value in (times | {"cloud_ms": cloud_ms, "budget_ms": budget_ms}).items():
        if np.min(value) < 0:
            raise ValueError(f"{name} must be >= 0, got {np.min(value):g}: time does not run backwards.")
    fastest_ms = np.asarray(round_trip_ms) + cloud_ms
    return WhatIf(
        device_first=1 - cloud_by(device_ms, fastest_ms, jitter_ms),
        device_within=np.where(np.asarray(device_ms) <= budget_ms, 1.0, 0.0)[()],
        cloud_within=cloud_by(budget_ms, fastest_ms, jitter_ms),
        break_even_ms=np.asarray(device_ms) - cloud_ms - jitter_ms * np.log(2),
    )
