"""Run the gateway: in this process for ``kit gateway``, or in one of its own, with everything behind it."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from kit.policy import TierKind
from kit.route import processes
from kit.route.delays import Delays
from kit.route.delays import network as links_of
from kit.route.gateway import policies
from kit.route.gateway.app import create_app
from kit.route.gateway.settings import Settings, load
from kit.route.processes import Proxied, Replayed
from kit.route.replay import Script
from kit.serve.run import Server, Started, free_port
from kit.serve.run import started as serving
from kit.simulate.scenario import Link

START_S = 60.0
KINDS: dict[str, TierKind] = {"edge": "device", "cloud": "central_cloud"}
EDGE = 'models = [{name = "edge", kind = "classify", source = "intent.int8"}]\nthreads = 1\n'
CLOUD = 'models = [{name = "smollm2", kind = "chat", source = "smollm2.int4"}]\n'


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Requests that run are answered first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("kit.serve").setLevel(logging.WARNING)  # a line for each request costs a tenth of one
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=max(1, int(settings.deadline_ms / 1000)),
        access_log=False,
        log_config=None,
        server_header=False,
    )
    gc.collect()
    gc.freeze()  # what is there now stays: no pause to look through it
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again once it has stopped
    Server(config, app.state.house).run()  # it only needs to know that the house is draining


@dataclass
class Stack:
    """A gateway and what stands behind it.

    Attributes:
        gateway: its process; None if it is not started yet. ``settings``: that it was started with.
        edge_url, cloud_url: the servers themselves, without ``/v1``, not through the proxy.
        edge, cloud: their processes, where this module started them.
        proxy: the network between gateway and cloud; None: none.
    """

    settings: dict[str, Any]
    edge_url: str
    cloud_url: str
    edge: Started | Replayed | None = None
    cloud: Started | Replayed | None = None
    proxy: Proxied | None = None
    gateway: Started | None = field(default=None)

    @property
    def url(self) -> str:
        """Of the gateway; the API is at ``url + "/v1"``."""
        assert self.gateway is not None
        return self.gateway.url


Place = str | Script | None


@contextmanager
def behind(
    edge: Place = None,
    cloud: Place = None,
    network: str | Mapping[str, Link] = "",
    seed: int = 0,
    notice_ms: float = 0.0,
    **settings: Any,
) -> Iterator[Stack]:
    """Everything behind a gateway, and the settings for one; what was started stops when the block ends.

    Args:
        edge: a URL; what to replay; or None for ``kit serve`` with the edge's classifier.
        cloud: likewise; None for ``kit serve`` with SmolLM2.
        network: between gateway and cloud, see `kit.route.processes.proxy`; empty: none.
        seed, notice_ms: of the proxy.
        settings: more of the gateway's, see `Settings`; ``edge_tier`` and ``cloud_tier`` are fields of
            these two tiers.
    """
    _check(settings, network, seed)
    with ExitStack() as stack:
        near, edge_url = _place(stack, edge, EDGE)
        far, cloud_url = _place(stack, cloud, CLOUD)
        proxy, seen_url = None, cloud_url
        if network:
            proxy = processes.proxy(cloud_url, network, seed, notice_ms)
            stack.enter_context(processes.ending(proxy))
            seen_url = proxy.url
        tiers = [
            _tier("edge", KINDS["edge"], edge_url, edge, "edge", "classify") | settings.pop("edge_tier", {}),
            _tier("cloud", KINDS["cloud"], seen_url, cloud, "smollm2", "chat")
            | settings.pop("cloud_tier", {}),
        ]
        yield Stack({"tiers": tiers, "seed": seed, **settings}, edge_url, cloud_url, near, far, proxy)


def _check(settings: Mapping[str, Any], network: str | Mapping[str, Link], seed: int) -> None:
    """Raise now what would be raised after everything has started, which can take a minute."""
    told = {k: v for k, v in settings.items() if k not in ("edge_tier", "cloud_tier")}
    nowhere = [_tier(*place, "http://127.0.0.1:9", None, "", "chat") for place in KINDS.items()]
    policies.build(load(None, **{**told, "tiers": nowhere}), lambda error: None)
    Delays(links_of(network) if isinstance(network, str) else network, seed)


def _tier(name: str, kind: str, url: str, place: Place, model: str, speaks: str) -> dict[str, Any]:
    more = {"model": place.model, "servers": place.servers} if isinstance(place, Script) else {"model": model}
    return {"name": name, "kind": kind, "base_url": url + "/v1", "speaks": speaks, **more}


def _place(stack: ExitStack, place: Place, models: str) -> tuple[Started | Replayed | None, str]:
    """A server and its address without ``/v1``."""
    if isinstance(place, str):
        return None, place.rstrip("/").removesuffix("/v1")
    if isinstance(place, Script):
        replayed = processes.replay(place)
        stack.enter_context(processes.ending(replayed))
        return replayed, replayed.url
    server = stack.enter_context(serving(models))
    return server, server.url


@contextmanager
def started(
    edge: Place = None,
    cloud: Place = None,
    network: str | Mapping[str, Link] = "",
    seed: int = 0,
    notice_ms: float = 0.0,
    **settings: Any,
) -> Iterator[Stack]:
    """A gateway in a process of its own, and everything behind it; arguments as `behind`."""
    with behind(edge, cloud, network, seed, notice_ms, **settings) as stack:
        stack.gateway = launch(stack.settings)
        try:
            yield stack
        finally:
            stack.gateway.stop()


def launch(settings: Mapping[str, Any], port: int = 0, **environment: str) -> Started:
    """Start ``kit gateway`` in a process of its own and wait until it answers. It ends with this process, or
    with ``stop``.

    Raises:
        RuntimeError: it did not start; the message ends with what it said.
    """
    port, folder = port or free_port(), Path(tempfile.mkdtemp(prefix="kit-gateway-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file, log = folder / "gateway.json", folder / "log.txt"
    file.write_text(json.dumps({**settings, "port": port}), "utf-8")
    command = [sys.executable, "-m", "kit.route.gateway", str(file)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
    atexit.register(process.kill)
    server = Started(f"http://127.0.0.1:{port}", process, log)
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(server.url + "/healthz", timeout=2).status_code == 200:
                return server
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"the gateway did not start:\n{server.said()[-2000:]}")
