"""One sentence or two per result of chapter 11, computed from it, so that they are true after a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from IPython.core.display import Markdown

from kit.plots import number, spread
from kit.route.candidates import SIMPLE
from kit.route.curves import Bar, Curve
from kit.route.evaluation import BASELINES, MORE_IS_BETTER, Evaluation
from kit.route.figures import AXES


def percent(value: tuple[float, float, float], digits: int = 0) -> str:
    """A part and its interval: ``87% (77 to 96)``; without an interval, the part."""
    middle, low, high = (100 * v for v in value)
    text = f"{middle:.{digits}f}%"
    return text if low != low or low == high else f"{text} ({low:.{digits}f} to {high:.{digits}f})"


def names(found: Sequence[str]) -> str:
    """``a, b and c``"""
    found = [name.replace("_", "-") for name in found]
    return ", ".join(found[:-1]) + f" and {found[-1]}" if len(found) > 1 else "".join(found)


def read_bar(bar: Bar) -> Markdown:
    """Is the cascade worth it on sentences that nobody tuned it on?"""
    text = (
        f"Threshold {bar.threshold:.3f}, chosen on dev. On test the edge alone is right in {bar.weak:.1%}, "
        f"the cloud alone in {bar.strong:.1%}, the cascade in {bar.quality:.1%}: it recovers "
        f"{percent(bar.recovered)} of a gap of {spread(bar.gap, '.1f')} points with {percent(bar.sent)} of "
        "the calls. "
    )
    text += "That passes the bar" if bar.kept else "That does not pass the bar"
    text += " (a gap of 5 points, 80% of it recovered, half of the calls)"
    if bar.kept and bar.recovered[1] < 0.8:
        text += f"; with other sentences of the same kind it might be {bar.recovered[1]:.0%}"
    return Markdown(f"{text}. Who always knew whom to ask would have {bar.bound:.1%}.")


def read_curve(curves: Mapping[str, Curve]) -> Markdown:
    """What a router is worth, in RouteLLM's measures."""
    said = [
        f"{name}: APGR {c.apgr:.2f}, half of the gap with {c.cpt(0.5):.0%} of the calls, 80% with "
        f"{c.cpt(0.8):.0%}"
        for name, c in curves.items()
    ]
    text = f"{'; '.join(said)}. A router that knows nothing needs 50% and 80%, and has an APGR of 0.50."
    beyond = [n for n, c in curves.items() if c.quality.max() > c.strong + 1e-9]
    if beyond:
        text += (
            f" With {names(beyond)} both together are better than the cloud alone, at the right threshold."
        )
    return Markdown(text[0].upper() + text[1:])


def read_front(evaluation: Evaluation) -> Markdown:
    """Who is worth choosing, and how far the best is from the bound."""
    best = evaluation.front()
    clean = [n for n in best if n not in BASELINES]
    top = max(best, key=lambda n: evaluation.value(n, "quality")[0])
    out = [n for n in evaluation.runs if n not in best and n != "oracle"]
    leaks = [n for n in out if evaluation.value(n, "leaks")[0] > 0]
    text = f"On the front of quality, P95 and cost: {names(best)}. "
    if leaks:
        text += f"{names(leaks).capitalize()} send what must not leave the home, so they do not count. "
    regret = evaluation.value(top, "regret")
    quality = percent(evaluation.value(top, "quality"), 1)
    text += f"{top.capitalize()} has the highest quality of these, {quality}; "
    text += f"the oracle answers {percent(regret, 1)} more of all requests right"
    if not clean:
        text += ". No router is on it: a baseline does as well"
    return Markdown(text + ".")


def simpler_wins(evaluation: Evaluation, measure: str = "quality") -> dict[str, list[str]]:
    """Clever policy -> simple ones that are surely as good in quality, and surely better in one measure.

    Sure is what a paired 95% interval does not contradict: not worse in quality by more than a tenth of a
    point, and better in ``measure`` with an interval that leaves out 0. Policies that leak do not count.
    """
    found: dict[str, list[str]] = {}
    clean = [n for n in evaluation.runs if evaluation.value(n, "leaks")[0] == 0 and n != "oracle"]
    sign = 1 if measure in MORE_IS_BETTER else -1
    for clever in (n for n in clean if n not in SIMPLE):
        for simple in (n for n in clean if n in SIMPLE):
            quality = evaluation.difference(simple, clever, "quality")
            gained = evaluation.difference(simple, clever, measure)
            better = gained[1] > 0 if sign > 0 else gained[2] < 0
            if quality[1] > -0.001 and better:
                found.setdefault(clever, []).append(simple)
    return found


def read_simple(evaluation: Evaluation) -> Markdown:
    """Do simple policies beat clever ones, and with how many calls to the cloud?"""
    won = simpler_wins(evaluation)
    clever = [n for n in evaluation.runs if n not in SIMPLE and n != "oracle"]
    if not won:
        return Markdown("Here no simple policy is surely better than a clever one.")
    by: dict[tuple[str, ...], list[str]] = {}
    for name, simple in won.items():
        by.setdefault(tuple(simple), []).append(name)
    said = [
        f"{names(simple)} {'beat' if len(simple) > 1 else 'beats'} {names(beaten)}"
        for simple, beaten in by.items()
    ]
    winners = sorted({n for simple in won.values() for n in simple})
    calls = [
        f"{name.replace('_', '-')} with {evaluation.value(name, 'cloud_rate')[0]:.0%}" for name in winners
    ]
    text = (
        f"**Simple beats clever** in quality for {len(won)} of {len(clever)}, with an interval that leaves "
        f"out zero: {'; '.join(said)} (calls to the cloud: {', '.join(calls)}). "
    )
    same = [n for n in clever if _same(evaluation, n)]
    if same:
        text += f"{names(same).capitalize()} answer as many right as a simple one, to a tenth of a point. "
    return Markdown(
        text
        + f"In P95 {_better(evaluation, won, 'p95_ms')} of these {len(won)} beat the simple ones, in cost "
        f"{_better(evaluation, won, 'usd_per_1k')}. Queues, latencies and prices do not say who is right."
    )


def _better(evaluation: Evaluation, won: Mapping[str, Sequence[str]], measure: str) -> int:
    """How many of the beaten policies have less of ``measure`` than all that beat them in quality."""

    def value(name: str) -> float:
        return evaluation.value(name, measure)[0]

    return sum(value(clever) < min(map(value, simple)) for clever, simple in won.items())


def _same(evaluation: Evaluation, clever: str) -> bool:
    """Is its quality that of a simple policy which leaks nothing?"""
    clean = [n for n in SIMPLE if n in evaluation.runs and evaluation.value(n, "leaks")[0] == 0]
    return any(abs(evaluation.difference(clever, n, "quality")[0]) < 0.001 for n in clean)


def read_difference(evaluation: Evaluation, one: str, other: str, measure: str = "quality") -> Markdown:
    """One policy against another, paired."""
    middle, low, high = evaluation.difference(one, other, measure)
    a, b = evaluation.value(one, measure), evaluation.value(other, measure)
    if low != low:
        return Markdown(f"{one} has {number(middle)} more than {other}; for an interval, use more seeds.")
    apart = (a[2] - a[1]) + (b[2] - b[1])
    label, factor = AXES[measure]
    unit = "points" if factor == 100 else ""
    m, lo, hi = (factor * v for v in (middle, low, high))
    text = f"{one} - {other}, {label}: {m:+.3g} {unit}".strip() + f" ({lo:+.3g} to {hi:+.3g}). "
    text += "The interval leaves out zero. " if low > 0 or high < 0 else "No difference was seen. "
    if apart > 1.2 * (high - low) > 0:
        text += (
            f"Both met the same requests: the interval is {apart / (high - low):.1f} times narrower than "
            "if each had met its own."
        )
    return Markdown(text)


def read_days(days: Mapping[str, Evaluation]) -> Markdown:
    """Who bears a bad day, and what the cloud alone does then."""
    calm = days["calm"]
    policies = [n for n in calm.runs if n != "oracle" and calm.value(n, "leaks")[0] == 0]
    worst = {n: min(e.value(n, "quality")[0] for e in days.values()) for n in policies}
    best = max(worst, key=lambda n: worst[n])
    bad = {day: e.value("always_cloud", "availability")[0] for day, e in days.items() if day != "calm"}
    text = (
        "With the cloud alone, answered are " + ", ".join(f"{v:.0%} ({day})" for day, v in bad.items()) + ". "
    )
    text += f"{best.capitalize()} is best on its worst day: {worst[best]:.1%} right. "
    for day, e in days.items():
        top = max(policies, key=lambda n: e.value(n, "quality")[0])
        text += f"On the {day if 'day' in day else day + ' day'}: {top} ({e.value(top, 'quality')[0]:.1%}). "
    return Markdown(text.strip())


def read_language(evaluation: Evaluation, deaf: str, aware: str) -> Markdown:
    """What an English cloud means for a Chinese home."""
    edge, one, other = (evaluation.value(n, "quality")[0] for n in ("always_edge", deaf, aware))
    cloud = evaluation.value("always_cloud", "quality")[0]
    text = (
        f"The edge reads Chinese and is right in {edge:.1%}; the English cloud in {cloud:.1%}. So {deaf} is "
        f"right in {one:.1%}, {'worse' if one < edge else 'no worse'} than the edge alone: what the edge is "
        f"not sure of goes to somebody who cannot read it. {aware.capitalize()} is right in {other:.1%}"
    )
    return Markdown(text + f" with {evaluation.value(aware, 'cloud_rate')[0]:.0%} of the calls.")


def verdicts(bar: Bar, days: Mapping[str, Evaluation], router: str = "cascade") -> dict[str, tuple[str, str]]:
    """The chapter's claims: id -> (measured, verdict).

    C28 a hybrid beats either alone; C29 simple at the edge and hard in the cloud keeps quality at lower cost;
    C30 service goes on without the network.
    """
    calm, cut = days["calm"], days["outage"]
    over_edge = calm.difference(router, "always_edge", "quality")
    over_cloud = calm.difference(router, "always_cloud", "quality")
    faster = calm.value("always_cloud", "p95_ms")[0] / calm.value(router, "p95_ms")[0]
    cheaper = calm.value(router, "usd_per_1k")[0] / calm.value("always_cloud", "usd_per_1k")[0]
    best = "better than both" if over_edge[1] > 0 and over_cloud[1] > 0 else (
        "better than the edge, not than the cloud" if over_edge[1] > 0 else "not better than the edge"
    )  # fmt: skip
    middle = faster > 1 and cheaper < 1
    alone, both = (cut.value(n, "availability")[0] for n in ("always_cloud", router))
    kept = cut.value(router, "quality")[0] / calm.value(router, "quality")[0]
    return {
        "C28": (
            f"right: {router} {percent(calm.value(router, 'quality'), 1)}, "
            f"edge {calm.value('always_edge', 'quality')[0]:.1%}, "
            f"cloud {calm.value('always_cloud', 'quality')[0]:.1%}; "
            f"its P95 is {faster:.1f} times shorter than the cloud's, at {cheaper:.0%} of the cost",
            f"in quality {best}" + ("; faster and cheaper than the cloud" if middle else ""),
        ),
        "C29": (
            f"{percent(bar.recovered)} of a gap of {bar.gap[0]:.1f} points recovered with "
            f"{percent(bar.sent)} of the calls; in the simulated home at {cheaper:.0%} of the cloud's cost",
            "most of it is kept" if bar.kept else "less is kept than was promised",
        ),
        "C30": (
            f"a third of the time without network: answered {both:.2%} ({router}) against {alone:.0%} "
            f"(cloud alone); of its quality {kept:.0%} is left",
            "service goes on, a little less good" if both > 0.999 else "service goes on for most",
        ),
    }
