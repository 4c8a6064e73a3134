"""The words of routing: what a policy may know, what it decides, and how a decision is carried out.

A **policy** chooses: it looks at one request and at the fleet, and returns a `Route`. A
**dispatcher** carries the route out: retries, time limits, hedges, escalation, fallback. Neither
reads a clock or touches a network. A **driver** does that for them: the simulator with simulated
events, the gateway with real ones. So the very same policy runs in both worlds.

Here are the policies that gateways ship, by name too (``named``), one dispatcher, and a guard around policies
that people write. Not here: policies that learn, which chapters bring, and the drivers.
"""

from kit.policy.baselines import (
    ALLOWED_KINDS,
    ConfidenceCascade,
    FallbackChain,
    Hedged,
    LeastBusy,
    Nearest,
    PowerOfTwoChoices,
    PrivacyFirst,
    SimpleShuffle,
    StableSplit,
    usable,
)
from kit.policy.breaker import BreakerState, CircuitBreaker
from kit.policy.carry import StandardDispatcher
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
from kit.policy.guard import Guarded, PolicyError, Watched, decide
from kit.policy.named import MAKERS, WrongPolicy, make, register, tiers_of
from kit.policy.rules import (
    AlwaysCloud,
    AlwaysEdge,
    LearningPolicy,
    Policy,
    StatelessPolicy,
    route_along,
    tell,
)
from kit.policy.settings import DispatchSettings
from kit.policy.words import (
    Attempt,
    FleetView,
    Outcome,
    Privacy,
    Request,
    Route,
    Status,
    Target,
    TierKind,
    TierView,
)

__all__ = [
    "ALLOWED_KINDS",
    "MAKERS",
    "Action",
    "AlwaysCloud",
    "AlwaysEdge",
    "Answer",
    "Answered",
    "Attempt",
    "BreakerState",
    "CircuitBreaker",
    "ConfidenceCascade",
    "DispatchSettings",
    "Dispatcher",
    "Event",
    "Failed",
    "FallbackChain",
    "FleetView",
    "GiveUp",
    "Guarded",
    "Hedged",
    "LearningPolicy",
    "LeastBusy",
    "Nearest",
    "Outcome",
    "Policy",
    "PolicyError",
    "PowerOfTwoChoices",
    "Privacy",
    "PrivacyFirst",
    "Request",
    "Route",
    "SendTo",
    "Sent",
    "SimpleShuffle",
    "StableSplit",
    "StandardDispatcher",
    "StatelessPolicy",
    "Status",
    "Target",
    "TierKind",
    "TierView",
    "TimePassed",
    "WaitUntil",
    "Watched",
    "WrongPolicy",
    "decide",
    "make",
    "register",
    "route_along",
    "tell",
    "tiers_of",
    "usable",
]
