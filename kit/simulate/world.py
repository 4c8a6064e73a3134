"""A scenario made ready to run: links joined into paths, stations, outages, what each request meets where."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from itertools import repeat

import numpy as np

from kit import economics
from kit.policy import ALLOWED_KINDS, FleetView, Request, TierView
from kit.simulate import recorded, services
from kit.simulate.llm import Engine
from kit.simulate.network import NEVER, Crossing, Path, either, outages
from kit.simulate.results import Place
from kit.simulate.scenario import Scenario, Tier
from kit.simulate.stations import Fifo, Station
from kit.simulate.workload import Requests

MARGIN_S = 3600.0
FILL = {field.name: getattr(Request, field.name).__set__ for field in fields(Request)}
"""Name of a field -> what writes it into an object that is frozen for everybody else."""


@dataclass(frozen=True)
class Meets:
    """What the requests of one chunk would meet at one tier; all [n].

    Attributes:
        up_s, down_s: delays of the network. ``need``: see `kit.simulate.services.needs`.
    """

    up_s: np.ndarray
    down_s: np.ndarray
    need: tuple[np.ndarray, ...]


class World:
    """See the module.

    Args:
        scenario: what is simulated.
        seed: of all chance.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.seed = scenario, seed
        self.names = list(scenario.tiers)
        self.tiers = list(scenario.tiers.values())
        self.index = {name: k for k, name in enumerate(self.names)}
        self.classes = list(scenario.workload.classes.values())
        self.kinds = list(scenario.workload.classes)
        self.paths = [Path(tier.path, scenario.links) for tier in self.tiers]
        horizon_s = scenario.workload.seconds + MARGIN_S
        self.link_down = {
            name: outages(name, scenario.outages, link.outage_every_s, link.outage_lasts_s, horizon_s, seed)
            for name, link in scenario.links.items()
        }
        self.cut = [either([self.link_down[name] for name in tier.path]) for tier in self.tiers]
        self.tier_down = [
            outages(name, scenario.outages, None, 0, horizon_s, seed) if name else NEVER
            for name in self.names
        ]
        self._crossed: tuple[int, dict[tuple[str, int], Crossing]] = -1, {}  # of one chunk
        self.recorded = recorded.answers(scenario)
        self._typical = [self.request(kind) for kind in range(len(self.classes))]
        self.work = np.array([c.work for c in self.classes])
        self.deadline_s = np.array([(c.deadline_ms or np.inf) / 1000 for c in self.classes])
        self.allowed = np.array(
            [[t.kind in ALLOWED_KINDS[c.privacy] for t in self.tiers] for c in self.classes]
        )

    def meets(self, k: int, asked: Requests, chunk: int, attempt: int = 1) -> Meets:
        """What these requests meet at tier ``k``, drawn from streams of their own."""
        if self._crossed[0] != chunk:
            self._crossed = chunk, {}
        up, down = self.paths[k].delays(
            asked.payload_bytes, asked.answer_bytes, self.seed, chunk, attempt, self._crossed[1]
        )
        seed = self.seed if attempt == 1 else self.seed + 1_000_003 * (attempt - 1)
        need = services.needs(self.names[k], self.tiers[k], asked, self.work[asked.kind], seed, chunk)
        first = self.scenario.dispatch.edge_first
        if first not in (None, self.names[k]) and attempt == 1:  # its guess was awaited
            work = self.work[asked.kind]
            up = up + services.needs(first, self.scenario.tiers[first], asked, work, seed, chunk)[0]
        return Meets(up, down, need)

    def stations(self, k: int) -> list[Station]:
        """The stations of tier ``k``, empty."""
        return [station(self.tiers[k]) for _ in range(self.tiers[k].stations)]

    def right(self, k: int, asked: Requests, which: np.ndarray | int) -> np.ndarray:
        """Would tier ``k`` answer rows ``which`` of ``asked`` right? bool [n].

        As recorded; else by chance, and then a better place is right wherever a worse one is.
        """
        if self.recorded is not None:
            return self.recorded.right[k, self.recorded.begin[asked.kind[which]] + asked.item[which]]
        return asked.luck[which] < self.chance(k, asked.difficulty[which])

    def sure(self, k: int, asked: Requests) -> np.ndarray | None:
        """How sure tier ``k`` is of its answers, as recorded, [n]; None: nothing is recorded."""
        if self.recorded is None:
            return None
        return self.recorded.sure[k, self.recorded.begin[asked.kind] + asked.item]

    def chance(self, k: int, difficulty: np.ndarray | float) -> np.ndarray:
        """Chance that tier ``k`` is right."""
        tier = self.tiers[k]
        return np.asarray(tier.quality * (1 - tier.weakness * difficulty))

    def is_free(self, k: int) -> bool:
        """Does a call to tier ``k`` cost nothing, beside its servers?"""
        tier, links = self.tiers[k], self.scenario.links
        prices = (tier.usd_per_request, tier.usd_per_mtok_in, tier.usd_per_mtok_out, tier.usd_per_gb)
        return not any(prices) and not any(links[name].usd_per_gb for name in tier.path)

    def usd(self, k: int, asked: Requests) -> np.ndarray:
        """What one call to tier ``k`` costs, beside its servers: calls, tokens, and bytes that leave, [n]."""
        tier, links = self.tiers[k], self.scenario.links
        tokens = tier.usd_per_mtok_in * asked.prompt_tokens + tier.usd_per_mtok_out * asked.output_tokens
        carried = sum(links[name].usd_per_gb for name in tier.path) * (
            asked.payload_bytes + asked.answer_bytes
        )
        sent = tier.usd_per_gb * asked.answer_bytes
        return tier.usd_per_request + tokens / 1e6 + (carried + sent) / economics.BYTES_PER_GB

    def request(
        self, kind: int, id: str = "", asked: Requests | None = None, i: int = 0, left_ms: float | None = None
    ) -> Request:
        """What a policy may know of a request; without ``asked``, of a typical one of its class.

        ``left_ms``: of its deadline, if some time has passed.
        """
        c, known = self.classes[kind], self.recorded
        sure, intent = None, self.kinds[kind] if known is None else None
        if known is not None and known.said and known.guess and asked is not None:
            item = int(known.begin[kind] + asked.item[i])
            sure, intent = known.guess[item], known.said[item]
        payload = c.payload_bytes if asked is None else asked.payload_bytes[i]
        prompt = c.prompt_tokens if asked is None else asked.prompt_tokens[i]
        return Request(
            id=id,
            payload_bytes=int(payload),
            prompt_tokens=int(prompt),
            privacy=c.privacy,
            language=c.language,
            edge_confidence=sure,
            deadline_ms=left_ms if c.deadline_ms and left_ms else c.deadline_ms,
            intent=intent,
        )

    def seen(self, asked: Requests, which: np.ndarray) -> list[Request]:
        """`request` for many: rows ``which`` of ``asked``.

        A frozen object is slow to make, and each value here was checked when the scenario was read. So all
        objects are made first, empty, and then filled field by field.
        """
        kinds = asked.kind[which].tolist()
        made = list(map(object.__new__, repeat(Request, len(kinds))))
        columns = {
            "id": map(str, asked.id[which].tolist()),
            "payload_bytes": asked.payload_bytes[which].astype(int).tolist(),
            "prompt_tokens": asked.prompt_tokens[which].tolist(),
        }
        known = self.recorded
        if known is not None and known.said and known.guess:
            items = (known.begin[asked.kind[which]] + asked.item[which]).tolist()
            columns["edge_confidence"] = map(known.guess.__getitem__, items)
            columns["intent"] = map(known.said.__getitem__, items)
        typical = self._typical
        for name, fill in FILL.items():
            values = columns.get(name)
            if values is None:
                of_kind = [getattr(one, name) for one in typical]
                values = map(of_kind.__getitem__, kinds) if len(set(of_kind)) > 1 else repeat(of_kind[0])
            deque(map(fill, made, values), maxlen=0)
        return made

    def view(self, queues: list[int], now_s: float, healthy: list[bool] | None = None) -> FleetView:
        """What a policy sees: queues as they were, and links that are up."""
        return FleetView(
            tuple(
                TierView(
                    name=name,
                    kind=tier.kind,
                    models=(tier.llm,) if tier.llm else (),
                    rtt_ms=self._rtt_ms(k),
                    service_ms=self._service_ms(k),
                    queue=queues[k],
                    healthy=(not self.cut[k].now(now_s)) and (healthy is None or healthy[k]),
                    price_usd_per_mtok=tier.usd_per_mtok_out,
                    price_usd_per_request=tier.usd_per_request,
                    servers=tier.stations * (tier.rows if tier.writes else tier.servers),
                    age_s=self.scenario.dispatch.signals_every_s + self.scenario.dispatch.signals_delay_s,
                )
                for k, (name, tier) in enumerate(zip(self.names, self.tiers, strict=True))
            )
        )

    def _rtt_ms(self, k: int) -> float:
        if not hasattr(self, "_rtts"):
            self._rtts = [path.median_rtt_ms() for path in self.paths]
        return self._rtts[k]

    def _service_ms(self, k: int) -> float:
        if not hasattr(self, "_means"):
            shares = np.array([c.share for c in self.classes])
            means = [[services.mean_s(t, c) for c in self.classes] for t in self.tiers]
            self._means = [float(1e3 * np.dot(shares, m) / shares.sum()) for m in means]
        return self._means[k]

    def place(
        self, k: int, busy_s: float, seconds: float, there_s: float | None = None, peak: float = 0
    ) -> Place:
        """What tier ``k`` cost: its servers for all the time that they were there."""
        tier = self.tiers[k]
        servers = tier.stations * (1 if tier.writes else tier.servers)
        there_s = servers * seconds if there_s is None else there_s
        energy = economics.energy_j(tier.power_w_idle, max(there_s - busy_s, 0)) + economics.energy_j(
            tier.power_w_busy, busy_s
        )
        part = _off_peak(seconds) if self.scenario.workload.arrivals == "daily" else 0.0
        price = tier.usd_per_hour * (1 - part + part * tier.off_peak_factor)
        return Place(busy_s, there_s, price * there_s / 3600, energy, peak or servers)


def station(tier: Tier) -> Station:
    """One station of a tier."""
    if tier.writes:
        static = tier.batching == "static"
        return Engine(services.speed(tier), tier.rows, services.kv_tokens(tier), static, tier.queue)
    heat = (tier.throttle_after_s, tier.throttle_factor) if tier.throttle_after_s else None
    return Fifo(tier.servers, tier.queue, heat)


def _off_peak(seconds: float) -> float:
    """Part of the time from midnight to six, of a run that begins at midnight."""
    days, rest = divmod(seconds, 86_400)
    return (days * 21_600 + min(rest, 21_600)) / seconds if seconds else 0.0
