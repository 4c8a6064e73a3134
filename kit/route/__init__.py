"""Chapter 11: who should answer this request?

- ``latency``, ``scorers``, ``limits``, ``context``, ``cooldown``, ``bandit``, ``oracle``: policies, one
  family a file; ``names``: what files and the command line call them; ``estimates``: what they share
- ``gateway`` and ``proxy``: the live side. They need packages that policies do not, and are imported by name:
  ``from kit.route import gateway``
"""

import kit.route.names  # registers the chapter's policies  # noqa: F401
from kit.route.bandit import EpsilonGreedy
from kit.route.context import ContextAware, LanguageAware, When
from kit.route.cooldown import Cooldown, CooldownDeaf
from kit.route.latency import FirstToken, FirstTokenPerToken, LatencyBased
from kit.route.limits import CheapestWithinSLO, DeadlineAware
from kit.route.oracle import Oracle
from kit.route.scorers import SCORERS, WeightedScorers

__all__ = [
    "SCORERS",
    "CheapestWithinSLO",
    "ContextAware",
    "Cooldown",
    "CooldownDeaf",
    "DeadlineAware",
    "EpsilonGreedy",
    "FirstToken",
    "FirstTokenPerToken",
    "LanguageAware",
    "LatencyBased",
    "Oracle",
    "WeightedScorers",
    "When",
]
