"""Exercises of chapter 00: round trips, bad luck and budgets, with pencil and paper or with Python."""

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
            "A cloud is 5 ms away (round trip) and computes for 2 ms. But 2 in 100 requests are lost, sent a "
            "second time, and so take 200 ms longer. How long, in ms, may a device compute to be as fast as "
            "the cloud is in the mean?"
        ),
        check=number(
            11,
            unit="ms",
            traps={
                7: "That is the cloud on a good day. Add what the lost requests cost in the mean.",
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
            "Your service promises that 95% of the answers are there within 100 ms. The cloud computes for "
            "2 ms and the jitter is 20 ms. How long may the round trip without jitter be, in ms? The share "
            "that is in time is `start_here.what_if(round_trip_ms=…, jitter_ms=20, device_ms=0, "
            "cloud_ms=2).cloud_within`. (The device does not matter here.)"
        ),
        check=number(
            38.1,
            within=0.02,
            unit="ms",
            traps={
                98: "That leaves no room for jitter at all.",
                78: "The jitter is 20 ms on average, but one answer in twenty has three times that.",
                84.1: "At this distance half of the answers are in time. The promise is 95%.",
                0.95: "That is the share. Which round trip makes it so?",
            },
        ),
        hints=(
            "Try some: is the share at a round trip of 10 ms above 0.95? At 90 ms?",
            "Give `what_if` many round trips at once, `np.arange(0, 100, 0.1)`, and take the largest one "
            "whose share is at least 0.95.",
        ),
        setup="import numpy as np\nfrom kit import start_here",
        solution=(
            "round_trips = np.arange(0, 100, 0.1)\n"
            "shares = start_here.what_if(round_trip_ms=round_trips, jitter_ms=20, device_ms=0, cloud_ms=2)\n"
            "in_time = shares.cloud_within\n"
            "answer = round_trips[in_time >= 0.95].max()"
        ),
        wrong="answer = 100 - 2 - 20",
    ),
)
