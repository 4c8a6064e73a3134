"""The proxy and the replaying server in processes of their own, to be cut, mended, slowed down and killed."""

from __future__ import annotations

import atexit
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from kit.route.delays import network
from kit.route.proxy import described
from kit.route.replay import Fault, Script
from kit.simulate.scenario import Link

START_S = 60.0


@dataclass(frozen=True)
class Proxied:
    """A proxy in a process of its own.

    Attributes:
        url: what stands behind it, as seen through it. ``control``: port for commands.
    """

    url: str
    control: int
    process: subprocess.Popen

    def say(self, command: str) -> dict[str, Any]:
        """Send one of `kit.route.proxy.COMMANDS`; returns the state after it.

        Raises:
            ValueError: it is none.
        """
        with socket.create_connection(("127.0.0.1", self.control), 10) as talk:
            talk.sendall(command.encode() + b"\n")
            told = json.loads(talk.makefile().readline())
        if "error" in told:
            raise ValueError(told["error"])
        return told

    def stop(self) -> None:
        _end(self.process)


@dataclass(frozen=True)
class Replayed:
    """A replaying server in a process of its own; its API is at ``url + "/v1"``."""

    url: str
    process: subprocess.Popen

    def fault(self, fault: str = "", **more: Any) -> None:
        """Let it misbehave from now on, see `kit.route.replay.FAULTS`; without arguments it is well again."""
        Fault(fault, **more)  # raises ValueError here, where it can be read
        httpx.post(self.url + "/fault", json={"fault": fault, **more}, timeout=10).raise_for_status()

    def stop(self) -> None:
        """Kill it."""
        _end(self.process)


def replay(script: Script) -> Replayed:
    """Start `kit.route.replay` in a process of its own. It ends with this process, or with ``stop``."""
    process, told = _start("kit.route.replay", json.dumps(asdict(script)))
    return Replayed(f"http://127.0.0.1:{told['port']}", process)


def proxy(
    url: str, links: str | Mapping[str, Link], seed: int = 0, notice_ms: float = 0.0, port: int = 0
) -> Proxied:
    """Start `kit.route.proxy` in front of a server.

    Args:
        url: of the server, such as ``http://127.0.0.1:8000/v1``.
        links: ids of ``datasets/networks.csv`` joined by +, or links as a scenario has them.
        seed, notice_ms: see `kit.route.proxy.Proxy`.
        port: where it listens; 0 takes a free one.
    """
    parts = urlsplit(url)
    links = network(links) if isinstance(links, str) else links
    told = json.loads(described(f"{parts.hostname}:{parts.port or 80}", links, seed, notice_ms)) | {
        "port": port
    }
    process, ports = _start("kit.route.proxy", json.dumps(told))
    return Proxied(f"{parts.scheme}://127.0.0.1:{ports['port']}{parts.path}", ports["control"], process)


@contextmanager
def ending(*processes: Proxied | Replayed) -> Iterator[None]:
    """Stop them when the block ends."""
    try:
        yield
    finally:
        for process in processes:
            process.stop()


def _start(module: str, told: str) -> tuple[subprocess.Popen, dict[str, int]]:
    process = subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.kill)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as to:  # a command line would be too short for thousands of answers
        to.write(told)
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{module} did not start (exit code {process.wait()}); what it said stands above.")
    return process, json.loads(line)


def _end(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()
