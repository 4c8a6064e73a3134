"""Run a scenario: as a flow if nothing comes back, else event by event. Compare, sweep, repeat."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from kit.policy import Policy
from kit.simulate import flow
from kit.simulate.events import Events
from kit.simulate.flow import Flow, NeedsEvents
from kit.simulate.policies import make, targets
from kit.simulate.results import Ledger, Result, between_runs
from kit.simulate.scenario import Scenario, Wrong
from kit.simulate.world import World


def run(
    scenario: Scenario,
    policy: Policy | None = None,
    *,
    topology: str | None = None,
    seed: int = 0,
    name: str = "",
) -> Result:
    """Simulate a scenario once.

    Args:
        scenario: what is simulated.
        policy: who decides; a copy is used, so that a policy that learns begins anew. None: as the scenario
        says.
        topology: one of the scenario's other ways, instead.
        seed: of all chance. The same seed meets the same requests, network and services, whoever decides.
        name: of the policy, for tables.

    Raises:
        Wrong: no such topology, a device about which too little is known, a request that fits no memory.
        PolicyError: the policy raised, returned something else than a route of this fleet, or took too long;
            the message says at which request.
    """
    scenario = topology_of(scenario, topology)
    decide = copy.deepcopy(policy) if policy is not None else make(scenario.policy, scenario.options)
    called = name or topology or (scenario.policy if policy is None else type(policy).__name__)
    world, used = World(scenario, seed), set(targets(scenario.options))
    if flow.possible(world, decide):
        try:
            one = Flow(world, copy.deepcopy(decide))
            parts = list(one.parts())
        except NeedsEvents:
            pass
        else:
            ledger = Ledger.join(parts) if parts else Ledger.empty()
            if (ledger.id[1:] < ledger.id[:-1]).any():
                ledger = ledger.part(np.argsort(ledger.id, kind="stable"))
            places = {
                n: world.place(k, one.busy_s[k], one.end_s if one.came[k] or n in used else 0.0)
                for k, n in enumerate(world.names)
            }
            return Result(scenario, called, seed, ledger, places, one.end_s)
    return run_events(scenario, decide, seed=seed, name=called)


def run_events(scenario: Scenario, policy: Policy, *, seed: int = 0, name: str = "") -> Result:
    """As `run`, but always event by event."""
    world = World(scenario, seed)
    events = Events(world, policy)
    ledger = events.run()
    end_s = events.end_s
    places = {}
    for k, n in enumerate(world.names):
        busy_s, there_s, peak = events.scalers[k].totals(end_s)
        there_s *= bool(events.scalers[k].came or n in targets(scenario.options))
        places[n] = world.place(k, busy_s, end_s, there_s, peak)
    return Result(scenario, name or type(policy).__name__, seed, ledger, places, end_s)


def stream(scenario: Scenario, policy: Policy | None = None, *, seed: int = 0) -> Iterator[Ledger]:
    """As `run`, but the ledger comes in pieces, in no order, and memory does not grow with the run.

    Raises:
        Wrong: something in the scenario may come back (retries, fallbacks, autoscaling), so that it is no
        flow.
    """
    decide = copy.deepcopy(policy) if policy is not None else make(scenario.policy, scenario.options)
    world = World(scenario, seed)
    if not flow.possible(world, decide):
        raise Wrong("dispatch", "only a scenario in which nothing comes back can be run in pieces.")
    yield from Flow(world, decide).parts()


def topology_of(scenario: Scenario, topology: str | None) -> Scenario:
    """The scenario with one of its other policies.

    Raises:
        Wrong: there is no such topology.
    """
    if topology is None:
        return scenario
    if topology not in scenario.topologies:
        known = ", ".join(scenario.topologies) or "none"
        raise Wrong("topologies", f"no topology is called {topology!r}; there are: {known}.")
    options = dict(scenario.topologies[topology])
    return replace(scenario, policy=options.pop("policy"), options=options)


def compare(
    scenario: Scenario, policies: Mapping[str, Policy] | None = None, *, seed: int = 0
) -> dict[str, Result]:
    """The same requests, network and services for several policies, or for all topologies of the scenario."""
    if policies is None:
        return {name: run(scenario, topology=name, seed=seed) for name in scenario.topologies}
    return {name: run(scenario, policy, seed=seed, name=name) for name, policy in policies.items()}


def repeated(
    scenario: Scenario, measure: str, seeds: Sequence[int], topology: str | None = None
) -> tuple[float, float, float]:
    """One number of the summary over several seeds: mean and 95% interval."""
    return between_runs(_value(scenario, measure, seed, topology) for seed in seeds)


def difference(
    scenario: Scenario, measure: str, one: str, other: str, seeds: Sequence[int]
) -> tuple[float, float, float]:
    """How much more ``other`` has than ``one`` (topologies), with its 95% interval.

    Both meet the same chance (common random numbers), so what is common to both does not blur the difference.
    """
    pairs = ((_value(scenario, measure, s, one), _value(scenario, measure, s, other)) for s in seeds)
    return between_runs(b - a for a, b in pairs)


def _value(scenario: Scenario, measure: str, seed: int, topology: str | None) -> float:
    return float(getattr(run(scenario, topology=topology, seed=seed).summary(), measure))
