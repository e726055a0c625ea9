"""Registries under test: a real server, a real server behind a gate, a folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from spile.adapters.delivery import Backoff
from spile.adapters.registry import FileSchemaRegistry, HttpSchemaRegistry, SchemaRegistry
from spile.testkit.registry import EmbeddedRegistry

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
AT_ONCE = Backoff(initial_s=0.01, max_s=0.02)


@pytest.hookimpl(tryfirst=True)  # before -m chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests whose own registry is a server."""
    for item in items:
        if "guarded" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)


class Gate:
    """
    A real HTTP proxy before a registry, which counts, and interferes when it is told to.

    Attributes:
        heads: Head of each request, in order.
        answers: Raw answers to give to the next requests instead of passing them on; None passes.
        drips: Answer everything with one byte every 50 ms, for ever.
    """

    def __init__(self, upstream: int, path: str) -> None:
        self._upstream = upstream
        self._path = path
        self.heads: list[str] = []
        self.answers: deque[bytes | None] = deque()
        self.drips = False
        self._open = asyncio.Event()
        self._open.set()
        self._came = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}{self._path}"

    def stall(self) -> None:
        """Take requests from now on, and answer none."""
        self._open.clear()
        self._came.clear()

    async def came(self) -> None:
        """Wait for the first request, or the first after `stall`."""
        await self._came.wait()

    async def refuse(self) -> None:
        """Refuse connections from now on."""
        self._server.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._handlers.add(asyncio.current_task())
        try:
            await self._exchange(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(asyncio.current_task())
            writer.close()

    async def _exchange(self, reader, writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        self._came.set()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", 0)))
        await self._open.wait()
        if self.drips:
            writer.write(answer("200 OK", Content_Length="9999"))
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        reply = self.answers.popleft() if self.answers else None
        if reply is None:
            reply = await self._passed_on(head, body)
        writer.write(reply)
        await writer.drain()

    async def _passed_on(self, head: str, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        with contextlib.closing(writer):
            first, rest = head.split("\r\n", 1)
            kept = [line for line in rest.split("\r\n") if not line.lower().startswith("connect")]
            writer.write("\r\n".join([first, "Connection: close", *kept]).encode() + body)
            return await reader.read()


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """Make a raw answer."""
    fields = {"Content-Length": str(len(body)), "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
async def gate(schema_registry: EmbeddedRegistry) -> AsyncIterator[Gate]:
    path = schema_registry.url.partition(str(schema_registry.port))[2]
    async with Gate(schema_registry.port, path) as proxy:
        yield proxy


@pytest.fixture
async def gated(gate: Gate) -> AsyncIterator[HttpSchemaRegistry]:
    """A client whose requests go through the gate; it is patient, and tries three times."""
    client = HttpSchemaRegistry(gate.url, timeout_s=20, retries=2, backoff=AT_ONCE)
    async with client:
        yield client


@pytest.fixture
async def hasty(gate: Gate) -> AsyncIterator[HttpSchemaRegistry]:
    """A client for a gate that stalls; it waits 0.2 s and tries three times."""
    client = HttpSchemaRegistry(gate.url, timeout_s=0.2, retries=2, backoff=AT_ONCE)
    async with client:
        yield client


@pytest.fixture
def raw() -> Callable[..., bytes]:
    return answer


@pytest.fixture(params=[pytest.param("http", marks=pytest.mark.kafka), "files"])
async def registry(request: pytest.FixtureRequest, tmp_path) -> AsyncIterator[SchemaRegistry]:
    """Each kind of registry; what a test says holds for all of them."""
    if request.param == "files":
        async with FileSchemaRegistry(tmp_path / "registry") as folder:
            yield folder
        return
    server = request.getfixturevalue("schema_registry")
    async with HttpSchemaRegistry(server.url) as client:
        yield client


@pytest.fixture
def order(unique) -> Callable[..., dict]:
    """Make a JSON Schema that no other test has: of an order with some fields, all required."""
    title = unique("order")

    def make(**types: str) -> dict:
        return {
            "$schema": DRAFT_7,
            "title": title,
            "type": "object",
            "properties": {name: {"type": kind} for name, kind in types.items()},
            "required": sorted(types),
            "additionalProperties": False,
        }

    return make


@pytest.fixture
def record(unique) -> Callable[..., dict]:
    """Make an Avro schema that no other test has: of a record with some fields."""
    name = unique("record").replace("-", "_")

    def make(*fields: dict, **types: str) -> dict:
        plain = [{"name": field, "type": kind} for field, kind in types.items()]
        return {"type": "record", "name": name, "fields": [*plain, *fields]}

    return make


@pytest.fixture(scope="session")
def guarded() -> Iterator[EmbeddedRegistry]:
    """A real registry that lets in only one user; a test may stop it, and starts it again."""
    with EmbeddedRegistry(users={"writer": "k33p-0ut"}) as server:
        yield server
