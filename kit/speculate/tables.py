"""The chapter's tables. Notes are findings, computed from what is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import HTML

from kit import facts, plots
from kit.engine import tokenizer
from kit.plots import spread
from kit.speculate.core import Guess
from kit.speculate.lengths import Costs
from kit.speculate.race import Told, acceptance, gain, tokens_a_round, tokens_per_s
from kit.speculate.theory import expected_tokens

FASTER = 1.0


def word(token: int) -> str:
    """A token's text, so that blanks can be seen."""
    return repr(tokenizer().decode([token]))


def round_table(guess: Guess, logits: np.ndarray, kept: int) -> HTML:
    """One round: what the draft guessed, and what the target says at each place."""
    rows = []
    for i, row in enumerate(logits):
        guessed = word(guess.tokens[i]) if i < len(guess.tokens) else None
        if i < kept:
            verdict = "stands"
        elif i == kept:
            verdict = "the target's own token" if guessed is None else "falls: the target's own token"
        else:
            verdict = "not looked at"
        rows.append({"place": i + 1, "draft": guessed, "target": word(int(row.argmax())), "": verdict})
    note = f"One call of the target brought {kept + 1} token{'s' if kept else ''}."
    return plots.table(rows, note=note)


def draft_table(
    told: Mapping[str, Mapping[str, Sequence[Told]]], costs: Mapping[str, Costs], guesses: int = 4
) -> HTML:
    """Each draft: what it costs, and how often it is right.

    Args:
        told: kind of request -> draft -> answers.
        costs: draft -> costs.
        guesses: in a round.
    """
    rows = []
    for name, c in costs.items():
        row = {"draft": name, "ms a guess": c.guess_ms(guesses)}
        row["of a token of the target"] = f"{c.guess_ms(guesses) / c.target_ms(1):.1%}"
        for kind, ways in told.items():
            stands = acceptance(ways[name])
            row[f"a guess stands, {kind}"] = f"{stands:.0%}"
            expected = "" if name == "ngram" else f" ({expected_tokens(stands, guesses):.2f})"
            row[f"tokens a round, {kind}"] = f"{tokens_a_round(ways[name]):.2f}{expected}"
        rows.append(row)
    note = (
        f"{guesses} guesses a round; n-grams guess only where they find something. In brackets: the formula "
        "of section 5."
    )
    return plots.table(rows, note=note)


def cases_table(cases: Mapping[str, tuple[Sequence[Told], Sequence[Told]]]) -> HTML:
    """Case by case: plain decoding, with a draft, and the gain."""
    rows = []
    for name, (plain, told) in cases.items():
        found = gain(plain, told)
        verdict = "wins" if found[1] > FASTER else "loses" if found[2] < FASTER else "cannot be told"
        rows.append(
            {
                "case": name,
                "plain (tokens/s)": tokens_per_s(plain),
                "with the draft": tokens_per_s(told),
                "speed-up": spread(found, ".2f"),
                "": verdict,
            }
        )
    return plots.table(rows, note="In brackets: 95% interval, answers resampled.")


def claims_table(
    told: Mapping[str, Mapping[str, Sequence[Told]]],
    cases: Mapping[str, tuple[Sequence[Told], Sequence[Told]]],
) -> HTML:
    """Claim C19: what it says, what was measured, what follows.

    Args:
        told: precision -> way -> answers, ``plain`` among the ways.
        cases: as for ``cases_table``.
    """
    parts, same, faster = [], [], []
    for precision, ways in told.items():
        plain = ways["plain"]
        others = {name: answers for name, answers in ways.items() if name != "plain"}
        gains = {name: gain(plain, answers) for name, answers in others.items()}
        best = max(gains, key=lambda name: gains[name][0])
        parts.append(f"{precision} {spread(gains[best], '.2f')} with {best}")
        if gains[best][1] > FASTER:
            faster.append(precision)
        pairs = [pair for t in others.values() for pair in zip(plain, t, strict=True)]
        same.append(f"{precision} {np.mean([a.tokens == b.tokens for a, b in pairs]):.0%}")
    losing = sum(gain(*pair)[2] < FASTER for pair in cases.values())
    claim = facts.claims()["C19"].claim
    found = (
        f"times as fast: {'; '.join(parts)}. Answers that stay the same: {', '.join(same)}. "
        f"Of the cases above, {losing} lost"
    )
    exact = [p for p, s in zip(told, same, strict=True) if s.endswith(" 100%")]
    verdict = f"same text: {', '.join(exact) or 'nowhere'}; faster: {', '.join(faster) or 'nowhere'}"
    return plots.table([{"": "C19", "claim": claim, "what we found": found, "holds here": verdict}])
