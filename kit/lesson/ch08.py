"""Exercises of chapter 08: events and tokens, open loops, reservations, when to try again, a full queue."""

from kit.lesson.exercises import Exercise, number


def _retries(answer: object) -> str | None:
    """Does the reader's function wait as the server says, and give up on what cannot get better?"""
    if not callable(answer):
        return f"The answer must be your function: `answer = wait_s`, got {type(answer).__name__}."
    cases = (
        ((503, {"Retry-After": "4"}), 4, "The queue is full, and the server says when to come back."),
        ((429, {"Retry-After": "30"}), 30, "The limit is reached, and the server says when to come back."),
        ((503, {}), 1, "The server does not say when: wait for a second."),
        ((429, {}), None, "No time is named: the request is larger than the limit. It would never fit."),
        ((400, {}), None, "The request is wrong. Sent again, it is as wrong."),
        ((401, {}), None, "The key is wrong. Sent again, it is as wrong."),
        ((404, {"Retry-After": "5"}), None, "No such model: waiting does not bring it."),
    )
    for (status, headers), expected, why in cases:
        got = answer(status, headers)
        if got != expected:
            return f"{status} with {headers}: {why} Your function returns {got!r}, expected {expected!r}."
    return None


EXERCISES = (
    Exercise(
        id="08.1",
        task=(
            "An answer has 41 tokens. Its first text came 0.2 s after the request, its last after 1.2 s, "
            "in 28 events. What is the time per output token (TPOT), in ms? It leaves out the first token."
        ),
        check=number(
            25,
            unit="ms",
            traps={
                0.025: "In milliseconds, please.",
                29.27: "That is 1.2 s divided by tokens: the time to the first token is not part of it.",
                30: "1.2 s hold the time to the first token, too. How long is it from there to the last?",
                24.39: "41 tokens have 40 gaps between them.",
                37.04: "That counts events. An event can hold several tokens, or none.",
                35.71: "That counts events. An event can hold several tokens, or none.",
            },
        ),
        hints=("From the first token to the last: how long, and how many gaps?", "1.0 s and 40 gaps."),
        solution="answer = 1000 * (1.2 - 0.2) / (41 - 1)",
        wrong="answer = 1000 * (1.2 - 0.2) / 27",
    ),
    Exercise(
        id="08.2",
        task=(
            "A server stops for 10 s. Ten people's requests were due 10, 9, ..., 1 s before it goes on; "
            "then all are answered at once. What is their mean wait, in s? (A tester who waits for each "
            "answer before asking again sees one wait of 10 s, and nine that never happened.)"
        ),
        check=number(
            5.5,
            unit="s",
            traps={
                10: "That is the longest. The others were due later, and waited less.",
                1: "That would be one wait of 10 s among ten requests. But all ten had to wait.",
                5: "Nearly: the waits are 10, 9, ..., 1.",
                4.5: "Nearly: the last one waits 1 s, not 0.",
            },
        ),
        hints=("How long does each of the ten wait?", "The mean of 10, 9, ..., 1."),
        solution="answer = sum(range(1, 11)) / 10",
        wrong="answer = 10",
    ),
    Exercise(
        id="08.3",
        task=(
            "A key may use 1,000 output tokens a minute. Three requests come at the same time, each with "
            "`max_tokens=400`; each answer will have 100 tokens. The server reserves what a request may "
            "need. How many of the three are let in?"
        ),
        check=number(
            2,
            within=1e-6,
            traps={
                3: "They need 300, but the server cannot know that beforehand: it reserves 400 for each.",
                10: "There are only three. How many times does 400 fit into 1,000?",
            },
        ),
        hints=("What does the server know when they come?", "It reserves 400 for each, and has 1,000."),
        solution="answer = 1000 // 400",
        wrong="answer = 3",
    ),
    Exercise(
        id="08.4",
        task=(
            "Write `wait_s(status, headers)`: how many seconds should a client wait before it sends the "
            "same request again? 429 and 503: what the header `Retry-After` says, as a whole number. 503 "
            "without it: 1. 429 without it, and any other status: `None`, do not try again. Then `answer = "
            "wait_s`."
        ),
        check=_retries,
        hints=(
            "Two kinds of errors: those that pass, and those that stay.",
            'First `if status in (429, 503) and "Retry-After" in headers`.',
        ),
        solution=(
            "def wait_s(status, headers):\n"
            '    if status in (429, 503) and "Retry-After" in headers:\n'
            '        return int(headers["Retry-After"])\n'
            "    return 1 if status == 503 else None\n"
            "\n"
            "\n"
            "answer = wait_s"
        ),
        wrong="def wait_s(status, headers):\n    return 1\n\n\nanswer = wait_s",
    ),
    Exercise(
        id="08.5",
        task=(
            "Eight rows are busy, an answer takes 0.8 s, and 64 others wait; the rows become free one "
            "after the other. About how long does the last of the 64 wait until it starts, in s?"
        ),
        check=number(
            6.4,
            within=0.02,
            unit="s",
            traps={
                51.2: "That would be one row: 64 × 0.8 s. There are eight.",
                0.8: "That is the time of one answer. How many rows must become free before it starts?",
                0.1: "Every 0.1 s a row becomes free. How many times must that happen?",
                7.2: "The eight that run have rows already.",
            },
        ),
        hints=("How often does a row become free?", "Eight rows: every 0.1 s. 64 times."),
        solution="answer = 64 * 0.8 / 8",
        wrong="answer = 64 * 0.8",
    ),
)
