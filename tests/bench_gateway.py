"""The gateway against asking the same server directly.

``python tests/bench_gateway.py [--json FILE] [--only PART ...]``

Parts: ``overhead`` (what the gateway adds to a whole answer, and to the first token of a stream; one client,
both ways in turn, the server behind takes 5 ms without work), ``timers`` (how late the proxy passes on what
it delays), ``sim_vs_live`` (three policies at three loads, 5,000 requests each, predicted from runs of their
own; a quarter of an hour; ``--keep`` writes ``datasets/gateway.csv`` anew). Nothing else may run.
"""

import argparse
import json
import time

import httpx
import numpy as np

from kit import serve
from kit.route import against, gateway, processes
from kit.route.replay import Script
from kit.serve.load import Ask, drive
from kit.simulate.scenario import Link

ROUNDS, WARM = 600, 50
MESSAGES = [{"role": "user", "content": "turn off the kitchen lights"}]
SCRIPT = Script(model="m", service_ms=5)


def interval(values):
    """95 % interval of the median, by bootstrap."""
    rng = np.random.default_rng(0)
    medians = [np.median(rng.choice(values, len(values))) for _ in range(2000)]
    return np.percentile(medians, [2.5, 97.5]).round(3).tolist()


def asked_ms(client, url, body):
    """Time of one request, to the end of a whole answer or to the first event of a stream."""
    start = time.perf_counter()
    with client.stream("POST", url + "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, response.read()
        pieces = response.iter_bytes()
        first = next(pieces)
        if body["stream"]:
            took = time.perf_counter() - start
        rest = b"".join(pieces)
        if not body["stream"]:
            took = time.perf_counter() - start
    assert (first + rest).rstrip().endswith(b"[DONE]" if body["stream"] else b"}")
    return 1000 * took


def overhead(figures):
    """Direct and through the gateway in turn; the difference of each pair."""
    with gateway.started(SCRIPT, SCRIPT, policy="always_edge", edge_tier={"speaks": "chat"}) as stack:
        client = httpx.Client(timeout=30)
        for stream, name in ((False, "gateway_overhead_ms"), (True, "gateway_overhead_stream_ms")):
            body = {"model": "m", "messages": MESSAGES, "stream": stream}
            pairs = []
            for i in range(WARM + ROUNDS):
                urls = (stack.edge_url, stack.url) if i % 2 else (stack.url, stack.edge_url)
                took = {url: asked_ms(client, url, body) for url in urls}
                pairs.append((took[stack.edge_url], took[stack.url]))
            direct, through = np.array(pairs[WARM:]).T
            added = through - direct
            what = "first token of a stream" if stream else "whole answer"
            print(
                f"{what}: direct {np.median(direct):.2f} ms, the gateway adds {np.median(added):.2f} ms "
                f"{interval(added)}; P95 of the difference {np.percentile(added, 95):.2f} ms"
            )
            figures[name] = round(float(np.median(added)), 3)
            figures[name + "_interval"] = interval(added)


def timers(figures):
    """A steady load through a link of 20 ms: how much later than due the proxy passes bytes on."""
    replay = processes.replay(SCRIPT)
    proxy = processes.proxy(replay.url + "/v1", {"wan": Link(rtt_ms=20)})
    with processes.ending(proxy, replay):
        asks = [Ask(0.02 * i, "hello") for i in range(300)]
        report = serve.wait_for(drive(proxy.url, "m", asks))
        late_ms = proxy.say("state")["late_ms"]
    added = report.records["e2e_ms"] - 20 - SCRIPT.service_ms
    print(f"the proxy passes on {late_ms[0]:.2f} ms late (median), {late_ms[1]:.2f} ms (P99)")
    print(f"a request takes {np.median(added):.2f} ms more than link and service, load generator included")
    figures["proxy_late_ms"], figures["proxy_late_p99_ms"] = late_ms


def sim_vs_live(figures, keep=False):
    """The simulator, calibrated from a run of its own, against the live gateway."""
    bed = against.bed()
    known = against.calibrated(bed)
    print(f"programs add {known.edge_programs_ms:.2f} ms (edge) and {known.cloud_programs_ms:.2f} ms (cloud)")
    runs = []
    for policy, options, rate in against.loads(bed):
        run = against.compared(bed, known, rate, policy, options)
        runs.append(run)
        told = ", ".join(
            f"P{level} {real:.1f} ms, simulated {said:.1f} ({100 * (said / real - 1):+.1f}%)"
            for level, real, said in zip(against.LEVELS, *run.percentiles(), strict=True)
        )
        share = len(run.measured_ms) / run.asked
        print(f"{policy:20} {rate:6.1f}/s: {told}; {share:.1%} of {run.asked} answered", flush=True)
    for level in against.LEVELS:
        off = max((run.errors()[level] for run in runs), key=abs)
        figures[f"sim_vs_live_p{level}_pct"] = round(100 * off, 2)
    if keep:
        against.write(runs)


PARTS = {f.__name__: f for f in (overhead, timers, sim_vs_live)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--keep", action="store_true", help="store what sim_vs_live measures")
    args = parser.parse_args()
    figures = {}
    for part in args.only:
        PARTS[part](figures, **({"keep": args.keep} if part == "sim_vs_live" else {}))
    for name, value in figures.items():
        print(f"{name}: {value}")
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
