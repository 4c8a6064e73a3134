"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import Markdown

from kit.batch.core import Job
from kit.batch.costs import Costs, per_second, predict
from kit.batch.drive import Clients, Run
from kit.batch.offline import Offline
from kit.batch.rules import CONTINUOUS, ONE
from kit.batch.tables import per_million
from kit.batch.theory import Point, crossover
from kit.measure import Timing, ratio
from kit.plots import number, spread

CLIENTS = 8  # of the closed loop


def longer(steps: Mapping[int, Timing], rows: int = 8) -> float:
    """How many times longer a step with so many rows takes than one with a single row."""
    return ratio(steps[rows], steps[1])[0]


def read_by_hand(times: Mapping[str, Timing]) -> Markdown:
    """One matrix, one vector or eight."""
    one, many = times.values()
    value = spread(ratio(many, one), ".2f")
    return Markdown(
        f"Eight answers take {value} times as long as one, not eight times: the matrix is read from memory "
        "once, for one vector or for eight."
    )


def parts_ms(steps: Mapping[int, Timing]) -> tuple[float, float]:
    """A step as a fixed part, mostly the reading of weights, and a part for each row: milliseconds."""
    rows = np.array(sorted(steps), float)
    each, fixed = np.polyfit(rows, [steps[int(n)].p50 for n in rows], 1)
    return float(fixed), float(each)


def read_steps(times: Mapping[str, Mapping[int, Timing]], rows: int = 8) -> Markdown:
    """What eight rows cost and bring for each engine, and from where on arithmetic is most of a step."""
    text = f"{rows} rows in a step. "
    for name, steps in times.items():
        took = spread(ratio(steps[rows], steps[1]), ".1f")
        gain = per_second(steps[rows], rows)[0] / per_second(steps[1], 1)[0]
        text += f"{name}: {took} times as long, so {gain:.1f} times the tokens per second. "
    text += "A straight line through the times splits a step into a part for all and a part for each row: "
    found = {name: parts_ms(steps) for name, steps in times.items()}
    text += ", ".join(
        f"{name} {number(fixed)} ms and {number(each)} ms" for name, (fixed, each) in found.items()
    )
    equal = {name: fixed / each for name, (fixed, each) in found.items() if each > 0}
    text += ". So arithmetic is more than half of a step " + ", ".join(
        f"from {max(n, 0):.0f} rows on with {name}" for name, n in equal.items()
    )
    return Markdown(text + ". The fewer bytes there are to read, the sooner there is nothing left to share.")


def read_choice(times: Mapping[str, Mapping[int, Timing]]) -> Markdown:
    """Which engine makes most tokens alone, and which in a batch?"""
    fastest = {n: min(times, key=lambda name: times[name][n].p50) for n in next(iter(times.values()))}
    alone, most = next(iter(fastest.values())), max(fastest)
    best = fastest[8]
    text = f"Fastest with one row is {alone}, with eight {best}, with {most} {fastest[most]}. "
    if best != alone:
        text += (
            f"{alone} has fewer bytes to read, which is what counts alone; unpacking them costs "
            "arithmetic, which is what counts in a batch. So the best format depends on the load. "
        )
    return Markdown(text)


def read_drift(drift: Mapping[str, float]) -> Markdown:
    """Whose answers depend on who else is asking?"""
    exact = [name for name, d in drift.items() if d < 1e-3]
    other = [name for name, d in drift.items() if d >= 1e-3]
    text = "Largest difference of a logit: " + ", ".join(f"{n} {number(d)}" for n, d in drift.items()) + ". "
    if other:
        text += (
            f"With {' and '.join(other)} the runtime uses another routine for several rows than for one, "
            "and it rounds otherwise: the same question may get other words when the server is busy. "
        )
    if exact:
        text += f"With {' and '.join(exact)} a row says the same, whoever shares the step."
    return Markdown(text)


def read_prompts(prompts: Mapping[int, Timing], steps: Mapping[int, Timing]) -> Markdown:
    """A prompt is many tokens in one call already."""
    short, long = min(prompts), max(prompts)
    each = (prompts[long].p50 - prompts[short].p50) / (long - short)
    most = max(steps)
    row = (steps[most].p50 - steps[1].p50) / (most - 1)
    return Markdown(
        f"Each further token of a prompt costs {number(each)} ms; each further row in a step {number(row)} "
        f"ms; a token alone {number(steps[1].p50)} ms. A prompt fills the processor by itself, so reading "
        "two prompts in one call would save little, and each of our rules reads them one after the other."
    )


def read_move(copy: Timing, steps: Mapping[int, Timing], costs: Costs, tokens: int) -> Markdown:
    """What it costs to move a row, and to let somebody in."""
    share = copy.p50 / steps[8].p50
    return Markdown(
        f"Moving a row with {tokens} tokens takes {number(copy.p50)} ms, {share:.1%} of a step with eight "
        f"rows. Letting somebody in costs more: while a prompt of {tokens} tokens is read, everybody else "
        f"waits {number(1000 * costs.prompt_s(tokens))} ms. Larger systems cut prompts into pieces for that "
        "(*chunked prefill*)."
    )


def read_runs(runs: Mapping[str, Run]) -> Markdown:
    """Who was first, what was wasted, and whether all said the same."""
    first = next(iter(runs.values())).tokens
    same = all(run.tokens == first for run in runs.values())
    means = {n: float(r.records["e2e_ms"].mean()) for n, r in runs.items()}
    order = sorted(means, key=lambda n: means[n])
    wasted = {n: r for n, r in runs.items() if r.idle_row_steps}
    text = "Mean latency: " + ", ".join(f"{n} {number(means[n] / 1000)} s" for n in order) + ". "
    for name, run in wasted.items():
        text += f"{name.capitalize()} threw away {run.idle_row_steps} of {run.row_steps} row-steps. "
    said = (
        "Every rule gave every request **the same tokens**." if same else f"Answers differ: {changed(runs)}."
    )
    return Markdown(text + said)


def changed(runs: Mapping[str, Run]) -> dict[str, list[str]]:
    """Requests that another rule answered otherwise than the first: rule -> ids. (Near ties may flip.)"""
    first = next(iter(runs.values())).tokens
    found = {name: [i for i in first if run.tokens[i] != first[i]] for name, run in runs.items()}
    return {name: ids for name, ids in found.items() if ids}


def speed_up(
    runs: Mapping[str, Run], clients: int, name: str = "continuous", over: str = "one at a time"
) -> float:
    """How many times as many tokens per second, while so many clients were all waiting for an answer."""
    return runs[name].steady_tps(clients) / runs[over].steady_tps(clients)


def read_heavier(costs: Costs, jobs: Sequence[Job], clients: int) -> Markdown:
    """The same closed loop, worked out for an engine with more bytes to read."""
    runs = {r.name: predict(costs, r, Clients(clients, jobs), clients) for r in (ONE, CONTINUOUS)}
    return Markdown(
        f"Worked out from its own costs, FP32 gains {speed_up(runs, clients):.1f} times from {clients} "
        f"clients: {number(runs['continuous'].steady_tps(clients))} tokens per second instead of "
        f"{number(runs['one at a time'].steady_tps(clients))}. It has more to share."
    )


def read_closed(runs: Mapping[str, Run], clients: int) -> Markdown:
    """Throughput with so many clients that never pause."""
    speed = ", ".join(f"{name} {number(run.steady_tps(clients))}" for name, run in runs.items())
    return Markdown(
        f"Tokens per second while all {clients} clients were waiting for an answer: {speed}. So continuous "
        f"batching makes **{speed_up(runs, clients):.1f} times** as many as one at a time, and "
        f"{speed_up(runs, clients, over='static'):.1f} times as many as static batching. The table counts "
        "the end of the run too, when clients have nothing more to ask and rows stay empty."
    )


def read_crossover(found: Mapping[str, Sequence[Point]]) -> Markdown:
    """Where batching starts to help, and what it costs below."""
    alone = found["one at a time"]
    text = []
    for name in ("static", "dynamic"):
        turn = crossover(alone, found[name])
        slower = found[name][0].mean_ms / alone[0].mean_ms
        where = (
            f"is ahead from {number(turn)} requests/s on"
            if turn == turn
            else "is ahead nowhere in this range"
            if slower > 1
            else "is ahead everywhere"
        )
        text.append(
            f"{name.capitalize()} batching at {number(alone[0].rate_per_s)} requests/s takes "
            f"{slower:.1f} times as long as one at a time, and {where}"
        )
    now = found["continuous"][0].mean_ms / alone[0].mean_ms
    return Markdown(
        "; ".join(text)
        + f". Continuous batching waits for nobody: at the lowest rate it takes {now:.2f} times "
        "as long as one at a time."
    )


def read_predicted(measured: Mapping[str, Run], predicted: Mapping[str, Run]) -> Markdown:
    """How far the predictions are off, and whether they rank the rules as the measurement does."""
    real, thought = (
        {n: float(r.records["e2e_ms"].mean()) for n, r in runs.items()} for runs in (measured, predicted)
    )
    worst = max(abs(thought[n] / real[n] - 1) for n in real)
    ranks = [sorted(means, key=lambda n: means[n]) for means in (real, thought)]
    text = f"The predictions are off by up to {worst:.0%}, "
    text += (
        "and put the rules in the same order. " if ranks[0] == ranks[1] else "and two rules change places. "
    )
    return Markdown(
        text
        + "A machine is not equally fast all the time, and near its limit a queue makes a small difference "
        "large. So read the curves below for their shape, and the tables above for their numbers."
    )


def read_theory(measured_ms: float, predicted_ms: float, load: float) -> Markdown:
    """The simulated wait of one at a time against the formula."""
    return Markdown(
        f"At a load of {load:.0%}, one at a time makes people wait {number(measured_ms)} ms before their "
        f"turn; the formula of Pollaczek and Khinchine says {number(predicted_ms)} ms."
    )


def verdicts(
    steps: Mapping[int, Timing],
    closed: Mapping[str, Run],
    found: Mapping[str, Sequence[Point]],
    offline: Mapping[str, Offline],
) -> dict[str, tuple[str, str]]:
    """The chapter's claims: id -> (measured, verdict)."""
    gain = per_second(steps[8], 8)[0] / per_second(steps[1], 1)[0]
    alone, waits = found["one at a time"], found["dynamic"]
    turn, slower = crossover(alone, waits), waits[0].mean_ms / alone[0].mean_ms
    one, best = (list(offline.values())[i] for i in (0, 2))
    online, night = per_million(one.per_second, "online"), per_million(best.per_second, "offline")
    full, over = speed_up(closed, CLIENTS), speed_up(closed, CLIENTS, over="static")
    falls = "falls at every rate tried" if slower <= 1 else "did not fall at any rate tried"
    if turn == turn:
        falls = f"falls only from {number(turn)} requests/s on"
    return {
        "C20": (
            f"Eight rows: {gain:.1f} times the tokens/s. Waiting up to 200 ms for a batch: mean latency "
            f"{slower:.1f} times as long at {number(alone[0].rate_per_s)} requests/s",
            f"Utilisation rises; latency {falls}, unless nobody waits (continuous)",
        ),
        "C21": (
            f"Eight clients: {full:.1f} times the tokens/s of one at a time, {over:.1f} times those of "
            "static",
            "Holds: it fills the rows that static batching wastes" if over > 1.05 else "Not seen here",
        ),
        "C22": (
            f"The teacher, a million sentences: {online:.2f} USD online, {night:.2f} USD offline",
            f"Holds: {online / night:.0f} times cheaper; {best.per_second / one.per_second:.1f} of it from "
            "batches, "
            "the rest from a machine that never idles" if night < online else "Does not hold here",
        ),
    }  # fmt: skip
