"""Run the server: in this process for ``kit serve``, or in one of its own for a notebook or a test."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx
import uvicorn

from kit.serve.app import House, create_app
from kit.serve.door import OWNER
from kit.serve.settings import Settings

START_S, STOP_S = 300.0, 60.0


class Server(uvicorn.Server):
    """Refuses new requests as soon as it is told to stop, and answers those that run."""

    def __init__(self, config: uvicorn.Config, house: House) -> None:
        super().__init__(config)
        self.house = house

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.house.draining = True
        super().handle_exit(sig, frame)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C. Requests that run are answered first, for ``drain_s`` at most."""
    from kit import decode, engine

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    engine.share_threads(settings.threads)
    app = create_app(settings)
    if app.state.house.keys is None and app.state.house.nobody is not OWNER:
        logging.warning("no keys: anybody who reaches %s may ask. Make one: kit keys NAME", settings.host)
    decode.large_pages()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        timeout_graceful_shutdown=max(1, int(settings.drain_s)),
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    # uvicorn raises the signal again once it has stopped; here it has done its work by then
    signal.signal(signal.SIGTERM, lambda *_: None)
    Server(config, app.state.house).run()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass(frozen=True)
class Started:
    """A server in a process of its own.

    Attributes:
        url: such as ``http://127.0.0.1:8000``; the API is at ``url + "/v1"``.
        process: to stop it. ``log``: file with what it said.
    """

    url: str
    process: subprocess.Popen
    log: Path

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8", errors="replace")

    def stop(self) -> int:
        """Ask it to stop (SIGTERM), and wait. Returns its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def launch(settings: str = "", port: int = 0, **environment: str) -> Started:
    """Start ``kit serve`` in a process of its own and wait until it is ready. It ends with this process, or
    with ``stop``.

    Args:
        settings: TOML text; see ``Settings``. Empty: the kit's own models.
        port: 0 takes a free one.
        environment: more variables for the process.

    Raises:
        RuntimeError: it did not start; the message ends with what it said.
    """
    port, folder = port or free_port(), Path(tempfile.mkdtemp(prefix="kit-serve-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file, log = folder / "serve.toml", folder / "log.txt"
    file.write_text(settings, "utf-8")
    command = [sys.executable, "-m", "kit", "serve", "--settings", str(file), "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment})
    atexit.register(process.kill)
    scheme = "https" if "tls_certificate" in settings else "http"
    server = Started(f"{scheme}://127.0.0.1:{port}", process, log)
    try:
        _wait(server)
    except BaseException:
        process.kill()
        raise
    return server


@contextmanager
def started(settings: str = "", port: int = 0, **environment: str) -> Iterator[Started]:
    """As ``launch``; the server stops when the block ends."""
    server = launch(settings, port, **environment)
    try:
        yield server
    finally:
        server.stop()


def _wait(server: Started) -> None:
    """Until it is ready."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.process.poll() is None:
        try:
            if httpx.get(server.url + "/readyz", timeout=2, verify=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{server.said()[-2000:]}")
