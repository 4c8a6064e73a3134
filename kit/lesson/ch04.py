"""Exercises of chapter 04: temperature, soft targets, what zeros weigh, pruning by hand, rank."""

import numpy as np

from kit.lesson.exercises import Exercise, number


def _prunes(answer: object) -> str | None:
    """Does the reader's function set the smallest weights to zero, and leave the others alone?"""
    if not callable(answer):
        return f"The answer must be your function: `answer = prune`, got {type(answer).__name__}."
    w = np.random.default_rng(1).normal(0, 0.1, (20, 30)).astype(np.float32)
    for share in (0.5, 0.9):
        before = w.copy()
        got = np.asarray(answer(before, share))
        if not np.array_equal(before, w):
            return "Your function changed the array that it was given. Work on a copy: `w = w.copy()`."
        if got.shape != w.shape:
            return f"It must give back a matrix of the same shape: {w.shape} became {got.shape}."
        zero = got == 0
        if abs(zero.mean() - share) > 0.01:
            return f"With share={share}, {share:.0%} of the weights should be 0, and {zero.mean():.0%} are."
        if not np.array_equal(got[~zero], w[~zero]):
            return "The weights that stay must stay as they were."
        if np.abs(w[zero]).max() > np.abs(w[~zero]).min():
            return "A weight far below 0 is not small: compare absolute values."
    return None


EXERCISES = (
    Exercise(
        id="04.1",
        task=(
            "A teacher's logits for three intents are 4, 2 and 0. At temperature 2, what probability does "
            "the second intent get?"
        ),
        check=number(
            np.exp(1) / (np.exp(2) + np.exp(1) + 1),
            within=0.01,
            traps={
                0.117: "That is temperature 1. Divide the logits by 2 first.",
                24.5: "Give a probability between 0 and 1.",
                0.333: "That would be the middle of the logits; probabilities come from their exp().",
                0.0179: "You multiplied by the temperature. It makes them more alike: divide.",
            },
        ),
        hints=(
            "Divide the logits by 2: they become 2, 1 and 0.",
            "Take exp() of each, and divide by their sum.",
        ),
        solution="import numpy as np\nz = np.array([4, 2, 0]) / 2\nanswer = np.exp(z)[1] / np.exp(z).sum()",
        wrong="import numpy as np\nz = np.array([4, 2, 0])\nanswer = np.exp(z)[1] / np.exp(z).sum()",
    ),
    Exercise(
        id="04.2",
        task=(
            "The teacher says 70% LightSet and 30% TurnOn. The student says 50% and 50%. The loss is the sum "
            "of -target × ln(student) over both. What is it?"
        ),
        check=number(
            np.log(2),
            within=0.01,
            traps={
                0.485: "That is LightSet's part alone. Add TurnOn's.",
                0.611: "That is the teacher's own uncertainty: the least that the loss can become.",
                1.0: "That is the logarithm with base 2. ln is the natural one: `np.log`.",
                0.301: "That is the logarithm with base 10. ln is the natural one: `np.log`.",
            },
        ),
        hints=("ln(0.5) is -0.693, for both intents.", "0.7 × 0.693 + 0.3 × 0.693"),
        solution="import numpy as np\nanswer = -(0.7 * np.log(0.5) + 0.3 * np.log(0.5))",
        wrong="import numpy as np\nanswer = -0.7 * np.log(0.5)",
    ),
    Exercise(
        id="04.3",
        task=(
            "A matrix of 1,000 × 1,000 floats of 4 bytes is 90% zeros. CSR keeps for each number "
            "that is not zero its 4 bytes, 4 bytes for its column, and 4 bytes for each row's start (1,001 "
            "of them). How many MB is that?"
        ),
        check=number(
            (100_000 * 8 + 1001 * 4) / 1e6,
            unit="MB",
            within=0.005,
            traps={
                4: "That is the matrix with its zeros. Which numbers are kept?",
                0.4: "Each number needs its column, too, or nobody knows where it belongs.",
                0.404: "Each number needs its column, too, or nobody knows where it belongs.",
                7.2: "90% are zeros and are left out; 10% are kept.",
                7.204: "90% are zeros and are left out; 10% are kept.",
            },
        ),
        hints=("100,000 numbers stay. How many bytes does each need?", "100,000 × 8, and 1,001 × 4."),
        solution="answer = (100_000 * (4 + 4) + 1001 * 4) / 1e6",
        wrong="answer = 100_000 * 4 / 1e6",
    ),
    Exercise(
        id="04.4",
        task=(
            "Write `prune(w, share)`: it gives back a copy of the matrix `w` in which that part of the "
            "weights is 0, those with the smallest absolute value. Then `answer = prune`."
        ),
        check=_prunes,
        hints=(
            "`np.quantile(np.abs(w), share)` is the size below which a weight is cut.",
            "`np.where(np.abs(w) > limit, w, 0)`",
        ),
        setup="import numpy as np",
        solution=(
            "def prune(w, share):\n"
            "    limit = np.quantile(np.abs(w), share)\n"
            "    return np.where(np.abs(w) > limit, w, 0)\n"
            "\n"
            "answer = prune"
        ),
        wrong=(
            "def prune(w, share):\n"
            "    limit = np.quantile(w, share)\n"
            "    return np.where(w > limit, w, 0)\n"
            "\n"
            "answer = prune"
        ),
    ),
    Exercise(
        id="04.5",
        task=(
            "A table of votes has 16,381 rows and 38 columns. It becomes the product of a table with 16 "
            "columns and a small matrix. How many numbers are stored then?"
        ),
        check=number(
            16_381 * 16 + 16 * 38,
            within=0.0001,
            traps={
                622478: "That is the table as it was: 16,381 × 38.",
                262096: "And the small matrix, from 16 numbers to 38?",
            },
        ),
        hints=("Two parts: 16,381 × 16, and the small matrix.", "The small matrix is 16 × 38."),
        solution="answer = 16_381 * 16 + 16 * 38",
        wrong="answer = 16_381 * 16",
    ),
)
