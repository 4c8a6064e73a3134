"""What a request meets on the way, drawn by the simulator's own functions, and timers that are exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np

from kit.simulate.network import Down, Path, either, outages
from kit.simulate.scenario import Link

BLOCK = 1024  # exchanges that are drawn at a time
HORIZON_S = 7 * 86_400.0  # outages are drawn so far ahead
T = TypeVar("T")


def precise(main: Coroutine[Any, Any, T]) -> T:
    """Run it in an event loop whose timers are exact to the microsecond.

    epoll and poll, which asyncio takes by default, wait in whole milliseconds and round up; select does not.
    """
    loop = partial(asyncio.SelectorEventLoop, selectors.SelectSelector())
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


def network(names: str) -> dict[str, Link]:
    """Links by their ids in ``datasets/networks.csv``, joined by +: ``"fibre_assumed+region_eurasia"``."""
    return {name: Link(profile=name) for name in names.split("+") if name}


class Delays:
    """What each exchange meets, in the order in which they begin.

    Args:
        links: that the network is made of; none: no delay at all.
        seed: the same seed draws the same delays.

    Attributes:
        up_s_per_byte, down_s_per_byte: what a byte adds.
    """

    def __init__(self, links: Mapping[str, Link], seed: int = 0) -> None:
        self._path, self._seed = Path(tuple(links), links), seed
        nothing, million = np.zeros(1), np.full(1, 1e6)
        base, full = self._path.delays(nothing, nothing, 0, 0), self._path.delays(million, million, 0, 0)
        self.up_s_per_byte, self.down_s_per_byte = (
            float((f - b)[0]) / 1e6 for f, b in zip(full, base, strict=True)
        )
        self.restart()

    def restart(self) -> None:
        """The next is the first again."""
        self._next, self._chunk = BLOCK, -1

    def draw(self) -> tuple[float, float]:
        """Seconds up and down of the next exchange."""
        if self._next == BLOCK:
            self._next, self._chunk = 0, self._chunk + 1
            none = np.zeros(BLOCK)
            up, down = self._path.delays(none, none, self._seed, self._chunk)
            self._up, self._down = up.tolist(), down.tolist()
        self._next += 1
        return self._up[self._next - 1], self._down[self._next - 1]


def down(links: Mapping[str, Link], seed: int) -> Down:
    """When one of the links is down, as the simulator draws it."""
    found = [
        outages(
            name,
            (),
            link.outage_every_s,
            link.outage_lasts_s,
            min(HORIZON_S, 1e4 * link.outage_every_s),
            seed,
        )
        for name, link in links.items()
        if link.outage_every_s is not None
    ]
    return either(found)
