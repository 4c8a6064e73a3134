"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import Markdown

from kit.measure import Timing
from kit.plots import number
from kit.records import percentile
from kit.serve.load import Report
from kit.serve.trials import Swap
from kit.serve.wires import Wire


def read_overhead(found: Mapping[str, np.ndarray]) -> Markdown:
    """What does the server add?"""
    more = found["client"] - found["engine"]
    low, high = np.percentile(more, [25, 75])
    part = np.median(more) / np.median(found["client"])
    return Markdown(
        f"The engine needs {np.median(found['engine']):.0f} ms to the first token. The server adds "
        f"**{np.median(more):.1f} ms** (half of the calls between {low:.1f} and {high:.1f}): JSON, checks, "
        f"a thread, "
        f"a socket. That is {part:.0%} of what the client waits for."
    )


def read_load(reports: Mapping[float, Report], closed_ms: np.ndarray) -> Markdown:
    """What does load do to the first token?"""
    rates = sorted(reports)
    low, high = (percentile(reports[r].records["ttft_ms"], 95) for r in (rates[0], rates[-1]))
    tps = reports[rates[-1]].records.summary().throughput_tps
    return Markdown(
        f"From {rates[0]:g} to {rates[-1]:g} requests/s the P95 of the first token goes from {number(low)} "
        f"to "
        f"**{number(high)} ms**, while the server makes {tps:.0f} tokens/s. It would have gone on growing: "
        f"each "
        "request waits for all that came before it. Who asks alone, one request after the other, sees "
        f"{np.median(closed_ms):.0f} ms, since they never ask for more than the server can give. And if a "
        f"tester "
        "sends later because the server was slow, the waits of the requests that were not sent are missing "
        "from "
        "the figures. That is **coordinated omission**; so count from when a request was due."
    )


def busy(reports: Mapping[float, Report]) -> str:
    """What the time to the first token does at the highest rate, as one of the choices of the question."""
    rates = sorted(reports)
    times = reports[rates[-1]].records["ttft_ms"]
    third = len(times) // 3
    if np.nanmedian(times[-third:]) > 1.5 * np.nanmedian(times[:third]):
        return "grows as long as it goes on"
    more = np.nanmedian(times) / np.nanmedian(reports[rates[0]].records["ttft_ms"])
    return "doubles" if more < 2.5 else "triples"


def read_hang_up(found: tuple[float, float]) -> Markdown:
    """Was the row free at once?"""
    running, free_ms = found
    return Markdown(
        f"While the client listened, {running:.0f} answer had a row; {free_ms:.0f} ms after it left, none."
    )


def read_swap(swap: Swap) -> Markdown:
    """Was anybody dropped?"""
    shares = ", ".join(f"{n} by {name}" for name, n in sorted(swap.by.items()))
    during, else_ = (f"{np.median(ms):.0f}" if len(ms) else "–" for ms in (swap.during_ms, swap.else_ms))
    return Markdown(
        f"The new version was there after {swap.took_s:.1f} s. {swap.answered} requests were answered "
        f"({shares}), "
        f"**{swap.failed} failed**. An answer took {else_} ms (median), and {during} ms while the new "
        f"version "
        "was being opened: that takes cores, and memory for both."
    )


def fastest(times: Mapping[str, Timing]) -> str:
    """The protocol with the shortest call, as one of the choices of the question; "no difference" if the next
    protocol's interval reaches it."""
    best = min(times, key=lambda n: times[n].p50)
    protocol = best.split(",")[0]
    others = [t for name, t in times.items() if not name.startswith(protocol)]
    return "no difference" if any(t.ci()[0] <= times[best].ci()[1] for t in others) else protocol


def read_wires(
    wires: Mapping[str, Wire],
    times: Mapping[str, Timing],
    per_s: Mapping[str, tuple[float, float, float]],
    model_ms: float,
) -> Markdown:
    """Does gRPC pay?"""
    quick = min(times, key=lambda n: times[n].p50)
    slow = max(times, key=lambda n: times[n].p50)
    h1, h2 = times["HTTP/1.1, hypercorn"], times["HTTP/2, hypercorn"]
    text = (
        f"The model itself needs {model_ms:.2f} ms. A call takes {times[quick].p50:.2f} ms with {quick} and "
        f"{times[slow].p50:.2f} ms with {slow}. "
    )
    if h2.p50 > h1.p50:
        text += (
            f"With the same server, HTTP/2 takes {h2.p50 / h1.p50:.1f} times as long as HTTP/1.1: its "
            f"frames are "
            "put together in Python here. "
        )
    best = max(per_s, key=lambda n: per_s[n][0])
    small = wires["gRPC"].response_bytes / wires["HTTP/1.1, uvicorn"].response_bytes
    return Markdown(
        text
        + f"With eight callers at once the most calls came through {best}, {per_s[best][0]:.0f} a second "
        f"({per_s[best][1]:.0f} to {per_s[best][2]:.0f} in three runs). gRPC's answers have {small:.0%} of "
        f"the bytes. "
        "Over a network with a round trip of 20 ms all of that would hardly be seen."
    )


def read_trace(events: Sequence[tuple[float, str]]) -> Markdown:
    """When do the lines come?"""
    data = [ms for ms, line in events if line.startswith("data: {")]
    return Markdown(
        f"{len(data)} events with JSON in {data[-1]:.0f} ms, then `[DONE]`. The first tells only who "
        f"speaks, the "
        f"first text came after {data[1]:.0f} ms, and the last event tells the usage. This form is called "
        "*server-sent events* (SSE): lines that begin with `data:`, parted by empty lines."
    )
