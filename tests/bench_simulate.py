"""How fast the simulator is, here: ``python tests/bench_simulate.py [--json FILE] [--only PART ...]``.

Parts: ``policy`` and ``stateless`` (the same scenario as SimPy processes), ``ciw`` (one queue), ``hundred``
(100,000 requests), ``ten_million`` (in pieces, in a process of its own), ``llm`` (against token by token),
``azure`` (the recorded trace through four engines). Rounds are interleaved; of ratios the lowest and the
highest round are given.
"""

import argparse
import bisect
import itertools
import json
import math
import random
import resource
import subprocess
import sys
import time

import ciw
import numpy as np
import simpy

from kit import arrivals, facts
from kit.policy import AlwaysCloud, LeastBusy, SimpleShuffle
from kit.simulate import Class, Dispatch, Link, Scenario, Tier, Workload, run, stream
from kit.simulate import workload as asks
from kit.simulate.llm import Engine
from kit.simulate.services import kv_tokens, speed
from kit.simulate.world import World

PARTS = ("policy", "stateless", "ciw", "hundred", "ten_million", "llm", "azure")
ROUNDS = 5
A100 = Tier(
    kind="central_cloud", path=("wan",), stations=4, device="nvidia-a100-80gb-sxm", llm="llama-3.1-8b",
    rows=64, overhead_ms=2,
)  # fmt: skip


def two_tiers(requests, rate=1000.0):
    """An edge server near, and a cloud with many behind a network; views are taken every second."""
    return Scenario(
        title="two tiers",
        workload=Workload(requests_per_s=rate, seconds=requests / rate),
        links={"lan": Link(rtt_ms=2, jitter_ms=1), "wan": Link(profile="5g_public_urban_standing")},
        tiers={
            "edge": Tier(kind="access_edge", path=("lan",), service_ms=3, service_cv=1),
            "cloud": Tier(kind="central_cloud", path=("lan", "wan"), servers=20, service_ms=20, service_cv=1),
        },
        dispatch=Dispatch(signals_every_s=1.0),
    )


def timed(work):
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def ratio(name, slow, fast, figures, rounds=ROUNDS):
    """How many times as long ``slow`` takes, round by round."""
    ratios = []
    for turn in range(rounds):
        if turn % 2:
            b, a = timed(fast), timed(slow)
        else:
            a, b = timed(slow), timed(fast)
        ratios.append(a / b)
    middle, low, high = float(np.median(ratios)), min(ratios), max(ratios)
    print(
        f"{name:22} {middle:8.1f} times as fast, {low:.1f} to {high:.1f}; the last took {a:.3f} and {b:.3f} s"
    )
    figures |= {name: round(middle, 2), f"{name}_low": round(low, 2), f"{name}_high": round(high, 2)}


def with_simpy(scenario, policy):
    """The scenario as SimPy processes, which draw their numbers and keep a row of each request."""
    world, chance = World(scenario, 0), random.Random(0)
    env = simpy.Environment()
    pools = [simpy.Resource(env, tier.servers) for tier in world.tiers]
    levels, rtt_ms = (a.tolist() for a in facts.networks()["5g_public_urban_standing"].quantiles())
    sigma = math.sqrt(math.log1p(0.25))
    rng, rows, view = np.random.default_rng(0), [], []

    def half_s(links):
        half = math.exp(sigma * chance.gauss(0, 1)) / 1000  # the lan: 2 ms, with 1 ms of jitter
        if links == 1:
            return half
        u = chance.random()
        j = min(max(bisect.bisect(levels, u), 1), len(levels) - 1)
        part = max(u - levels[j - 1], 0) / (levels[j] - levels[j - 1])
        return half + (rtt_ms[j - 1] + part * (rtt_ms[j] - rtt_ms[j - 1])) / 2000

    def signals():
        while env.now < scenario.workload.seconds:
            view[:] = [world.view([pool.count + len(pool.queue) for pool in pools], env.now)]
            yield env.timeout(scenario.dispatch.signals_every_s)

    def one(i):
        at_s, request = env.now, world.request(0, str(i))
        k = world.index[policy.route(request, view[0], at_s, rng).target.tier]
        tier = world.tiers[k]
        delay_s, need_s = half_s(len(tier.path)), chance.expovariate(1000 / tier.service_ms)
        yield env.timeout(delay_s)
        arrive_s = env.now
        with pools[k].request() as turn:
            yield turn
            start_s = env.now
            yield env.timeout(need_s)
        yield env.timeout(delay_s)
        rows.append((i, k, at_s, arrive_s, start_s, start_s + need_s, env.now))

    def source():
        for i in itertools.count():
            yield env.timeout(chance.expovariate(scenario.workload.requests_per_s))
            if env.now > scenario.workload.seconds:
                return
            env.process(one(i))

    env.process(signals())
    env.process(source())
    env.run()
    return rows


def policy(figures):
    """Both ask the same policy object about every request."""
    scenario = two_tiers(100_000)
    ratio(
        "vs_simpy_policy",
        lambda: with_simpy(scenario, LeastBusy()),
        lambda: run(scenario, LeastBusy()),
        figures,
    )


def stateless(figures):
    scenario = two_tiers(100_000)
    shuffle = SimpleShuffle({"edge": 1, "cloud": 4})
    ratio(
        "vs_simpy_stateless", lambda: with_simpy(scenario, shuffle), lambda: run(scenario, shuffle), figures
    )


def ciw_(figures):
    tier = Tier(kind="device", servers=4, service_ms=100, service_cv=1)
    scenario = Scenario(
        title="queue", workload=Workload(requests_per_s=32, seconds=300), tiers={"edge": tier}
    )

    def with_ciw():
        network = ciw.create_network(
            arrival_distributions=[ciw.dists.Exponential(32)],
            service_distributions=[ciw.dists.Exponential(10)],
            number_of_servers=[4],
        )
        ciw.Simulation(network).simulate_until_max_time(300)

    ratio("vs_ciw", with_ciw, lambda: run(scenario, AlwaysCloud("edge")), figures)


def hundred(figures):
    scenario = two_tiers(100_000)
    for name, one in [("", SimpleShuffle({"edge": 1, "cloud": 4})), ("_least_busy", LeastBusy())]:
        seconds = [timed(lambda one=one: run(scenario, one)) for _ in range(ROUNDS)]
        print(
            f"seconds_per_100k{name:12} {np.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
        )
        figures[f"seconds_per_100k{name}"] = round(float(np.median(seconds)), 4)


def in_pieces(requests):
    """Run so many, and print seconds and the memory that the process needed at most, in MB."""
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = np.zeros(5, int)

    def all_pieces():
        for part in stream(two_tiers(requests), SimpleShuffle({"edge": 1, "cloud": 4})):
            counts[:] += np.bincount(part.status, minlength=5)

    seconds = timed(all_pieces)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"n": int(counts.sum()), "s": seconds, "mb": peak_mb, "more_mb": peak_mb - before_mb}))


def ten_million(figures):
    found = {}
    for name, requests in (("1m", 1_000_000), ("10m", 10_000_000)):
        answer = subprocess.run(
            [sys.executable, __file__, "--pieces", str(requests)], capture_output=True, check=True
        )
        found[name] = json.loads(answer.stdout)
        print(f"{name:4} {found[name]['n']:,} requests: {found[name]['s']:.2f} s, {found[name]['mb']:.0f} MB")
        figures |= {
            f"seconds_{name}": round(found[name]["s"], 3),
            f"peak_mb_{name}": round(found[name]["mb"], 1),
        }


def chats(n):
    """Prompts, answers and times of the recorded trace, else of its summary."""
    workload = Workload(
        requests_per_s=5.53, seconds=n / 5.53, arrivals="recorded",
        classes={"chat": Class(prompt_tokens=1020, output_tokens=129, max_tokens=601)},
    )  # fmt: skip
    tier = A100
    scenario = Scenario(
        title="chat", workload=workload, tiers={"cloud": tier}, links={"wan": Link(rtt_ms=40)}
    )
    return scenario


def llm(figures):
    from test_simulate import token_by_token

    scenario = chats(4000)
    world, asked = World(scenario, 0), next(asks.requests(scenario.workload, 0))
    arrive_s, need = asked.at_s, world.meets(0, asked, 0).need
    costs, room = speed(A100), kv_tokens(A100)
    turns = [np.arange(k, len(asked), 4) for k in range(4)]

    def tokens():
        return [token_by_token(arrive_s[i], *(n[i] for n in need), costs, 64, room) for i in turns]

    def engine():
        found = []
        for i in turns:
            one = Engine(costs, 64, room)
            one.offer(i, arrive_s[i], *(n[i] for n in need))
            found.append(one.advance(math.inf))
        return found

    ends = [dict(zip(done.row.tolist(), done.last_s.tolist(), strict=True)) for done in engine()]
    for i, end, times in zip(turns, ends, tokens(), strict=True):
        assert np.allclose([end[row] for row in i.tolist()], times[:, 2], rtol=1e-9)
    ratio("llm_vs_token_reference", tokens, engine, figures, 3)


def azure(figures):
    """All 19,366 conversations, or as many from their summary."""
    scenario = chats(19_366)
    seconds = [timed(lambda: run(scenario, AlwaysCloud("cloud"))) for _ in range(ROUNDS)]
    kind = "recorded" if arrivals.find("azure_llm_2023_conversation") else "summary"
    print(f"seconds_azure ({kind}) {np.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})")
    figures["seconds_azure"] = round(float(np.median(seconds)), 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    parser.add_argument("--pieces", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.pieces:
        return in_pieces(args.pieces)
    figures: dict = {}
    for part in args.only:
        {"ciw": ciw_}.get(part, globals().get(part))(figures)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
