"""A request on its way, and why it was answered so: in words for people, and for policies that learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isnan

from kit.policy import Attempt as Tried
from kit.policy import Request, Route
from kit.route.gateway.asks import Ask, Reply
from kit.route.gateway.driver import Attempt, Carried


@dataclass
class Job:
    """A request on its way.

    Attributes:
        ask: what the caller wants. ``request``: what the policy sees of it.
        begin_s: when it came, on the driver's clock.
        route, fault: what was decided; why not by the policy.
        first: the edge's answer, if it was asked before the decision.
        attempts: who was asked.
    """

    ask: Ask
    request: Request
    begin_s: float
    may_wait: bool = False
    route: Route | None = None
    fault: str = ""
    first: Reply | None = None
    attempts: list[Attempt[Reply]] = field(default_factory=list)


def tried(attempt: Attempt[Reply], end_s: float, limit_ms: float | None) -> Tried:
    """An attempt in the words of policies that learn."""
    took_ms = 1000 * ((attempt.end_s or end_s) - attempt.start_s)
    status = "answered" if attempt.reply else "failed"
    if attempt.how == "open":
        status = "timed_out" if limit_ms is not None and took_ms >= limit_ms else "open"
    tokens = attempt.reply.tokens_out if attempt.reply else 0.0
    return Tried(
        attempt.target,
        status,  # type: ignore[arg-type]
        took_ms,
        ttft_ms=took_ms if attempt.reply else None,
        output_tokens=0 if isnan(tokens) else int(tokens),
        retry_after_s=attempt.error.retry_after_s if attempt.error else None,
    )


def reason(job: Job, carried: Carried[Reply]) -> str:
    """Why this answer, in a few words."""
    answer, why = carried.answer, []
    if job.fault:
        why.append(f"the policy failed ({job.fault}), so the fallback route")
    if job.request.edge_confidence is not None:
        why.append(f"the edge said {job.request.intent} ({job.request.edge_confidence:.2f})")
    if answer is None:
        return "; ".join([*why, carried.none.reason if carried.none else ""])
    earlier = [a for a in carried.attempts if a.number < answer.number]
    later = [a for a in carried.attempts if a.number > answer.number]
    failed = [f"{a.target.tier} {a.how}" for a in earlier if a.reply is None and a.how != "open"]
    unsure = [a for a in earlier if a.reply is not None]
    if unsure:
        sure = unsure[-1].reply.confidence if unsure[-1].reply else None
        why.append(f"escalated: {unsure[-1].target.tier} was unsure ({sure:.2f})" if sure is not None else "")
    if failed:
        why.append(f"after {', '.join(failed)}")
    if silent := [a.target.tier for a in earlier if a.how == "open"]:
        hedged = job.route is not None and job.route.hedge_after_ms is not None
        who = ", ".join(silent)
        why.append(f"{who} was slower" if hedged else f"after {who} was silent for too long")
    if later and answer.reply is not None and job.route and job.route.escalate_below is not None:
        why.append("nobody surer answered")
    return "; ".join(w for w in why if w) or "first choice"
