"""The one table of requests: what was asked, when it was answered, by whom, at what cost.

The load generator, the simulator and the gateway all write it, and every report reads it. One row
is one request, after all its attempts. Columns are NumPy arrays; times are seconds on the run's own
clock; a number that does not apply is NaN (a failed request has no last token), a blank text is "".
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

OUTCOMES = ("answered", "failed", "timed_out", "rejected")
"""How a request ends: with an answer; with errors only; later than it is useful; refused at the door."""

TEXT, WHOLE, NUMBER = np.str_, np.int64, np.float64

COLUMNS: dict[str, type] = {
    "id": TEXT,
    "policy": TEXT,
    "scheduled_s": NUMBER,  # when the user asked
    "sent_s": NUMBER,  # when the first attempt left; later than scheduled if the sender was busy
    "first_token_s": NUMBER,  # first token of the answer that was given (a classifier has one token)
    "last_token_s": NUMBER,
    "tokens_in": NUMBER,
    "tokens_out": NUMBER,
    "tier": TEXT,  # who answered
    "model": TEXT,
    "attempts": WHOLE,  # how many times somebody was asked; 0 if it was refused at the door
    "outcome": TEXT,  # one of OUTCOMES
    "cost_usd": NUMBER,  # of all attempts together, the failed ones too
    "energy_j": NUMBER,
}
_REQUIRED = ("id", "scheduled_s", "outcome")
_IN_ORDER = ("scheduled_s", "sent_s", "first_token_s", "last_token_s")


class RecordsError(ValueError):
    """A table of requests that cannot be; the message says where and what was expected."""


@dataclass(frozen=True)
class SLO:
    """A service level objective: what one request must keep to count as good. None: no demand.

    Attributes:
        ttft_ms: time to first token at most.
        tpot_ms: time per output token, after the first, at most.
        e2e_ms: time to the last token at most.
    """

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


@dataclass(frozen=True)
class Summary:
    """A run in the field's words. Times count answered requests only; NaN where there are none.

    Attributes:
        requests: all of them. ``answered``: those that ended with an answer.
        availability: answered / requests.
        ttft_*: time to first token, **from when it was scheduled**: a sender that falls behind must
            not hide the wait (Tene, "How NOT to measure latency", 2015).
        tpot_*: time per output token of a request: (last - first) / (tokens_out - 1).
        itl_mean_ms: inter-token latency: the mean gap between tokens, over all gaps of the run.
        e2e_*: end to end, from scheduled to the last token.
        jitter_ms: mean change of e2e from one answered request to the next.
        duration_s: from the first scheduled request to the last event.
        throughput_rps, throughput_tps: answered requests, and their output tokens, per second.
        slo_attainment: part of all requests that were answered within the SLO.
        goodput_rps: such requests per second (Zhong et al., "DistServe", OSDI 2024).
        cost_usd_per_request: everything paid, failures too, per answered request.
        cost_usd_per_mtok: everything paid per million output tokens of answers.
        energy_j_per_token: all energy per output token of answers.
    """

    requests: int
    answered: int
    availability: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    tpot_p95_ms: float
    tpot_p99_ms: float
    itl_mean_ms: float
    e2e_p50_ms: float
    e2e_p95_ms: float
    e2e_p99_ms: float
    jitter_ms: float
    duration_s: float
    throughput_rps: float
    throughput_tps: float
    slo_attainment: float
    goodput_rps: float
    cost_usd_per_request: float
    cost_usd_per_mtok: float
    energy_j_per_token: float

    def as_row(self) -> dict[str, float]:
        """The summary as a row for `kit.plots.table`."""
        return asdict(self)


def percentile(values: np.ndarray, q: float) -> float:
    """The ``q``-th percentile (0 to 100) of the values that are not NaN; NaN if there are none."""
    known = values[~np.isnan(values)]
    return float(np.percentile(known, q)) if len(known) else float("nan")


def _divide(a: float, b: float) -> float:
    return float(a / b) if b > 0 else float("nan")


def _total(values: np.ndarray) -> float:
    """The sum of what is known; NaN if nothing is."""
    return float(np.nansum(values)) if np.any(~np.isnan(values)) else float("nan")


@dataclass(frozen=True)
class Records:
    """A table of requests: ``records["ttft_ms"]`` and every name in `COLUMNS` give an array [n].

    Raises:
        RecordsError: a column is missing, unknown, too long or too short, or a row cannot be.
    """

    columns: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        missing, extra = set(COLUMNS) - set(self.columns), set(self.columns) - set(COLUMNS)
        if missing or extra:
            raise RecordsError(
                f"the columns must be {', '.join(COLUMNS)}. "
                f"Missing: {', '.join(sorted(missing)) or 'none'}. "
                f"Not expected: {', '.join(sorted(extra)) or 'none'}."
            )
        columns = {name: np.asarray(self.columns[name], dtype=kind) for name, kind in COLUMNS.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise RecordsError(f"all columns must have the same length, got {lengths}.")
        object.__setattr__(self, "columns", columns)
        self._check_rows()

    def _check_rows(self) -> None:
        outcome = self.columns["outcome"]
        self._refuse(~np.isin(outcome, OUTCOMES), "outcome", f"expected one of {', '.join(OUTCOMES)}")
        self._refuse(np.isnan(self["scheduled_s"]), "scheduled_s", "every request is scheduled at some time")
        for name in ("first_token_s", "last_token_s"):
            self._refuse(np.isnan(self[name]) & (outcome == "answered"), name, "an answer has this time")
        latest = self["scheduled_s"]
        for name in _IN_ORDER[1:]:
            early = self[name] < latest  # False where the time is NaN
            self._refuse(early, name, f"times must follow the order {' <= '.join(_IN_ORDER)}")
            latest = np.fmax(latest, self[name])
        for name in ("tokens_in", "tokens_out", "attempts", "cost_usd", "energy_j"):
            self._refuse(self[name] < 0, name, "expected a number >= 0")

    def _refuse(self, bad: np.ndarray, column: str, expected: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise RecordsError(
                f"row {row + 1} (id {str(self['id'][row])!r}), column {column}: "
                f"{self[column][row]}: {expected}."
            )

    def __len__(self) -> int:
        return len(self.columns["id"])

    def __getitem__(self, name: str) -> np.ndarray:
        """A column, or one of the derived ``ttft_ms``, ``tpot_ms`` and ``e2e_ms`` (NaN: does not apply)."""
        if name in self.columns:
            return self.columns[name]
        if name == "ttft_ms":
            return (self["first_token_s"] - self["scheduled_s"]) * 1e3
        if name == "e2e_ms":
            return (self["last_token_s"] - self["scheduled_s"]) * 1e3
        if name == "tpot_ms":
            gaps = np.where(self["tokens_out"] > 1, self["tokens_out"] - 1, np.nan)
            return (self["last_token_s"] - self["first_token_s"]) * 1e3 / gaps
        raise RecordsError(f"no column is called {name!r}: {', '.join(COLUMNS)}, ttft_ms, tpot_ms, e2e_ms.")

    def where(self, mask: np.ndarray) -> Records:
        """The rows where ``mask`` (bool [n]) is true: ``r.where(r["tier"] == "edge")``."""
        return Records({name: values[mask] for name, values in self.columns.items()})

    def meets(self, slo: SLO) -> np.ndarray:
        """Which requests were answered within ``slo``, bool [n].

        A demand that does not apply is met: an answer of one token has no time per output token.
        """
        good = self["outcome"] == "answered"
        for name, limit_ms in asdict(slo).items():
            if limit_ms is not None:
                good = good & ~(self[name] > limit_ms)
        return good

    def summary(self, slo: SLO | None = None) -> Summary:
        """Put the run in the field's words. Without an ``slo``, attainment and goodput are NaN."""
        done = self.where(self["outcome"] == "answered")
        n, answered = len(self), len(done)
        times = np.concatenate([self[name] for name in _IN_ORDER])
        duration_s = float(np.nanmax(times) - self["scheduled_s"].min()) if n else float("nan")
        gaps = np.where(done["tokens_out"] > 1, done["tokens_out"] - 1, 0)
        in_gaps_s = (done["last_token_s"] - done["first_token_s"])[gaps > 0]
        in_order = done["e2e_ms"][np.argsort(done["scheduled_s"], kind="stable")]
        good = float("nan") if slo is None else float(self.meets(slo).sum())
        cost_usd, tokens_out = _total(self["cost_usd"]), float(np.nansum(done["tokens_out"]))
        return Summary(
            requests=n,
            answered=answered,
            availability=_divide(answered, n),
            ttft_p50_ms=percentile(done["ttft_ms"], 50),
            ttft_p95_ms=percentile(done["ttft_ms"], 95),
            ttft_p99_ms=percentile(done["ttft_ms"], 99),
            tpot_p50_ms=percentile(done["tpot_ms"], 50),
            tpot_p95_ms=percentile(done["tpot_ms"], 95),
            tpot_p99_ms=percentile(done["tpot_ms"], 99),
            itl_mean_ms=_divide(in_gaps_s.sum() * 1e3, gaps.sum()),
            e2e_p50_ms=percentile(done["e2e_ms"], 50),
            e2e_p95_ms=percentile(done["e2e_ms"], 95),
            e2e_p99_ms=percentile(done["e2e_ms"], 99),
            jitter_ms=float(np.abs(np.diff(in_order)).mean()) if answered > 1 else float("nan"),
            duration_s=duration_s,
            throughput_rps=_divide(answered, duration_s),
            throughput_tps=_divide(tokens_out, duration_s),
            slo_attainment=_divide(good, n),
            goodput_rps=_divide(good, duration_s),
            cost_usd_per_request=_divide(cost_usd, answered),
            cost_usd_per_mtok=_divide(cost_usd * 1e6, tokens_out),
            energy_j_per_token=_divide(_total(self["energy_j"]), tokens_out),
        )

    def to_csv(self, file: Path) -> None:
        """Write the table as CSV (UTF-8). NaN becomes a blank; no digit is lost."""
        texts = [_texts(self.columns[name]) for name in COLUMNS]
        with file.open("w", encoding="utf-8", newline="") as f:
            writer = csv.writer(f)
            writer.writerow(COLUMNS)
            writer.writerows(zip(*texts, strict=True))


def _texts(values: np.ndarray) -> list[str]:
    return ["" if value != value else str(value) for value in values.tolist()]


class Builder:
    """Collects requests one by one: ``builder.append(id="1", ...)``, at the end ``builder.build()``."""

    def __init__(self) -> None:
        self._values: dict[str, list[Any]] = {name: [] for name in COLUMNS}

    def append(self, **row: Any) -> None:
        """Add one request. ``id``, ``scheduled_s`` and ``outcome`` are needed.

        What is left out does not apply: NaN for numbers, "" for texts, 1 for ``attempts``.

        Raises:
            RecordsError: a needed column is missing, or a column is not known.
        """
        missing, extra = set(_REQUIRED) - set(row), set(row) - set(COLUMNS)
        if missing or extra:
            raise RecordsError(
                f"a request needs {', '.join(_REQUIRED)} and may have: "
                f"{', '.join(name for name in COLUMNS if name not in _REQUIRED)}. "
                f"Missing: {', '.join(sorted(missing)) or 'none'}. "
                f"Not expected: {', '.join(sorted(extra)) or 'none'}."
            )
        blank = {TEXT: "", WHOLE: 1, NUMBER: np.nan}
        for name, kind in COLUMNS.items():
            self._values[name].append(row.get(name, blank[kind]))

    def build(self) -> Records:
        """The table of what was appended so far."""
        return Records({name: np.array(v, dtype=COLUMNS[name]) for name, v in self._values.items()})


def concat(tables: Iterable[Records]) -> Records:
    """All rows of all tables, in order."""
    tables = list(tables)
    if not tables:
        return Builder().build()
    return Records({name: np.concatenate([t.columns[name] for t in tables]) for name in COLUMNS})


def _parse(text: str, kind: type, column: str, where: str) -> Any:
    if kind is TEXT:
        return text
    if kind is NUMBER and not text:
        return np.nan
    try:
        return int(text) if kind is WHOLE else float(text)
    except ValueError:
        expected = "a whole number" if kind is WHOLE else "a number, or a blank if it does not apply"
        raise RecordsError(f"{where}, column {column}: found {text!r}, expected {expected}.") from None


def from_csv(file: Path) -> Records:
    """Read a table that `Records.to_csv` wrote.

    Raises:
        RecordsError: the message says file, line, column, what stands there and what was expected.
    """
    with file.open(encoding="utf-8-sig", newline="") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        if sorted(header) != sorted(COLUMNS):
            missing, extra = set(COLUMNS) - set(header), set(header) - set(COLUMNS)
            raise RecordsError(
                f"{file.name}, line 1: the columns must be {', '.join(COLUMNS)}, each once. "
                f"Missing: {', '.join(sorted(missing)) or 'none'}. "
                f"Not expected: {', '.join(sorted(extra)) or 'none'}."
            )
        values: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for cells in reader:
            where = f"{file.name}, line {reader.line_num}"
            if len(cells) != len(header):
                raise RecordsError(f"{where}: {len(cells)} cells, expected {len(header)}.")
            for column, text in zip(header, cells, strict=True):
                values[column].append(_parse(text, COLUMNS[column], column, where))
    try:
        return Records({name: np.array(v, dtype=COLUMNS[name]) for name, v in values.items()})
    except RecordsError as e:
        raise RecordsError(f"{file.name}, {e}") from None
