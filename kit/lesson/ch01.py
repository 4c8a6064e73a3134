"""Exercises of chapter 01: hashing, honest splits, temperature, thresholds."""

from kit.lesson.exercises import Exercise, number

EXERCISES = (
    Exercise(
        id="01.1",
        task=(
            "The bytes of 'on' are 111 and 110. The rolling hash of a pair is (last byte + 257 × the byte "
            "before) modulo the number of buckets. With 1009 buckets, which bucket does 'on' get?"
        ),
        check=number(
            (110 + 257 * 111) % 1009,
            within=0.0001,
            traps={
                (111 + 257 * 110)
                % 1009: "That is the bucket of 'no': the last byte comes without the factor.",
                110 + 257 * 111: "That is before the modulo: divide by 1009 and keep the remainder.",
                (110 + 257 * 111) // 1009: "That is the quotient. Keep the remainder: % in Python.",
            },
        ),
        hints=(
            "The last byte of 'on' is n, 110.",
            "Python's % gives the remainder: (110 + 257 * 111) % 1009.",
        ),
        solution="answer = (110 + 257 * 111) % 1009",
        wrong="answer = (111 + 257 * 110) % 1009",
    ),
    Exercise(
        id="01.2",
        task=(
            "A colleague fills 800 templates with 25 phrases each, shuffles the 20,000 sentences, and takes "
            "20 percent of them for the test. How many of the 800 templates do you expect in the test AND "
            "in training? (Round to a whole number.)"
        ),
        check=number(
            797,
            within=0.001,
            traps={
                800: "Nearly. How many templates do you expect to be missing on one side?",
                160: "A split by template would hold back that many. Here sentences are shuffled.",
                640: "80 percent of the sentences train. But one sentence is enough to know a template.",
                0: "Zero would be the honest split. Shuffled sentences of one template land on both sides.",
            },
        ),
        hints=(
            "A template is missing from training only if all 25 of its sentences fall into the test.",
            "The chance that none of its 25 sentences is in the test is 0.8 to the power of 25, about 0.004.",
        ),
        solution="answer = 800 * (1 - 0.8**25 - 0.2**25)",
        wrong="answer = 800 * 0.2",
    ),
    Exercise(
        id="01.3",
        task=(
            "For one sentence the two best logits are 3.0 and 1.0; the others do not matter. Without "
            "temperature the model is 88% sure (a probability is e to the logit, divided by the sum of e to "
            "all logits). How sure is it, as a fraction, at a temperature of 0.75?"
        ),
        check=number(
            0.935,
            within=0.01,
            traps={
                0.881: "That is at a temperature of 1.",
                0.818: "You multiplied by 0.75. A temperature divides the logits.",
                93.5: "Right, in percent. Give a fraction, between 0 and 1.",
            },
        ),
        hints=("Divide both logits by 0.75 first.", "With two classes: 1 / (1 + exp(-(3 - 1) / 0.75))."),
        setup="import numpy as np",
        solution="answer = 1 / (1 + np.exp(-(3 - 1) / 0.75))",
        wrong="answer = 1 / (1 + np.exp(-(3 - 1) * 0.75))",
    ),
    Exercise(
        id="01.4",
        task=(
            "A home says 100 commands and 20 other things a day. The device acts if its score is above a "
            "threshold, and sends the rest to the cloud. At this threshold it acts on 96% of the commands, "
            "of which 90% are right, and on 10% of the other things. How many wrong actions does it take "
            "in a day?"
        ),
        check=number(
            11.6,
            traps={
                9.6: "You counted the commands that went wrong. What about the other things it acted on?",
                10: "Only 96 of the 100 commands are acted on. And what about the other things?",
                12: "Only 96 of the 100 commands are acted on.",
                2: "Those are the other things. Commands go wrong, too.",
            },
        ),
        hints=(
            "Two kinds of wrong actions: commands misread, and talk taken for a command.",
            "96 × 0.1 + 20 × 0.1",
        ),
        solution="answer = 100 * 0.96 * (1 - 0.90) + 20 * 0.10",
        wrong="answer = 100 * (1 - 0.90) + 20 * 0.10",
    ),
)
