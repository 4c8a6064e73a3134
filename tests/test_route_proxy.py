"""The network between two processes: its delays are the simulator's, and it can be cut, hung and mended."""

import asyncio
import json
import time

import httpx
import numpy as np
import pytest

from kit import facts
from kit.route import processes
from kit.route.delays import BLOCK, Delays, network, precise
from kit.route.proxy import Proxy
from kit.route.replay import Fault, Replay, Script
from kit.simulate.network import Path, RoundTrips, outages
from kit.simulate.scenario import Link

LIMIT_S = 20
BODY = {"model": "m", "messages": [{"role": "user", "content": "on"}]}


def live(work):
    """Run a test in an event loop with precise timers; it must end."""

    async def limited():
        async with asyncio.timeout(LIMIT_S):
            return await work()

    return precise(limited())


async def echo(reader, writer):
    """A server that sends back what it gets."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Echo:
    """An echo behind a proxy: ``async with Echo(links) as (proxy, port)``."""

    def __init__(self, links, **more):
        self.links, self.more = links, more

    async def __aenter__(self):
        self.server = await asyncio.start_server(echo, "127.0.0.1", 0)
        self.proxy = Proxy(self.server.sockets[0].getsockname()[:2], self.links, **self.more)
        return self.proxy, await self.proxy.start()

    async def __aexit__(self, *_):
        await self.proxy.stop()
        self.server.close()


async def connect(port):
    return await asyncio.open_connection("127.0.0.1", port)


async def trip_ms(reader, writer, data=b"x"):
    """Time until all of it is back."""
    start = time.perf_counter()
    writer.write(data)
    await reader.readexactly(len(data))
    return 1000 * (time.perf_counter() - start)


# --- delays


def test_delays_are_those_of_the_simulator():
    links = network("4g_lte_assumed+region_eurasia")
    path, none = Path(tuple(links), links), np.zeros(BLOCK)
    delays = Delays(links, seed=3)
    drawn = np.array([delays.draw() for _ in range(BLOCK + 5)])
    for chunk, rows in ((0, drawn[:BLOCK]), (1, drawn[BLOCK:])):
        up, down = path.delays(none, none, 3, chunk)
        np.testing.assert_array_equal(rows, np.stack([up, down], 1)[: len(rows)])
    assert delays.up_s_per_byte == pytest.approx(8e-6 / facts.networks()["4g_lte_assumed"].bandwidth_up_mbps)
    delays.restart()
    assert delays.draw() == tuple(drawn[0])


def test_a_network_without_round_trips_is_refused():
    with pytest.raises(facts.FactError, match="say rtt_ms"):
        Delays(network("5g_germany_loss_2025"))


def test_one_draw_for_each_exchange_half_up_and_half_down():
    """Each exchange takes as long as was drawn for it; what the machine adds is small beside it."""
    link = {"wan": Link(rtt_ms=40, jitter_ms=20)}

    async def work():
        async with Echo(link, seed=1) as (proxy, port):
            talk = await connect(port)
            delays = Delays(link, 1)
            pairs = [(await trip_ms(*talk), 1000 * sum(delays.draw())) for _ in range(40)]
            return np.array(pairs), proxy.state()

    pairs, state = live(work)
    added = pairs[:, 0] - pairs[:, 1]
    assert added.min() > -0.1
    assert np.median(added) < 5
    assert np.corrcoef(pairs.T)[0, 1] > 0.8
    assert state["exchanges"] == 40


def test_the_quantiles_of_a_profile_come_out():
    trips = RoundTrips.of(Link(profile="cable_assumed"), facts.networks()["cable_assumed"])
    delays = Delays(network("cable_assumed"), 5)
    drawn = 1000 * np.array([sum(delays.draw()) for _ in range(20_000)])
    for level in (0.25, 0.5, 0.9):
        assert np.quantile(drawn, level) == pytest.approx(trips.at(level), rel=0.05)


def test_timers_are_exact():
    """epoll would be up to a millisecond late, and half of one on average."""

    async def work():
        late = []
        for _ in range(60):
            start = time.perf_counter()
            await asyncio.sleep(0.0021)
            late.append(1000 * (time.perf_counter() - start) - 2.1)
        return np.quantile(late, 0.2)

    assert live(work) < 0.5


def test_bytes_take_their_time_and_stay_in_order():
    link = {"wan": Link(rtt_ms=10, jitter_ms=5, up_mbps=10, down_mbps=40)}
    data = np.random.default_rng(0).bytes(100_000)  # 80 ms up, 20 ms down; they overlap

    async def work():
        async with Echo(link) as (_, port):
            reader, writer = await connect(port)
            start = time.perf_counter()
            for i in range(0, len(data), 9999):
                writer.write(data[i : i + 9999])
                await asyncio.sleep(0.001)
            assert await reader.readexactly(len(data)) == data
            return 1000 * (time.perf_counter() - start)

    assert live(work) > 85


def test_a_loss_is_a_wait_since_tcp_sends_again():
    link = {"wan": Link(rtt_ms=1, loss_percent=50, resend_ms=30)}
    delays = Delays(link, 2)
    up = np.array([delays.draw()[0] for _ in range(4000)])
    assert set(np.round((up * 1000 - 0.5) / 30, 6)) <= set(range(40)), "whole waits"
    assert (up * 1000).mean() == pytest.approx(0.5 + 30, rel=0.1), "a geometric number, 1 on average"


def test_a_hundred_connections_do_not_wait_for_each_other():
    async def work():
        async with Echo({"wan": Link(rtt_ms=60)}) as (_, port):
            talks = [await connect(port) for _ in range(100)]
            start = time.perf_counter()
            await asyncio.gather(*(trip_ms(*talk) for talk in talks))
            return 1000 * (time.perf_counter() - start)

    assert 60 <= live(work) < 1000


# --- commands


def test_cut_and_mend():
    async def work():
        async with Echo({}) as (proxy, port):
            talk = await connect(port)
            await trip_ms(*talk)
            proxy.command("cut")
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await trip_ms(*talk)
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await trip_ms(*await connect(port))
            proxy.command("mend")
            await trip_ms(*await connect(port))
            assert proxy.state()["broken"] >= 1

    live(work)


def test_a_cut_is_noticed_after_the_time_that_it_takes():
    async def work():
        async with Echo({}, notice_ms=80) as (proxy, port):
            talk = await connect(port)
            proxy.command("cut")
            start = time.perf_counter()
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await trip_ms(*talk)
            return 1000 * (time.perf_counter() - start)

    assert live(work) >= 75


def test_what_hangs_goes_on_its_way_when_mended():
    async def work():
        async with Echo({}) as (proxy, port):
            old = await connect(port)
            proxy.command("hang")
            new = await connect(port)
            waits = [asyncio.create_task(trip_ms(*talk)) for talk in (old, new)]
            done, _ = await asyncio.wait(waits, timeout=0.1)
            assert not done
            proxy.command("mend")
            await asyncio.gather(*waits)

    live(work)


def test_reset_breaks_all_once_and_slow_slows():
    async def work():
        async with Echo({}) as (proxy, port):
            talk = await connect(port)
            await trip_ms(*talk)
            proxy.command("reset")
            with pytest.raises((OSError, asyncio.IncompleteReadError)):
                await trip_ms(*talk)
            talk = await connect(port)
            proxy.command("slow 60")
            slow = await trip_ms(*talk)
            proxy.command("mend")
            assert slow >= 60
            with pytest.raises(ValueError, match="there are: state, cut"):
                proxy.command("explode")

    live(work)


def test_an_answer_breaks_off_after_so_many_bytes():
    async def work():
        async with Echo({}) as (proxy, port):
            proxy.command("break 3")
            reader, writer = await connect(port)
            writer.write(b"abcdef")
            got = b""
            try:
                while piece := await reader.read(10):
                    got += piece
            except OSError:
                pass
            assert got == b"abc"
            assert await trip_ms(*await connect(port)), "only one"

    live(work)


def test_outages_come_in_runs_when_the_simulator_has_them():
    """Down 60 ms, up 60 ms on average: at the very times that the simulator draws."""
    link = Link(rtt_ms=0, outage_every_s=0.06, outage_lasts_s=0.06)
    down = outages("wan", (), 0.06, 0.06, 600.0, seed=4)

    async def work():
        async with Echo({"wan": link}, seed=4) as (proxy, _):
            start, seen = proxy._zero_s, []
            while (now := proxy.loop.time() - start) < 1.0:
                seen.append((now, proxy.mode == "cut"))
                await asyncio.sleep(0.001)
            return seen

    seen = live(work)
    right = [cut == down.now(at) for at, cut in seen]
    assert np.mean(right) > 0.8
    assert 0.1 < np.mean([cut for _, cut in seen]) < 0.9


def test_nobody_behind_it_is_told_as_a_broken_connection():
    async def work():
        proxy = Proxy(("127.0.0.1", 1), {"wan": Link(rtt_ms=5)})
        port = await proxy.start()
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await trip_ms(*await connect(port))
        await proxy.stop()

    live(work)


# --- the server that replays


def test_service_times_are_replayed_and_servers_have_one_queue():
    script = Script(service_list_ms=(100, 20, 20), servers=2)
    assert script.times_ms(5, np.random.default_rng(0)).tolist() == [100, 20, 20, 100, 20]

    async def work():
        replay = Replay(script)
        url = f"http://127.0.0.1:{await replay.start()}/v1/chat/completions"
        async with httpx.AsyncClient() as client:
            await client.get(url.replace("/v1/chat/completions", "/readyz"))
            start, ends = time.perf_counter(), []

            async def one(i):
                await asyncio.sleep(0.005 * i)
                answer = await client.post(url, json=BODY)
                ends.append((i, 1000 * (time.perf_counter() - start)))
                return answer

            told = await asyncio.gather(*(one(i) for i in range(3)))
            assert all(a.json()["choices"][0]["message"]["content"] == "An answer." for a in told)
        await replay.stop()
        return [i for i, _ in ends], dict(ends)

    order, ends = live(work)
    assert order[:2] == [1, 2], "two short ones pass the long one, on the other server, one after the other"
    assert ends[2] >= 44
    assert ends[0] >= 100


def test_quantiles_are_replayed():
    levels = np.linspace(0, 1, 201)
    times = Script(service_quantiles_ms=(100 * levels**3).tolist()).times_ms(20_000, np.random.default_rng(1))
    assert np.quantile(times, 0.5) == pytest.approx(12.5, rel=0.05)
    assert times.max() <= 100


def test_every_byte_is_written_down(tmp_path):
    file = tmp_path / "bytes"

    async def work():
        replay = Replay(Script(service_ms=0, record=str(file)))
        port = await replay.start()
        _, writer = await connect(port)
        writer.write(b"POST /v1/classify HTTP/1.1\r\nContent-Length: 99\r\n\r\nhalf a sec")
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.1)
        await replay.stop()
        return bytes(replay.received)

    received = live(work)
    assert b"half a sec" in received
    assert file.read_bytes() == received


def test_an_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="there are: hang, slow"):
        Fault("sulk")


def test_proxy_and_replay_as_processes():
    replay = processes.replay(Script(service_ms=1))
    proxy = processes.proxy(replay.url + "/v1", {"wan": Link(rtt_ms=30)}, seed=1)
    with processes.ending(proxy, replay), httpx.Client(timeout=10) as client:
        url = proxy.url + "/chat/completions"
        client.post(url, json=BODY)
        start = time.perf_counter()
        assert client.post(url, json=BODY).status_code == 200
        assert time.perf_counter() - start >= 0.030
        state = proxy.say("state")
        assert state["exchanges"] == 2
        assert json.dumps(state)
        with pytest.raises(ValueError, match="no command is called 'dance'"):
            proxy.say("dance")
        replay.fault("error", status=503, retry_after_s=7)
        answer = client.post(url, json=BODY)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
        replay.fault()
        proxy.say("cut")
        with pytest.raises(httpx.HTTPError):
            client.post(url, json=BODY)
        proxy.say("mend")
        assert client.post(url, json=BODY).status_code == 200
