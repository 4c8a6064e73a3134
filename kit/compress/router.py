"""Would a router notice the cut? A cascade: the edge answers if it is sure enough, else the teacher does.

Chapter 11 makes a policy of it; here it is a line of arithmetic on answers that were kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.compress.exam import Answers, of
from kit.measure import lead


@dataclass(frozen=True)
class Cascade:
    """What users get when an edge model and a teacher share the work.

    Attributes:
        sent: whether each sentence went to the teacher, bool [sentences].
        right: whether each was answered right in the end, bool [sentences].
    """

    sent: np.ndarray
    right: np.ndarray

    def worse(self, before: Cascade) -> bool:
        """Is it surely worse than another one: more is sent, or fewer are right? Paired, by sentence."""
        return lead(self.sent, before.sent)[1] > 0 or lead(before.right, self.right)[1] > 0


def cascade(edge: Answers, cloud: Answers, threshold: float, lang: str | None = "en") -> Cascade:
    """Let the edge answer what it is at least ``threshold`` sure of, and the cloud the rest.

    Args:
        edge, cloud: answers to the same sentences.
        threshold: 0 (nothing is sent) to 1.
        lang: of the sentences; None for both.

    Raises:
        ValueError: a threshold outside 0 to 1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability from 0 to 1, got {threshold}.")
    stays = (np.array(edge.sure) >= threshold)[of(lang)]
    mine, theirs = edge.hits[of(lang)], cloud.hits[of(lang)]
    return Cascade(~stays, np.where(stays, mine, theirs))
