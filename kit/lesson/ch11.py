"""Exercises of chapter 11: the gap, a cascade's time, two mistakes of real routers, a policy of one's own."""

from __future__ import annotations

from kit.lesson.exercises import Exercise, number


def _first_token(answer: object) -> str | None:
    """Is the reader's latency of an attempt the time to its first token, however long the answer is?"""
    from kit.policy import Attempt, Target

    if not callable(answer):
        return f"The answer must be a function of one attempt, got {answer!r}."
    quick = Attempt(Target("a"), "answered", latency_ms=400, ttft_ms=200, output_tokens=10)
    slow = Attempt(Target("b"), "answered", latency_ms=4000, ttft_ms=800, output_tokens=100)
    a, b = (float(answer(attempt)) for attempt in (quick, slow))  # type: ignore[arg-type]
    if b < a:
        return (
            f"a starts after 200 ms and counts {a:g}, b starts after 800 ms and counts {b:g}: b would be "
            "chosen, because it talks more. Does the first token come later in a longer answer?"
        )
    if (a, b) == (400, 4000):
        return "That is the whole answer. The task is about the first token."
    if (a, b) != (200, 800):
        return f"a must count 200 and b 800, got {a:g} and {b:g}."
    return None


def _rest(answer: object) -> str | None:
    """Does the reader's rule honour Retry-After, and keep its own rest where nothing was asked for?"""
    if not callable(answer):
        return f"The answer must be a function of three numbers, got {answer!r}."
    for now, asked, rest, until, why in (
        (100, 30, 5, 130, "it asked for 30 s: before 130 it will only refuse again."),
        (100, None, 5, 105, "it asked for nothing (None): your own rest of 5 s counts."),
        (100, 2, 5, 105, "it asked for less than your own rest: the longer one counts."),
    ):
        try:
            found = float(answer(now, asked, rest))  # type: ignore[arg-type]
        except TypeError as e:
            return f"At {now} s with Retry-After {asked} and a rest of {rest} s it fails: {e}."
        if found != until:
            return f"Failed at {now} s, Retry-After {asked}, rest {rest} s: until {found:g} s? But {why}"
    return None


def _policy(answer: object) -> str | None:
    """Does the reader's policy recover most of the gap with few calls, and never send what is private?"""
    from kit import route
    from kit.policy import PolicyError

    if not hasattr(answer, "route"):
        return f"The answer must be a policy: an object with a method route, got {answer!r:.60}."
    try:
        found = route.evaluate(route.home(), {"yours": answer}, seeds=(7,), bare=True).measured  # type: ignore
    except PolicyError as e:
        return str(e)
    yours, edge, cloud = (found[name][0] for name in ("yours", "always_edge", "always_cloud"))
    if yours.leaks:
        return f"{yours.leaks:.1%} of the requests went where they must not: look at request.privacy."
    if yours.cloud_rate > 0.5:
        return (
            f"{yours.cloud_rate:.0%} of the requests went to the cloud, at most 50% may. Who is sure at home?"
        )
    best = max(edge.quality, cloud.quality)
    if yours.quality < edge.quality + 0.01:
        return (
            f"{yours.quality:.1%} are right, and the edge alone has {edge.quality:.1%}, the cloud alone "
            f"{cloud.quality:.1%}. Send more of what the edge is not sure of."
        )
    return None if best > 0 else "Nothing was answered."


EXERCISES = (
    Exercise(
        id="11.1",
        task=(
            "The edge alone is right in 80% of the cases, the cloud alone in 92%, your router in 89%. Which "
            "part of the gap does it recover (PGR), from 0 to 1?"
        ),
        check=number(
            0.75,
            traps={
                75: "From 0 to 1, please.",
                89 / 92: "That compares it with the cloud only. Where does the gap begin?",
                0.25: "That is the part that is still missing.",
                0.09: "That is what was won. Divide it by the whole gap.",
            },
        ),
        hints=("The whole gap is 92 - 80.", "(89 - 80) / (92 - 80)."),
        solution="answer = (89 - 80) / (92 - 80)",
        wrong="answer = 89 / 92",
    ),
    Exercise(
        id="11.2",
        task=(
            "A cascade asks the edge first, 5 ms. For 30 of 100 requests the edge is not sure, and the cloud "
            "is asked after it, 60 ms. What is the mean latency, in ms?"
        ),
        check=number(
            23,
            unit="ms",
            traps={
                21.5: "The edge was asked by those 30, too: their answer takes 65 ms.",
                65: "That is a request that is sent on. What do the others take?",
                32.5: "30 and 70 of 100 do not count the same.",
            },
        ),
        hints=("All wait for the edge, some for the cloud as well.", "5 + 0.3 × 60."),
        solution="answer = 5 + 0.3 * 60",
        wrong="answer = 0.7 * 5 + 0.3 * 60",
    ),
    Exercise(
        id="11.3",
        task=(
            "TTFT is the time to the first token. A real router divided it by the number of tokens, so a "
            "server that starts late and writes much looked fast. Write a function of an attempt (it has "
            "latency_ms, ttft_ms, output_tokens) that returns the ms until its first token appears."
        ),
        check=_first_token,
        hints=("Is the first token later if the answer is longer?", "Return attempt.ttft_ms."),
        solution="answer = lambda attempt: attempt.ttft_ms",
        wrong="answer = lambda attempt: attempt.ttft_ms / attempt.output_tokens",
    ),
    Exercise(
        id="11.4",
        task=(
            "A full server refuses, and its header Retry-After says for how many seconds it wants to be left "
            "alone. Another real router did not listen. Write a function of (now_s, retry_after_s, rest_s) "
            "that returns the time until which this server is not asked again: rest_s from now, or longer "
            "if Retry-After asks for longer. retry_after_s is None if the server did not say."
        ),
        check=_rest,
        hints=("Take the longer of the two.", "max(retry_after_s or 0, rest_s)."),
        solution="answer = lambda now_s, retry_after_s, rest_s: now_s + max(retry_after_s or 0, rest_s)",
        wrong="answer = lambda now_s, retry_after_s, rest_s: now_s + rest_s",
    ),
    Exercise(
        id="11.5",
        task=(
            "Write a policy (an object with route(request, fleet, now, rng) that returns a Route) for the "
            "voice home: better than the edge alone by a point or more, at most half of the requests to the "
            "cloud, and nothing private to it. The edge's confidence is in request.edge_confidence."
        ),
        check=_policy,
        hints=(
            "Private first: what must stay home goes to the edge, whatever it knows.",
            'Then: if request.edge_confidence is below 0.9, route_along(("cloud", "edge")).',
        ),
        solution=(
            "from kit.policy import route_along\n\n\n"
            "class Mine:\n"
            "    def route(self, request, fleet, now, rng):\n"
            '        stay = request.privacy != "public" or request.edge_confidence >= 0.9\n'
            '        return route_along(("edge",) if stay else ("cloud", "edge"))\n\n\n'
            "answer = Mine()"
        ),
        wrong="from kit.policy import AlwaysCloud\n\nanswer = AlwaysCloud()",
    ),
)
