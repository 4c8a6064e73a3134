"""The chapter's tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from IPython.core.display import HTML

from kit import plots
from kit.measure import Timing
from kit.plots import spread
from kit.records import SLO
from kit.serve.load import Report
from kit.serve.trials import Refusal
from kit.serve.wires import Wire


def refusals_table(found: Sequence[Refusal]) -> HTML:
    """What bad requests got."""
    return plots.table(
        [{"sent": r.what, "status": r.status, "code": r.code, "message": r.message} for r in found]
    )


def load_table(reports: Mapping[Any, Report], slo: SLO) -> HTML:
    """A line for each rate or stream, in the field's words."""
    rows: list[dict[str, Any]] = []
    for rate, report in reports.items():
        s = report.records.summary(slo)
        rows.append(
            {
                "requests/s": rate if isinstance(rate, str) else f"{rate:g}",
                "answered": f"{s.answered} of {s.requests}",
                "tokens/s": s.throughput_tps,
                "TTFT P50 (ms)": s.ttft_p50_ms,
                "TTFT P95 (ms)": s.ttft_p95_ms,
                "TPOT P50 (ms)": s.tpot_p50_ms,
                "within the SLO (%)": 100 * s.slo_attainment,
                "goodput (requests/s)": s.goodput_rps,
                "own lag, worst (ms)": float(report.lag_ms.max()),
            }
        )
    note = f"SLO: first token within {slo.ttft_ms:.0f} ms, each further one within {slo.tpot_ms:.0f} ms."
    return plots.table(rows, note=note)


def outcomes_table(report: Report) -> HTML:
    """How the requests of a run ended."""
    ends = Counter(
        (str(outcome), seen.status)
        for outcome, seen in zip(report.records["outcome"], report.seen, strict=True)
    )
    return plots.table(
        [
            {"outcome": outcome, "status": status, "requests": n}
            for (outcome, status), n in sorted(ends.items())
        ]
    )


def agreement_table(
    before: Mapping[str, float], after: Mapping[str, float], reports: Sequence[Report]
) -> HTML:
    """What the server counted beside what the load generator saw."""

    def counted(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    def seen(column: str) -> float:
        return float(sum(r.records[column].sum() for r in reports))

    def mean(name: str) -> float:
        return 1000 * counted(f"{name}_sum") / counted(f"{name}_count")

    n = sum(len(r.records) for r in reports)
    pairs = {
        "tokens of prompts": (counted("kit_prompt_tokens_total"), seen("tokens_in")),
        "tokens of answers": (counted("kit_generation_tokens_total"), seen("tokens_out")),
        "mean time to first token (ms)": (mean("kit_time_to_first_token_seconds"), seen("ttft_ms") / n),
        "mean end to end (ms)": (mean("kit_e2e_request_latency_seconds"), seen("e2e_ms") / n),
    }
    return plots.table(
        [
            {"": name, "the server says": a, "seen from outside": b, "off by (%)": 100 * (a / b - 1)}
            for name, (a, b) in pairs.items()
        ]
    )


def wires_table(
    wires: Mapping[str, Wire], times: Mapping[str, Timing], per_s: Mapping[str, tuple[float, float, float]]
) -> HTML:
    """What each wire costs."""
    rows = [
        {
            "wire": name,
            "one call (ms)": spread((times[name].p50, *times[name].ci())),
            "calls/s, 8 at once": spread(per_s[name], ".0f"),
            "request (bytes)": w.request_bytes,
            "answer (bytes)": w.response_bytes,
        }
        for name, w in wires.items()
    ]
    return plots.table(rows, note="Bytes are those of the body, without headers.")
