"""Tables of chapter 11."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from IPython.core.display import HTML

from kit import plots
from kit.plots import number
from kit.route.curves import Bar, Curve
from kit.route.evaluation import Evaluation
from kit.route.figures import AXES, scaled

SHORT = {
    "quality": "right (%)",
    "usd_per_1k": "USD per million",
    "energy_j": "J each",
    "leaks": "leaks (%)",
    "availability": "answered (%)",
    "missed": "too late (%)",
    "shed": "refused (%)",
    "edge_rate": "at the edge (%)",
    "cloud_rate": "cloud asked (%)",
    "escalated": "escalated (%)",
    "fell_back": "fell back (%)",
    "hedged": "hedged (%)",
    "retried": "retried (%)",
    "regret": "regret (%)",
}
MAIN = ("quality", "p50_ms", "p95_ms", "p99_ms", "usd_per_1k", "energy_j", "leaks", "availability")
RATES = ("edge_rate", "cloud_rate", "escalated", "fell_back", "hedged", "retried", "shed", "missed", "regret")


def policies_table(
    evaluation: Evaluation,
    measures: Sequence[str] = MAIN,
    front: Sequence[str] = ("quality", "p95_ms", "usd_per_1k"),
) -> HTML:
    """Policies side by side, the best quality first; who is on the front of quality, P95 and cost."""
    best = evaluation.front(front)
    rows = []
    for name in sorted(evaluation.runs, key=lambda n: -evaluation.value(n, "quality")[0]):
        row: dict[str, object] = {"policy": name}
        for measure in measures:
            row[SHORT.get(measure, AXES[measure][0])] = scaled(evaluation, name, measure)[0]
        rows.append(row | {"front": name in best})
    runs = len(evaluation.seeds)
    said = ", ".join(SHORT.get(m, AXES[m][0]) for m in front)
    return plots.table(rows, note=f"means of {runs} runs. front: none that leaks nothing is better in {said}")


def rates_table(evaluation: Evaluation) -> HTML:
    """Where requests went, and what happened to them on the way."""
    return policies_table(evaluation, RATES)


def days_table(days: Mapping[str, Evaluation], measure: str = "quality", but: Sequence[str] = ()) -> HTML:
    """One measure of every policy on every day, the best on its worst day first."""
    names = [n for n in next(iter(days.values())).runs if n not in but]
    found = {n: {day: scaled(e, n, measure)[0] for day, e in days.items()} for n in names}
    worst = min if measure in ("quality", "availability") else max
    sign = 1 if worst is max else -1
    order = sorted(names, key=lambda n: sign * worst(found[n].values()))
    return plots.table([{"policy": n, **found[n]} for n in order], note=AXES[measure][0])


def differences_table(
    evaluation: Evaluation, against: str, measures: Sequence[str] = ("quality", "p95_ms")
) -> HTML:
    """How much more each policy has than one of them: paired differences with 95% intervals."""
    rows = []
    for name in evaluation.runs:
        if name in (against, "oracle"):
            continue
        row: dict[str, object] = {"policy": name}
        for measure in measures:
            label, factor = AXES[measure]
            middle, low, high = (factor * v for v in evaluation.difference(name, against, measure))
            row[label] = f"{middle:+.3g} ({low:+.3g} to {high:+.3g})" if low == low else f"{middle:+.3g}"
        rows.append(row)
    return plots.table(rows, note=f"more than {against}; an interval that holds 0: no difference was seen")


def bar_table(bars: Mapping[str, Bar]) -> HTML:
    """The cascade on the real models, on the test split; one row for each way to run it."""

    def percent(value: tuple[float, float, float]) -> str:
        return f"{value[0]:.0%} ({value[1]:.0%} to {value[2]:.0%})"

    rows = [
        {
            "home": name,
            "threshold": f"{b.threshold:.3f}",
            "edge (%)": 100 * b.weak,
            "cascade (%)": 100 * b.quality,
            "cloud (%)": 100 * b.strong,
            "gap (points)": f"{b.gap[0]:.1f} ({b.gap[1]:.1f} to {b.gap[2]:.1f})",
            "recovered": percent(b.recovered),
            "calls": percent(b.sent),
        }
        for name, b in bars.items()
    ]
    return plots.table(rows, note="threshold chosen on dev, measured on test; bootstrap over sentences")


def curves_table(curves: Mapping[str, Curve]) -> HTML:
    """The measures of RouteLLM for several routers; calls in percent."""
    rows = [
        {
            "router": name,
            "edge (%)": 100 * c.weak,
            "cloud (%)": 100 * c.strong,
            "APGR": c.apgr,
            "CPT(50%)": f"{number(100 * c.cpt(0.5))}%",
            "CPT(80%)": f"{number(100 * c.cpt(0.8))}%",
            "best (%)": 100 * float(c.quality.max()),
        }
        for name, c in curves.items()
    ]
    return plots.table(rows, note="a random router: APGR 0.5, CPT(50%) 50%, CPT(80%) 80% (Ong et al. 2024)")
