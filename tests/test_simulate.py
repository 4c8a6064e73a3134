"""The simulator against theory, SimPy, Ciw, a plain token-by-token engine, and its own promises."""

import dataclasses
import hashlib
import heapq
import itertools
import math
import os
import subprocess
import sys

import ciw
import numpy as np
import pytest
import scipy.stats
import simpy
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kit import arrivals, artifacts, economics, facts
from kit.policy import (
    AlwaysCloud,
    AlwaysEdge,
    ConfidenceCascade,
    FallbackChain,
    Hedged,
    LeastBusy,
    Nearest,
    PowerOfTwoChoices,
    PrivacyFirst,
    Request,
    SimpleShuffle,
    StableSplit,
    Target,
)
from kit.simulate import (
    PARTS,
    Autoscale,
    Class,
    Dispatch,
    Link,
    Outage,
    Scenario,
    Tier,
    Workload,
    Wrong,
    between_runs,
    compare,
    difference,
    interval,
    repeated,
    run,
    run_events,
    stream,
    theory,
)
from kit.simulate import workload as asks
from kit.simulate.fleet import Scaler
from kit.simulate.flow import Flow
from kit.simulate.live import Hooks, Visit
from kit.simulate.llm import Engine, Speed
from kit.simulate.network import NEVER, Down, Path, either, outages
from kit.simulate.results import ANSWERED, CACHE, FAILED, NOBODY, REJECTED, TIMED_OUT, Ledger
from kit.simulate.services import kv_bytes, kv_tokens, mean_s, roofline_s, speed
from kit.simulate.stations import HOT, Fifo
from kit.simulate.studies import one_place
from kit.simulate.world import World


def examples(number):
    """How many random cases a test tries."""
    health = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=number, deadline=None, suppress_health_check=health)


def near(got, expected):
    """The same but for rounding; NaN where NaN is expected."""
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


def two_tiers(rate=50.0, seconds=60.0, **more):
    """An edge with one server, and a cloud with three behind a network."""
    tiers = {
        "edge": Tier(kind="access_edge", path=("lan",), service_ms=20, service_cv=1),
        "cloud": Tier(kind="central_cloud", path=("lan", "wan"), servers=3, service_ms=40, service_cv=1.5),
    }
    links = {
        "lan": Link(rtt_ms=2, jitter_ms=1),
        "wan": Link(profile="5g_public_urban_standing", loss_percent=1),
    }
    return Scenario(
        **{"title": "two tiers", "workload": Workload(requests_per_s=rate, seconds=seconds)}
        | {"tiers": tiers, "links": links, "policy": "least_busy"}
        | more
    )


def one_tier(tier=None, rate=10.0, seconds=100.0, **more):
    """One tier without a network."""
    tier = tier or Tier(kind="device", service_ms=50, service_cv=1)
    return Scenario(
        **{
            "title": "one tier",
            "workload": Workload(requests_per_s=rate, seconds=seconds),
            "tiers": {"edge": tier},
        }
        | more
    )


# -- theory: the formulas against other people's numbers -------------------------------------------------


def test_erlang_in_tables():
    assert theory.erlang_b(2.0, 2) == pytest.approx(0.4)  # by hand: (4/2) / (1 + 2 + 4/2)
    assert theory.erlang_b(5.0, 10) == pytest.approx(0.018385, abs=1e-6)
    assert theory.erlang_b(20.0, 30) == pytest.approx(0.0085, abs=1e-4)  # Erlang B table
    assert theory.erlang_c(8.0, 10) == pytest.approx(0.409180, abs=1e-6)  # load 0.8, 10 servers
    assert theory.erlang_c(0.7, 1) == pytest.approx(0.7)  # one server: its load


@pytest.mark.parametrize("servers", [1, 2, 5, 10])
@pytest.mark.parametrize("load", [0.3, 0.8, 0.95])
def test_mmc_is_a_birth_and_death_chain(servers, load):
    """Stationary chances of the chain, and the sojourn as a mixture that is integrated numerically."""
    rate = load * servers
    n = np.arange(3000)
    p = np.exp(np.cumsum(np.log(np.where(n, rate / np.clip(n, 1, servers), 1.0))))
    p /= p.sum()
    q = theory.mmc(rate, 1.0, servers)
    assert q.wait_tail(0) == pytest.approx(p[servers:].sum(), rel=1e-6)
    assert q.mean_wait_s == pytest.approx((p * np.maximum(n - servers, 0)).sum() / rate, rel=1e-6)
    for t in (0.5, 2.0, 6.0):
        wait = scipy.stats.poisson.cdf(n - servers, servers * t) * (n >= servers)  # n - c + 1 ends are needed
        assert q.wait_tail(t) == pytest.approx((p * wait).sum(), rel=1e-5)
        grid = (np.arange(4000) + 0.5) * t / 4000  # the wait is w, and the service lasts longer than t - w
        density = servers * p[servers] * np.exp(-(servers - rate) * grid)
        later = (density * np.exp(-(t - grid))).mean() * t
        expected = (1 - q.wait_tail(0)) * math.exp(-t) + later + q.wait_tail(t)
        assert q.sojourn_tail(t) == pytest.approx(expected, rel=1e-5)


def test_mm1_in_closed_form():
    q = theory.mmc(0.8, 1.0)
    assert q.mean_wait_s == pytest.approx(4.0)
    assert q.sojourn_quantile_s(0.99) == pytest.approx(-math.log(0.01) / 0.2)
    assert q.wait_quantile_s(0.99) == pytest.approx(-math.log(0.01 / 0.8) / 0.2)
    assert q.wait_quantile_s(0.1) == 0


@pytest.mark.parametrize(("rate", "room"), [(0.3, 3), (0.95, 5), (1.5, 4)])
def test_mm1k_is_geometric(rate, room):
    q = theory.mmck(rate, 1.0, 1, room - 1)
    p = rate ** np.arange(room + 1)
    p /= p.sum()
    assert q.loss == pytest.approx(p[-1])
    let_in = p[:-1] / p[:-1].sum()
    assert q.mean_wait_s == pytest.approx((let_in * np.arange(room)).sum())
    for t in (0.5, 3.0):
        tails = [scipy.stats.gamma.sf(t, k + 1) for k in range(room)]
        assert q.sojourn_tail(t) == pytest.approx((let_in * tails).sum())
    assert theory.mmck(rate, 1.0, 1, 0).loss == pytest.approx(theory.erlang_b(rate, 1))


def test_a_long_queue_is_as_one_without_a_bound():
    bounded, free = theory.mmck(2.4, 1.0, 3, 400), theory.mmc(2.4, 1.0, 3)
    assert bounded.mean_wait_s == pytest.approx(free.mean_wait_s, rel=1e-9)
    for t in (0.1, 1.0, 5.0):
        assert bounded.wait_tail(t) == pytest.approx(free.wait_tail(t), rel=1e-9)
        assert bounded.sojourn_tail(t) == pytest.approx(free.sojourn_tail(t), rel=1e-9)


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8, 0.95])
def test_md1_is_erlangs_series(load):
    """P(wait <= t) by Erlang 1909, in exact arithmetic (the series alternates)."""
    from fractions import Fraction
    from math import factorial

    q = theory.mg1(load, np.ones(1))
    assert q.mean_wait_s == pytest.approx(load / (2 * (1 - load)))
    for t in (Fraction(1, 2), Fraction(3, 2), Fraction(4)):
        rho = Fraction(load).limit_denominator(100)
        terms = 0.0
        for j in range(int(t) + 1):
            x = rho * (j - t)
            terms += float(x**j / factorial(j)) * math.exp(-float(x))
        assert 1 - q.wait_tail(float(t)) == pytest.approx((1 - load) * terms, abs=3e-4)


def test_mg1_with_exponential_services_is_mm1():
    services = -np.log1p(-(np.arange(20_000) + 0.5) / 20_000)
    q, known = theory.mg1(0.7, services), theory.mmc(0.7, 1.0)
    assert q.mean_wait_s == pytest.approx(known.mean_wait_s, rel=2e-3)
    assert q.wait_quantile_s(0.99) == pytest.approx(known.wait_quantile_s(0.99), rel=2e-3)
    assert q.sojourn_quantile_s(0.99) == pytest.approx(known.sojourn_quantile_s(0.99), rel=2e-3)


def test_tandem_is_a_sum_of_two_exponentials():
    q = theory.tandem(0.6, (1.0, 0.5))
    draws = np.random.default_rng(0).exponential((1 / 0.4, 1 / 1.4), (1_000_000, 2)).sum(1)
    assert q.sojourn_quantile_s(0.99) == pytest.approx(np.percentile(draws, 99), rel=0.005)
    same = theory.tandem(0.6, (1.0, 1.0))
    assert same.sojourn_quantile_s(0.99) == pytest.approx(scipy.stats.gamma.ppf(0.99, 2, scale=1 / 0.4))


def test_the_shortcut_is_wrong_and_worst_with_many_servers():
    """P99 of the wait plus the mean service, against the P99 of their sum."""

    def error(servers, load):
        exact = theory.mmc(servers * load, 1.0, servers).sojourn_quantile_s(0.99)
        return theory.shortcut_p99_s(servers * load, 1.0, servers) / exact - 1

    assert error(32, 0.6) == pytest.approx(-0.78, abs=0.01)
    assert error(1, 0.95) == pytest.approx(0, abs=0.02)
    assert all(error(c, 0.6) > error(2 * c, 0.6) for c in (1, 2, 4, 8, 16))
    assert all(error(8, low) < error(8, high) for low, high in [(0.6, 0.8), (0.8, 0.95)])


def test_an_unstable_queue_has_no_formula():
    with pytest.raises(ValueError, match="grows without end"):
        theory.mmc(2.0, 1.0, 2)
    with pytest.raises(ValueError, match="grows without end"):
        theory.mg1(1.1, np.ones(1))
    with pytest.raises(ValueError, match="above 0"):
        theory.mmc(0.0, 1.0)


# -- theory: the stations against the formulas -----------------------------------------------------------

RUNS, WARM_UP, BLOCK = 20, 30_000, 50_000
LOADS = (0.3, 0.6, 0.8, 0.95)
HYPER = (0.5 * np.array([1 - np.sqrt(0.6), 1 + np.sqrt(0.6)]), np.array([0.5, 0.5]))
"""Parts of two exponentials whose mixture, with balanced means, has cv 2."""


def through(station, arrive_s, need_s):
    """Start of every request, when a station is given them in blocks and asked in between."""
    start_s = np.empty(len(arrive_s))
    for low in range(0, len(arrive_s), BLOCK):
        rows = np.arange(low, min(low + BLOCK, len(arrive_s)))
        station.offer(rows, arrive_s[rows], need_s[rows])
        last = rows[-1] + 1 == len(arrive_s)
        done = station.advance(np.inf if last else arrive_s[low + BLOCK * 3 // 4])  # the rest is carried on
        start_s[done.row] = done.start_s
    return start_s


def poisson_times(rng, rate, n):
    return np.cumsum(rng.standard_exponential(n)) / rate


def hyper(rng, n):
    """Hyperexponential services with mean 1 and cv 2: two rates with balanced means."""
    p = np.array([HYPER[0][0], HYPER[0][1]])
    kind = (rng.random(n) < p[1]).astype(int)
    return rng.standard_exponential(n) / (2 * p[kind])


def hyper_points(n=60_000):
    """The same as equally likely points of each exponential, with the weights of `theory.mg1`."""
    u = -np.log1p(-(np.arange(n) + 0.5) / n)
    p = HYPER[0]
    return np.concatenate([u / (2 * p[0]), u / (2 * p[1])]), np.repeat(p / n, n)


def exponential(rng, n):
    return rng.standard_exponential(n)


MODELS = {  # name: (servers, queue, services, theory of a rate, requests of a run at each load)
    "M/M/1": (1, None, exponential, lambda r: theory.mmc(r, 1.0), (100_000, 300_000, 900_000, 2_000_000)),
    "M/M/2": (2, None, exponential, lambda r: theory.mmc(r, 1.0, 2), (200_000, 300_000, 900_000, 2_100_000)),
    "M/M/4": (4, None, exponential, lambda r: theory.mmc(r, 1.0, 4), (700_000, 300_000, 0, 0)),
    "M/M/10": (10, None, exponential, lambda r: theory.mmc(r, 1.0, 10), (0, 1_600_000, 1_100_000, 1_500_000)),
    "M/M/5/5": (5, 0, exponential, lambda r: theory.mmck(r, 1.0, 5, 0), (250_000, 80_000, 80_000, 80_000)),
    "M/M/1/3": (1, 2, exponential, lambda r: theory.mmck(r, 1.0, 1, 2), (250_000, 100_000, 100_000, 100_000)),
    "M/D/1": (
        1,
        None,
        lambda rng, n: np.ones(n),
        lambda r: theory.mg1(r, np.ones(1)),
        (100_000, 200_000, 600_000, 800_000),
    ),
    "M/H2/1": (
        1,
        None,
        hyper,
        lambda r: theory.mg1(r, *hyper_points()),
        (400_000, 800_000, 2_400_000, 5_500_000),
    ),
}


@dataclasses.dataclass
class Check:
    """A number of theory, and what independent runs found."""

    what: str
    load: float
    expected: float
    found: np.ndarray

    @property
    def half_width(self):
        """Of the 95% interval, as a part of the value."""
        return scipy.stats.t.ppf(0.975, RUNS - 1) * self.found.std(ddof=1) / math.sqrt(RUNS) / self.expected

    def misses(self, checks):
        """Is theory outside the interval, when so many are looked at?"""
        t = scipy.stats.t.ppf(1 - 0.025 / checks, RUNS - 1)
        return abs(self.found.mean() - self.expected) > t * self.found.std(ddof=1) / math.sqrt(RUNS)


def observed(wait, service, points):
    """Mean wait, P(wait <= t) at some points, and the P99 of the sojourn, of those that were let in."""
    known = ~np.isnan(wait)
    w, stay = wait[known], (wait + service)[known]
    n = len(stay)
    return [
        w.mean(),
        *((w <= t).mean() for t in points),
        np.partition(stay, int(0.99 * n))[int(0.99 * n)],
        1 - n / len(wait),
    ]


def expectations(q):
    points = [t for t in (q.wait_quantile_s(level) for level in (0.5, 0.9, 0.99)) if t > 0]
    return points, [q.mean_wait_s, *(1 - q.wait_tail(t) for t in points), q.sojourn_quantile_s(0.99), q.loss]


def checks_of(name):
    servers, queue, services, formula, sizes = MODELS[name]
    for number, (load, size) in enumerate(zip(LOADS, sizes, strict=True)):
        if not size:
            continue
        rate = load * servers
        points, expected = expectations(formula(rate))
        found = []
        for run_number in range(RUNS):
            rng = np.random.default_rng([7, run_number, number, *name.encode()])
            arrive, need = poisson_times(rng, rate, size + WARM_UP), services(rng, size + WARM_UP)
            wait = through(Fifo(servers, queue), arrive, need) - arrive
            found.append(observed(wait[WARM_UP:], need[WARM_UP:], points))
        names = ["mean wait", *(f"P(wait <= {t:.3g})" for t in points), "P99 sojourn", "loss"]
        for what, value, column in zip(names, expected, np.array(found).T, strict=True):
            if value > 0:
                yield Check(f"{name} {what}", load, value, column)


def checks_of_tandem():
    for load, size in zip(LOADS, (200_000, 300_000, 600_000, 900_000), strict=True):
        q, alone = theory.tandem(load, (1.0, 1.0)), theory.mmc(load, 1.0)
        found = []
        for run_number in range(RUNS):
            rng = np.random.default_rng([run_number, int(100 * load)])
            n = size + WARM_UP
            arrive, first, second = poisson_times(rng, load, n), exponential(rng, n), exponential(rng, n)
            leaves = through(Fifo(), arrive, first) + first
            wait = through(Fifo(), leaves, second) - leaves
            stay = (leaves + wait + second - arrive)[WARM_UP:]
            both = stay.mean() - (first + second)[WARM_UP:].mean()
            found.append([both, np.percentile(stay, 99), (wait[WARM_UP:] <= 3.0).mean()])
        expected = q.mean_wait_s, q.sojourn_quantile_s(0.99), 1 - alone.wait_tail(3.0)
        for what, value, column in zip(
            ("mean wait", "P99 sojourn", "P(wait <= 3)"), expected, np.array(found).T, strict=True
        ):
            yield Check(f"tandem {what}", load, value, column)


CHECKS = 150
"""At least so many are made below, so that each may be judged by itself."""


@pytest.mark.parametrize("name", [*MODELS, "tandem"])
def test_stations_agree_with_theory(name):
    """Half-widths at most 1% (3% at load 0.95), and none misses, corrected for the number of checks."""
    for check in checks_of_tandem() if name == "tandem" else checks_of(name):
        said = f"{check.what} at load {check.load}: {check.found.mean():.6g}, theory {check.expected:.6g}"
        assert check.half_width <= (0.03 if check.load == 0.95 else 0.01), f"{said}: +-{check.half_width:.2%}"
        assert not check.misses(CHECKS), said


# -- SimPy and Ciw: the same requests, one by one --------------------------------------------------------


def only_chunk(scenario, seed):
    """All requests of a scenario, and what they meet at each tier, as the simulator draws them."""
    world = World(scenario, seed)
    asked = next(asks.requests(scenario.workload, seed))
    assert len(asked) < asks.CHUNK
    return world, asked, [world.meets(k, asked, 0) for k in range(len(world.tiers))]


def with_simpy(scenario, policy, rng, seed=0):
    """The scenario as SimPy processes: who answered, when it arrived, started and ended, [n, 4]."""
    world, asked, meets = only_chunk(scenario, seed)
    env = simpy.Environment()
    pools = [simpy.Resource(env, tier.servers) for tier in world.tiers]
    d, inside, views = scenario.dispatch, [0] * len(pools), []
    late = math.ceil(d.signals_delay_s / d.signals_every_s)
    rows = np.full((len(asked), 4), np.nan)

    def signals():
        for tick in range(10**9):
            yield env.timeout(tick * d.signals_every_s - env.now)
            views.append(world.view(list(inside), env.now))

    def asks_at(i, at_s):
        yield env.timeout(at_s)
        request = world.request(int(asked.kind[i]), str(i), asked, i)
        seen = views[max(len(views) - 1 - late, 0)]
        k = world.index[policy.route(request, seen, env.now, rng).target.tier]
        yield env.timeout(float(meets[k].up_s[i]))
        arrive_s = env.now
        inside[k] += 1
        with pools[k].request() as turn:
            yield turn
            start_s = env.now
            yield env.timeout(float(meets[k].need[0][i]))
        inside[k] -= 1
        yield env.timeout(float(meets[k].down_s[i]))
        rows[i] = k, arrive_s, start_s, env.now

    env.process(signals())
    for i, at_s in enumerate(asked.at_s.tolist()):
        env.process(asks_at(i, at_s))
    env.run(until=scenario.workload.seconds + 1000)
    return rows


@pytest.mark.parametrize(
    ("policy", "purpose"), [(SimpleShuffle({"edge": 2, "cloud": 3}), "route"), (LeastBusy(), "policy")]
)
@pytest.mark.parametrize("way", [run, run_events])
@pytest.mark.parametrize("seed", [0, 1])
def test_waits_as_in_simpy(policy, purpose, way, seed):
    from kit.simulate.draws import stream as chance

    scenario = two_tiers(90, 60, dispatch=Dispatch(signals_every_s=0.5, signals_delay_s=0.7))
    g = way(scenario, policy, seed=seed).ledger
    expected = with_simpy(scenario, policy, chance(seed, purpose), seed)
    assert len(np.unique(g.tier)) == 2
    assert (g.start_s - g.arrive_s).max() > 0.2, "nobody waits: the test shows nothing"
    near(np.column_stack([g.tier, g.arrive_s, g.start_s, g.last_s]), expected)
    near(g.start_s - g.arrive_s, expected[:, 2] - expected[:, 1])


@pytest.mark.parametrize("servers", [1, 2, 7])
@pytest.mark.parametrize("way", [run, run_events])
def test_waits_as_in_ciw(servers, way):
    """Ciw is given the arrivals at each tier, behind the network, and the services."""
    tiers = {k: dataclasses.replace(t, servers=servers) for k, t in two_tiers().tiers.items()}
    scenario = two_tiers(70 * servers, 20, tiers=tiers)
    g = way(scenario, SimpleShuffle({"edge": 1, "cloud": 1})).ledger
    _, _, meets = only_chunk(scenario, 0)
    for k in range(2):
        rows = np.flatnonzero(g.tier == k)
        rows = rows[np.argsort(g.arrive_s[rows])]
        network = ciw.create_network(
            arrival_distributions=[
                ciw.dists.Sequential([*np.diff(g.arrive_s[rows], prepend=0).tolist(), 1e9])
            ],
            service_distributions=[ciw.dists.Sequential(meets[k].need[0][rows].tolist())],
            number_of_servers=[servers],
        )
        simulation = ciw.Simulation(network)
        simulation.simulate_until_max_time(1e6)
        found = sorted(simulation.get_all_records(), key=lambda r: r.id_number)
        assert len(found) == len(rows) > 200
        near([r.waiting_time for r in found], (g.start_s - g.arrive_s)[rows])


# -- language models: token by token ---------------------------------------------------------------------


def token_by_token(arrive_s, prompt, output, most, costs, rows, kv_tokens=math.inf, static=False, queue=None):
    """Start, first and last token of each request, [n, 3]: one step at a time, as plainly as can be."""
    times = np.full((len(arrive_s), 3), np.nan)
    coming = sorted(range(len(arrive_s)), key=lambda i: arrive_s[i])
    now_s, waiting, running = 0.0, [], []  # running: [request, tokens that are left, context]

    def fits(i):
        held = sum(prompt[j] + most[j] for j, *_ in running)
        return len(running) < rows and held + prompt[i] + most[i] <= kv_tokens

    def let_in(before_s):
        while coming and arrive_s[coming[0]] < before_s:
            i = coming.pop(0)
            if queue is None or len(waiting) < queue + (rows - len(running) if fits(i) else 0):
                waiting.append(i)

    while coming or waiting or running:
        let_in(now_s)
        if not static:
            running = [row for row in running if row[1]]
        elif not any(left for _, left, _ in running):
            running = []
        let_in(math.nextafter(now_s, math.inf))
        if not waiting and not running:
            now_s = arrive_s[coming[0]] if coming else now_s
            continue
        joins = not (static and running)
        while joins and waiting and fits(waiting[0]):
            i = waiting.pop(0)
            times[i, 0] = now_s
            now_s += costs.prompt_s + costs.token_s * prompt[i]
            times[i, 1] = times[i, 2] = now_s
            if output[i] > 1 or static:
                running.append([i, output[i] - 1, prompt[i] + 1])
            if not static:
                break
        if any(left for _, left, _ in running):
            now_s += costs.step_s + costs.row_s * len(running) + costs.context_s * sum(c for *_, c in running)
            for row in running:
                if row[1]:
                    row[1], row[2] = row[1] - 1, row[2] + 1
                    times[row[0], 2] = now_s
    return times


def through_engine(engine, arrive_s, need, cuts):
    """As `token_by_token`, by the engine, which is asked at some times in between."""
    times, seen, before = np.full((len(arrive_s), 3), np.inf), 0, 0.0
    for cut in [*cuts, np.inf]:
        rows = np.flatnonzero((arrive_s >= before) & (arrive_s < cut))
        engine.offer(rows, arrive_s[rows], *(column[rows] for column in need))
        done = engine.advance(cut)
        times[done.row] = np.column_stack([done.start_s, done.first_s, done.last_s])
        seen, before = seen + len(done.row), cut
        if cut < np.inf:
            known = times[: np.searchsorted(arrive_s, cut)]
            in_doubt = (known[:, 2] == np.inf).sum()
            assert engine.inside(cut) == in_doubt + (np.isfinite(known[:, 2]) & (known[:, 2] > cut)).sum()
    assert seen == len(arrive_s)
    return times


engines = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 8),
        "kv_tokens": st.sampled_from([math.inf, 300.0, 600.0]),
        "static": st.booleans(),
        "queue": st.sampled_from([None, 0, 1, 3]),
    }
)
costs = st.builds(
    Speed,
    step_s=st.sampled_from([0.01, 0.03]),
    row_s=st.sampled_from([0.0, 0.001]),
    context_s=st.sampled_from([0.0, 1e-5, 1e-4]),
    prompt_s=st.sampled_from([0.0, 0.005]),
    token_s=st.sampled_from([1e-4, 1e-3]),
)


@examples(150)
@given(
    engines, costs, st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.2, 1.0]), st.booleans(), st.booleans()
)
def test_engine_as_token_by_token(how, costs, seed, gap_s, together, cut):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 150))
    arrive_s = np.cumsum(rng.exponential(gap_s, n))
    if together:  # several at the same moment
        arrive_s = np.repeat(arrive_s, rng.integers(1, 5, n))[:n]
    prompt, output = rng.integers(1, 150, n), rng.integers(1, rng.choice([3, 20, 60]), n)
    most = output + rng.integers(0, 20, n)
    cuts = np.sort(rng.uniform(0, arrive_s[-1], 25)) if cut else []
    found = through_engine(Engine(costs, **how), arrive_s, (prompt, output, most), cuts)
    near(found, token_by_token(arrive_s, prompt, output, most, costs, **how))


@pytest.mark.parametrize("way", [run, run_events])
@pytest.mark.parametrize("batching", ["continuous", "static"])
def test_llm_scenario_as_token_by_token(way, batching):
    """Through a whole scenario, behind a network, with two engines that take turns."""
    tier = Tier(
        kind="central_cloud", path=("wan",), stations=2, device="nvidia-t4", llm="smollm2-135m", rows=4,
        batching=batching, kv_gb=0.015, overhead_ms=5,
    )  # fmt: skip
    talk = Class(prompt_tokens=100, output_tokens=40, max_tokens=120, tokens_cv=0.4)
    scenario = one_tier(tier, links={"wan": Link(rtt_ms=40, jitter_ms=10)})
    scenario = scenario.but(workload=Workload(requests_per_s=20, seconds=20, classes={"talk": talk}))
    g = way(scenario, AlwaysEdge("edge")).ledger
    _, asked, meets = only_chunk(scenario, 0)
    for engine in range(2):
        rows = np.arange(engine, len(asked), 2)
        need = [column[rows] for column in meets[0].need]
        args = speed(tier), tier.rows, kv_tokens(tier), batching == "static"
        expected = token_by_token(g.arrive_s[rows], *need, *args)
        near(np.column_stack([g.start_s, g.done_first_s, g.done_last_s])[rows], expected)
    assert (g.start_s - g.arrive_s).max() > 0.5


def test_a_request_that_fits_no_memory_is_refused_and_the_others_go_on():
    engine = Engine(Speed(0.01), kv_tokens=100)
    engine.offer(np.arange(3), np.zeros(3), *np.array([[80, 90, 70], [5, 5, 6], [20, 20, 20]]))
    done = engine.advance(np.inf)
    assert np.isnan(done.last_s[done.row.tolist().index(1)])
    near(sorted(done.last_s[done.row != 1]), [0.04, 0.09])


def test_who_is_too_long_for_one_place_is_not_sent_again():
    long = Class(prompt_tokens=90, output_tokens=5, tokens_cv=0, max_tokens=20)
    small = Tier(kind="device", device="jetson-orin-nano-8gb", llm="smollm2-135m", kv_gb=1e-3)
    assert kv_tokens(small) < 110
    scenario = one_place(1, 20, small, asked=long).but(dispatch=Dispatch(retries=3))
    for way in (run, run_events):
        ledger = way(scenario, AlwaysCloud("there")).ledger
        assert (set(ledger.status.tolist()), set(ledger.attempts.tolist())) == ({3}, {1})


# -- one way or event by event: the same ledger ----------------------------------------------------------

KINDS = ("device", "access_edge", "regional_edge", "central_cloud")
PATHS = st.sampled_from([(), ("lan",), ("lan", "wan")])
ROOM = st.sampled_from([None, None, 0, 2, 8])


@st.composite
def links(draw):
    lan = Link(
        rtt_ms=draw(st.sampled_from([1.0, 8.0])), jitter_ms=draw(st.sampled_from([0.0, 3.0])), up_mbps=20
    )
    wan = Link(
        profile="5g_public_urban_standing",
        loss_percent=draw(st.sampled_from([0.0, 5.0])),
        outage_every_s=draw(st.sampled_from([None, None, 4.0])),
        outage_lasts_s=2.0,
    )
    return {"lan": lan, "wan": wan}


def server_tiers(**more):
    one = {
        "path": PATHS,
        "stations": st.integers(1, 3),
        "queue": ROOM,
        "usd_per_request": st.sampled_from([0.0, 0.01]),
    }
    cold = st.builds(
        Tier, kind=st.sampled_from(KINDS), servers=st.integers(1, 4),
        service_ms=st.sampled_from([5.0, 50.0, 200.0]),
        service_cv=st.sampled_from([0.0, 0.5, 1.0, 2.0]), **one, **more,
    )  # fmt: skip
    hot = st.builds(
        Tier, kind=st.just("device"), service_ms=st.just(50.0), service_cv=st.just(1.0),
        throttle_after_s=st.sampled_from([0.2, 3.0]), **one,
    )  # fmt: skip
    return st.one_of(cold, cold, hot)


def engine_tiers(**more):
    return st.builds(
        Tier, kind=st.sampled_from(KINDS), path=PATHS, stations=st.integers(1, 2), queue=ROOM,
        device=st.just("nvidia-t4"), llm=st.just("smollm2-135m"), rows=st.integers(1, 4),
        batching=st.sampled_from(["continuous", "static"]), kv_gb=st.sampled_from([None, 0.02]),
        overhead_ms=st.sampled_from([1.0, 5.0]), usd_per_mtok_out=st.just(3.0), **more,
    )  # fmt: skip


@st.composite
def classes(draw):
    made = st.builds(
        Class,
        share=st.sampled_from([1.0, 3.0]),
        payload_bytes=st.sampled_from([0.0, 20_000.0]),
        prompt_tokens=st.just(50.0),
        output_tokens=st.sampled_from([1.0, 30.0]),
        max_tokens=st.just(80),
        tokens_cv=st.just(0.5),
        work=st.sampled_from([1.0, 2.0]),
        privacy=st.sampled_from(["public", "personal"]),
        deadline_ms=st.sampled_from([None, 100.0, 1000.0]),
        deferrable=st.booleans(),
        cacheable=st.sampled_from([0.0, 0.0, 0.5]),
    )
    return {f"kind{i}": draw(made) for i in range(draw(st.integers(1, 2)))}


@st.composite
def one_way(draw):
    """A scenario in which nothing comes back, and a policy for it."""
    tiers = draw(st.lists(st.one_of(server_tiers(), engine_tiers()), min_size=1, max_size=3))
    tiers = {f"t{i}": tier for i, tier in enumerate(tiers)}
    known = draw(links())
    down = draw(
        st.lists(
            st.builds(
                Outage, what=st.sampled_from(["lan", "wan"]), at_s=st.floats(0, 9), lasts_s=st.floats(0.1, 3)
            ),
            max_size=2,
        )
    )
    scenario = Scenario(
        title="random",
        workload=Workload(
            requests_per_s=draw(st.sampled_from([3.0, 15.0, 60.0])),
            seconds=8,
            arrivals=draw(st.sampled_from(["poisson", "gamma", "on_off"])),
            on_s=1,
            off_s=2,
            classes=draw(classes()),
        ),
        tiers=tiers,
        links=known,
        outages=tuple(down),
        dispatch=Dispatch(
            signals_every_s=draw(st.sampled_from([0.1, 1.0])),
            signals_delay_s=draw(st.sampled_from([0.0, 0.25])),
        ),
    )
    names = list(tiers)
    policy = draw(
        st.sampled_from(
            [
                Nearest(),
                LeastBusy(),
                PowerOfTwoChoices(),
                AlwaysCloud(names[-1]),
                StableSplit(dict.fromkeys(names, 1)),
                SimpleShuffle({n: i + 1 for i, n in enumerate(names)}),
                PrivacyFirst(AlwaysCloud(names[0]), LeastBusy()),
            ]
        )
    )
    if isinstance(policy, PrivacyFirst):
        assume(any(t.kind != "central_cloud" for t in tiers.values()))
    return scenario, policy


def same_run(a, b):
    """Two results that must not differ in anything but rounding."""
    for field in dataclasses.fields(Ledger):
        got, expected = getattr(a.ledger, field.name), getattr(b.ledger, field.name)
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9, equal_nan=True, err_msg=field.name)
    for name, place in b.places.items():
        near(dataclasses.astuple(a.places[name]), dataclasses.astuple(place))
    near(a.seconds, b.seconds)


@examples(200)
@given(one_way(), st.integers(0, 1000), st.sampled_from([100_000, 37]))
def test_flow_and_events_agree(monkeypatched_chunks, drawn, seed, size):
    scenario, policy = drawn
    monkeypatched_chunks(size)
    parts = list(Flow(World(scenario, seed), policy).parts())  # raises NeedsEvents if it is none
    assert sum(len(p) for p in parts) == sum(len(c) for c in asks.requests(scenario.workload, seed, size))
    same_run(run(scenario, policy, seed=seed), run_events(scenario, policy, seed=seed))


@pytest.fixture
def monkeypatched_chunks():
    """A function that sets how many requests both ways take at a time, so that requests are carried over."""
    from functools import partial

    from kit.simulate import events, flow

    with pytest.MonkeyPatch.context() as patch:

        def set_size(size):
            for module in (flow, events):
                patch.setattr(module, "requests", partial(asks.requests, size=size))

        yield set_size


# -- promises, whatever happens --------------------------------------------------------------------------


@st.composite
def anything(draw):
    """A scenario with all that can happen, and a policy with fallbacks or without."""
    scenario, policy = draw(one_way())
    changing = {
        "autoscale": st.sampled_from(
            [
                None,
                Autoscale(least=0, most=3, every_s=1, start_s=0.5, down_window_s=1),
                Autoscale(least=1, most=4, target=0.5, every_s=0.5, start_s=2, down_window_s=0),
            ]
        ),
        "mtbf_s": st.sampled_from([None, 3.0]),
        "mttr_s": st.just(1.0),
        "spot": st.sampled_from([0.0, 0.5, 1.0]),
        "spot_every_s": st.just(3.0),
        "spot_back_s": st.just(1.0),
        "power_w_busy": st.just(10.0),
        "usd_per_hour": st.just(1.0),
    }
    names = list(scenario.tiers)
    tiers = {n: draw(st.one_of(server_tiers(**changing), engine_tiers(**changing))) for n in names}
    if isinstance(policy, PrivacyFirst):
        policy = LeastBusy()
    if len(names) > 1:
        chain = FallbackChain(tuple(names))
        cascade = ConfidenceCascade(0.8, Target(names[0]), Target(names[1]))
        policy = draw(st.sampled_from([policy, chain, cascade, Hedged(chain, 50.0)]))
    down = st.builds(
        Outage, what=st.sampled_from([*names, "wan"]), at_s=st.floats(0, 9), lasts_s=st.floats(0.1, 3)
    )
    dispatch = Dispatch(
        retries=draw(st.integers(0, 2)),
        attempt_timeout_ms=draw(st.sampled_from([None, 150.0])),
        retry_budget=draw(st.sampled_from([None, 0.2])),
        breaker_failures=draw(st.sampled_from([None, 3])),
        breaker_cooldown_s=1.0,
        connect_timeout_ms=200.0,
        signals_every_s=0.5,
        offline_queue=draw(st.sampled_from([0, 4])),
    )
    outages = tuple(draw(st.lists(down, max_size=2)))
    return scenario.but(tiers=tiers, dispatch=dispatch, outages=outages), policy


def at_once(begin, end):
    """The most intervals that hold at the same time."""
    moments = np.concatenate([begin, end])
    steps = np.concatenate([np.ones(len(begin)), -np.ones(len(end))])
    order = np.lexsort((steps, moments))  # who leaves goes before who comes
    return np.cumsum(steps[order]).max(initial=0)


def keeps_promises(result):
    """Conservation, causality, capacity, and sums: of one run."""
    g, scenario, small = result.ledger, result.scenario, 1e-9
    world = World(scenario, result.seed)
    asked = list(asks.requests(scenario.workload, result.seed))
    n = sum(len(chunk) for chunk in asked)
    # each request has exactly one end
    assert g.id.tolist() == list(range(n))
    s = result.summary()
    assert (s.requests, s.open) == (n, 0)
    assert s.answered + s.failed + s.timed_out + s.rejected == n
    # an effect never comes before its cause
    good, there = result.answered, result.answered & (g.tier >= 0)
    moments = [g.at_s, g.sent_s, g.arrive_s, g.start_s, g.done_first_s, g.done_last_s, g.last_s]
    for before, after in itertools.pairwise(moments):
        assert (after[there] >= before[there] - small).all()
        assert np.isnan(after[~good]).all() or after is g.last_s or after is g.sent_s
    assert (g.first_s[there] >= g.done_first_s[there] - small).all()
    assert (g.last_s >= g.first_s - small).all()
    assert (g.last_s >= g.at_s).all()
    assert (g.tier[~good] == NOBODY).all()
    assert (g.attempts[there] >= 1).all()
    deadline_s = world.deadline_s[g.kind]
    assert (g.last_s[there] - g.at_s[there] <= deadline_s[there] + small).all()
    # the parts of an answer's time add up, and the work takes what it needs, alone
    parts = np.sum(list(result.all_parts.values()), axis=0)
    np.testing.assert_allclose(parts[good], result.e2e_ms[good], rtol=1e-9, atol=1e-6)
    # nobody works for more than there are
    for k, (name, tier) in enumerate(scenario.tiers.items()):
        place, mine = result.places[name], g.tier == k
        units = max(place.peak, 1) * ((tier.rows + 1) if tier.llm else 1)
        if not (tier.mtbf_s or tier.llm):
            assert at_once(g.start_s[mine], g.done_last_s[mine] - small) <= units
        if mine.any():
            assert place.busy_s <= place.there_s * (1 + 1e-9) + small, name
        assert min(place.busy_s, place.there_s, place.usd, place.energy_j) >= -small
        if tier.autoscale:
            assert place.peak <= max(tier.autoscale.most, 1)
    # the kit's table can be made, and says the same
    r = result.records
    assert len(r) == n
    if n:
        assert np.nansum(r["cost_usd"]) == pytest.approx(
            g.usd.sum() + sum(p.usd for p in result.places.values())
        )
        assert r["energy_j"].sum() == pytest.approx(sum(p.energy_j for p in result.places.values()))
        assert r.summary().answered == s.answered
        near(r.summary().e2e_p95_ms, s.p95_ms)
        near(r.summary().ttft_p99_ms, s.ttft_p99_ms)
        near(r.summary().tpot_p50_ms, s.tpot_p50_ms)


def same_bytes(a, b):
    return all(
        getattr(a.ledger, f.name).tobytes() == getattr(b.ledger, f.name).tobytes()
        for f in dataclasses.fields(Ledger)
    )


@examples(200)
@given(anything(), st.integers(0, 1000))
def test_promises_whatever_happens(monkeypatched_chunks, drawn, seed):
    monkeypatched_chunks(100_000)
    scenario, policy = drawn
    result = run(scenario, policy, seed=seed)
    keeps_promises(result)
    assert same_bytes(result, run(scenario, policy, seed=seed))


@examples(60)
@given(one_way(), st.integers(0, 1000))
def test_promises_of_the_fast_way(monkeypatched_chunks, drawn, seed):
    monkeypatched_chunks(100_000)
    scenario, policy = drawn
    result = run(scenario, policy, seed=seed)
    keeps_promises(result)
    assert same_bytes(result, run(scenario, policy, seed=seed))


def test_another_policy_meets_the_same_requests():
    """Common random numbers: requests, network and services do not depend on who decides."""
    scenario = two_tiers(80, 30, policy="nearest")
    results = compare(
        scenario, {"a": LeastBusy(), "b": SimpleShuffle({"edge": 1, "cloud": 1}), "c": AlwaysCloud("cloud")}
    )
    results["d"] = run_events(scenario, FallbackChain(("cloud", "edge")))
    a = results["c"].ledger
    for result in results.values():
        g = result.ledger
        for name in ("id", "at_s", "kind", "prompt_tokens", "output_tokens"):
            assert (getattr(g, name) == getattr(a, name)).all()
        both = (g.tier == 1) & (g.attempts == 1)
        assert both.sum() > 100
        near((g.arrive_s - g.sent_s)[both], (a.arrive_s - a.sent_s)[both])
        near((g.done_last_s - g.start_s)[both], (a.done_last_s - a.start_s)[both])
    assert not same_bytes(results["c"], run(scenario, AlwaysCloud("cloud"), seed=1))


def test_common_random_numbers_sharpen_a_comparison():
    scenario = two_tiers(
        40, 20, topologies={"a": {"policy": "always_cloud", "tier": "cloud"}, "b": {"policy": "least_busy"}}
    )
    mean, low, high = difference(scenario, "mean_ms", "a", "b", range(8))
    a = [run(scenario, topology="a", seed=s).summary().mean_ms for s in range(8)]
    b = [run(scenario, topology="b", seed=s).summary().mean_ms for s in range(8)]
    assert mean == pytest.approx(np.mean(b) - np.mean(a))
    assert low < mean < high
    assert repeated(scenario, "mean_ms", range(8), "a")[0] == pytest.approx(np.mean(a))


def test_pieces_are_the_whole():
    scenario = two_tiers(2000, 140)  # more than two chunks
    shuffle = SimpleShuffle({"edge": 1, "cloud": 60})
    parts = list(stream(scenario, shuffle))
    assert len(parts) > 2
    whole, pieces = run(scenario, shuffle).ledger, Ledger.join(parts)
    pieces = pieces.part(np.argsort(pieces.id))
    for field in dataclasses.fields(Ledger):
        near(getattr(pieces, field.name), getattr(whole, field.name))
    with pytest.raises(Wrong, match="in pieces"):
        list(stream(scenario.but(dispatch=Dispatch(retries=1)), shuffle))


# -- what a policy sees ----------------------------------------------------------------------------------


class Spy:
    """Goes where it is told, and remembers what it saw."""

    def __init__(self, policy):
        self.policy, self.seen = policy, []

    def route(self, request, fleet, now, rng):
        self.seen.append((now, request, fleet))
        return self.policy.route(request, fleet, now, rng)

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize("way", [run, run_events])
@pytest.mark.parametrize("delay_s", [0.0, 0.3, 1.7])
@pytest.mark.parametrize("size", [100_000, 37])
@pytest.mark.parametrize("kind", ["servers", "engines"])
def test_views_are_as_old_as_they_say(monkeypatched_chunks, way, delay_s, size, kind):
    """The queue that a policy sees is the true one, at the moment when the signal was taken."""
    monkeypatched_chunks(size)
    every_s, late = 0.5, math.ceil(delay_s / 0.5)
    scenario = two_tiers(60, 20, dispatch=Dispatch(signals_every_s=every_s, signals_delay_s=delay_s))
    if kind == "engines":
        engine = Tier(
            kind="central_cloud", path=("wan",), stations=2, device="nvidia-t4", llm="smollm2-135m", rows=2
        )
        talk = {
            "talk": Class(prompt_tokens=300, output_tokens=8),
            "yes": Class(prompt_tokens=300, output_tokens=1),
        }
        scenario = scenario.but(
            tiers={**scenario.tiers, "cloud": engine},
            workload=dataclasses.replace(scenario.workload, classes=talk),
        )
    spy = Spy(PowerOfTwoChoices())
    g = way(scenario, spy).ledger
    assert len(spy.seen) == len(g)
    assert (g.status == ANSWERED).all()
    queues = 0
    for now, _, fleet in spy.seen:
        signal_s = max(math.floor(now / every_s) - late, 0) * every_s
        for k, view in enumerate(fleet.tiers):
            inside = (g.tier == k) & (g.arrive_s < signal_s) & (g.done_last_s > signal_s)
            assert view.queue == inside.sum()
            assert now - signal_s <= every_s * (late + 1)
            assert view.age_s == every_s + delay_s
            queues += view.queue
    assert queues > 500


def test_views_across_a_silence():
    """Between two chunks nobody comes for long; what is seen afterwards is no fresher than it says."""
    scenario = one_tier(Tier(kind="device", service_ms=400), 1)
    flow = Flow(World(scenario.but(dispatch=Dispatch(signals_every_s=1.0)), 0), Spy(Nearest()))
    at = np.array([0.2, 7.9])
    chunk = next(asks.requests(Workload(requests_per_s=10, seconds=100), 0)).part(np.arange(2))
    chunks = [dataclasses.replace(chunk.part(np.array([i])), at_s=at[i : i + 1]) for i in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kit.simulate.flow.requests", lambda *_: iter(chunks))
        list(flow.parts())
    assert flow.policy.seen[1][2]["edge"].queue == 0
    at[1], chunks[1] = 1.05, dataclasses.replace(chunks[1], at_s=np.array([1.05]))
    chunks[0] = dataclasses.replace(chunks[0], at_s=np.array([0.7]))
    flow = Flow(World(scenario.but(dispatch=Dispatch(signals_every_s=1.0)), 0), Spy(Nearest()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kit.simulate.flow.requests", lambda *_: iter(chunks))
        list(flow.parts())
    assert flow.policy.seen[1][2]["edge"].queue == 1  # it ends at 1.1, and the signal is of 1.0


@pytest.mark.parametrize("way", [run, run_events])
def test_a_policy_never_knows_what_a_router_cannot(way):
    """Neither answer lengths nor difficulty: requests that differ in these alone look alike."""
    names = {field.name for field in dataclasses.fields(Request)}
    assert not {name for name in names if "output" in name or "difficulty" in name or "luck" in name}
    easy = Class(payload_bytes=10, prompt_tokens=5, tokens_cv=0, output_tokens=1, difficulty=0.1)
    seen = {}
    for name, one in {
        "easy": easy,
        "hard": dataclasses.replace(easy, output_tokens=900, difficulty=0.9),
    }.items():
        spy = Spy(Nearest())
        scenario = one_tier(rate=3, seconds=20)
        way(scenario.but(workload=dataclasses.replace(scenario.workload, classes={"x": one})), spy)
        seen[name] = [request for _, request, _ in spy.seen]
    assert seen["easy"] == seen["hard"]


def test_the_fast_way_shows_the_same_requests():
    """Objects that are filled at once are as those that are made one by one."""
    kinds = {
        "a": Class(deadline_ms=5, payload_bytes=7),
        "b": Class(privacy="personal", prompt_tokens=9, language="de"),
    }
    scenario = one_tier().but(workload=Workload(requests_per_s=5, seconds=30, classes=kinds))
    world, asked, _ = only_chunk(scenario, 0)
    which = np.arange(3, 40)
    one_by_one = [world.request(int(asked.kind[i]), str(i), asked, i) for i in which]
    assert world.seen(asked, which) == one_by_one
    assert [hash(r) for r in world.seen(asked, which)] == [hash(r) for r in one_by_one]


def test_a_remembered_answer_asks_no_policy():
    scenario = one_tier().but(
        workload=Workload(requests_per_s=20, seconds=20, classes={"x": Class(cacheable=0.5)})
    )
    for way in (run, run_events):
        spy = Spy(Nearest())
        g = way(scenario, spy).ledger
        remembered = g.tier == CACHE
        assert 0.35 < remembered.mean() < 0.65
        assert len(spy.seen) == (~remembered).sum()
        near((g.last_s - g.at_s)[remembered], 0.001)


# -- fleets: servers come and go -------------------------------------------------------------------------


class Bench:
    """One tier on a calendar of its own, to be fed by hand."""

    def __init__(self, tier, seed=0):
        self.calendar, self.count, self.now_s, self.ended = [], 0, 0.0, []
        hooks = Hooks(
            self.at, lambda v, t: self.ended.append((v.job, t)), lambda v, t, why: self.ended.append((why, t))
        )
        self.scaler = Scaler(World(one_tier(tier, seconds=1e5), seed), 0, hooks, self.at)
        self.scaler.begin()

    def at(self, time_s, function, *arguments):
        heapq.heappush(self.calendar, (time_s, self.count, function, arguments))
        self.count += 1

    def until(self, time_s):
        while self.calendar and self.calendar[0][0] <= time_s:
            self.now_s, _, function, arguments = heapq.heappop(self.calendar)
            function(self.now_s, *arguments)
        self.now_s = time_s

    def comes(self, *need, job=None):
        visit = Visit(job, 1, 0, self.now_s, need, 0.0, arrive_s=self.now_s, turn=self.scaler.came)
        self.scaler.came += 1
        self.scaler.enter(visit, self.now_s)
        return visit


def scaled(servers=1, stations=1, **more):
    scale = {"least": 1, "most": 20, "target": 0.5, "every_s": 15.0, "start_s": 30.0, "down_window_s": 60.0}
    return Tier(
        kind="device",
        service_ms=1000,
        servers=servers,
        stations=stations,
        autoscale=Autoscale(**scale | more),
    )


def test_autoscaling_by_hand():
    """desired = ceil(current * busy / target), and new servers work after their start."""
    bench = Bench(scaled())
    visits = [bench.comes(100.0) for _ in range(4)]
    bench.until(14.9)
    assert (bench.scaler.wanted, bench.scaler.works) == (1, 1)
    bench.until(15)  # 4 inside, 1 server: busy 4; ceil(1 * 4 / 0.5) = 8
    assert (bench.scaler.wanted, bench.scaler.works) == (8, 1)
    bench.until(44.9)  # 4 / 8 = 0.5 is the target: nothing more
    assert (bench.scaler.wanted, bench.scaler.works) == (8, 1)
    assert math.isnan(visits[1].start_s)
    bench.until(45)
    assert bench.scaler.works == 8
    assert [v.start_s for v in visits] == [0, 45, 45, 45]
    bench.until(104.9)  # the first left at 100: three are inside
    assert bench.scaler.wanted == 8
    bench.until(145)  # the others leave; the highest wish of the last minute still counts
    assert bench.scaler.wanted > 1
    bench.until(240)
    assert (bench.scaler.wanted, bench.scaler.works) == (1, 1)
    busy_s, there_s, peak = bench.scaler.totals(240)
    assert (busy_s, peak) == (400, 8)
    assert 8 * 130 + 15 <= there_s <= 8 * 225 + 15


@pytest.mark.parametrize(("inside", "wish"), [(0.9, 2), (0.54, 1), (0.45, 1), (0.56, 2)])
def test_autoscaling_measures_the_mean_load(inside, wish):
    """One visit a second that takes ``inside`` seconds: nobody is there when the next one comes."""
    bench = Bench(scaled())
    for second in range(15):
        bench.until(second)
        bench.comes(inside)
    bench.until(15)
    assert bench.scaler.wanted == wish


def test_servers_that_were_not_needed_after_all_do_not_come():
    bench = Bench(scaled(down_window_s=0.0))
    for _ in range(4):
        bench.comes(4.0)
    bench.until(15)  # inside were 4, 3, 2 and 1, for 4 s each but the last: 39 / 15 = 2.6
    assert bench.scaler.wanted == 6
    bench.until(30)
    assert bench.scaler.wanted == 1
    for _ in range(4):
        bench.comes(100.0)
    bench.until(45.5)
    assert (bench.scaler.wanted, bench.scaler.works) == (8, 1)
    bench.until(75)
    assert bench.scaler.works == 8


def test_a_cold_start_and_then_none():
    bench = Bench(scaled(least=0, down_window_s=0.0))
    bench.until(100)
    assert (bench.scaler.wanted, bench.scaler.works) == (0, 0)
    first = bench.comes(1.0)
    bench.until(110)
    second = bench.comes(1.0)
    bench.until(150)
    assert (first.start_s, second.start_s) == (130, 131)


def test_fewer_servers_than_stations_serve_all():
    bench = Bench(scaled(stations=3, servers=1, down_window_s=0.0, start_s=1e6))
    bench.until(31)
    assert bench.scaler.works == 1
    visits = [bench.comes(1.0) for _ in range(6)]
    bench.until(40)
    assert sorted(v.last_s for v in visits) == [32, 33, 34, 35, 36, 37]


def test_busy_servers_are_paid_until_they_are_done():
    bench = Bench(scaled(servers=4, down_window_s=0.0, target=1.0, start_s=1e6))
    bench.until(14.9)
    for _ in range(4):
        bench.comes(10.0)
    bench.until(15)  # a mean load of 0.03: one server is enough, and the others end what they began
    assert bench.scaler.wanted == 1
    bench.until(25)
    busy_s, there_s, _ = bench.scaler.totals(25)
    assert (busy_s, there_s) == (40, pytest.approx(4 * 24.9 + 0.1))


def test_a_broken_engine_stays_so_after_an_outage():
    bench = Bench(Tier(kind="device", device="nvidia-t4", llm="smollm2-135m"))
    scaler, one = bench.scaler, bench.scaler.stations[0]
    scaler._broken.add(one)
    scaler._fail_all(1.0)
    scaler._repair_all(2.0)
    assert not one.up


@pytest.mark.parametrize("llm", [False, True])
def test_spot_capacity_is_taken_and_given_back(llm):
    how = {"spot": 0.5, "spot_every_s": 20.0, "spot_back_s": 20.0}
    if llm:
        tier = Tier(
            kind="device", stations=4, device="nvidia-t4", llm="smollm2-135m", rows=1, overhead_ms=50, **how
        )
        kinds = {"x": Class(prompt_tokens=10, output_tokens=2, tokens_cv=0)}
    else:
        tier, kinds = Tier(kind="device", servers=4, service_ms=100, **how), {"x": Class()}
    scenario = one_tier(tier).but(workload=Workload(requests_per_s=20, seconds=300, classes=kinds))
    g = run(scenario).ledger
    assert (g.status == ANSWERED).all()
    moments = np.arange(5, 300, 0.5)
    at_work = np.array([((g.start_s <= t) & (g.done_last_s > t)).sum() for t in moments])
    assert at_work.max() == 4
    few = np.convolve(at_work <= 2, np.ones(10), "valid") == 10  # for five seconds in a row
    assert 0.2 < few.mean() < 0.8


def test_failures_take_their_share_of_the_time():
    """Works for 30 s and fails for 10 s on average: a quarter of the requests find nobody."""
    tier = Tier(kind="device", service_ms=1, mtbf_s=30, mttr_s=10)
    s = run(one_tier(tier, 5, 8000)).summary()
    assert s.failed / s.requests == pytest.approx(0.25, abs=0.04)
    assert s.answered + s.failed == s.requests


def test_who_is_inside_when_a_place_fails_is_lost():
    engine = Tier(
        kind="device", device="nvidia-t4", llm="smollm2-135m", rows=2, overhead_ms=20, power_w_busy=1
    )
    talk = {"talk": Class(prompt_tokens=50, output_tokens=20, tokens_cv=0.2)}
    for tier, kinds in ((engine, talk), (Tier(kind="device", service_ms=300, service_cv=1), {"x": Class()})):
        scenario = one_tier(tier).but(
            workload=Workload(requests_per_s=4, seconds=40, classes=kinds),
            outages=(Outage(what="edge", at_s=20, lasts_s=5),),
        )
        result = run(scenario)
        g, before = result.ledger, run(scenario.but(outages=())).ledger
        unharmed = before.done_last_s < 20
        assert (g.status[unharmed] == ANSWERED).all()
        near(g.last_s[unharmed], before.last_s[unharmed])
        lost = (g.at_s < 20) & ~unharmed
        assert lost.any()
        assert (g.status[lost] == FAILED).all()
        near(g.last_s[lost], 20)
        down = (g.at_s >= 20) & (g.at_s < 25)
        assert (g.status[down] == FAILED).all()
        assert (g.status[g.at_s >= 25] == ANSWERED).all()
        keeps_promises(result)


def test_two_causes_of_a_failure_mend_one_by_one():
    """An engine that is broken and in an outage; what it holds later is not forgotten."""
    tier = Tier(
        kind="device", device="nvidia-t4", llm="smollm2-135m", rows=2, overhead_ms=20, mtbf_s=4, mttr_s=6
    )
    talk = {"talk": Class(prompt_tokens=50, output_tokens=20)}
    down = tuple(Outage(what="edge", at_s=at_s, lasts_s=3) for at_s in range(2, 90, 9))
    scenario = one_tier(tier).but(workload=Workload(requests_per_s=4, seconds=90, classes=talk), outages=down)
    for seed in range(5):
        result = run(scenario, seed=seed)
        keeps_promises(result)
        g = result.ledger
        for outage in down:
            hit = (g.start_s < outage.at_s + outage.lasts_s) & (g.done_last_s > outage.at_s)
            assert not hit[result.answered].any()


def test_a_fallback_carries_on_through_an_outage():
    scenario = two_tiers(
        20,
        60,
        outages=(Outage(what="cloud", at_s=20.5, lasts_s=20),),
        dispatch=Dispatch(connect_timeout_ms=100),
    )
    alone, chain = run(scenario, AlwaysCloud("cloud")), run(scenario, FallbackChain(("cloud", "edge")))
    assert alone.summary().availability < 0.75
    assert chain.summary().availability == 1
    g = chain.ledger
    during = (g.at_s > 21) & (g.at_s < 40.9)
    assert (g.tier[during] == 0).all()
    assert (g.attempts[during] == 1).all(), "the view says that it is down"
    assert (g.attempts[(g.at_s > 20.5) & (g.at_s < 20.9)] == 2).all(), "no view says so yet"


def test_retries_until_it_works_again():
    scenario = one_tier(
        Tier(kind="device", service_ms=1), 20, 30, outages=(Outage(what="edge", at_s=10, lasts_s=0.3),)
    )
    assert run(scenario).summary().availability < 1
    with_retries = scenario.but(dispatch=Dispatch(retries=6, backoff_ms=50))
    s, g = run(with_retries).summary(), run(with_retries).ledger
    assert s.availability == 1
    assert g.attempts.max() > 2
    late = g.attempts > 1
    assert (g.at_s[late] > 9.9).all()
    assert (g.sent_s[late] >= 10.3).all()
    assert (g.sent_s[~late] == g.at_s[~late]).all()


def test_hedges_are_sent_late_and_cut_the_tail():
    scenario = two_tiers(10, 120)
    plain = run(scenario, FallbackChain(("edge", "cloud")))
    hedged = run(scenario, Hedged(FallbackChain(("edge", "cloud")), 60.0))
    assert hedged.summary().p99_ms < plain.summary().p99_ms
    slow = plain.e2e_ms > 60
    assert (hedged.ledger.attempts[slow] == 2).mean() > 0.9
    assert (hedged.ledger.attempts[hedged.e2e_ms < 60] == 1).all()
    won = hedged.ledger.tier == 1
    assert (hedged.ledger.sent_s - hedged.ledger.at_s)[won] == pytest.approx(0.06)
    assert hedged.places["cloud"].busy_s > 0


def test_an_offline_queue_waits_for_the_link():
    kinds = {"x": Class(deferrable=True)}
    scenario = two_tiers(
        5, 40, outages=(Outage(what="wan", at_s=10, lasts_s=10),),
        dispatch=Dispatch(offline_queue=7, connect_timeout_ms=500),
        workload=Workload(requests_per_s=5, seconds=40, classes=kinds),
    )  # fmt: skip
    g = run(scenario, AlwaysCloud("cloud")).ledger
    down = (g.at_s >= 10) & (g.at_s < 20)
    waited, refused = np.flatnonzero(down)[:7], np.flatnonzero(down)[7:]
    assert (g.status[waited] == ANSWERED).all()
    near(g.sent_s[waited], 20)
    assert (g.status[refused] == FAILED).all()
    near(g.last_s[refused], g.at_s[refused] + 0.5)


def test_an_answer_that_was_kept_in_case_is_given_late():
    """The edge is unsure and the cloud cannot be reached: its answer comes when that is known."""
    scenario = two_tiers(
        2, 60, outages=(Outage(what="wan", at_s=0, lasts_s=1e4),), dispatch=Dispatch(connect_timeout_ms=700)
    )
    result = run(scenario, ConfidenceCascade(1.0, Target("edge"), Target("cloud")))
    g = result.ledger
    assert (g.status == ANSWERED).all()
    assert (g.tier == 0).all()
    assert (g.last_s - g.done_last_s > 0.7).all()
    near(g.first_s, g.last_s)
    keeps_promises(result)


def test_a_deadline_is_kept_by_giving_up():
    kinds = {"x": Class(deadline_ms=60)}
    for way in (run, run_events):
        g = way(one_tier(Tier(kind="device", service_ms=50, service_cv=1), 15).but(
            workload=Workload(requests_per_s=15, seconds=60, classes=kinds)), Nearest()).ledger  # fmt: skip
        late = g.status == TIMED_OUT
        assert 0.2 < late.mean() < 0.9
        near((g.last_s - g.at_s)[late], 0.06)
        assert ((g.last_s - g.at_s)[~late] <= 0.06).all()


def test_a_hot_device_slows_down():
    """Busy all the time from cold, it is slow after one time constant; and fast again after a rest."""
    cool, hot = Fifo(), Fifo(throttle=(2.0, 1.5))
    arrive = np.concatenate([np.zeros(100), [100.0]])
    need = np.full(101, 0.1)
    for station in (cool, hot):
        station.offer(np.arange(101), arrive, need)
    took = (lambda d: d.last_s - d.start_s)(hot.advance(np.inf))
    assert took[:20] == pytest.approx(0.1)
    assert took[21:100] == pytest.approx(0.15)
    assert took[100] == pytest.approx(0.1)
    assert cool.advance(np.inf).last_s[99] == pytest.approx(10)
    with pytest.raises(ValueError, match="one server"):
        Fifo(2, throttle=(1.0, 2.0))
    assert pytest.approx(1 - math.exp(-1)) == HOT


# -- who asks --------------------------------------------------------------------------------------------


def times_of(**how):
    return np.concatenate([c.at_s for c in asks.requests(Workload(**how), 0)])


@pytest.mark.parametrize(("kind", "cv"), [("poisson", 1.0), ("gamma", 0.3), ("gamma", 2.0)])
def test_arrivals_have_their_rate_and_their_spread(kind, cv):
    at = times_of(requests_per_s=50, seconds=5000, arrivals=kind, cv=cv)
    assert (np.diff(at) >= 0).all()
    assert 0 <= at[0] <= at[-1] < 5000
    gaps = np.diff(at)
    assert len(at) / 5000 == pytest.approx(50, rel=5 * cv / math.sqrt(250_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_bursts_have_the_same_mean_and_silences():
    at = times_of(requests_per_s=20, seconds=40_000, arrivals="on_off", on_s=10, off_s=30)
    assert len(at) / 40_000 == pytest.approx(20, rel=0.1)
    counts = np.histogram(at, np.arange(40_001))[0]
    assert (counts == 0).mean() == pytest.approx(0.75, abs=0.05)
    assert np.median(counts[counts > 20]) == pytest.approx(80, rel=0.05)  # all in a quarter of the time


def test_a_day_has_its_wave():
    at = times_of(requests_per_s=2, seconds=2 * 86_400, arrivals="daily", peak=1.8)
    hours = np.histogram(at % 86_400, np.linspace(0, 86_400, 25))[0] / (2 * 3600)
    middle = (np.arange(24) + 0.5) / 24
    expected = 2 * (1 - 0.8 * np.cos(2 * np.pi * middle))
    np.testing.assert_allclose(hours, expected, rtol=0.1, atol=0.05)
    assert np.argmax(hours) in (11, 12)


def test_classes_have_their_shares_and_lengths():
    kinds = {
        "chat": Class(
            share=3, prompt_tokens=100, output_tokens=50, tokens_cv=0.5, max_tokens=80, difficulty=0.3
        ),
        "image": Class(share=1, payload_bytes=5e5, difficulty=0.8),
    }
    asked = next(asks.requests(Workload(requests_per_s=100, seconds=900, classes=kinds), 0))
    chat = asked.kind == 0
    assert chat.mean() == pytest.approx(0.75, abs=0.01)
    assert np.median(asked.prompt_tokens[chat]) == pytest.approx(100, abs=2)
    prompt = asked.prompt_tokens[chat]
    assert prompt.std() / prompt.mean() == pytest.approx(0.5, rel=0.03)
    assert np.median(asked.output_tokens[chat]) == pytest.approx(50, abs=2)
    assert asked.output_tokens.max() == 80
    assert asked.prompt_tokens[~chat].max() == 0 == asked.output_tokens[~chat].max()
    assert asked.difficulty[chat].mean() == pytest.approx(0.3, abs=0.01)
    assert asked.difficulty[~chat].mean() == pytest.approx(0.8, abs=0.01)
    assert asked.luck.mean() == pytest.approx(0.5, abs=0.01)
    assert (asked.payload_bytes[~chat] == 5e5).all()


def azure(seconds=3600.0, rate=5.53):
    talk = {"chat": Class(prompt_tokens=1020, output_tokens=129, max_tokens=10_000)}
    return Workload(requests_per_s=rate, seconds=seconds, arrivals="recorded", classes=talk)


@pytest.fixture
def small_trace(tmp_path, monkeypatch):
    """A recorded stream of four requests in place of the real one."""
    content = (
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.5,10,1\n2023-11-16 18:00:01.5,20,2\n"
        b"2023-11-16 18:00:01.5,30,3\n2023-11-16 18:00:03.5,40,4\n"
    )
    (tmp_path / "small.csv").write_bytes(content)
    source = arrivals.Source(
        "small.csv", "https://example.org/small.csv", hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setitem(arrivals.TRACES, "azure_llm_2023_conversation", source)
    monkeypatch.setenv("KIT_DATA_DIR", str(tmp_path))
    return tmp_path


def test_a_recorded_stream_is_repeated_at_another_rate(small_trace):
    asked = list(asks.requests(azure(seconds=5, rate=2), 0))
    at, prompt, output = (
        np.concatenate([getattr(c, n) for c in asked]) for n in ("at_s", "prompt_tokens", "output_tokens")
    )
    assert len(at) == 11
    near(at[4:8] - at[:4], 2.0)  # four requests in two seconds
    near(np.diff(at[:4]) / (at[3] - at[0]), [1 / 3, 0, 2 / 3])
    assert prompt.tolist() == [10, 20, 30, 40] * 2 + [10, 20, 30]
    assert output.tolist() == [1, 2, 3, 4] * 2 + [1, 2, 3]


def test_without_the_trace_its_summary_speaks(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("KIT_HOME", str(tmp_path))
    if arrivals.find("azure_llm_2023_conversation"):
        pytest.skip("this machine has downloaded the trace")
    marginals_of_azure(200_000 / 5.53)


def marginals_of_azure(seconds):
    asked = list(asks.requests(azure(seconds), 0))
    known = facts.workloads()["azure_llm_2023_conversation"]
    for what in ("prompt", "output"):
        tokens = np.concatenate([getattr(c, f"{what}_tokens") for c in asked])
        for level in (5, 25, 50, 75, 95, 99):
            assert np.percentile(tokens, level) == pytest.approx(
                getattr(known, f"{what}_p{level}"), rel=0.04, abs=2
            )
    gaps = np.diff(np.concatenate([c.at_s for c in asked]))
    assert 1 / gaps.mean() == pytest.approx(5.53, rel=0.02)
    assert gaps.std() / gaps.mean() == pytest.approx(known.interarrival_cv, rel=0.03)
    return asked


def test_the_real_trace(monkeypatch):
    shared = artifacts.DATASETS.parent.parent / "shared" / "data"
    if not os.environ.get("KIT_DATA_DIR") and shared.is_dir():
        monkeypatch.setenv("KIT_DATA_DIR", str(shared))
    trace = arrivals.trace("azure_llm_2023_conversation")
    if trace is None:
        pytest.skip("the trace is not on this machine: set KIT_DATA_DIR")
    assert len(trace.times_s) == 19_366
    asked = marginals_of_azure(19_366 / 5.53)
    assert sum(len(c) for c in asked) == 19_366
    assert (asked[0].prompt_tokens == trace.prompt_tokens).all()
    assert np.corrcoef(np.diff(asked[0].at_s), np.diff(trace.times_s))[0, 1] == pytest.approx(1)


# -- links -----------------------------------------------------------------------------------------------


def delays(link, n=200_000, up=0.0, down=0.0):
    return Path(("wan",), {"wan": link}).delays(np.full(n, up), np.full(n, down), 0, 0)


def test_round_trips_follow_their_quantiles():
    fact = facts.networks()["5g_public_urban_standing"]
    up, down = delays(Link(profile="5g_public_urban_standing", loss_percent=0))
    near(up, down)
    for level, rtt_ms in zip(*fact.quantiles(), strict=True):
        if level < 1:
            assert np.quantile(1e3 * (up + down), level) == pytest.approx(rtt_ms, rel=0.02)
    scaled_up, _ = delays(Link(profile="5g_public_urban_standing", loss_percent=0, rtt_ms=30))
    near(scaled_up, up * 30 / fact.rtt_p50_ms)
    path = Path(("wan", "wan"), {"wan": Link(profile="5g_public_urban_standing")})
    assert path.median_rtt_ms() == 2 * fact.rtt_p50_ms
    assert path.least_rtt_ms() == 2 * fact.rtt_p1_ms


def test_jitter_bandwidth_and_loss():
    up, _ = delays(Link(rtt_ms=50, jitter_ms=10))
    assert 2e3 * np.median(up) == pytest.approx(50, rel=0.01)
    assert (2e3 * up).std() / (2e3 * up).mean() == pytest.approx(0.2, rel=0.03)
    up, down = delays(Link(rtt_ms=10, up_mbps=8, down_mbps=80), up=1e6, down=1e6)
    near(up, 0.005 + 1.0)
    near(down, 0.005 + 0.1)
    up, down = delays(Link(rtt_ms=10, loss_percent=20, resend_ms=100))
    assert (up > 0.006).mean() == pytest.approx(0.2, abs=0.005)
    assert up.mean() == pytest.approx(0.005 + 0.1 * 0.25, rel=0.02)  # geometric: p / (1 - p) more
    assert np.corrcoef(up, down)[0, 1] == pytest.approx(0, abs=0.02)


def test_a_link_fails_for_its_share_of_the_time():
    down = outages("wan", (), 90.0, 10.0, 1e6, 0)
    assert (down.begin_s[1:] >= down.end_s[:-1]).all()
    inside = down.end_s < 1e6
    lasts, works = (down.end_s - down.begin_s)[inside], (down.begin_s[1:] - down.end_s[:-1])[inside[1:]]
    assert lasts.sum() / 1e6 == pytest.approx(0.1, rel=0.05)
    for span, mean in ((lasts, 10), (works, 90)):
        assert span.mean() == pytest.approx(mean, rel=0.05)
        assert span.std() == pytest.approx(mean, rel=0.05)  # exponential
    assert scipy.stats.kstest(works / 90, "expon").pvalue > 0.001


@examples(100)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=6), max_size=4),
    st.lists(st.floats(-1, 70), max_size=20),
)
def test_either_is_the_union(lists, times):
    parts = []
    for spans in lists:
        parts.append(either([Down(np.array([float(b)]), np.array([float(b + n)])) for b, n in spans]))
    whole = either(parts)
    assert (whole.begin_s[1:] > whole.end_s[:-1]).all()
    found = whole.at(np.array(times))
    for t, is_down in zip(times, found.tolist(), strict=True):
        expected = any(b <= t < b + n for spans in lists for b, n in spans)
        assert is_down == expected == whole.now(t)
        assert not whole.now(whole.up_again_s(t))
    assert not whole.at(np.array([np.nan])).any()
    assert not NEVER.now(3.0)


# -- what a request needs --------------------------------------------------------------------------------


def test_a_roofline_by_hand():
    """Jetson Orin Nano: 68 GB/s and 20 dense INT8 TOPS, of which 60% are reached."""
    tier = Tier(kind="device", device="jetson-orin-nano-8gb", precision="int8", parameters=68e6, gflop=1.2)
    assert roofline_s(tier) == pytest.approx(68e6 / (68e9 * 0.6))  # bound by reading: 1.67 ms
    heavy = dataclasses.replace(tier, gflop=120.0, overhead_ms=3)
    assert roofline_s(heavy) == pytest.approx(0.003 + 120e9 / (20e12 * 0.6))
    fp16 = dataclasses.replace(tier, precision="fp16")
    assert roofline_s(fp16) == pytest.approx(2 * roofline_s(tier))
    assert mean_s(tier, Class(work=3)) == pytest.approx(3 * roofline_s(tier))
    with pytest.raises(Wrong, match="nobody knows"):
        roofline_s(dataclasses.replace(tier, device="raspberry-pi-5-8gb"))


def test_an_engine_by_hand():
    """Llama 3.1 8B in FP16 on an A100: 16 GB of weights at 2039 GB/s, 131 kB of keys and values a token."""
    tier = Tier(kind="central_cloud", device="nvidia-a100-80gb-sxm", llm="llama-3.1-8b", derate=0.5)
    assert kv_bytes(tier) == 2 * 2 * 32 * 8 * 128 == 131_072
    cost = speed(tier)
    assert cost.step_s == cost.prompt_s == pytest.approx(8_030_261_248 * 2 / (2039e9 * 0.5))
    assert cost.token_s == cost.row_s == pytest.approx(2 * 8_030_261_248 / (312e12 * 0.5))
    assert cost.context_s == pytest.approx(131_072 / (2039e9 * 0.5))
    assert kv_tokens(tier) == pytest.approx((0.9 * 80 - 16.060522496) * 1e9 / 131_072)
    assert kv_tokens(dataclasses.replace(tier, kv_gb=1.31072)) == pytest.approx(10_000)
    with pytest.raises(Wrong, match="lower precision"):
        kv_tokens(dataclasses.replace(tier, device="nvidia-t4"))
    kind = Class(prompt_tokens=100, output_tokens=41)
    one = Engine(cost)
    one.offer(np.arange(1), np.zeros(1), np.array([100]), np.array([41]), np.array([41]))
    assert mean_s(tier, kind) == pytest.approx(one.advance(np.inf).last_s[0], rel=1e-4)


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 2.0])
def test_services_have_their_mean_and_spread(cv):
    scenario = one_tier(Tier(kind="device", service_ms=20, service_cv=cv), 500, 190)
    _, _, meets = only_chunk(scenario, 0)
    need = meets[0].need[0]
    assert need.mean() == pytest.approx(0.02, rel=0.03)
    assert need.std() / need.mean() == pytest.approx(cv, rel=0.03)


# -- results ---------------------------------------------------------------------------------------------


def test_a_summary_says_what_the_ledger_says():
    tiers = {"edge": Tier(kind="device", service_ms=50, service_cv=1, queue=3, quality=0.9, weakness=0.5,
                          usd_per_hour=3.6, usd_per_request=0.001, power_w_idle=1,
                          power_w_busy=5)}  # fmt: skip
    result = run(one_tier(rate=18, seconds=200, tiers=tiers), Nearest())
    g, s, good = result.ledger, result.summary(), result.ledger.status == ANSWERED
    e2e_ms = 1e3 * (g.last_s - g.at_s)[good]
    assert 0 < s.rejected == (g.status == REJECTED).sum()
    for q in (50, 95, 99):
        near(getattr(s, f"p{q}_ms"), np.percentile(e2e_ms, q))
    near(s.mean_ms, e2e_ms.mean())
    near(s.jitter_ms, np.abs(np.diff(e2e_ms)).mean())
    near(s.availability, good.mean())
    near(s.throughput_rps, good.sum() / result.seconds)
    assert s.quality == pytest.approx(0.9 * (1 - 0.5 * 0.3), abs=0.03)
    place = result.places["edge"]
    near(place.busy_s, (g.done_last_s - g.start_s)[good].sum())
    near(place.there_s, result.seconds)
    near(
        place.energy_j,
        economics.energy_j(5, place.busy_s) + economics.energy_j(1, place.there_s - place.busy_s),
    )
    near(place.usd, 0.001 * result.seconds)
    near(s.usd_per_1k, 1000 * (place.usd + 0.001 * good.sum()) / good.sum())
    near(s.energy_j, place.energy_j / good.sum())
    kept = {
        k.name: k.good for k in result.kept({"p95_ms": s.p95_ms, "p99_ms": s.p95_ms, "availability": 1.0})
    }
    assert kept == {"p95_ms": True, "p99_ms": False, "availability": False}


def test_a_waterfall_adds_up():
    result = run(two_tiers(40, 20))
    parts = result.parts(17)
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == pytest.approx(result.e2e_ms[17])
    refused = run(one_tier(Tier(kind="device", service_ms=500, queue=0), 10, 20))
    i = int(np.flatnonzero(~refused.answered)[0])
    assert refused.status(i) == "rejected"
    with pytest.raises(ValueError, match="was not answered"):
        refused.parts(i)


def test_an_interval_holds_the_percentile():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        value, low, high = interval(rng.standard_exponential(500), 95)
        assert low <= value <= high
        inside += low <= -math.log(0.05) <= high
    assert 0.93 < inside / 1000 < 0.98
    assert np.isnan(interval(np.array([np.nan]), 50)).all()


@pytest.mark.parametrize("n", [2, 5, 20])
def test_an_interval_between_runs_holds_the_mean(n):
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(2000):
        _, low, high = between_runs(rng.normal(3, 2, n))
        inside += low <= 3 <= high
    assert 0.935 < inside / 2000 < 0.965
    half = scipy.stats.t.ppf(0.975, n - 1) * np.std(values := rng.normal(3, 2, n), ddof=1) / math.sqrt(n)
    assert between_runs(values)[2] - values.mean() == pytest.approx(half, rel=0.005)
    assert np.isnan(between_runs([1.0])[1])


def test_nobody_came():
    for way in (run, run_events):
        result = way(one_tier(rate=1e-6, seconds=1), Nearest())
        assert (len(result.ledger), result.summary().requests) == (0, 0)
        assert len(result.records) == 0


# -- the house -------------------------------------------------------------------------------------------


def test_import_is_light():
    """The simulator needs NumPy only."""
    heavy = "torch transformers onnxruntime plotly simpy ciw scipy pandas ray"
    code = f"import sys, kit.simulate; print([m for m in '{heavy}'.split() if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
