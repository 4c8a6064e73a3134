"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
from IPython.core.display import Markdown

from kit import data, measure
from kit.compress.cost import SENTENCE
from kit.compress.exam import Answers, by_frequency
from kit.compress.router import Cascade
from kit.compress.runs import LONGER, Run, closed
from kit.measure import Timing, ratio
from kit.plots import number, spread

LANGUAGE = {"en": "English", "zh": "Chinese"}
NOISE = 1.5  # points on the dev split that another seed may move


def _told(value: tuple[float, float, float]) -> str:
    """Points with their interval, and whether that can be luck."""
    _, low, high = value
    sure = low > 0 or high < 0
    return f"{spread(value, '+.1f')} points" + ("" if sure else ", which may be luck")


def read_teacher(edge: Answers, cloud: Answers) -> Markdown:
    """How far the teachers are ahead, on people and on templates."""
    parts = [f"{LANGUAGE[lang]} {_told(cloud.ahead(edge, lang))}" for lang in data.LANGS]
    return Markdown(
        f"On people's commands the teachers are ahead: {'; '.join(parts)}. On templates they are right in "
        f"{100 * cloud.templates:.1f}%, the edge model in {100 * edge.templates:.1f}%."
    )


def read_cost(files: Mapping[str, Path], times: Mapping[str, Timing]) -> Markdown:
    """How much larger and slower the second is than the first."""
    (small, one), (large, other) = list(files.items())[:2]
    bigger = measure.size_mb(other) / measure.size_mb(one)
    return Markdown(
        f"The {large} is {bigger:.0f} times as large as the {small}, and takes "
        f"{spread(ratio(times[large], times[small]), '.1f')} times as long. A chip in a light switch has a "
        "few MB of memory: neither fits. Section 8 looks for one that may."
    )


def read_labels(p: np.ndarray) -> Markdown:
    """How many sentences the teacher labelled, and how sure it was."""
    sure = p.max(1)
    return Markdown(
        f"{len(p):,} sentences. The teachers are over 90% sure of {np.mean(sure > 0.9):.0%} of them, and "
        f"less than 50% sure of {np.mean(sure < 0.5):.0%}."
    )


def read_short(alone: Answers, taught: Answers) -> Markdown:
    """Two short trainings of about as many steps."""
    return Markdown(
        f"After a few seconds: alone {alone.right('en')[0]:.1f}% of people's English, taught "
        f"{taught.right('en')[0]:.1f}%: {_told(taught.ahead(alone, 'en'))}. In Chinese the difference is "
        f"{_told(taught.ahead(alone, 'zh'))}. But one training of each says little: the next may differ."
    )


def read_runs(runs: Sequence[Run], teacher: Mapping[str, float]) -> Markdown:
    """What five seeds say: the gap closed in each language, and whether more steps alone would do it.

    Args:
        runs: the recorded trainings.
        teacher: language -> its accuracy on people in percent.
    """
    text = []
    for lang, top in teacher.items():
        part, low, high = closed(runs, top, lang)
        steps, _, _ = closed(runs, top, lang, after=LONGER)
        without = f"{steps:.0%}" if steps > 0 else "none of it"
        over = f"({low:.0%} to {high:.0%}, over seeds)"
        if low > 0:
            said = f"a teacher closes **{part:.0%}** of the gap {over}; as many steps alone close {without}"
        elif high < 0:
            said = f"with the teacher's sentences it gets worse, by {-part:.0%} of the gap {over}"
        else:
            said = f"what a teacher closes cannot be told from luck {over}"
        text.append(f"{LANGUAGE[lang]}: {said}")
    return Markdown(". ".join(text) + ".")


def read_zeros(mb: Mapping[str, float], faster: tuple[float, float, float]) -> Markdown:
    """What 90% zeros save.

    Args:
        mb: ``"dense"``, ``"sparse"`` and ``"zipped"`` -> MB.
        faster: how many times as fast as the uncut model, with its interval.
    """
    speed = (
        "It is faster"
        if faster[1] > 1.05
        else "It is slower"
        if faster[2] < 0.95
        else "It is neither faster nor slower"
    )
    return Markdown(
        f"{speed}: {spread(faster, '.2f')} times as fast. The file has {number(mb['dense'])} MB as before; "
        f"zipped it has {number(mb['zipped'])}, and in CSR form {number(mb['sparse'])}. A zero is multiplied "
        "like any other number, unless somebody leaves it out."
    )


def read_sparse(times: Mapping[float, tuple[float, float, float]]) -> Markdown:
    """From which part of zeros on a sparse product is faster than a dense one.

    Args:
        times: share of zeros -> time of the sparse product over that of the dense one, with its interval.
    """
    wins = [share for share, (_, _, high) in times.items() if high < 1]
    if not wins:
        return Markdown("The sparse product never wins here: a dense matrix is read in one go.")
    return Markdown(
        f"From {min(wins):.0%} zeros on, of those tried, the sparse product is faster. Below that, looking "
        "up where each number belongs costs more than it saves."
    )


def read_padding(padded: Timing, bare: Timing) -> Markdown:
    """What padding costs."""
    return Markdown(
        f"Without padding this sentence of {len(SENTENCE)} bytes takes {spread(ratio(bare, padded), '.2f')} "
        "of the time, and no weight was touched."
    )


def read_qat(kinds: Mapping[str, Answers], exact: str, ours: str) -> Markdown:
    """What 8 bits cost with rounding in the loop.

    Args:
        kinds: name -> answers.
        exact: name of the floats.
        ours: name of the INT8 file.
    """
    won = kinds[ours].ahead(kinds[exact])
    return Markdown(
        f"*{ours}* against *{exact}*: {_told(won)}. Where rounding costs next to nothing, there is little to "
        "win back."
    )


def read_choice(
    name: str, right: Mapping[str, float], mb: Mapping[str, float], ms: Mapping[str, Timing]
) -> Markdown:
    """The shape that was chosen, against the first."""
    first = next(iter(right))
    gap = right[name] - right[first]
    noise = ", too little to say which is better" if abs(gap) < NOISE else ""
    return Markdown(
        f"**{name}** has {mb[name] / mb[first]:.0%} of the bytes of {first}, and takes "
        f"{spread(ratio(ms[name], ms[first]), '.2f')} of its time. After the short training it is "
        f"{gap:+.1f} points from it on the dev split{noise}."
    )


def read_forgotten(kinds: Mapping[str, Answers]) -> Markdown:
    """What each cut lost on rare and on frequent intents."""
    groups, right = by_frequency(kinds)
    whole = next(iter(right.values()))
    parts = [
        f"{name}: " + ", ".join(f"{b - a:+z.0f}" for a, b in zip(whole, values, strict=True)) + " points"
        for name, values in list(right.items())[1:]
    ]
    few = ", ".join(groups)
    return Markdown(f"With {few} sentences of the intent in people's training: {'; '.join(parts)}.")


def read_noticed(kinds: Mapping[str, Cascade]) -> Markdown:
    """Up to where the router would not notice: users' answers as right as before, little more sent."""
    whole, (name, last) = next(iter(kinds.values())), list(kinds.items())[-1]
    quiet = list(takewhile(lambda n: not kinds[n].worse(whole), kinds))
    sent, right = (
        [100 * v.mean() for v in pair] for pair in ((whole.sent, last.sent), (whole.right, last.right))
    )
    return Markdown(
        f"Up to **{quiet[-1]}** no difference can be told from luck, sentence by sentence: the router would "
        f"not notice. With {name}, {sent[1]:.0f}% go to the cloud instead of {sent[0]:.0f}%, and "
        f"{right[1]:.0f}% of all answers are right instead of {right[0]:.0f}%."
    )


def read_int8(ms: Mapping[str, Timing]) -> Markdown:
    """What 8 bits do to the time of the small model: the second against the first."""
    (first, floats), (second, eight) = list(ms.items())[:2]
    times, low, high = ratio(eight, floats)
    word = "slower" if low > 1 else "faster" if high < 1 else "neither slower nor faster"
    return Markdown(
        f"*{second}* is {word} than *{first}*: {spread((times, low, high), '.2f')} of its time. As in "
        "chapter 03, eight bits save bytes here, and codes must be turned back into numbers."
    )


def read_bits(rounded: Mapping[int, Answers], looped: Mapping[int, Answers]) -> Markdown:
    """At how many bits rounding in the loop is surely better than rounding afterwards."""
    won = {bits: looped[bits].ahead(rounded[bits]) for bits in rounded}
    helps = [f"{bits} bits ({spread(v, '+.1f')} points)" for bits, v in won.items() if v[1] > 0]
    rest = [f"{bits}" for bits, v in won.items() if v[1] <= 0]
    return Markdown(
        f"Rounding in the loop is surely better at {', '.join(helps) or 'none of these'}"
        + (f"; at {' and '.join(rest)} bits no gain is seen" if rest else "")
        + ". Both trained equally long. Two bits mean three values here: a scale, its negative, and 0."
    )
