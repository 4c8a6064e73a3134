"""Figures about devices, networks, prices and workloads, each with its unit, its source and its date.

``devices()["jetson-orin-nano-8gb"].bandwidth_gb_s`` is 68. The figures stand in ``datasets/*.csv``;
``datasets/facts.md`` describes them. A blank cell is unknown, which is not zero: it becomes None.
A figure that nobody could find a source for has a source that begins with ASSUMPTION.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from kit import artifacts

ASSUMPTION = "ASSUMPTION"


class FactError(ValueError):
    """A figure cannot be had; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What every figure carries: an id, when it was true, where it is from, and what to beware of."""

    id: str
    date: str
    source: str
    note: str | None

    @property
    def is_assumption(self) -> bool:
        """True if no source was found and somebody had to guess."""
        return self.source.startswith(ASSUMPTION)


@dataclass(frozen=True, kw_only=True)
class Device(Fact):
    """A machine that can run a model. Rates are nominal: what the vendor prints, not what you get.

    Never use ``int8_tops_sparse`` for decoding: writing a token is bound by ``bandwidth_gb_s``
    divided by the bytes of weights that are read for it.
    """

    device: str
    tier: str
    int8_tops_sparse: float | None
    int8_tops_dense: float | None
    fp16_tflops_dense: float | None
    fp32_tflops: float | None
    memory_gb: float | None
    bandwidth_gb_s: float | None
    power_w_min: float | None
    power_w_max: float | None
    price_usd: float | None


@dataclass(frozen=True, kw_only=True)
class Network(Fact):
    """A link between a user and a model: round-trip times, bandwidth in both directions, loss.

    ``mean_abs_change_ms`` is the jitter: the mean change of the round trip from one to the next.
    """

    kind: str
    rtt_p1_ms: float | None
    rtt_p5_ms: float | None
    rtt_p25_ms: float | None
    rtt_p50_ms: float | None
    rtt_p75_ms: float | None
    rtt_p95_ms: float | None
    rtt_p99_ms: float | None
    rtt_max_ms: float | None
    mean_abs_change_ms: float | None
    samples: int | None
    bandwidth_down_mbps: float | None
    bandwidth_up_mbps: float | None
    loss_percent: float | None

    def quantiles(self) -> tuple[np.ndarray, np.ndarray]:
        """The known round-trip quantiles: levels in [0, 1] (1 is the maximum), and times in ms."""
        known = {
            0.01: self.rtt_p1_ms,
            0.05: self.rtt_p5_ms,
            0.25: self.rtt_p25_ms,
            0.50: self.rtt_p50_ms,
            0.75: self.rtt_p75_ms,
            0.95: self.rtt_p95_ms,
            0.99: self.rtt_p99_ms,
            1.00: self.rtt_max_ms,
        }
        pairs = [(level, rtt_ms) for level, rtt_ms in known.items() if rtt_ms is not None]
        return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw ``n`` independent round-trip times in ms, shape [n].

        With three known quantiles or more it inverts the distribution function, drawn as straight
        lines between them. Nothing is invented beyond them: a draw below the lowest or above the
        highest known quantile takes its value, so a row that ends at P99 has no worse case than
        that. With fewer, every draw is the median: **such a network has no jitter and no tail**,
        because nobody told us about them.

        Raises:
            FactError: the row has neither three quantiles nor a median.
        """
        levels, rtt_ms = self.quantiles()
        if len(levels) >= 3:
            return np.interp(rng.random(n), levels, rtt_ms)
        if self.rtt_p50_ms is None:
            raise FactError(
                f"network {self.id!r} has no round-trip times to draw from: its row knows bandwidth or loss "
                "only. Choose a network with rtt_p50_ms."
            )
        return np.full(n, self.rtt_p50_ms)


@dataclass(frozen=True, kw_only=True)
class Price(Fact):
    """What something costs, or another figure with a unit of its own: ``value`` is in ``unit``."""

    item: str
    value: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Workload(Fact):
    """A recorded stream of requests. Prompts and outputs are in tokens.

    ``interarrival_cv`` is the standard deviation of the time between arrivals over its mean: 1 for
    a Poisson process, more for bursts.
    """

    requests: int
    duration_s: float
    rate_per_s: float
    interarrival_cv: float
    prompt_p5: float
    prompt_p25: float
    prompt_p50: float
    prompt_p75: float
    prompt_p95: float
    prompt_p99: float
    output_p5: float
    output_p25: float
    output_p50: float
    output_p75: float
    output_p95: float
    output_p99: float


@dataclass(frozen=True, kw_only=True)
class LLM(Fact):
    """Shape of a language model: enough to say what it weighs and how large its KV cache is."""

    model: str
    parameters: float
    layers: int
    kv_heads: int
    head_size: int
    context: int


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What people say about edge and cloud, and the chapter that tests it. Not a fact until then."""

    id: str
    claim: str
    figure: str
    chapter: str


T = TypeVar("T")


class Table(dict[str, T]):
    """Rows by id. An unknown id says which ids are near."""

    def __init__(self, what: str, rows: dict[str, T]) -> None:
        super().__init__(rows)
        self.what = what

    def __missing__(self, key: str) -> T:
        near = difflib.get_close_matches(str(key), self, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(sorted(self))}."
        raise FactError(f"no {self.what} has the id {key!r}. {hint}")


def _cell(text: str, kind: Any) -> Any:
    """One cell as ``kind``: str, int or float, or one of them or None (then a blank is None).

    Raises:
        ValueError: the message is what was expected.
    """
    text = text.strip()
    options = getattr(kind, "__args__", (kind,))
    if not text:
        if type(None) in options:
            return None
        raise ValueError("a value: only a column that may be unknown can be blank")
    base = options[0]
    try:
        value = base(text)
    except ValueError:
        name = {int: "a whole number", float: "a number"}[base]
        raise ValueError(f"{name} without unit or thousands separator, or a blank for unknown") from None
    if base is not str and not 0 <= value < float("inf"):
        raise ValueError("a number >= 0")
    return value


def load(file: Path, row_type: type[T], renamed: dict[str, str] | None = None) -> Table[T]:
    """Read a CSV file whose columns are the fields of ``row_type``, in any order.

    Args:
        file: the CSV file (UTF-8, first line holds the column names).
        row_type: a dataclass with a field ``id``.
        renamed: column name in the file -> field name, where they differ.

    Raises:
        FactError: the file is missing or malformed; the message says file, line, column, what stands
            there and what was expected.
    """
    kinds = get_type_hints(row_type)
    expected = {f.name for f in fields(row_type)}  # type: ignore[arg-type]
    try:
        lines = file.read_text("utf-8-sig").splitlines(keepends=True)
    except OSError as e:
        raise FactError(f"cannot read {file.name} in {file.parent} ({e.strerror}).") from e
    except UnicodeDecodeError as e:
        raise FactError(f"{file.name} is not UTF-8: save it as 'CSV UTF-8' in your spreadsheet.") from e
    reader = csv.reader(lines, strict=True)
    header = [(renamed or {}).get(column, column) for column in next(reader, [])]
    if set(header) != expected or len(header) != len(expected):
        missing, extra = sorted(expected - set(header)), sorted(set(header) - expected)
        raise FactError(
            f"{file.name}, line 1: the columns must be {', '.join(sorted(expected))}, each once. "
            f"Missing: {', '.join(missing) or 'none'}. Not expected: {', '.join(extra) or 'none'}."
        )
    rows: dict[str, T] = {}
    try:
        for cells in reader:
            where = f"{file.name}, line {reader.line_num}"
            if len(cells) != len(header):
                raise FactError(
                    f"{where}: {len(cells)} cells, expected {len(header)}. "
                    'A text with a comma must stand in quotation marks: "like, this".'
                )
            values = {}
            for column, text in zip(header, cells, strict=True):
                try:
                    values[column] = _cell(text, kinds[column])
                except ValueError as e:
                    raise FactError(f"{where}, column {column}: found {text!r}, expected {e}.") from None
            if values["id"] in rows:
                raise FactError(
                    f"{where}, column id: {values['id']!r} stands in an earlier line too; ids are unique."
                )
            rows[values["id"]] = row_type(**values)
    except csv.Error as e:
        raise FactError(f"{file.name}, line {reader.line_num}: not valid CSV ({e}).") from e
    return Table(row_type.__name__.lower(), rows)


@cache
def devices() -> Table[Device]:
    """Machines by id, from ``datasets/devices.csv``."""
    return load(artifacts.DATASETS / "devices.csv", Device)


@cache
def networks() -> Table[Network]:
    """Links by id, from ``datasets/networks.csv``."""
    return load(artifacts.DATASETS / "networks.csv", Network)


@cache
def prices() -> Table[Price]:
    """Prices and other single figures by id, from ``datasets/prices.csv``."""
    return load(artifacts.DATASETS / "prices.csv", Price)


@cache
def workloads() -> Table[Workload]:
    """Recorded streams of requests by id, from ``datasets/workloads.csv``."""
    return load(artifacts.DATASETS / "workloads.csv", Workload, renamed={"workload": "id"})


@cache
def llms() -> Table[LLM]:
    """Language models by id, from ``datasets/llms.csv``."""
    return load(artifacts.DATASETS / "llms.csv", LLM)


@cache
def claims() -> Table[Claim]:
    """Claims to test by id (``"C07"``), from ``datasets/claims.csv``."""
    return load(artifacts.DATASETS / "claims.csv", Claim)
