"""One at a time or together, here: ``python tests/bench_batch.py [--json FILE] [--only PART ...]``.

Parts: ``steps`` (time of a step by rows), ``closed``, ``static`` and ``formats`` (eight clients that never
pause; rules in turn), ``load`` (few requests and many, in real time), ``offline`` (10,000 commands).
"""

import argparse
import json

import numpy as np

from kit import artifacts, batch, measure
from kit.decode import requests
from kit.engine import Engine, chat_ids, session

PARTS = ("steps", "closed", "static", "formats", "load", "offline")
CLIENTS, REQUESTS, SHRINK = 8, 20, 4  # answers a quarter as long as in the trace
FORMATS = ("fp32", "int8", "int4")


def steps(figures):
    engines = {
        name: Engine(artifacts.get(f"smollm2.{name}"), context=64, rows=16, spin=False) for name in FORMATS
    }
    times = batch.step_times(engines, chat_ids(requests()[0]), rounds=20)
    print("SmolLM2, one step      rows    ms            95%  tokens/s  times one row           95%")
    for name in FORMATS:
        for n, t in times[name].items():
            slower = measure.ratio(t, times[name][1])
            speed = batch.per_second(t, n)
            gain, low, high = n / slower[0], n / slower[2], n / slower[1]
            print(
                f"{name:20} {n:6} {t.p50:6.1f} {t.ci()[0]:6.1f}-{t.ci()[1]:6.1f} {speed[0]:9.1f} "
                f"{gain:12.2f}x {low:6.2f}-{high:5.2f}x" + (f"  NOISY: {t.why}" if t.noisy else "")
            )
        figures[f"rows8_tokens_{name}"] = round(8 / measure.ratio(times[name][8], times[name][1])[0], 3)


def near_ties(single, jobs, tokens):
    """Where answers differ from single decoding: (id, place, gap between the two tokens' logits)."""
    found = []
    for job in jobs:
        single.reset()
        expected = list(single.generate(job.prompt, job.max_tokens, eos=None))
        at = next((i for i, (a, b) in enumerate(zip(expected, tokens[job.id], strict=True)) if a != b), None)
        if at is not None:
            single.reset()
            logits = single.prefill([*job.prompt, *expected[:at]])
            found.append((job.id, at, float(abs(logits[expected[at]] - logits[tokens[job.id][at]]))))
    return found


def race(kind, rules, rounds, requests=REQUESTS, shrink=SHRINK):
    """Rules in turn, paired round by round. Returns rule -> ms per token while all clients wait for an
    answer, and how many answers differ from single decoding by more than a near tie."""
    jobs = batch.jobs(requests, shrink)
    engine = Engine(artifacts.get(f"smollm2.{kind}"), context=384, rows=CLIENTS, spin=False)
    ms, runs = {rule.name: [] for rule in rules}, {}
    for turn in range(rounds):
        for rule in rules if turn % 2 == 0 else rules[::-1]:
            run = runs[rule.name] = batch.run(engine, rule, batch.Clients(CLIENTS, jobs))
            ms[rule.name].append(1000 / run.steady_tps(CLIENTS))
    times = {n: measure.Timing(np.array(t), np.ones(len(t))) for n, t in ms.items()}
    first, tokens = next(iter(times)), sum(job.max_tokens for job in jobs)
    print(f"\nSmolLM2 {kind}: {CLIENTS} clients, {requests} requests, {tokens} tokens, {rounds} rounds")
    print(f"rule             tokens/s  times {first:15}      95%  whole run  rows  wasted  E2E P50/P99 (s)")
    for name, t in times.items():
        gain, low, high = measure.ratio(times[first], t)
        s, run = runs[name].records.summary(), runs[name]
        print(
            f"{name:15} {1000 / t.p50:9.1f} {gain:15.2f}x {low:12.2f}-{high:5.2f} {s.throughput_tps:9.1f} "
            f"{run.rows_per_step:5.1f} {run.waste:7.0%} "
            f"{s.e2e_p50_ms / 1000:8.1f}/{s.e2e_p99_ms / 1000:.1f}"
        )
    differ = batch.changed(runs)
    doubtful = {id for ids in differ.values() for id in ids} | {job.id for job in jobs[:6]}
    ties = near_ties(engine, [job for job in jobs if job.id in doubtful], runs["continuous"].tokens)
    print(f"answers that differ from single decoding (id, place, gap of the logits): {ties or 'none'}")
    return times, sum(gap > 1e-3 for *_, gap in ties)


def closed(figures):
    """The reference, FP32: batched and single answers must be the same."""
    times, changed = race("fp32", (batch.ONE, batch.CONTINUOUS), 3)
    gain, low, high = measure.ratio(times["one at a time"], times["continuous"])
    figures |= {"continuous_vs_single_throughput": round(gain, 3), "outputs_changed": changed}
    figures |= {"continuous_vs_single_low": round(low, 3), "continuous_vs_single_high": round(high, 3)}


def static(figures):
    times, _ = race("int4", (batch.STATIC, batch.CONTINUOUS), 3)
    gain = measure.ratio(times["static"], times["continuous"])[0]
    figures["continuous_vs_static_throughput"] = round(gain, 3)


def formats(figures):
    """INT4 gains less, for it has less to read; INT8 says other words in a batch."""
    for kind in ("int4", "int8"):
        times, changed = race(kind, (batch.ONE, batch.CONTINUOUS), 3)
        gain, low, _ = measure.ratio(times["one at a time"], times["continuous"])
        figures |= {f"continuous_vs_single_{kind}": round(gain, 3), f"outputs_changed_{kind}": changed}
        figures |= {f"continuous_vs_single_{kind}_low": round(low, 3)}


def load(figures):
    """Mean latency at low and at high load, in real time."""
    engine = Engine(artifacts.get("smollm2.int4"), context=192, rows=CLIENTS, spin=False)
    jobs = batch.jobs(16, 6)
    alone_s = batch.run(engine, batch.ONE, batch.Clients(1, jobs)).records["e2e_ms"].mean() / 1000
    print(f"\nmean latency (s); alone a request takes {alone_s:.2f} s")
    print(f"{'load':>5} {'requests/s':>11}" + "".join(f"{name:>16}" for name in batch.RULES))
    for part in (0.2, 0.8, 2.0):
        times = batch.poisson(part / alone_s, len(jobs))
        means = {}
        for name, rule in batch.RULES.items():
            run = batch.run(engine, rule, batch.Arrivals(times, jobs))
            means[name] = run.records["e2e_ms"].mean() / 1000
        print(f"{part:5.0%} {part / alone_s:11.2f}" + "".join(f"{v:16.2f}" for v in means.values()))
        ratio = means["dynamic"] / means["one at a time"]
        figures[f"dynamic_latency_at_load_{part:g}"] = round(float(ratio), 3)


def offline(figures):
    texts = batch.commands()
    print("\n10,000 commands        per second  times one by one  padding  to start (s)  USD per million")
    for name, size in (("intent.onnx", 64), ("teacher.onnx", 32)):
        model = session(artifacts.get(name), spin=False)
        ways = {"one by one": batch.answer(model, texts)}
        ways["as they come"] = batch.answer(model, texts, size)
        ways["by length"] = batch.answer(model, texts, size, batch.by_length)
        if batch.has_ray():
            ways["Ray, 2 workers"] = batch.answer_with_ray(artifacts.get(name), texts, size)
            batch.stop_ray()
        first = ways["one by one"]
        for way, job in ways.items():
            usd = batch.per_million(job.per_second, "online" if job is first else "offline")
            changed = int((job.answers != first.answers).sum())
            print(
                f"{name:13} {way:14} {job.per_second:6.0f} {job.per_second / first.per_second:16.2f}x "
                f"{job.padding:8.1%} {job.start_s:13.1f} {usd:16.4f}  {changed} answers changed"
            )
        kind = name.partition(".")[0]
        figures[f"offline_speedup_{kind}"] = round(ways["by length"].per_second / first.per_second, 3)
        figures[f"padding_as_they_come_{kind}"] = round(ways["as they come"].padding, 3)
        figures[f"padding_by_length_{kind}"] = round(ways["by length"].padding, 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    args = parser.parse_args()
    figures: dict = {}
    for part in args.only:
        globals()[part](figures)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
