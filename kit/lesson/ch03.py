"""Exercises of chapter 03: steps and codes, bytes of a block, what an outlier does, why 4 times is less."""

import numpy as np

from kit.lesson.exercises import Exercise, number


def _rounds(answer: object) -> str | None:
    """Does the reader's function round to 2**bits values with one scale, and turn them back?"""
    if not callable(answer):
        return f"The answer must be your function: `answer = round_to`, got {type(answer).__name__}."
    w = np.random.default_rng(1).normal(0, 0.1, 400).astype(np.float32)
    for bits in (8, 4, 3):
        got = np.asarray(answer(w, bits))
        if got.shape != w.shape:
            return f"It must give back as many weights as it got: {w.shape} became {got.shape}."
        if np.abs(got).max() > 3 * np.abs(w).max():
            return "These look like codes. Multiply by the scale again, so that they are weights."
        most = 2 ** (bits - 1) - 1
        step = np.abs(w).max() / most
        if np.abs(got - w).max() > step * 0.51:
            return (
                f"With {bits} bits a weight moved by {np.abs(got - w).max() / step:.2f} steps; half a step "
                "is the most that rounding to the nearest can do."
            )
        if len(np.unique(np.round(got / step, 3))) > 2 * most + 1:
            return f"{bits} bits allow {2 * most + 1} values around 0, and there are more in your answer."
    return None


EXERCISES = (
    Exercise(
        id="03.1",
        task=(
            "Weights lie between -0.6 and 1.95, and 8 bits make codes from 0 to 255: -0.6 becomes 0, and "
            "1.95 becomes 255. Which code stands for the weight 0?"
        ),
        check=number(
            60,
            within=1e-6,
            traps={
                0: "The code 0 stands for the smallest weight, -0.6.",
                127.5: "That is the middle of the codes. But 0 is not in the middle of the weights.",
                128: "That is the middle of the codes. But 0 is not in the middle of the weights.",
                0.01: "That is the size of a step. How many steps lie between -0.6 and 0?",
            },
        ),
        hints=(
            "How large is a step? 255 steps lead from -0.6 to 1.95.",
            "How many steps lead from -0.6 to 0?",
        ),
        solution="scale = (1.95 + 0.6) / 255\nanswer = round(0.6 / scale)",
        wrong="answer = 128",
    ),
    Exercise(
        id="03.2",
        task=(
            "Weights of 4 bits stand in blocks of 32, and each block keeps one scale of 2 bytes. How many "
            "bits does a weight take, all counted?"
        ),
        check=number(
            4.5,
            unit="bits",
            traps={
                4: "And the scale of the block? Its bytes are shared by 32 weights.",
                6: "The scale has 2 bytes for the whole block, not 2 bits for each weight.",
                4.0625: "2 bytes are 16 bits.",
                5: "That would be a scale of 4 bytes. In the file it has 2.",
            },
        ),
        hints=("How many bits does a whole block take?", "32 × 4 bits, and 16 for the scale; then divide."),
        solution="answer = (32 * 4 + 16) / 32",
        wrong="answer = 4",
    ),
    Exercise(
        id="03.3",
        task=(
            "Write `round_to(w, bits)`: it rounds an array of weights to `bits` bits with one scale, the "
            "same number of steps to both sides of 0 (127 for 8 bits, 7 for 4), and gives the rounded "
            "weights back as floats. Then `answer = round_to`."
        ),
        check=_rounds,
        hints=(
            "One step is the largest absolute weight, divided by 2 ** (bits - 1) - 1.",
            "Divide by the step, `np.rint`, and multiply by the step again.",
        ),
        setup="import numpy as np",
        solution=(
            "def round_to(w, bits):\n"
            "    step = np.abs(w).max() / (2 ** (bits - 1) - 1)\n"
            "    return np.rint(w / step) * step\n"
            "\n"
            "answer = round_to"
        ),
        wrong=(
            "def round_to(w, bits):\n"
            "    step = np.abs(w).max() / (2 ** (bits - 1) - 1)\n"
            "    return np.rint(w / step)\n"
            "\n"
            "answer = round_to"
        ),
    ),
    Exercise(
        id="03.4",
        task=(
            "One input of a matrix is 3000; all others lie between -3 and 3. One scale for all of them, 127 "
            "steps to each side of 0. How many different values are left for the others?"
        ),
        check=number(
            1,
            within=1e-6,
            traps={
                254: "So many steps there are. But how large is one, if 127 of them must reach 3000?",
                255: "So many values there are. But how far apart are they, if the largest is 3000?",
                3: "A step is about 24. Does 3 lie nearer to 24 or to 0?",
                0: "They do get a value. Which one is nearest to all of them?",
            },
        ),
        hints=("How large is one step?", "A step is 3000 / 127, about 24. What are -3 and 3 rounded to?"),
        solution=(
            "import numpy as np\n"
            "step = 3000 / 127\n"
            "answer = len(set(np.round(np.linspace(-3, 3, 100) / step) + 0.0))"
        ),
        wrong="answer = 255",
    ),
    Exercise(
        id="03.5",
        task=(
            "A model spends 60% of its time in matrix products, and the rest elsewhere. INT8 makes the "
            "products 4 times faster. How many times faster is the whole model?"
        ),
        check=number(
            1 / (0.4 + 0.6 / 4),
            traps={
                4: "Only 60% of the time became 4 times shorter.",
                2.4: "Add up times, not speeds: which part of the old time is left?",
                2.8: "Add up times, not speeds: which part of the old time is left?",
                0.55: "That is the time that is left. How many times faster is that?",
            },
        ),
        hints=(
            "Let the model take 100 ms. How long do the products take afterwards, and the rest?",
            "40 ms stay, and 60 ms become 15. This is Amdahl's law.",
        ),
        solution="answer = 1 / (0.4 + 0.6 / 4)",
        wrong="answer = 0.6 * 4 + 0.4",
    ),
)
