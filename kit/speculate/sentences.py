"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from IPython.core.display import Markdown

from kit.measure import Timing, ratio
from kit.plots import spread
from kit.speculate.lengths import Costs
from kit.speculate.race import Told, acceptance, gain, tokens_per_s
from kit.speculate.theory import speedup

CLOSE = 0.15  # a prediction this near to what was measured is a good one


def read_same(plain: Told, told: Told) -> Markdown:
    """Is it the same text, and in how many calls?"""
    same = "token for token the same" if plain.tokens == told.tokens else "NOT the same"
    calls = len(told.rounds) + 1
    return Markdown(
        f"Both texts are **{same}**: {len(told.tokens)} tokens. The target was called {calls} times instead "
        f"of {len(plain.tokens)}. What counts is the time, and a call with several tokens takes longer than "
        "one with one."
    )


def read_checks(checks: Mapping[str, Mapping[int, Timing]], tokens: int = 5) -> Markdown:
    """Is checking free?"""
    slow, *_, fast = sorted(checks, key=lambda name: -checks[name][1].p50)
    found = {name: ratio(checks[name][tokens], checks[name][1]) for name in (slow, fast)}
    text = (
        f"Reading {tokens} tokens takes {spread(found[slow], '.2f')} times as long as one in {slow}, and "
        f"{spread(found[fast], '.2f')} times in {fast}. "
    )
    if found[fast][1] > found[slow][2]:
        text += (
            "A small file is read fast, so arithmetic shows: **the faster the target, the dearer the "
            "check.** Quantization and speculation both live on the time that reading weights takes, and "
            "that time can be saved only once."
        )
    return Markdown(text)


def read_formula(
    told: Mapping[str, Mapping[int, Sequence[Told]]], plain: Sequence[Told], costs: Mapping[str, Costs]
) -> Markdown:
    """How far from what was measured is the formula, and which drafts pay?"""
    off = {}
    for name, by_length in told.items():
        for n, answers in by_length.items():
            c = costs[name]
            expected = speedup(acceptance(answers), n, c.guess_ms(n), c.target_ms)
            off[f"{name}, {n} guesses"] = expected / gain(plain, answers)[0] - 1
    worst = max(off, key=lambda n: abs(off[n]))
    near = sum(abs(v) <= CLOSE for v in off.values())
    pays = [
        name for name, by_length in told.items() if max(gain(plain, t)[1] for t in by_length.values()) > 1
    ]
    return Markdown(
        f"With measured costs the formula is within 15% in {near} of {len(off)} cases; it is farthest off "
        f"with {worst} ({off[worst]:+.0%}). It takes one acceptance for all places and all texts. Drafts "
        f"that pay here: {', '.join(pays) or 'none'}."
    )


def read_precision(told: Mapping[str, Mapping[str, Sequence[Told]]]) -> Markdown:
    """Do quantization and speculation pay together?"""
    lines, plain = [], {p: tokens_per_s(ways["plain"]) for p, ways in told.items()}
    best = {}
    for precision, ways in told.items():
        way = max((w for w in ways if w != "plain"), key=lambda w: tokens_per_s(ways[w]))
        best[precision] = tokens_per_s(ways[way])
        lines.append(f"{precision} {spread(gain(ways['plain'], ways[way]), '.2f')} ({way})")
    first, last = next(iter(plain)), max(best, key=lambda p: best[p])
    return Markdown(
        f"Best gain: {'; '.join(lines)}. Quantization alone makes {plain[last] / plain[first]:.1f} times "
        f"the speed of {first}; both together {best[last] / plain[first]:.1f} times ({last}). The product "
        f"of the two gains would be {plain[last] / plain[first] * best[first] / plain[first]:.1f}."
    )


def larger(before: tuple[float, float, float], after: tuple[float, float, float]) -> str:
    """Is a gain larger or smaller than another, given with their intervals?"""
    if after[1] > before[2]:
        return "larger"
    return "smaller" if after[2] < before[1] else "the same"


def read_first(told: Mapping[str, Sequence[Told]]) -> Markdown:
    """What does a draft cost before the first token?"""
    plain = median(t.first_ms for t in told["plain"])
    more = {n: median(t.first_ms for t in answers) - plain for n, answers in told.items() if n != "plain"}
    return Markdown(
        f"Before the first token a draft only costs, since it reads the prompt, too. The target alone needs "
        f"{plain:.0f} ms; with a draft it takes longer by "
        + ", ".join(f"{max(v, 0):.0f} ms ({n})" for n, v in more.items())
        + "."
    )


def read_worst(cases: Mapping[str, tuple[Sequence[Told], Sequence[Told]]]) -> Markdown:
    """How bad does the adaptive rule get?"""
    gains = {name: gain(*pair) for name, pair in cases.items()}
    worst, best = min(gains, key=lambda n: gains[n][0]), max(gains, key=lambda n: gains[n][0])
    return Markdown(
        f"With an adaptive number the worst case here is {worst}: {spread(gains[worst], '.2f')} times plain "
        f"decoding. The best is {best}: {spread(gains[best], '.2f')}."
    )


def read_rtt(measured: Mapping[float, Sequence[Told]], one_ms: float) -> Markdown:
    """At which round trip is it still worth it?"""
    pays = [rtt for rtt, told in measured.items() if tokens_per_s(told) > 1000 / one_ms]
    told = f"up to {max(pays):.0f} ms" if pays else "at none of them"
    rest = ", ".join(f"{rtt:.0f} ms: {tokens_per_s(t):.0f}" for rtt, t in measured.items())
    return Markdown(
        f"Of the round trips that we tried it pays {told} (tokens/s at {rest}; the cloud alone "
        f"{1000 / one_ms:.0f}). The cloud alone pays the round trip once, since it streams; a draft on the "
        "device pays it every round. What the cloud saves either way is work: it is called once for several "
        "tokens."
    )
