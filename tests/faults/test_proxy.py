"""The TCP proxy that stands before brokers does what its conditions say."""

import asyncio
import contextlib
import random
import time

import pytest

from spile.testkit.proxy import Conditions, Direction, TcpProxy


@pytest.fixture
async def proxy():
    """A proxy before a server that sends back what it gets."""

    async def echo(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with TcpProxy(f"127.0.0.1:{port}", chance=random.Random(1)) as made:
        yield made
    server.close()


@contextlib.asynccontextmanager
async def connected(proxy):
    reader, writer = await asyncio.open_connection(*proxy.address.split(":"))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(link, data=b"x"):
    """Send bytes and return what comes back, and after how long."""
    reader, writer = link
    began = time.monotonic()
    writer.write(data)
    answer = await reader.readexactly(len(data))
    return answer, time.monotonic() - began


async def test_good_network_carries_bytes(proxy):
    """Without conditions everything comes through as it was."""
    async with connected(proxy) as link:
        data = random.Random(1).randbytes(200_000)
        writing, (answer, _) = link[1], await ask(link, data)
        assert answer == data
        assert not writing.is_closing()
        assert proxy.delayed == proxy.resets == 0


async def test_latency_holds_each_way(proxy):
    """A round trip takes twice the latency at least, and bytes keep their order."""
    proxy.change(Conditions(latency_s=0.1, jitter_s=0.05))
    async with connected(proxy) as link:
        answer, took_s = await ask(link, bytes(range(200)))
        assert answer == bytes(range(200))
        assert took_s >= 0.1
        assert proxy.delayed >= 2


async def test_width_bounds_the_rate(proxy):
    """50 kB at 100 kB/s take about half a second."""
    proxy.change(Conditions(bytes_per_s=100_000))
    async with connected(proxy) as link:
        _, took_s = await ask(link, b"x" * 50_000)
        assert took_s >= 0.3


async def test_reset_is_seen_by_both_sides(proxy):
    """A reset ends the connection with an error, and new ones work."""
    async with connected(proxy) as link:
        await ask(link)
        assert proxy.reset() == 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await ask(link)
    proxy.change(Conditions(resets_per_s=1000))
    async with connected(proxy) as link:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await link[0].readexactly(1)
    proxy.change(Conditions())
    async with connected(proxy) as link:
        await ask(link)


@pytest.mark.parametrize("ways", [{Direction.TO_SERVER}, {Direction.TO_CLIENT}, {*Direction}])
async def test_what_was_held_arrives_after_the_heal(proxy, ways):
    """Nothing gets through a held direction; what was sent meanwhile is not lost."""
    async with connected(proxy) as link:
        await ask(link)
        proxy.change(Conditions(held=frozenset(ways)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await ask(link, b"late")
        proxy.change(Conditions())
        async with asyncio.timeout(5):
            assert await link[0].readexactly(4) == b"late"


async def test_server_that_is_away_costs_the_connection(proxy):
    """When nobody listens behind it the client is cut off, not left waiting."""
    proxy.lead_to("127.0.0.1:1")
    async with connected(proxy) as link, asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await link[0].read() == b""
