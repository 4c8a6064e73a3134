"""Exercises of chapter 10: busy servers, bytes, servers needed, an outage, and a scenario of one's own."""

from kit.lesson.exercises import Exercise, number


def _fast_enough(answer: object) -> str | None:
    """Do the reader's changes keep the cloud within 80 ms, with all the work and at a possible distance?"""
    from kit import simulate
    from kit.simulate.network import Path

    if isinstance(answer, str):
        answer = [answer]
    if not isinstance(answer, list | tuple) or not all(isinstance(a, str) for a in answer):
        return f'The answer must be a list of changes, as in ["servers=2"], got {answer!r}.'
    card = simulate.load("card_fraud")
    if any(word in a for a in answer for word in ("slo", "requests_per_s", "topolog", "path", "seconds")):
        return "The objective, the payments and the way there are given. Change a link or a place."
    try:
        changed = simulate.apply(card, answer)
        summary = simulate.run(changed, topology="all_cloud").summary()
    except ValueError as e:
        return str(e)
    tier = changed.tiers["cloud"]
    if Path(tier.path, changed.links).median_rtt_ms() < 12:
        return "So short a round trip is no other region: light needs 1 ms for 100 km there and back."
    if summary.answered < 0.99 * summary.requests:
        return f"Only {summary.availability:.0%} of the payments are answered now."
    if summary.p99_ms > 80:
        return f"P99 is {summary.p99_ms:.1f} ms, and 80 is promised. What is the largest part of it?"
    return None


EXERCISES = (
    Exercise(
        id="10.1",
        task=(
            "A model needs 20 ms for a request (exponential), and 40 requests come per second, at random. "
            "With one server, M/M/1, how many ms does a request stay on average? The stay is service / (1 "
            "- busy)."
        ),
        check=number(
            100,
            unit="ms",
            traps={
                20: "That is the service alone. How busy is the server?",
                80: "That is the wait. The service comes on top.",
                25: "Busy is 40 × 0.020 = 0.8; divide by what is left.",
                0.1: "In ms, please.",
            },
        ),
        hints=("How busy is it? 40 requests of 0.020 s in each second.", "20 / (1 - 0.8)."),
        solution="busy = 40 * 0.020\nanswer = 20 / (1 - busy)",
        wrong="answer = 80",
    ),
    Exercise(
        id="10.2",
        task=(
            "A picture of 150 kB goes to a cloud: round trip 30 ms, upload 15 Mbit/s, model 10 ms; the "
            "answer is tiny. How many ms does it take?"
        ),
        check=number(
            120,
            unit="ms",
            traps={
                40: "The picture's bytes take time too: 150 kB at 15 Mbit/s.",
                50: "150 kB are 1,200 kbit: a byte has 8 bits.",
                150: "A round trip is there and back: count it once.",
                105: "A round trip is there and back: the whole of it counts.",
            },
        ),
        hints=("150,000 × 8 bits over 15,000,000 bits per second.", "80 ms for the bytes, 30 and 10."),
        solution="answer = 150_000 * 8 / 15e6 * 1000 + 30 + 10",
        wrong="answer = 50",
    ),
    Exercise(
        id="10.3",
        task=(
            "Kubernetes' formula is servers × busy / target, rounded up. 6 servers, 0.9 of each is busy, "
            "and the target is 0.6. How many servers does it want?"
        ),
        check=number(
            9,
            within=1e-6,
            unit="servers",
            traps={
                4: "That is the other way round: they are too busy.",
                10: "6 × 0.9 / 0.6, rounded up only if it is not whole.",
                6: "They are busier than the target says, so it wants more.",
            },
        ),
        hints=("desired = ceil(current × busy / target).", "6 × 0.9 / 0.6 = 9."),
        solution="import math\n\nanswer = math.ceil(round(6 * 0.9 / 0.6, 6))",
        wrong="answer = 4",
    ),
    Exercise(
        id="10.4",
        task=(
            "A link works for 50 minutes and then fails for 5 minutes, on average, again and again. "
            "Requests that need it fail while it is down. Which availability can the cloud behind it have "
            "at most, in percent?"
        ),
        check=number(
            100 * 50 / 55,
            within=0.002,
            unit="percent",
            traps={
                90: "It is down for 5 of 55 minutes, not of 50.",
                9.09: "That is the part in which it is down.",
                0.909: "In percent, please.",
            },
        ),
        hints=("How long is one round of working and failing?", "50 of 55 minutes."),
        solution="answer = 100 * 50 / (50 + 5)",
        wrong="answer = 90",
    ),
    Exercise(
        id="10.5",
        task=(
            "The scenario card_fraud promises 80 ms for 99 of 100 payments; its topology all_cloud misses "
            "it. Write a list of changes, as for `simulate.apply`, with which all_cloud keeps it. Look "
            'first: `figures.means(simulate.compare(simulate.load("card_fraud")))`.'
        ),
        check=_fast_enough,
        hints=(
            "More servers do not help: nobody waits. Where does the time go?",
            "Most of it is the link ocean. Move the cloud: network.ocean.profile=..., see studies.FAR.",
        ),
        solution='answer = ["network.ocean.profile=region_same_coast"]',
        wrong='answer = ["tiers.cloud.servers=64"]',
    ),
)
