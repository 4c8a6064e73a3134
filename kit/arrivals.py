"""When requests come: independently, in bursts, or as somebody recorded them.

The load generator, the simulator and the gateway share these. Times are in seconds, sorted, and the first
is at 0.

Recorded traces are data of other people and no part of this repository. `trace` looks for them in the folder
that the environment variable ``KIT_DATA_DIR`` names, then among what `download` fetched.
"""

from __future__ import annotations

import csv
import hashlib
import os
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kit import artifacts


def poisson(rate_per_s: float, n: int, seed: int = 0) -> np.ndarray:
    """Times of ``n`` requests that come independently of each other, in seconds, [n]."""
    return gamma(rate_per_s, n, 1.0, seed)


def gamma(rate_per_s: float, n: int, cv: float, seed: int = 0) -> np.ndarray:
    """Times of ``n`` requests with gamma gaps, [n]: ``cv`` 1 is Poisson, larger comes in bursts.

    Args:
        rate_per_s: requests per second.
        n: how many.
        cv: standard deviation of a gap divided by its mean (coefficient of variation).
        seed: of the draw.

    Raises:
        ValueError: a rate, a number or a coefficient that is not above 0.
    """
    if not rate_per_s > 0 or not cv > 0 or n < 1:
        raise ValueError(f"rate, cv and number must be above 0, got {rate_per_s}, {cv} and {n}.")
    shape = 1 / cv**2
    gaps = np.random.default_rng(seed).gamma(shape, 1 / (rate_per_s * shape), n)
    return np.cumsum(gaps) - gaps[0]


def recorded(path: Path, n: int, faster: float = 1.0) -> np.ndarray:
    """Times of the first ``n`` requests of a recorded trace, [n]; its first column is time or date.

    Args:
        path: CSV file with a header.
        n: how many.
        faster: so many times as fast as recorded.

    Raises:
        ValueError: the file has fewer rows, or no times.
    """
    with path.open(encoding="utf-8", newline="") as f:
        rows = csv.reader(f)
        next(rows, None)
        texts = [row[0] for row, _ in zip(rows, range(n), strict=False)]
    if len(texts) < n:
        raise ValueError(f"{path}: {n} requests are asked for, it has {len(texts)}.")
    times = _seconds(texts, path)
    return (times - times[0]) / faster


def _seconds(texts: Sequence[str], path: Path) -> np.ndarray:
    """Numbers as they are; dates as seconds since the first."""
    try:
        return np.array([float(t) for t in texts])
    except ValueError:
        try:
            stamps = np.array([t.strip().replace(" ", "T") for t in texts], dtype="datetime64[ns]")
        except ValueError:
            raise ValueError(f"{path}: the first column must be seconds or a date and time.") from None
        return (stamps - stamps[0]) / np.timedelta64(1, "s")


@dataclass(frozen=True)
class Source:
    """Where a trace can be had, and how to know that it is the right one."""

    file: str
    url: str
    sha256: str


TRACES = {
    "azure_llm_2023_conversation": Source(
        "AzureLLMInferenceTrace_conv.csv",
        "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data/AzureLLMInferenceTrace_conv.csv",
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
    )
}
"""Recorded traces by the id of their row in ``datasets/workloads.csv``."""


@dataclass(frozen=True)
class Trace:
    """Requests to a language model, as somebody recorded them.

    Attributes:
        times_s: when they came [n]. ``prompt_tokens``, ``output_tokens``: how long they were [n].
    """

    times_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray


def find(name: str) -> Path | None:
    """The file of a trace if it is here; else None.

    Raises:
        ValueError: no such trace, or a file of that name that holds something else.
    """
    if name not in TRACES:
        raise ValueError(f"no trace is called {name!r}; there are: {', '.join(TRACES)}.")
    source = TRACES[name]
    for folder in (os.environ.get("KIT_DATA_DIR"), artifacts.home() / "data"):
        if folder and (path := Path(folder) / source.file).is_file():
            _verify(path.read_bytes(), source, str(path))
            return path
    return None


def download(name: str) -> Path:
    """Fetch a trace from where it is published, once, and check it.

    Raises:
        ValueError: it is not what it should be. OSError: no network.
    """
    if path := find(name):
        return path
    source = TRACES[name]
    with urllib.request.urlopen(source.url, timeout=60) as answer:
        content = answer.read()
    _verify(content, source, source.url)
    path = artifacts.home() / "data" / source.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _verify(content: bytes, source: Source, where: str) -> None:
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise ValueError(
            f"{where} is not the file that the kit knows (its SHA-256 differs): delete it, or name another "
            "folder in KIT_DATA_DIR."
        )


def trace(name: str) -> Trace | None:
    """A recorded trace of requests; None if it is not on this machine (`download` fetches it)."""
    path = find(name)
    return None if path is None else _read(path)


@cache
def _read(path: Path) -> Trace:
    with path.open(encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f))[1:]
    tokens = np.array([row[1:3] for row in rows], dtype=np.int64)
    times = _seconds([row[0] for row in rows], path)
    return Trace(times - times[0], tokens[:, 0], tokens[:, 1])
