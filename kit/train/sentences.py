"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from IPython.core.display import Markdown

from kit import data
from kit.measure import calibration, ece

Shares = Mapping[str, tuple[float, float, float]]
"""Kind of speech and language -> (value, low, high) in percent or in points."""


def _both(shares: Shares, kind: str) -> str:
    """The values of one kind of speech in both languages, in percent: ``"94% and 92%"``."""
    return " and ".join(f"{shares[f'{kind}, {lang}'][0]:.0f}%" for lang in data.LANGS)


def read_rival(asked: str, wanted: str, said: str) -> Markdown:
    """What the baseline made of one sentence."""
    if said == wanted:
        return Markdown(f"It understands *{asked}*, although no template says it so.")
    return Markdown(f"*{asked}* became **{said}**. It was {wanted}: no template says it so.")


def read_collapse(model: Shares, rival: Shares) -> Markdown:
    """The grammar's test against people's sentences, for both models."""
    return Markdown(
        f"On unseen templates (English and Chinese) this short training is right in "
        f"{_both(model, 'templates')}, the SVM in {_both(rival, 'templates')}. On what people wrote, the "
        f"model is right in **{_both(model, 'people')}**, the SVM in {_both(rival, 'people')}."
    )


def read_control(before: Shares, after: Shares, ahead: Shares) -> Markdown:
    """The same baseline trained without people and with them; and how far the model is ahead of it."""
    leads = []
    for name, (value, low, high) in ahead.items():
        told = "more than luck" if round(low, 1) > 0 or round(high, 1) < 0 else "may be luck"
        leads.append(f"{name} {value:+.1f} points ({low:+.1f} to {high:+.1f}: {told})")
    return Markdown(
        "The full model also trained longer: 10 rounds, not 2. The SVM is the control. It was trained twice "
        f"in the same way, without people and with them, and went from {before['people, en'][0]:.0f}% to "
        f"**{after['people, en'][0]:.0f}%** (English): that is the data alone. The edge model against the "
        f"SVM, same sentences, 95% intervals: {'; '.join(leads)}."
    )


def read_learning(rows: Sequence[Mapping[str, Any]], lang: str = "en") -> Markdown:
    """What a hundred sentences more were worth, early and late."""
    n = np.array([row["sentences"] for row in rows])
    right = np.array([row[f"people, {lang}"][0] for row in rows])
    each = np.diff(right) / np.diff(n) * 100
    steps = [f"from {a} to {b}: {v:+.1f}" for a, b, v in zip(n, n[1:], each, strict=False)]
    falls = bool(np.all(np.diff(each) < 0))
    return Markdown(
        f"{n[-1]} hand-written sentences lifted the same model from {right[0]:.0f}% to **{right[-1]:.0f}%** "
        "(English), without any change to the model. A hundred sentences more were worth, in points: "
        f"{', '.join(steps)}." + (" Each hundred is worth less than those before it." if falls else "")
    )


def read_mixups(mixed: Sequence[Mapping[str, Any]], hits: np.ndarray) -> Markdown:
    """The most frequent mix-up, among all mistakes; ``hits`` says which sentences were right, [n]."""
    worst = mixed[0]
    return Markdown(
        f"{np.sum(~hits)} of {len(hits)} are wrong. The most frequent mix-up is **{worst['it was']}** taken "
        f"for **{worst['the model said']}**, {worst['times']} times. Which of these would you forgive?"
    )


def title_mixups(counts: np.ndarray, names: Sequence[str]) -> str:
    """Title of the figure of ``mixups``: how many are right, and the weakest intent."""
    right, total = np.diag(counts), counts.sum(1)
    weakest = int(np.argmin(right / total))
    return (
        f"{len(names)} commonest intents: {right.sum()} of {total.sum()} right; "
        f"{names[weakest]} only {right[weakest]} of {total[weakest]}"
    )


def read_calibration(sure: np.ndarray, hits: np.ndarray, least: int = 50) -> Markdown:
    """Where the confidence is still furthest from the accuracy, among bins of ``least`` answers or more."""
    mean, right, count = calibration(sure, hits)
    gap = np.where(count >= least, np.abs(right[:, 0] - mean), -1)
    worst = int(gap.argmax())
    _, low, high = right[worst]
    place = f"where the model says {mean[worst]:.0f}%, it is right in {right[worst, 0]:.0f}%"
    if low <= mean[worst] <= high:
        return Markdown(f"Even at its worst, {place}: no more than luck explains.")
    return Markdown(f"It fits on average, not everywhere: {place}, also with the temperature.")


def read_mixture(sure: np.ndarray, hits: np.ndarray, everything: float) -> Markdown:
    """Calibration on people alone, against the ECE of ``everything`` in percent."""
    error, says, right = ece(sure, hits), 100 * sure.mean(), 100 * hits.mean()
    text = f"Over all test sentences the ECE is {everything:.1f}%, on people alone {error:.1f}%. "
    text += f"There the mean confidence is {says:.0f}% and the accuracy {right:.0f}%."
    if abs(right - says) < error - 0.5:
        text += " The two means differ by less than the ECE: errors of opposite sign cancel in a mean."
    if error > everything:
        text += (
            " A temperature is set for a mixture of sentences; where the mixture differs, so does the trust."
        )
    return Markdown(text)


def read_scores(taken: Mapping[float, Mapping[str, tuple[float, float, float]]], auc: float) -> Markdown:
    """Order against limit: ``taken`` maps a limit to the shares above it, ``auc`` is that of talk."""
    low, high = min(taken), max(taken)
    talk, kept = taken[low]["talk, unseen topics"][0], taken[high]["commands"][0]
    often = "nearly always" if auc > 0.95 else "often"
    return Markdown(
        f"AUROC is about order only: talk {often} scores below a command ({auc:.3f}). You must still choose "
        f"the limit. At {low} the device would act on {talk:.0f}% of the talk. At {high} it acts on "
        f"{taken[high]['talk, unseen topics'][0]:.0f}%, and still on {kept:.0f}% of the commands."
    )


def read_unknown(auc: float) -> Markdown:
    """What a threshold can do against commands that were never learned."""
    if auc > 0.95:
        return Markdown(f"Commands that it never learned score lower, too (AUROC {auc:.2f}).")
    return Markdown(
        f"Commands that it never learned look like commands (AUROC {auc:.2f}), so no limit separates them "
        "well. Somebody must read the failures, and add the intent."
    )


def read_sizes(rows: Sequence[Mapping[str, Any]], lang: str = "en") -> Markdown:
    """What each smaller size saves in bytes, and costs in points on people."""
    name = f"people, {lang}"
    largest, *smaller = sorted(rows, key=lambda row: -row["buckets"])
    steps = []
    for row in smaller:
        size, cost = largest["parameters"] / row["parameters"], largest[name][0] - row[name][0]
        overlap = " (the intervals overlap)" if row[name][2] >= largest[name][1] else ""
        steps.append(f"{size:.0f} times smaller: {cost:+.0f} points{overlap}")
    return Markdown(f"What a smaller file costs on people ({lang}), against the largest: {'; '.join(steps)}.")
