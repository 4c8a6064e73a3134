"""Edge against cloud, simulated: under real networks, queues and outages, with answers at once.

A `Scenario` (a TOML file in ``datasets/scenarios/``) says who asks, over which links, which places can
answer and what was promised. `run` simulates it and gives a `Result`. It needs NumPy only.

How it is built: ``workload`` (who asks), ``network`` (links), ``services`` (what a request needs where),
``stations`` and ``llm`` (queues), ``flow`` (one way, fast), ``events`` (with everything that comes back, on
the kit's `Dispatcher`), ``results``, ``theory``.

Not here: links that many requests share and fill, prompts read in pieces, round trips that depend on the
one before.
"""

from kit.simulate.changes import apply, sweep_values
from kit.simulate.checks import warnings
from kit.simulate.files import ScenarioError, load, names, parse
from kit.simulate.policies import POLICIES
from kit.simulate.results import PARTS, Result, Summary, between_runs, interval
from kit.simulate.run import compare, difference, repeated, run, run_events, stream
from kit.simulate.scenario import (
    Autoscale,
    Class,
    Dispatch,
    Link,
    Objectives,
    Outage,
    Scenario,
    Tier,
    Workload,
    Wrong,
)

__all__ = [
    "PARTS",
    "POLICIES",
    "Autoscale",
    "Class",
    "Dispatch",
    "Link",
    "Objectives",
    "Outage",
    "Result",
    "Scenario",
    "ScenarioError",
    "Summary",
    "Tier",
    "Workload",
    "Wrong",
    "apply",
    "between_runs",
    "compare",
    "difference",
    "interval",
    "load",
    "names",
    "parse",
    "repeated",
    "run",
    "run_events",
    "stream",
    "sweep_values",
    "warnings",
]
