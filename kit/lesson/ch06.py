"""Exercises of chapter 06: tokens a round, the honest speed-up, the rejection rule, verification, the round
trip."""

import numpy as np

from kit.lesson.exercises import Exercise, number


def _verifies(answer: object) -> str | None:
    """Does the reader's function keep the guesses that stand, and add the target's own token?"""
    if not callable(answer):
        return f"The answer must be your function: `answer = verify`, got {type(answer).__name__}."
    cases = (
        ([5, 6, 7], [5, 6, 9, 1], [5, 6, 9], "the third guess falls"),
        ([5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 8], "all guesses stand"),
        ([5, 6, 7], [4, 6, 7, 8], [4], "the first guess falls, so the later ones were made for another text"),
        ([], [3], [3], "nothing was guessed"),
    )
    for guess, best, expected, why in cases:
        got = answer(list(guess), list(best))
        if not isinstance(got, list | tuple | np.ndarray):
            return f"verify must return a list of tokens, got {got!r}."
        if list(got) != expected:
            return f"verify({guess}, {best}) should be {expected} ({why}), got {got!r}."
    return None


EXERCISES = (
    Exercise(
        id="06.1",
        task=(
            "A guess stands with a chance of 0.8 if those before it stood. A round has 4 guesses, and the "
            "target adds one token of its own. How many tokens does a round bring on average?"
        ),
        check=number(
            sum(0.8**i for i in range(5)),
            unit="tokens",
            traps={
                3.2: "A guess counts only if all before it stood.",
                4.2: "A guess counts only if all before it stood: 0.8, then 0.8 × 0.8, ...",
                2.3616: "And the target's own token?",
                2.952: "That is for three guesses.",
                5: "That would be if all stood.",
                0.4096: "That is the chance that all four stand.",
            },
        ),
        hints=("The third guess counts with a chance of 0.8³.", "1 + 0.8 + 0.8² + 0.8³ + 0.8⁴"),
        solution="answer = sum(0.8 ** i for i in range(5))",
        wrong="answer = 1 + 4 * 0.8",
    ),
    Exercise(
        id="06.2",
        task=(
            "The target makes a token in 20 ms and reads five at once in 28 ms. A guess takes 1 ms. Rounds "
            "of 4 guesses bring 2.8 tokens on average. How many times faster than plain decoding is that?"
        ),
        check=number(
            2.8 * 20 / 32,
            traps={
                2.8 * 20 / 24: "That is the formula of the papers: here a check takes 28 ms, not 20.",
                2.8: "A round costs more than a token of plain decoding.",
                2.0: "The guesses take time, too.",
                1 / 1.75: "Upside down: how long would plain decoding take for 2.8 tokens?",
                1.931: "There are four guesses a round, 1 ms each.",
            },
        ),
        hints=(
            "How long does a round take? 4 × 1 + 28 ms.",
            "Plain decoding needs 2.8 × 20 ms for the same tokens.",
        ),
        solution="answer = 2.8 * 20 / (4 * 1 + 28)",
        wrong="answer = 2.8 * 20 / (4 * 1 + 20)",
    ),
    Exercise(
        id="06.3",
        task=(
            "Three words. The draft draws them with the chances 0.6, 0.3 and 0.1; the target would with "
            "0.4, 0.3 and 0.3. A guess stands with a chance of min(1, p/q). How often does a guess stand, "
            "over all draws?"
        ),
        check=number(
            0.4 + 0.3 + 0.1,
            traps={
                0.6 * 0.4 + 0.3 * 0.3 + 0.1 * 0.3: "That is how often two draws agree.",
                0.2: "That is how often it falls.",
                2.6667 / 3: "The words are not drawn equally often: weigh each with q.",
                0.6667: "That is for the first word alone.",
                80: "A chance is between 0 and 1.",
            },
        ),
        hints=(
            "A word is drawn with q and then stands with min(1, p/q). Multiply, and add up over the words.",
            "q × min(1, p/q) is min(q, p).",
        ),
        solution="answer = min(0.6, 0.4) + min(0.3, 0.3) + min(0.1, 0.3)",
        wrong="answer = 0.6 * 0.4 + 0.3 * 0.3 + 0.1 * 0.3",
    ),
    Exercise(
        id="06.4",
        task=(
            "Write `verify(guess, best)`: `guess` are n tokens, `best` the n + 1 tokens that the target "
            "finds likeliest at the same places and after them. It returns the list of tokens that the "
            "round brings. Then `answer = verify`."
        ),
        check=_verifies,
        hints=(
            "Walk along both lists as long as they agree.",
            "The target's own token stands at the first place where they differ, or after the last guess.",
        ),
        solution=(
            "def verify(guess, best):\n"
            "    kept = 0\n"
            "    while kept < len(guess) and guess[kept] == best[kept]:\n"
            "        kept += 1\n"
            "    return best[: kept + 1]\n"
            "\n"
            "answer = verify"
        ),
        wrong=(
            "def verify(guess, best):\n"
            "    return [g for g, b in zip(guess, best) if g == b] + best[-1:]\n"
            "\n"
            "answer = verify"
        ),
    ),
    Exercise(
        id="06.5",
        task=(
            "A device guesses 4 tokens, 3 ms each. The cloud makes a token in 40 ms and checks five in 50 "
            "ms. A round brings 2.6 tokens. At which round trip is this just as fast as the cloud alone, "
            "which streams?"
        ),
        check=number(
            2.6 * 40 - 50 - 12,
            unit="ms",
            traps={
                54: "The guesses take time, too.",
                104: "That is how long a round may take in all.",
                92: "And the check?",
                21: "One round trip a round: there and back is one.",
                51: "There are four guesses, 3 ms each.",
            },
        ),
        hints=(
            "In which time does the cloud alone make 2.6 tokens?",
            "104 ms; the round itself takes 12 + 50. What is left is for the network.",
        ),
        solution="answer = 2.6 * 40 - 50 - 4 * 3",
        wrong="answer = 2.6 * 40 - 50",
    ),
)
