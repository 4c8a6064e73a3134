"""From a measured run to a place of the simulator: what a table of requests says about the service behind it.

Calibrate from a run **without a queue** (few requests per second), or its waits are taken for service.
Check with another run: a place that is laid over the data it was made of always fits.
"""

from __future__ import annotations

import numpy as np

from kit.records import Records
from kit.simulate.llm import Speed

LEVELS = 201
"""Few levels make a long tail longer: between the last two there is a straight line."""


def service_quantiles_ms(
    records: Records, network_ms: float = 0.0, levels: int = LEVELS
) -> tuple[float, ...]:
    """Service times of a place, for `Tier.service_quantiles_ms`.

    Args:
        records: of `kit load`, of a gateway, or of the simulator.
        network_ms: what of each time is not service, such as the round trip; it is taken away.
        levels: how many quantiles.

    Raises:
        ValueError: fewer than twenty answers.
    """
    e2e_ms = _answered(records)["e2e_ms"]
    return tuple(np.maximum(np.quantile(e2e_ms, np.linspace(0, 1, levels)) - network_ms, 0.0).tolist())


def speed(records: Records, network_ms: float = 0.0) -> Speed:
    """What the calls of a language model's engine cost, for `Tier.speed`, from answers that were alone in it.

    Time to first token is a straight line over the prompt's tokens (least squares), and a step is the
    median time between tokens. What a further row costs cannot be seen in such a run: ``row_s`` is 0.

    Raises:
        ValueError: fewer than twenty answers.
    """
    done = _answered(records)
    first_s = (done["ttft_ms"] - network_ms) / 1000
    tokens = done["tokens_in"]
    token_s, prompt_s = 0.0, float(np.median(first_s))
    if np.ptp(tokens) > 0:
        slope, start = np.polyfit(tokens, first_s, 1)
        if slope > 0 and start >= 0:
            token_s, prompt_s = float(slope), float(start)
    gaps_ms = done["tpot_ms"]
    step_s = float(np.nanmedian(gaps_ms)) / 1000 if (~np.isnan(gaps_ms)).any() else 0.0
    return Speed(step_s=step_s, prompt_s=prompt_s, token_s=token_s)


def _answered(records: Records) -> Records:
    done = records.where(records["outcome"] == "answered")
    if len(done) < 20:
        raise ValueError(
            f"calibration needs twenty answers or more, and this table has {len(done)}: ask for longer."
        )
    return done
