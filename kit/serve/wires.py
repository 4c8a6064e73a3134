"""The same classifier over HTTP/1.1, HTTP/2 and gRPC: what does the wire cost?

``python -m kit.serve.wires PORT PORT PORT`` serves it on all of them, in one process with one session:
HTTP/1.1 with uvicorn; HTTP/1.1 and HTTP/2 with hypercorn, so that server and protocol can be told apart; and
gRPC.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import grpc
import httpx

from kit import data
from kit.artifacts import ROOT
from kit.serve.run import free_port
from kit.serve.settings import ModelSettings, Settings
from kit.serve.shelf import Classify, open_version

PROTO = "kit/serve/classify.proto"
EDGE = ModelSettings(name="edge", kind="classify", source="intent.int8")
READY_S = 60.0


@cache
def proto() -> tuple[Any, Any]:
    """Messages and services of ``classify.proto``, compiled when first asked for."""
    sys.path.append(str(ROOT))  # where the compiler looks
    return grpc.protos_and_services(PROTO)  # type: ignore[return-value]


async def _grpc_server(model: Classify, port: int) -> Any:
    messages, services = proto()

    class Servicer(services.ClassifierServicer):
        async def Classify(self, request: Any, context: Any) -> Any:
            shares = model.classify(list(request.input))
            return messages.Classes(
                data=[messages.Class(label=data.INTENTS[int(p.argmax())], probs=p) for p in shares]
            )

    server = grpc.aio.server()
    services.add_ClassifierServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


async def serve(uvicorn_port: int, hypercorn_port: int, grpc_port: int) -> None:
    """Serve the classifier in three ways, until the process is ended."""
    import uvicorn
    from hypercorn.asyncio import serve as hypercorn
    from hypercorn.config import Config

    from kit.serve.app import create_app

    app = create_app(Settings(models=(EDGE,)))
    model = app.state.house.shelf.active()[0]
    first = uvicorn.Server(uvicorn.Config(app, port=uvicorn_port, log_level="warning", access_log=False))
    second = Config()
    second.bind, second.loglevel = [f"127.0.0.1:{hypercorn_port}"], "WARNING"
    third = await _grpc_server(model, grpc_port)
    await asyncio.gather(first.serve(), hypercorn(app, second), third.wait_for_termination())  # type: ignore[arg-type]


@dataclass(frozen=True)
class Wire:
    """A way to ask.

    Attributes:
        ask: texts -> labels.
        request_bytes, response_bytes: body of one call with one text.
    """

    ask: Callable[[Sequence[str]], list[str]]
    request_bytes: int
    response_bytes: int


def _over_http(url: str, http2: bool, text: str) -> Wire:
    client = httpx.Client(base_url=url, http1=not http2, http2=http2)

    def post(texts: Sequence[str]) -> httpx.Response:
        response = client.post("/v1/classify", json={"model": "edge", "input": list(texts)})
        response.raise_for_status()
        expected = "HTTP/2" if http2 else "HTTP/1.1"
        assert response.http_version == expected, response.http_version
        return response

    first = post([text])

    def ask(texts: Sequence[str]) -> list[str]:
        return [c["label"] for c in post(texts).json()["data"]]

    return Wire(ask, len(first.request.content), len(first.content))


def _over_grpc(port: int, text: str) -> Wire:
    messages, services = proto()
    stub = services.ClassifierStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    request = messages.Texts(input=[text])
    answer = stub.Classify(request)

    def ask(texts: Sequence[str]) -> list[str]:
        return [c.label for c in stub.Classify(messages.Texts(input=texts)).data]

    return Wire(ask, request.ByteSize(), answer.ByteSize())


@contextmanager
def wires(text: str) -> Iterator[dict[str, Wire]]:
    """The four ways, with a server in a process of its own; name -> way.

    Raises:
        RuntimeError: the server did not start.
    """
    ports = [free_port() for _ in range(3)]
    command = [sys.executable, "-m", "kit.serve.wires", *map(str, ports)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        _until_ready(process, ports[:2])
        h1, h2 = (f"http://127.0.0.1:{port}" for port in ports[:2])
        yield {
            "HTTP/1.1, uvicorn": _over_http(h1, False, text),
            "HTTP/1.1, hypercorn": _over_http(h2, False, text),
            "HTTP/2, hypercorn": _over_http(h2, True, text),
            "gRPC": _over_grpc(ports[2], text),
        }
    finally:
        process.kill()
        process.wait()


def _until_ready(process: subprocess.Popen, ports: Sequence[int]) -> None:
    end = time.monotonic() + READY_S
    for port in ports:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1).raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("the server of the four wires did not start.") from None
                time.sleep(0.1)


def direct_ms(text: str, calls: int = 200) -> float:
    """Time of the model itself, without any wire (median), in ms."""
    model = open_version(EDGE, EDGE.version)
    assert isinstance(model, Classify)
    spent = []
    for _ in range(calls):
        start = time.perf_counter()
        model.classify([text])
        spent.append(1000 * (time.perf_counter() - start))
    return statistics.median(spent)


def calls_per_s(wire: Wire, text: str, at_once: int, calls: int = 200) -> tuple[float, float, float]:
    """Calls per second with so many callers, each with one text: median, least and most of three runs."""
    found = []
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(wire.ask, [[text]] * at_once))  # connections are open now
        for _ in range(3):
            start = time.perf_counter()
            list(pool.map(wire.ask, [[text]] * calls))
            found.append(calls / (time.perf_counter() - start))
    return statistics.median(found), min(found), max(found)


if __name__ == "__main__":
    from kit import engine

    engine.share_threads()
    asyncio.run(serve(*map(int, sys.argv[1:4])))
