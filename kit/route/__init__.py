"""Chapter 11: who should answer this request?

- ``latency``, ``scorers``, ``limits``, ``context``, ``cooldown``, ``bandit``, ``oracle``: policies, one
  family a file; ``names``: what files and the command line call them; ``estimates``: what they share
- ``answers``: what the real models said, recorded once by ``python -m kit.route.record``; ``curves``: quality
  over calls, with RouteLLM's measures; ``evaluation``: any policies on one workload; ``candidates``: those of
  the chapter
- ``figures``, ``tables``, ``sentences``: what a result looks like, and what it says; imported by name, since
  they draw
- ``gateway`` and ``proxy``: the live side. They need packages that policies do not, and are imported by name:
  ``from kit.route import gateway``
"""

import kit.route.names  # registers the chapter's policies  # noqa: F401
from kit.route.answers import MIX, Judged, judged
from kit.route.bandit import EpsilonGreedy
from kit.route.candidates import candidates
from kit.route.context import ContextAware, LanguageAware, When
from kit.route.cooldown import Cooldown, CooldownDeaf
from kit.route.curves import Bar, Curve, bar, choose_threshold, curve, recovered
from kit.route.evaluation import (
    BASELINES,
    MEASURES,
    Evaluation,
    Measures,
    evaluate,
    home,
    measures,
    oracle_of,
    private,
    stressed,
    sweep,
    truth,
)
from kit.route.latency import FirstToken, FirstTokenPerToken, LatencyBased
from kit.route.limits import CheapestWithinSLO, DeadlineAware
from kit.route.oracle import Oracle
from kit.route.scorers import SCORERS, WeightedScorers

__all__ = [
    "BASELINES",
    "MEASURES",
    "MIX",
    "SCORERS",
    "Bar",
    "CheapestWithinSLO",
    "ContextAware",
    "Cooldown",
    "CooldownDeaf",
    "Curve",
    "DeadlineAware",
    "EpsilonGreedy",
    "Evaluation",
    "FirstToken",
    "FirstTokenPerToken",
    "Judged",
    "LanguageAware",
    "LatencyBased",
    "Measures",
    "Oracle",
    "WeightedScorers",
    "When",
    "bar",
    "candidates",
    "choose_threshold",
    "curve",
    "evaluate",
    "home",
    "judged",
    "measures",
    "oracle_of",
    "private",
    "recovered",
    "stressed",
    "sweep",
    "truth",
]
