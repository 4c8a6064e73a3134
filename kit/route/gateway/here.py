"""A gateway in this very process, so that it decides with this very policy object: for a notebook."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import uvicorn

from kit.policy import Policy
from kit.route.gateway.app import create_app
from kit.route.gateway.house import House
from kit.route.gateway.run import START_S, Stack, behind
from kit.route.gateway.settings import Settings
from kit.serve.run import Server, free_port


@dataclass
class Here(Stack):
    """As `Stack`; the gateway is a thread of this process.

    Attributes:
        house: what the gateway holds. ``address``: its URL.
    """

    house: House | None = None
    address: str = ""

    @property
    def url(self) -> str:
        return self.address


@contextmanager
def here(policy: Policy, **settings: Any) -> Iterator[Here]:
    """A gateway that decides with ``policy``, and everything behind it, until the block ends.

    Args:
        policy: any object with a ``route``. It shares this process: what it learns can be looked at.
        settings: arguments of `behind`.

    Raises:
        RuntimeError: it did not start.
    """
    with behind(**settings) as stack:
        port = free_port()
        told = {**stack.settings, "port": port, "policy": type(policy).__name__}
        app = create_app(Settings(**told), policy)
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, access_log=False, log_config=None, timeout_graceful_shutdown=2
        )
        server = Server(config, app.state.house)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        end = time.monotonic() + START_S
        while thread.is_alive() and not server.started and time.monotonic() < end:
            time.sleep(0.02)
        if not server.started:
            raise RuntimeError("the gateway did not start.")
        seen = {f.name: getattr(stack, f.name) for f in fields(Stack)}
        try:
            yield Here(**seen, house=app.state.house, address=f"http://127.0.0.1:{port}")
        finally:
            server.should_exit = True
            thread.join(10)
