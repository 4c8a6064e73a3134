"""Which guesses stand: the rule that makes speculative decoding change the speed and nothing else.

Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", appendix A.1; Chen et al.
2023, "Accelerating Large Language Model Decoding with Speculative Sampling", theorem 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kit.decode import draw


def verify_greedy(guess: Sequence[int], logits: np.ndarray) -> tuple[int, int]:
    """How many guesses are what the target would have written, and the token that it writes next.

    Args:
        guess: n tokens.
        logits: of the target, [n + 1, vocab]: row i is what it says where guess i stands, and the last row
            what it says after all of them.
    """
    best = logits.argmax(-1)  # [n + 1]
    kept = 0
    while kept < len(guess) and guess[kept] == best[kept]:
        kept += 1
    return kept, int(best[kept])


def verify_sampled(
    guess: Sequence[int], q: np.ndarray, p: np.ndarray, rng: np.random.Generator
) -> tuple[int, int]:
    """How many guesses stand, and a next token, so that every token comes out as if drawn from the target.

    Args:
        guess: n tokens, guess i drawn from row i of q.
        q: probabilities of the draft, [n, vocab].
        p: probabilities of the target at the same places and after the last guess, [n + 1, vocab].
        rng: random numbers, others than those that drew the guesses.
    """
    for i, token in enumerate(guess):
        if rng.random() * q[i, token] >= p[i, token]:  # stands with probability min(1, p / q)
            missing = np.maximum(p[i] - q[i], 0)  # what the draft says too seldom
            return i, draw(missing / missing.sum(), rng)
    return len(guess), draw(p[len(guess)], rng)
