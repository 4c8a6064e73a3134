"""Exercises of chapter 00: round trips and budgets, with pencil and paper or with Python."""

from kit.lesson.exercises import Exercise, number

EXERCISES = (
    Exercise(
        id="00.1",
        task=(
            "An assistant asks the cloud several questions, one after the other. Each takes a round trip "
            "of 40 ms and 2 ms of computing. How many fit in a budget of 100 ms?"
        ),
        check=number(
            2,
            traps={
                100 / 42: "The division is right. But does a part of a question count?",
                100 / 40: "Each question also computes for 2 ms. And does a part of a question count?",
                3: "Three would take 3 × 42 ms. Is that still within 100 ms?",
            },
        ),
        hints=("How long does one question take, with its computing?", "Divide 100 by that, and round down."),
        solution="answer = 100 // (40 + 2)",
        wrong="answer = 100 / 40",
    ),
    Exercise(
        id="00.2",
        task=(
            "A cloud is 5 ms away (round trip) and computes for 2 ms. But 2 in 100 requests lose a packet, "
            "and wait 200 ms longer. Below which latency, in ms, does a device beat the cloud's mean?"
        ),
        check=number(
            11,
            unit="ms",
            traps={
                7: "That is the cloud on a good day. Add the mean of what lost packets cost.",
                207: "That is one unlucky request. How many are unlucky?",
                6.86: "The 7 ms are paid by every request; the lost ones pay 200 ms on top.",
            },
        ),
        hints=(
            "The mean is what every request pays, plus the extra times how often it is paid.",
            "5 + 2, plus 2 hundredths of 200.",
        ),
        solution="answer = 5 + 2 + 0.02 * 200",
        wrong="answer = 5 + 2",
    ),
    Exercise(
        id="00.3",
        task=(
            "A far cloud answers after 40 ms of network and 2 ms of computing, plus a jitter of any value "
            "from 0 to 80 ms, each value as likely as the other. Which fraction of the requests takes longer "
            "than 100 ms?"
        ),
        check=number(
            0.275,
            traps={
                0.725: "That is the fraction that meets the budget.",
                27.5: "Right, in percent. Give a fraction, between 0 and 1.",
                0.25: "Did you count the 2 ms of computing?",
                0.5: "The mean is 82 ms. How far into the jitter lies 100 ms?",
            },
        ),
        hints=(
            "How much jitter uses up the budget?",
            "A request is late if its jitter is above 100 - 42 = 58 ms. Which part of 0 to 80 is that?",
        ),
        solution="answer = (80 - (100 - 40 - 2)) / 80",
        wrong="answer = (100 - 40 - 2) / 80",
    ),
)
