"""Exercises of chapter 05: softmax, the roof of a device, the KV cache, stop sequences, streaming."""

import numpy as np

from kit.lesson.exercises import Exercise, number


def _draws(answer: object) -> str | None:
    """Does the reader's function keep the fewest tokens that have probability ``top_p``?"""
    if not callable(answer):
        return f"The answer must be your function: `answer = keep`, got {type(answer).__name__}."
    rng = np.random.default_rng(0)
    for top_p in (0.3, 0.75, 0.9):
        p = rng.dirichlet(np.full(20, 0.4))
        got = np.asarray(answer(p.copy(), top_p), float)
        if got.shape != p.shape:
            return f"It must give back as many probabilities as it got: {p.shape} became {got.shape}."
        order = np.argsort(-p)
        need = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
        kept = np.flatnonzero(got > 0)
        if len(kept) == need - 1:
            return (
                f"With top_p {top_p} you kept {len(kept)} tokens with {p[kept].sum():.2f} together: one too "
                "few. The token that crosses the line stays in."
            )
        if set(kept) != set(order[:need]):
            return f"With top_p {top_p} the {need} likeliest must stay; you kept {len(kept)}."
        if abs(got.sum() - 1) > 1e-6:
            return f"What is left must add up to 1 again; yours adds up to {got.sum():.3f}."
    return None


EXERCISES = (
    Exercise(
        id="05.1",
        task=(
            "Two tokens are left. The logit of the first is larger by 2. With which probability is the first "
            "drawn at temperature 1? (Softmax: exp of the logit, divided by the sum.)"
        ),
        check=number(
            float(1 / (1 + np.exp(-2))),
            traps={
                2 / 3: "Logits are not shares: take exp of each first.",
                0.1192: "That is the other token's.",
                float(np.exp(2)): "That is how many times likelier it is. Divide by the sum of both.",
                88.1: "A probability is between 0 and 1.",
                0.982: "That would be temperature 0.5.",
            },
        ),
        hints=("Only differences count: let the logits be 2 and 0.", "exp(2) / (exp(2) + exp(0))"),
        solution="import math\nanswer = math.exp(2) / (math.exp(2) + 1)",
        wrong="answer = 2 / 3",
    ),
    Exercise(
        id="05.2",
        task=(
            "A model has 8 billion weights in 4.5 bits (scales included). A device reads 100 GB/s (10^9 "
            "bytes a second). How many tokens a second can one conversation get at most?"
        ),
        check=number(
            100 / 4.5,
            unit="tokens/s",
            traps={
                12.5: "That would be 8 bits a weight.",
                25: "4.5 bits a weight, not 4.",
                2.78: "Bits are not bytes: eight bits make one.",
                0.045: "That is the time of a token in seconds.",
                11.1: "Every weight is read once for a token, not twice.",
            },
        ),
        hints=("How many GB are the weights?", "8 × 4.5 / 8 = 4.5 GB are read for every token."),
        solution="gb = 8 * 4.5 / 8\nanswer = 100 / gb",
        wrong="answer = 100 / 8",
    ),
    Exercise(
        id="05.3",
        task=(
            "Llama 3.1 8B has 32 layers, 8 heads of keys and values, and 128 numbers in each, in FP16. How "
            "many GB (10^9 bytes) is the cache of 20 conversations with 4,000 tokens each?"
        ),
        check=number(
            2 * 20 * 4000 * 32 * 8 * 128 * 2 / 1e9,
            unit="GB",
            traps={
                5.24: "A key and a value, or: FP16 takes two bytes. One of the two is missing.",
                0.524: "And the 20 conversations?",
                2.62: "A key and a value, and two bytes each: both are missing.",
                9.77: "That is in GiB, 2^30 bytes.",
                20.97: "FP16 takes 2 bytes, not 4.",
            },
        ),
        hints=(
            "One token: 2 (key and value) × layers × heads × numbers × bytes.",
            "131,072 bytes a token; then 20 × 4,000 of them.",
        ),
        solution="answer = 2 * 32 * 8 * 128 * 2 * 20 * 4000 / 1e9",
        wrong="answer = 32 * 8 * 128 * 2 * 20 * 4000 / 1e9",
    ),
    Exercise(
        id="05.4",
        task=(
            "Write `keep(p, top_p)`: it takes probabilities, keeps the fewest likeliest tokens that together "
            "have at least `top_p`, sets the others to 0 and makes the rest add up to 1. "
            "Then `answer = keep`."
        ),
        check=_draws,
        hints=(
            "Sort downwards with `np.argsort(-p)` and add up with `np.cumsum`.",
            "A token stays if those *before* it have less than top_p together.",
        ),
        setup="import numpy as np",
        solution=(
            "def keep(p, top_p):\n"
            "    order = np.argsort(-p)\n"
            "    before = np.cumsum(p[order]) - p[order]\n"
            "    out = np.zeros_like(p)\n"
            "    stay = order[before < top_p]\n"
            "    out[stay] = p[stay]\n"
            "    return out / out.sum()\n"
            "\n"
            "answer = keep"
        ),
        wrong=(
            "def keep(p, top_p):\n"
            "    order = np.argsort(-p)\n"
            "    stay = order[np.cumsum(p[order]) <= top_p]\n"
            "    out = np.zeros_like(p)\n"
            "    out[stay] = p[stay]\n"
            "    return out / max(out.sum(), 1e-9)\n"
            "\n"
            "answer = keep"
        ),
    ),
    Exercise(
        id="05.5",
        task=(
            "Reading a prompt takes 2 ms a token, writing 20 ms a token. A system prompt of 600 tokens "
            "is in the cache already; a question has 50, an answer 100. By how many ms is the whole answer "
            "there sooner than without prefix caching?"
        ),
        check=number(
            1200,
            unit="ms",
            traps={
                100: "That is what is left of the prefill. How much is saved?",
                1300: "The question is new each time: its 50 tokens are read in any case.",
                12000: "The system prompt is read, not written.",
                36.4: "Answer in ms, not in percent.",
                2100: "That is what is left. How much is saved?",
                1.2: "That is in seconds.",
            },
        ),
        hints=("What is not done a second time?", "600 tokens are not read again; each takes 2 ms."),
        solution="answer = 600 * 2",
        wrong="answer = (600 + 50) * 2",
    ),
)
