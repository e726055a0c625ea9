"""The proxy: one listener, one server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from spile.testkit.proxy._conditions import Conditions, Direction

_PIECE_BYTES = 16_384
_UNDER_WAY = 256
_TICK_S = 0.1
_RST = struct.pack("ii", 1, 0)


@dataclass(slots=True, eq=False)
class _Link:
    """The two halves of one connection."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None

    def reset(self) -> None:
        """End both halves with RST."""
        for writer in (self.client, self.server):
            if writer is None or writer.transport.is_closing():
                continue
            raw = writer.get_extra_info("socket")
            if raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()


class TcpProxy:
    """
    Passes connections of one port on to a server, under conditions; use it by `async with`.

    Args:
        server: `host:port` behind it.
        host: Address to listen on, loopback by default.
        port: Port to listen on; 0 takes a free one. Where a broker advertises it, take one below
            32768 from a `PortLease`.
        chance: For jitter and resets; seeded by the caller where runs must be alike.

    Attributes:
        delayed: Pieces of data that arrived late so far.
        resets: Connections that were reset so far.
    """

    def __init__(
        self,
        server: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        chance: random.Random | None = None,
    ) -> None:
        self.delayed = 0
        self.resets = 0
        self._host, self._port = host, port
        self._server = server
        self._chance = chance or random.Random()  # noqa: S311 - faults, not secrets
        self._conditions = Conditions()
        self._changed = asyncio.Event()
        self._links: set[_Link] = set()
        self._listener: asyncio.Server | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> Self:
        """
        Listen.

        Raises:
            OSError: The port is taken.
        """
        self._listener = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = int(self._listener.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Reset every connection and stop listening."""
        if self._listener is not None:
            self._listener.close()
        self.change(Conditions())
        self._reset_all()
        await self._idle.wait()

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return f"{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def change(self, conditions: Conditions) -> None:
        """Let these conditions hold from now on, for present connections and later ones."""
        self._conditions = conditions
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def lead_to(self, server: str) -> None:
        """Pass later connections on to another server, `host:port`."""
        self._server = server

    def reset(self) -> int:
        """Reset every connection with RST; return how many there were."""
        found = self._reset_all()
        self.resets += found
        return found

    def _reset_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either side ends it."""
        link = _Link(writer)
        self._links.add(link)
        self._idle.clear()
        try:
            # A torn connection is what this is for: it ends both halves, and nothing else.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._join(link, reader)
        finally:
            for half in (link.client, link.server):
                if half is not None:
                    half.transport.abort()
            self._links.discard(link)
            if not self._links:
                self._idle.set()

    async def _join(self, link: _Link, reader: asyncio.StreamReader) -> None:
        far_reader, link.server = await asyncio.open_connection(*self._server.rsplit(":", 1))
        halves = [
            self._carry(reader, link.server, Direction.TO_SERVER),
            self._carry(far_reader, link.client, Direction.TO_CLIENT),
            self._tear(link),
        ]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(half) for half in halves]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for one in running:
                one.cancel()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Direction
    ) -> None:
        """Carry one direction: what is read waits for its time in a queue of its own."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._deliver(queue, writer, way))
            with contextlib.suppress(OSError):
                while piece := await reader.read(_PIECE_BYTES):
                    await queue.put((asyncio.get_running_loop().time() + self._lateness(), piece))
                await queue.put((0.0, b""))
                await asyncio.wait([writing])
            writing.cancel()

    async def _deliver(
        self,
        queue: asyncio.Queue[tuple[float, bytes]],
        writer: asyncio.StreamWriter,
        way: Direction,
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                due, piece = await queue.get()
                if not piece:
                    return
                if (early := due - loop.time()) > 0:
                    self.delayed += 1
                    await asyncio.sleep(early)
                while way in self._conditions.held:
                    await self._changed.wait()
                writer.write(piece)
                await writer.drain()
                if width := self._conditions.bytes_per_s:
                    self.delayed += 1
                    await asyncio.sleep(len(piece) / width)

    def _lateness(self) -> float:
        now = self._conditions
        return max(0.0, now.latency_s + self._chance.uniform(-now.jitter_s, now.jitter_s))

    async def _tear(self, link: _Link) -> None:
        """Reset the connection when its time has come."""
        while True:
            if not self._conditions.resets_per_s:
                await self._changed.wait()
                continue
            await asyncio.sleep(_TICK_S)
            if self._chance.random() < self._conditions.resets_per_s * _TICK_S:
                self.resets += 1
                link.reset()
                return
