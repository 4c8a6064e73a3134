"""One sentence or two per result, computed from it, so that they are true on the reader's machine too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from IPython.core.display import Markdown

from kit.decode.decoder import Answer
from kit.decode.engines import Speed
from kit.decode.roofline import Near, bound_by_memory
from kit.decode.speeds import timing
from kit.measure import Timing, ratio
from kit.plots import spread

READER_WPM = 240  # words a minute: silent reading, Brysbaert 2019 (238 for English non-fiction)
WORDS_PER_TOKEN = 0.75  # English, roughly
CLOSE = 0.85  # roofs nearer to each other than this cannot be told apart


def read_stream(answer: Answer) -> Markdown:
    """Does a reader have to wait for the model?"""
    reads = READER_WPM / 60 / WORDS_PER_TOKEN
    speed = answer.tokens_per_s
    follows = "faster than people read" if speed > reads else "slower than people read"
    return Markdown(
        f"**TTFT** (time to first token) was {answer.ttft_ms:.0f} ms; **ITL** (inter-token latency) had a "
        f"median of {np.median(answer.itl_ms):.1f} ms, so {speed:.0f} tokens a second: {follows} (about "
        f"{reads:.0f}, at {READER_WPM} words a minute). With streaming one waits for the first token only."
    )


def read_growth(reading: Mapping[int, Timing], step: Mapping[int, Timing]) -> Markdown:
    """What a cache saves, and how that grows."""
    first, last = min(reading), max(reading)
    early, late = (ratio(reading[n], step[n]) for n in (first, last))
    return Markdown(
        f"After {first} tokens the cache makes a token {spread(early, '.1f')} times faster, after {last} "
        f"tokens {spread(late, '.0f')} times. Without it each token costs more than the one before; a text "
        "of n tokens costs work in proportion to n². With it a step reads the weights once, however long "
        "the text is: what grows is the cache, which it reads too."
    )


def cache_gain(reading: Mapping[int, Timing], step: Mapping[int, Timing]) -> float:
    """How many times faster the last token is with a cache."""
    last = max(reading)
    return ratio(reading[last], step[last])[0]


def read_roof(near: Mapping[str, Near], kernels: Mapping[str, float]) -> Markdown:
    """Which roof is each file under?"""
    parts = []
    for name, v in near.items():
        arithmetic = kernels[name] * 1e9 / v.operations
        part = f"**{name}** uses {v.percent[0]:.0f}% of the reading speed."
        limits = f"Memory alone would allow {v.limit:.0f} tokens/s, arithmetic alone {arithmetic:.0f}"
        if min(arithmetic, v.limit) > CLOSE * max(arithmetic, v.limit):
            parts.append(f"{part} {limits}: the two limits are close, and it reaches neither.")
        elif bound_by_memory(v, kernels[name]):
            parts.append(f"{part} {limits}: memory is its roof.")
        else:
            parts.append(f"{part} {limits}: unpacking and multiplying are its roof.")
    return Markdown(" ".join(parts))


def read_prefix(cold: Answer, warm: Answer) -> Markdown:
    """What a shared start saves."""
    return Markdown(
        f"The first question read {cold.prompt_tokens - cold.reused_tokens} tokens and waited "
        f"{cold.ttft_ms:.0f} ms; the second found {warm.reused_tokens} of its {warm.prompt_tokens} tokens "
        f"in the cache and waited {warm.ttft_ms:.0f} ms: {cold.ttft_ms / warm.ttft_ms:.1f} times sooner."
    )


def read_int8_kv(puzzled: Mapping[str, float], steps: Mapping[str, Mapping[int, Timing]]) -> Markdown:
    """Is the small cache faster, and what does it cost?"""
    longest = max(steps["FP32"])
    change = ratio(steps["INT8"][longest], steps["FP32"][longest])
    _, low, high = change
    told = "faster" if high < 1 else "slower" if low > 1 else "no faster that could be told"
    less = "" if high < 1 else " So here INT8 saves memory, not time: turning it back costs, too."
    return Markdown(
        f"A quarter of the bytes. After {longest:,} tokens a step takes {spread(change, '.2f')} times as "
        f"long: {told}. Perplexity: {puzzled['FP32']:.2f} to {puzzled['INT8']:.2f}.{less}"
    )


def read_engines(speeds: Sequence[Speed]) -> Markdown:
    """Our engine against the others, at like precision."""
    found = {s.engine: np.array(s.tokens_per_s) for s in speeds}

    def gain(mine: str, other: str) -> str:
        return spread(ratio(timing(1000 / found[other]), timing(1000 / found[mine])), ".2f")

    return Markdown(
        f"In FP32 the kit writes {gain('the kit, FP32', 'transformers')} times as fast as transformers and "
        f"{gain('the kit, FP32', 'optimum')} times as fast as optimum; in 4 bits "
        f"{gain('the kit, INT4', 'llama.cpp')} times as fast as llama.cpp and "
        f"{gain('the kit, INT4', 'onnxruntime-genai')} times as fast as onnxruntime-genai."
    )
