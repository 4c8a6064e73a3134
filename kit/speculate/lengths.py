"""How many tokens to guess: always the same number, or as many as pay."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class Seen(Protocol):
    """What a rule learns from a round."""

    @property
    def guessed(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def draft_ms(self) -> float: ...
    @property
    def target_ms(self) -> float: ...


class Length(Protocol):
    """A rule for the number of guesses.

    Attributes:
        longest: the most it asks for.
    """

    longest: int

    def guesses(self) -> int:
        """How many tokens to guess next; 0: none."""
        ...

    def learn(self, seen: Seen) -> None:
        """A round is over."""
        ...


@dataclass
class Fixed:
    """Always the same number of guesses.

    Raises:
        ValueError: fewer than 1.
    """

    longest: int

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(
                f"the number of guesses must be at least 1, got {self.longest}: with none it is plain "
                "decoding (Engine.generate)."
            )

    def guesses(self) -> int:
        return self.longest

    def learn(self, seen: Seen) -> None: ...


@dataclass(frozen=True)
class Costs:
    """What a round costs, in ms.

    Attributes:
        draft_ms: of each guess.
        checks: of reading 1, 2, 3, ... tokens at once and choosing a token after each.
        start_ms: of a round's guesses together: the draft reads what is new in the text.
    """

    draft_ms: float
    checks: tuple[float, ...]
    start_ms: float = 0.0

    def guess_ms(self, guesses: int) -> float:
        """Time of a guess when a round has so many."""
        return self.draft_ms + self.start_ms / guesses

    def target_ms(self, tokens: int) -> float:
        """Time in which the target reads so many tokens at once; beyond the table, the last step is
        repeated."""
        known = self.checks
        if tokens <= len(known):
            return known[tokens - 1]
        return known[-1] + (tokens - len(known)) * (known[-1] - known[-2])

    def round_ms(self, guesses: int) -> float:
        """A round with so many guesses."""
        return guesses * self.guess_ms(guesses) + self.target_ms(guesses + 1)


PATIENCE = 8, 128  # rounds without a guess before the first trial, and at most
TRIALS = 4  # rounds with guesses before the clock is believed
UNKNOWN = 0.5  # chance that a guess stands, before any was seen


@dataclass
class Adaptive:
    """As many guesses as pay, by what is measured: costs before, acceptance while it writes.

    For each place of a round it remembers how often a guess stood there, the last few dozen rounds most. It
    asks for the number with the most tokens per ms, or for none; also for none while the clock says that
    rounds with guesses were slower than rounds without. While it asks for none it tries a single guess now
    and then, each time after twice as many rounds, so that trying costs next to nothing.

    Args:
        costs: of this target and draft, from ``speculate.costs``.
        longest: guesses at most.
        memory: share of what it knows that is left after each round.
    """

    costs: Costs
    longest: int = 8
    memory: float = 0.96
    tried: list[float] = field(init=False)
    stood: list[float] = field(init=False)

    def __post_init__(self) -> None:
        if self.longest < 1:
            raise ValueError(f"longest must be at least 1, got {self.longest}.")
        self.tried, self.stood = [0.0] * self.longest, [0.0] * self.longest
        self._idle, self._patience = 0, PATIENCE[0]
        self._best = self.best()
        self._plain_ms = self.costs.target_ms(1)
        self._brought, self._spent, self._guessed = 0.0, 0.0, 0

    def accepted(self) -> list[float]:
        """Chance of each place: what was counted there, and the place before it as if seen twice."""
        found, before = [], UNKNOWN
        for tried, stood in zip(self.tried, self.stood, strict=True):
            before = (stood + 2 * before) / (tried + 2)
            found.append(before)
        return found

    def best(self) -> int:
        """The number of guesses that brings most tokens per ms, by costs and counts."""
        best, most = 0, 1 / self.costs.target_ms(1)
        brought = reached = 1.0  # tokens of a round: 1 + a1 + a1 a2 + ...
        for n, chance in enumerate(self.accepted(), 1):
            reached *= chance
            brought += reached
            if (rate := brought / self.costs.round_ms(n)) > most:
                best, most = n, rate
        return best

    def guesses(self) -> int:
        if self._best and not self._slower():
            self._idle, self._patience = 0, PATIENCE[0]
            return self._best
        self._idle += 1
        if self._idle < self._patience:
            return 0
        self._idle, self._patience = 0, min(2 * self._patience, PATIENCE[1])
        return 1

    def _slower(self) -> bool:
        """Whether guessing was slower than plain decoding, by the clock: rehearsals can be wrong."""
        return self._guessed >= TRIALS and self._brought * self._plain_ms < self._spent

    def learn(self, seen: Seen) -> None:
        ms = seen.draft_ms + seen.target_ms
        if seen.guessed == 0:
            self._plain_ms += (1 - self.memory) * (ms - self._plain_ms) if ms else 0
            return
        self._brought = self.memory * self._brought + seen.kept + 1
        self._spent = self.memory * self._spent + ms
        self._guessed += 1
        for place in range(min(seen.kept + 1, seen.guessed, self.longest)):  # those that were looked at
            self.tried[place] = self.memory * self.tried[place] + 1
            self.stood[place] = self.memory * self.stood[place] + (place < seen.kept)
        self._best = self.best()
