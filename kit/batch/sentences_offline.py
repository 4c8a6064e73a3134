"""Sentences about offline answers, cold starts, caches and precomputing; as ``sentences``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from IPython.core.display import Markdown

from kit.batch import hot
from kit.batch.offline import Offline
from kit.plots import number

RAY = "Ray, a worker a core"


def read_offline(found: Mapping[str, Offline], size: int) -> Markdown:
    """What batches and buckets bring."""
    one, order, length = list(found.values())[:3]
    same = all((job.answers == order.answers[: job.sentences]).all() for job in found.values())
    return Markdown(
        f"In batches of {size} in the order of arrival: {order.per_second / one.per_second:.1f} times as "
        f"many sentences per second, though {order.padding:.0%} of what was read is padding. With sentences "
        f"of like length together padding is {length.padding:.0%}, and it is "
        f"{length.per_second / one.per_second:.1f} "
        f"times. {'All ways gave the same answers.' if same else 'Some answers differ: near ties.'}"
    )


def read_ray(found: Mapping[str, Offline]) -> Markdown:
    """Ray against the last way before it: one process on the same machine."""
    if RAY not in found:
        return Markdown("Ray is not installed here, so its row is missing; `pip install ray` adds it.")
    ray, best = found[RAY], list(found.values())[-2]
    part = ray.per_second / best.per_second
    saved_s = 1 / (2 * best.per_second)  # for each sentence, by a second machine like this one
    text = (
        f"Ray needs {number(ray.start_s)} s until its workers stand and to bring the answers back. In "
        f"between it is {part:.2f} times as fast as one process with both cores. "
    )
    if part < 1.2:
        text += "On one machine it brings nothing. It is for several, and for work that takes long: "
    return Markdown(
        text + f"a second machine like this one would earn that start back from about "
        f"{number(ray.start_s / saved_s)} sentences on."
    )


def read_warm(opening_ms: float, times: Mapping[str, np.ndarray]) -> Markdown:
    """What a cold start is made of: opening the file, and first calls."""
    usual = {n: float(np.median(ms[len(ms) // 2 :])) for n, ms in times.items()}
    slow = {n: ms[0] / usual[n] for n, ms in times.items()}
    worst = max(slow, key=lambda n: slow[n])
    text = (
        f"Opening the file takes {number(opening_ms)} ms, as long as "
        f"{opening_ms / min(usual.values()):.0f} usual "
        f"calls with {min(usual, key=lambda n: usual[n])}. The slowest first call, {worst}, takes "
        f"{slow[worst]:.1f} times as long as usual: "
    )
    if slow[worst] > 1.5:
        text += "a new shape needs new memory. So call the model once with every shape before it is ready."
    else:
        text += "here a new shape costs little. On hardware that compiles for each shape it is seconds."
    return Markdown(text)


def read_cache(p: np.ndarray, size: int, lookup_ms: float, model_ms: Mapping[str, float]) -> Markdown:
    """What a cache does to the mean latency of each model."""
    rate = hot.expected_hit_rate(p, size)
    means = {name: lookup_ms + (1 - rate) * ms for name, ms in model_ms.items()}
    told = ", ".join(f"{name} {number(ms)} → {number(means[name])} ms" for name, ms in model_ms.items())
    return Markdown(
        f"A memory of {size:,} of {len(p):,} commands answers {rate:.0%} of the requests; a look-up takes "
        f"{1000 * lookup_ms:.1f} µs. Mean: {told}. The tail does not move: what is not remembered takes as "
        "long as ever."
    )


def read_precompute(p: np.ndarray, live_usd: float, offline_usd: float) -> Markdown:
    """When to answer everything beforehand."""
    even, later = (
        hot.break_even(len(p), live_usd, offline_usd),
        hot.break_even_remembered(p, live_usd, offline_usd),
    )
    return Markdown(
        f"An answer costs {offline_usd / live_usd:.2f} times as much offline as live. So precomputing all "
        f"{len(p):,} pays after {len(p):,} × {offline_usd / live_usd:.2f} = {number(even)} requests; "
        f"compared with a memory that keeps every answer it gave, after {number(later)}, since many "
        "commands are asked again and again and some never."
    )
