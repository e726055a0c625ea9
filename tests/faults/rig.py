"""
One scenario of the fault tests: brokers, workers and loads as processes, and the judgement.

Used by the tests of this folder and by the fault matrix.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from spile.adapters.kafka import KafkaAdmin, KafkaSettings
from spile.services.persistence import GROUP
from spile.testkit.broker import EmbeddedBroker
from spile.testkit.ledger import Observation, Seen, Verdict, check, read_history
from spile.testkit.load import LOAD_CATALOGUE, LOGICAL_TOPIC
from spile.topics import Catalogue, plan

TOPIC = f"dev.{LOGICAL_TOPIC}"
DLQ = f"{TOPIC}.dlq"
ENTRY = Path(__file__).parent / "worker_entry.py"
LOAD_ENTRY = Path(__file__).parent / "load_entry.py"

POISON = "x-test-poison"
"""Header of records on the bus that are none of the load."""

# A member that died is missed after the session timeout; brokers refuse such short ones by default.
OVERRIDES = {"group.min.session.timeout.ms": "500"}
TIMES = {
    "session_timeout_ms": 1200,
    "heartbeat_interval_ms": 400,
    "rebalance_timeout_ms": 6000,
    "request_timeout_ms": 3000,
    "consumer_metadata_max_age_ms": 2000,
}

_ROWS = """
    SELECT event_id, json_extract(envelope, '$.payload.key'), json_extract(envelope,
    '$.payload.seq'), topic, "partition", "offset" FROM events WHERE topic = ? ORDER BY seq
"""


class Process:
    """A process of ours whose output goes to files; killed at the end of the test if need be."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.out = log.with_suffix(".out")
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("SPILE_")}
        with log.open("wb") as errors, self.out.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                env=inherited | dict(environment),
                stdout=output,
                stderr=errors,
                stdin=subprocess.DEVNULL,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.running:
            self._process.send_signal(number)

    async def ended(self, limit_s: float = 40.0) -> int:
        """Wait for the exit code."""
        try:
            return await asyncio.to_thread(self._process.wait, limit_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {limit_s} s:\n{self.tail()}") from None

    async def kill(self) -> bool:
        """Kill it with SIGKILL; say whether it was alive until then."""
        alive = self.running
        self.send(signal.SIGKILL)
        await self.ended()
        return alive

    async def said(self, phrase: str, limit_s: float = 30.0) -> str:
        """Wait for a line of the log."""
        until = time.monotonic() + limit_s
        while True:
            for line in self.log.read_text(errors="replace").splitlines():
                if phrase in line:
                    return line
            if not self.running or time.monotonic() > until:
                raise AssertionError(f"never said {phrase!r}:\n{self.tail()}")
            await asyncio.sleep(0.02)

    @property
    def resident_bytes(self) -> int:
        """Memory that it holds now."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process is gone")

    @property
    def pid(self) -> int:
        return self._process.pid

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def summary(self) -> dict[str, Any]:
        """Return what the process printed as JSON."""
        return json.loads(self.out.read_text().splitlines()[-1])

    async def metric(self, name: str, **labels: str) -> float:
        """Read one number from the process's metrics."""
        url = json.loads(await self.said('"http"'))["http"]

        def read() -> str:
            with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
                return answer.read().decode()

        inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{name}{{{inner}}} " if labels else f"{name} "
        for line in (await asyncio.to_thread(read)).splitlines():
            if line.startswith(wanted):
                return float(line.removeprefix(wanted))
        return 0.0


class Rig:
    """One scenario: its brokers, its processes, its ledger."""

    def __init__(
        self,
        broker: EmbeddedBroker,
        folder: Path,
        times: Mapping[str, int],
        servers: str | None = None,
    ) -> None:
        self.broker = broker
        self.servers = servers or broker.bootstrap_servers
        self.folder = folder
        self.history = folder / "history"
        self.database = folder / "events.db"
        self.settings = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, environment="dev", **(TIMES | dict(times))
        )
        self._times = TIMES | dict(times)
        self._processes: list[Process] = []
        self._counted: dict[Path, tuple[int, int]] = {}

    async def make_topics(self, catalogue: Catalogue = LOAD_CATALOGUE) -> None:
        """Make the topic of the load with all that belongs to it."""
        every = catalogue.topics("dev")
        async with KafkaAdmin(self.settings) as admin:
            wanted = {name: spec for name, spec in every.items() if name.startswith(TOPIC)}
            brokers = len(self.broker.nodes)
            await admin.apply(
                plan(wanted, await admin.describe(), environment="dev", brokers=brokers)
            )

    def worker(self, *mode: str, **extra: str) -> Process:
        """Start the persistence worker, or a variant of it made for a test."""
        arguments = [str(ENTRY), *mode] if mode else ["-m", "spile.services.persistence"]
        return self._start("worker", arguments, {"SPILE_STORE": str(self.database), **extra})

    def load(
        self,
        *mode: str,
        rate: float,
        keys: int = 16,
        limit_s: float = 150.0,
        many: bool = False,
        writer: str = "load",
        **extra: str,
    ) -> Process:
        """Start a load process, or a variant of it made for a test."""
        flags = ["--rate", str(rate), "--keys", str(keys), "--seconds", str(limit_s)]
        flags += ["--breaker-reset", "1"] + (["--many"] if many else [])
        flags += ["--history", str(self.history), "--writer", writer]
        program = [str(LOAD_ENTRY), *mode, "--"] if mode else ["-m", "spile.testkit.load"]
        return self._start("load", [*program, *flags], extra)

    def command(self, *arguments: str, **extra: str) -> Process:
        """Start `spile` with these arguments."""
        entry = ["-m", "spile.services.command", *arguments]
        return self._start("command", entry, {"SPILE_STORE": str(self.database), **extra})

    def acknowledged(self) -> int:
        """Count acknowledgements; only what was written since the last look is read."""
        for path in self.history.glob("*"):
            position, count = self._counted.get(path, (0, 0))
            with path.open("rb") as history:
                history.seek(position)
                whole, newline, _ = history.read().rpartition(b"\n")
            if newline:
                count += whole.count(b'"outcome":"ok"')
                self._counted[path] = (position + len(whole) + 1, count)
        return sum(count for _, count in self._counted.values())

    async def acknowledges(self, count: int, limit_s: float = 60.0) -> None:
        """Wait until the load has so many acknowledgements."""
        await eventually(lambda: self.acknowledged() >= count, limit_s, "acknowledgements", 0.1)

    def stored(self) -> int:
        """Count the rows with SQL of our own."""
        if not self.database.exists():
            return 0
        with contextlib.suppress(sqlite3.OperationalError), self._open() as database:
            return database.execute("SELECT count(*) FROM events").fetchone()[0]
        return 0

    async def stores(self, count: int, limit_s: float = 60.0) -> None:
        """Wait until the store has so many rows."""
        await eventually(lambda: self.stored() >= count, limit_s, f"{count} rows", 0.05)

    def offsets(self) -> dict[tuple[str, int], int]:
        with self._open() as database:
            rows = database.execute('SELECT topic, "partition", next FROM offsets').fetchall()
        return {(topic, partition): following for topic, partition, following in rows}

    async def ends(self) -> dict[tuple[str, int], int]:
        """Return the end of each partition of the bus that has records."""
        async with KafkaAdmin(self.settings) as admin:
            ends = await admin.end_offsets(await admin.partitions([TOPIC]))
        return {place: end for place, end in ends.items() if end}

    async def committed(self, group: str = GROUP) -> dict[tuple[str, int], int]:
        async with KafkaAdmin(self.settings) as admin:
            found = await admin.committed(group, await admin.partitions([TOPIC]))
        return {place: offset for place, offset in found.items() if offset}

    async def drained(self, limit_s: float = 60.0) -> float:
        """Wait until the store has come to the end of the bus; return how long that took."""
        started = time.monotonic()
        ends = await self.ends()

        def is_drained() -> bool:
            offsets = self.offsets()
            return all(offsets.get(place, 0) >= end for place, end in ends.items())

        await eventually(is_drained, limit_s, "drain", 0.05)
        return time.monotonic() - started

    def observe_store(self) -> Observation:
        """Read the store with SQL of our own."""
        with self._open() as database:
            found = database.execute(_ROWS, (TOPIC,))
            rows = [Seen(str(UUID(bytes=raw)), *facts) for raw, *facts in found]
        return Observation(sink="store", rows=rows, committed=self.offsets())

    async def observe_bus(self, topic: str = TOPIC) -> Observation:
        """Read the bus with a plain consumer, from the beginning to the end."""
        rows = [
            Seen(payload["event_id"], payload["payload"]["key"], payload["payload"]["seq"], *place)
            for payload, *place in [
                (json.loads(r.value), r.topic, r.partition, r.offset)
                for r in await self.read(topic)
                if POISON not in dict(r.headers) and ("event_type", b"TICK") not in r.headers
            ]
        ]
        return Observation(sink="bus", rows=rows, committed=await self.ends(), repeats=True)

    async def read(self, topic: str = TOPIC) -> list[Any]:
        """Return every record of a topic, each partition's in order."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.broker.bootstrap_servers, enable_auto_commit=False
        )
        await consumer.start()
        try:
            async with KafkaAdmin(self.settings) as admin:
                places = [TopicPartition(*place) for place in await admin.partitions([topic])]
            ends = await consumer.end_offsets(places)
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            records: list[Any] = []
            while any([await consumer.position(place) < ends[place] for place in places]):
                for found in (await consumer.getmany(timeout_ms=200)).values():
                    records += found
            return sorted(records, key=lambda record: (record.partition, record.offset))
        finally:
            await consumer.stop()

    async def in_sync(self, limit_s: float = 30.0) -> None:
        """Wait until every partition of the load has all its copies in sync."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        await admin.start()
        try:
            async with asyncio.timeout(limit_s):
                while not await self._is_in_sync(admin):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.1)
        finally:
            await admin.close()

    async def _is_in_sync(self, admin: AIOKafkaAdminClient) -> bool:
        found = await admin.describe_topics([TOPIC, DLQ, "__consumer_offsets"])
        partitions = [partition for topic in found for partition in topic["partitions"]]
        return all(len(part["isr"]) == len(part["replicas"]) for part in partitions)

    @staticmethod
    async def until(is_true: Callable[[], bool], limit_s: float = 40.0) -> None:
        """Wait for something that happens in this process, or is cheap to look at."""
        async with asyncio.timeout(limit_s):
            while not is_true():  # noqa: ASYNC110 - load and sinks have no events to wait for
                await asyncio.sleep(0.01)

    @staticmethod
    def report(name: str, verdict: Verdict | None = None, **facts: Any) -> None:
        """Print the figures of a run on one line."""
        report(name, verdict, **facts)

    async def judge(self, name: str, *, faults: int, min_faults: int, **facts: Any) -> Verdict:
        """Compare bus and store with the ledger, and print the figures."""
        observations = [self.observe_store(), await self.observe_bus()]
        verdict = check(
            read_history(self.history),
            observations,
            faults_seen=faults,
            min_faults=min_faults,
        )
        bus = [row.event_id for row in observations[1].rows]
        report(name, verdict, faults=faults, repeats_on_bus=len(bus) - len(set(bus)), **facts)
        return verdict

    async def close(self) -> None:
        for process in self._processes:
            process.send(signal.SIGCONT)
            await process.kill()

    def _start(self, kind: str, arguments: list[str], extra: Mapping[str, str]) -> Process:
        environment = {f"SPILE_{name.upper()}": str(value) for name, value in self._times.items()}
        environment |= {"SPILE_BOOTSTRAP_SERVERS": self.servers, **extra}
        log = self.folder / f"{kind}-{len(self._processes)}.log"
        self._processes.append(Process(arguments, environment, log))
        return self._processes[-1]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)
        try:
            yield database
        finally:
            database.close()


async def eventually(
    is_true: Callable[[], bool], limit_s: float, what: str, every_s: float = 0.05
) -> None:
    """Look again and again, in a thread, until something is true."""
    until = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(sqlite3.OperationalError):
            if await asyncio.to_thread(is_true):
                return
        assert time.monotonic() < until, f"waited {limit_s} s in vain: {what}"
        await asyncio.sleep(every_s)


def report(name: str, verdict: Verdict | None = None, **facts: Any) -> None:
    """Print the figures of a run on one line."""
    told = [] if verdict is None else [str(verdict)]
    for key, value in facts.items():
        shown = f"{value:.2f}" if isinstance(value, float) else str(value)
        told.append(f"{key.replace('_', ' ')} {shown}")
    print(f"\nLEDGER {name}: {', '.join(told)}")  # noqa: T201 - to be quoted
