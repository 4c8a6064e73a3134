"""What speculation should bring, by the formula of the papers and by one that counts what checking costs.

Leviathan et al. 2023, equation 1 and theorem 3.8.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def expected_tokens(acceptance: float, length: float) -> float:
    """Tokens that a round brings: 1 + a + a^2 + ... + a^length.

    Args:
        acceptance: chance that a guess stands when all before it stood, 0 to 1; the same at every place.
        length: guesses in a round.

    Raises:
        ValueError: an acceptance outside 0 to 1, or a negative length.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance must be from 0 to 1, got {acceptance}: it is a probability.")
    if length < 0:
        raise ValueError(f"length must be at least 0, got {length}: it counts guesses.")
    return length + 1 if acceptance == 1 else (1 - acceptance ** (length + 1)) / (1 - acceptance)


def paper_speedup(acceptance: float, length: float, cost: float) -> float:
    """Speed-up if checking many tokens took no longer than making one: E / (length * cost + 1).

    Args:
        acceptance, length: as for ``expected_tokens``.
        cost: of a guess, where a token of the target costs 1.
    """
    return expected_tokens(acceptance, length) / (length * cost + 1)


def speedup(
    acceptance: float, length: int, draft_ms: float, target_ms: Callable[[int], float], rtt_ms: float = 0
) -> float:
    """Speed-up with what checking costs: E * T(1) / (length * draft_ms + rtt_ms + T(length + 1)).

    Args:
        acceptance, length: as for ``expected_tokens``.
        draft_ms: time of a guess.
        target_ms: time in which the target reads so many tokens at once.
        rtt_ms: round trip between the draft and the target.
    """
    spent = length * draft_ms + rtt_ms + target_ms(length + 1)
    return expected_tokens(acceptance, length) * target_ms(1) / spent


def best_length(
    acceptance: float,
    draft_ms: float,
    target_ms: Callable[[int], float],
    rtt_ms: float = 0,
    longest: int = 8,
) -> int:
    """The number of guesses with the largest ``speedup``; 0: do not speculate."""
    gains = [1.0] + [speedup(acceptance, n, draft_ms, target_ms, rtt_ms) for n in range(1, longest + 1)]
    return int(np.argmax(gains))


def most_rtt_ms(acceptance: float, length: int, draft_ms: float, target_ms: Callable[[int], float]) -> float:
    """The round trip at which a device that drafts for a cloud that checks is as fast as a cloud that writes
    alone.

    The cloud alone streams: it pays the round trip once, not for every token. Negative: it never pays.
    """
    gained = expected_tokens(acceptance, length) * target_ms(1)
    return gained - target_ms(length + 1) - length * draft_ms
