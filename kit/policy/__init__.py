"""The words of routing: what a policy may know, what it decides, and how a decision is carried out.

A **policy** chooses: it looks at one request and at the fleet, and returns a `Route`. A
**dispatcher** carries the route out: retries, time limits, hedges, escalation, fallback. Neither
reads a clock or touches a network. A **driver** does that for them: the simulator with simulated
events, the gateway with real ones. So the very same policy runs in both worlds.

Not here: real policies beyond the two simplest, and a real dispatcher. Chapters bring them.
"""

from kit.policy.dispatch import (
    Action,
    Answer,
    Answered,
    Dispatcher,
    Event,
    Failed,
    GiveUp,
    SendTo,
    Sent,
    TimePassed,
    WaitUntil,
)
from kit.policy.rules import AlwaysCloud, AlwaysEdge, LearningPolicy, Policy, StatelessPolicy, tell
from kit.policy.words import FleetView, Outcome, Privacy, Request, Route, Status, Target, TierKind, TierView

__all__ = [
    "Action",
    "AlwaysCloud",
    "AlwaysEdge",
    "Answer",
    "Answered",
    "Dispatcher",
    "Event",
    "Failed",
    "FleetView",
    "GiveUp",
    "LearningPolicy",
    "Outcome",
    "Policy",
    "Privacy",
    "Request",
    "Route",
    "SendTo",
    "Sent",
    "StatelessPolicy",
    "Status",
    "Target",
    "TierKind",
    "TierView",
    "TimePassed",
    "WaitUntil",
    "tell",
]
