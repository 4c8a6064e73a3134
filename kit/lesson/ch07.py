"""Exercises of chapter 07: what rows bring, what static batches waste, a rule, padding, precomputing."""

from kit.lesson.exercises import Exercise, number


def _starts_pairs(answer: object) -> str | None:
    """Does the reader's rule start two at once, or one that has waited long enough, and never in between?"""
    from kit.batch import Queue

    if not callable(answer):
        return f"The answer must be your function: `answer = pairs`, got {type(answer).__name__}."
    cases = (
        ((2, 0.0, 0), 2, "Two wait and nobody runs: both can start."),
        ((5, 0.0, 0), 2, "Five wait: a pair starts, no more."),
        ((1, 0.05, 0), 0, "One waits, for 0.05 s only: it waits on for a second one."),
        ((1, 0.1, 0), 1, "One has waited for 0.1 s: it starts alone."),
        ((0, 0.0, 0), 0, "Nobody waits: nobody can start."),
        ((3, 9.0, 1), 0, "Somebody runs still: nobody may start, however long they have waited."),
    )
    for (waiting, oldest_s, running), expected, why in cases:
        got = answer(Queue(waiting, oldest_s, running, rows=2, closing=False))
        if got != expected:
            return f"{why} Your rule takes {got!r}, expected {expected}."
    return None


EXERCISES = (
    Exercise(
        id="07.1",
        task=(
            "A step with one row takes 10 ms, and a step with eight rows 25 ms. How many times as many "
            "tokens "
            "per second do eight rows make?"
        ),
        check=number(
            3.2,
            traps={
                2.5: "That is how many times longer the step takes. How many tokens does it make?",
                8: "That would be right if the step with eight rows took 10 ms, too.",
                0.4: "Per second: fewer milliseconds per token are more tokens per second.",
                20: "That is 8 × 2.5. But a longer step makes fewer tokens per second.",
            },
        ),
        hints=("How many tokens does each make in a second?", "100 tokens, and 8 × 40 tokens."),
        solution="answer = (8 / 0.025) / (1 / 0.010)",
        wrong="answer = 25 / 10",
    ),
    Exercise(
        id="07.2",
        task=(
            "Four answers run in a static batch. They need 10, 40, 20 and 10 steps, and rows stay until the "
            "longest is done. Which part of the row-steps is wasted, in percent?"
        ),
        check=number(
            50,
            unit="percent",
            traps={
                0.5: "In percent, please.",
                80: "So many row-steps are useful (or wasted). What part is that of all of them?",
                75: "Three of the four rows end early, but each of them is useful for a while.",
                100: "That is wasted over useful. The part of *all* row-steps is asked for.",
            },
        ),
        hints=("How many row-steps does the batch take, up to the end?", "4 × 40 in all; 80 are useful."),
        solution="answer = 100 * (1 - (10 + 40 + 20 + 10) / (4 * 40))",
        wrong="answer = 75",
    ),
    Exercise(
        id="07.3",
        task=(
            "Write a rule `pairs(queue)`: while somebody runs, nobody starts. Else two start as soon as two "
            "wait; one that has waited for 0.1 s starts alone. It returns how many may start. A queue has "
            "`waiting`, `oldest_s` and `running`. Then `answer = pairs`."
        ),
        check=_starts_pairs,
        hints=(
            "Look at `take_in_time` in section 2; the number of rows is 2.",
            "Three cases: `if queue.running`, `if queue.waiting >= 2`, and the waiting time.",
        ),
        solution=(
            "def pairs(queue):\n"
            "    if queue.running:\n"
            "        return 0\n"
            "    if queue.waiting >= 2:\n"
            "        return 2\n"
            "    return 1 if queue.waiting and queue.oldest_s >= 0.1 else 0\n"
            "\n"
            "answer = pairs"
        ),
        wrong=(
            "def pairs(queue):\n"
            "    return 2 if queue.waiting >= 2 or queue.oldest_s >= 0.1 else 0\n"
            "\n"
            "answer = pairs"
        ),
    ),
    Exercise(
        id="07.4",
        task=(
            "Eight sentences have 4, 20, 5, 19, 6, 18, 7 and 17 tokens. They go in batches of two, and the "
            "shorter one is padded. How many positions fewer are read if the sentences are sorted by length "
            "first?"
        ),
        check=number(
            48,
            within=1e-6,
            unit="positions",
            traps={
                148: "So many are read in the order given. How many are read once they are sorted?",
                100: "So many are read once they are sorted. How many before?",
                52: "That is the padding in the order given. Sorted, a little padding is left.",
                24: "Each batch has two rows of that length.",
            },
        ),
        hints=(
            "A batch of two reads twice as many positions as its longer sentence has tokens.",
            "In order: 2 × (20 + 19 + 18 + 17). Sorted, the pairs are (4, 5), (6, 7), (17, 18), (19, 20).",
        ),
        solution=(
            "tokens = [4, 20, 5, 19, 6, 18, 7, 17]\n"
            "\n"
            "def positions(t):\n"
            "    return sum(2 * max(t[i : i + 2]) for i in range(0, len(t), 2))\n"
            "\n"
            "answer = positions(tokens) - positions(sorted(tokens))"
        ),
        wrong="answer = 52",
    ),
    Exercise(
        id="07.5",
        task=(
            "People can ask 5,000 different things. A live answer costs 1.00 USD per million, one from a "
            "nightly batch 0.20 USD per million. A look-up costs nothing. After how many requests is it "
            "cheaper "
            "to have precomputed all 5,000 than to calculate every request live?"
        ),
        check=number(
            1000,
            unit="requests",
            traps={
                5000: "Then both would cost the same per answer. But the nightly ones cost a fifth.",
                25000: "The other way round: a precomputed answer is the cheaper one.",
                6250: "You divided by what is saved per answer. But then a request costs 0.",
                0.001: "That is the cost of precomputing in USD. How many live answers does it buy?",
            },
        ),
        hints=("What does it cost to precompute all?", "5,000 × 0.20 USD per million; a request costs 1.00."),
        solution="answer = 5000 * 0.20 / 1.00",
        wrong="answer = 5000",
    ),
)
