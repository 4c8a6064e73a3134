"""The chapter's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from IPython.core.display import HTML

from kit import data, facts, measure, plots
from kit.compress.exam import Answers, asked, of, texts
from kit.compress.labels import ask_teacher
from kit.compress.runs import ALONE, TAUGHT, Run
from kit.compress.sentences import LANGUAGE
from kit.measure import Timing, ratio
from kit.models.intent import IntentNet, logits
from kit.plots import number, spread

NOISY = " The timing is doubtful: {}."
CLOSE = 0.5  # from here on, a taught model counts as close: part of the gap to its teacher


def _noise(times: Mapping[str, Timing]) -> str:
    """A warning for a table's note, if one of the timings cannot be trusted."""
    return next((NOISY.format(t.why) for t in times.values() if t.noisy), "")


def rescued(edge: Answers, cloud: Answers, most: int = 8) -> HTML:
    """English sentences that the teacher understands and the edge model does not, shortest first."""
    rows = [
        {"sentence": e.text, "the edge model said": data.INTENTS[said], "the teacher said": e.label}
        for e, said, mine, theirs in zip(asked(), edge.said, edge.hits, cloud.hits, strict=True)
        if e.lang == "en" and theirs and not mine
    ]
    rows.sort(key=lambda row: len(row["sentence"]))
    return plots.table(rows[:most], note=f"{len(rows)} such sentences; here are the shortest.")


def cost_table(files: Mapping[str, Path], times: Mapping[str, Timing]) -> HTML:
    """Size of each file, and time of a sentence."""
    rows = [
        {
            "": name,
            "MB": measure.size_mb(path),
            "one sentence (ms)": spread((times[name].p50, *times[name].ci())),
        }
        for name, path in files.items()
    ]
    note = "In brackets: 95% intervals. Timed in turn; an edge model on one thread, the teacher on two."
    return plots.table(rows, note=note + _noise(times))


def opinions(texts: Sequence[str], most: int = 3) -> HTML:
    """What the English teacher makes of sentences, and how sure it is."""
    p = ask_teacher(texts, "en")
    rows = []
    for text, row in zip(texts, p, strict=True):
        top = np.argsort(-row)[:most]
        rows.append(
            {"sentence": text, "the teacher says": ", ".join(f"{data.INTENTS[i]} {row[i]:.0%}" for i in top)}
        )
    return plots.table(rows)


def runs_table(runs: Sequence[Run], cloud: Answers) -> HTML:
    """Mean accuracy of every way of teaching, with the lowest and highest of its seeds, and the teachers'."""
    rows = []
    for way in dict.fromkeys(run.way for run in runs):
        row = {"": way}
        for lang in data.LANGS:
            right = [run.people[lang] for run in runs if run.way == way]
            row[f"people, {lang} (%)"] = spread((float(np.mean(right)), min(right), max(right)), ".1f")
        own = [v for run in runs if run.way == way for v in run.templates.values()]
        rows.append(row | {"templates (%)": f"{np.mean(own):.1f}"})
    best = {f"people, {lang} (%)": f"{cloud.right(lang)[0]:.1f}" for lang in data.LANGS}
    rows.append({"": "the teachers"} | best | {"templates (%)": f"{100 * cloud.templates:.1f}"})
    return plots.table(
        rows, note="Means of five seeds; in brackets the lowest and the highest. The teachers: one each."
    )


def sparse_table(mb: Mapping[str, Mapping[str, float]]) -> HTML:
    """Honest sizes: ``{"uncut": {"dense": 13.6, "sparse": ..., "zipped": ...}, ...}`` in MB."""
    words = {
        "dense": "file as it is (MB)",
        "sparse": "zeros left out, CSR (MB)",
        "zipped": "file zipped (MB)",
    }
    return plots.table([{"": name} | {words[k]: v for k, v in sizes.items()} for name, sizes in mb.items()])


def cuts_table(
    files: Mapping[str, Path],
    padded: Mapping[str, Timing],
    bare: Mapping[str, Timing],
    answers: Mapping[str, Answers],
) -> HTML:
    """What each cut saves and costs; the first is what the others are held against.

    Args:
        files: name -> ONNX file.
        padded, bare: name -> time of a sentence, padded to 96 bytes and without padding.
        answers: name -> answers.
    """
    first = next(iter(files))
    rows = [
        {
            "": name,
            "MB": measure.size_mb(files[name]),
            "time, padded": spread(ratio(padded[name], padded[first]), ".2f") if name != first else "1",
            "time, not padded": spread(ratio(bare[name], padded[first]), ".2f"),
            "right on people (%)": f"{answers[name].right()[0]:.1f}",
            "difference (points)": spread(answers[name].ahead(answers[first]), "+.1f")
            if name != first
            else "",
        }
        for name in files
    ]
    whole = number(padded[first].p50)
    note = f"Time of one sentence, as a part of what {first} takes with padding ({whole} ms)."
    return plots.table(rows, note=note + " In brackets: 95% intervals." + _noise({**padded, **bare}))


def claims_table(
    zeros: tuple[float, float, float],
    zipped: float,
    slim: tuple[float, float, float],
    runs: Sequence[Run],
    gap: tuple[float, float, float],
    small: Answers,
    llm: tuple[float, float, float],
    cloud: Answers,
    lost: float,
) -> HTML:
    """What people say, what was measured, and whether it held. All words follow from the numbers.

    Args:
        zeros: how many times as fast a model with 90% zeros is, with its interval.
        zipped: its zipped size as a part of the uncut file, 0 to 1.
        slim: how many times as fast the smaller shape is.
        runs: the recorded trainings.
        gap: part of the gap that a teacher closes, with its interval.
        small: answers of chapter 01's edge model.
        llm: accuracy of the general language model in percent, with its interval.
        cloud: the teachers' answers.
        lost: points that 90% zeros lose on people, after training.
    """
    alone, taught = (np.mean([r.people["en"] for r in runs if r.way == way]) for way in (ALONE, TAUGHT))
    edge, best = small.right("en"), cloud.right("en")
    found = {
        "C11": (
            f"90% zeros: {spread(zeros, '.2f')} times as fast, the same file, zipped {zipped:.0%} of it, "
            f"{lost:.0f} points lost. "
            f"A smaller shape: {spread(slim, '.2f')} times as fast",
            "Zeros: "
            + ("faster" if zeros[1] > 1.05 else "not faster")
            + (", smaller only when packed" if zipped < 0.9 else ", not smaller")
            + ". A smaller shape: "
            + ("both" if slim[1] > 1.05 else "smaller only"),
        ),
        "C12": (
            f"People's English: alone {alone:.1f}%, taught {taught:.1f}%, teacher {best[0]:.1f}%: "
            f"{gap[0]:.0%} of the gap closed ({gap[1]:.0%} to {gap[2]:.0%})",
            "Holds"
            if gap[1] >= CLOSE
            else "It helps, but does not come close"
            if gap[1] > 0
            else "Cannot be told",
        ),
        "C13": (
            f"People's English: edge model {edge[0]:.0f}%, SmolLM2 in a prompt {spread(llm, '.0f')}%",
            (
                "Holds against a general model of 135 million weights"
                if edge[1] > llm[2]
                else "Does not hold"
                if edge[2] < llm[1]
                else "Cannot be told"
            )
            + ". Much larger ones are not tested",
        ),
    }
    rows = [
        {"": str(n), "claim": facts.claims()[id].claim, "measured here": measured, "verdict": verdict}
        for n, (id, (measured, verdict)) in enumerate(found.items(), 1)
    ]
    note = f"Counted as close: at least {CLOSE:.0%} of the gap closed, the whole 95% interval."
    return plots.table(rows, note=note)


def answers_table(kinds: Mapping[str, Answers]) -> HTML:
    """Accuracy of each model; the first is what the others are held against."""
    first = next(iter(kinds.values()))
    rows = [
        {
            "": name,
            "people, English (%)": f"{a.right('en')[0]:.1f}",
            "people, Chinese (%)": f"{a.right('zh')[0]:.1f}",
            "templates (%)": f"{100 * a.templates:.1f}",
            "people, difference (points)": spread(a.ahead(first), "+.1f") if a is not first else "",
        }
        for name, a in kinds.items()
    ]
    return plots.table(rows, note="In brackets: 95% intervals; one that holds 0 can be luck.")


def budget_table(
    right: Mapping[str, float],
    mb: Mapping[str, float],
    ms: Mapping[str, float],
    most_mb: float,
    most_ms: float,
) -> HTML:
    """The three best shapes within a budget.

    Args:
        right: shape -> accuracy on the dev split in percent.
        mb, ms: shape -> what it costs.
        most_mb, most_ms: the budget, in the same units.
    """
    fits = [name for name in right if mb[name] <= most_mb and ms[name] <= most_ms]
    rows = [
        {"shape": name, "right on dev (%)": f"{right[name]:.1f}", "MB": mb[name], "time (%)": ms[name]}
        for name in sorted(fits, key=lambda name: right[name], reverse=True)[:3]
    ]
    nothing = [{"shape": "nothing fits: allow more", "right on dev (%)": "", "MB": None, "time (%)": None}]
    note = f"{len(fits)} of {len(right)} shapes fit. Time: of chapter 01's shape."
    return plots.table(rows or nothing, note=note)


def cut_card(model: IntentNet, before: Answers) -> HTML:
    """What a cut model still knows, untrained: bytes of its weights, and accuracy on people.

    Args:
        model: the cut model.
        before: answers of the uncut one.
    """
    hits = logits(model, texts("people")).argmax(1) == data.labels(asked())
    rows = []
    for lang in data.LANGS:
        rows.append(
            {
                "people": LANGUAGE[lang],
                "before (%)": f"{before.right(lang)[0]:.1f}",
                "now (%)": f"{100 * hits[of(lang)].mean():.1f}",
            }
        )
    mb = 4 * sum(w.numel() for w in model.parameters()) / 1e6
    return plots.table(
        rows, note=f"{number(mb)} MB of weights, zeros included. Not trained on after the cut."
    )
