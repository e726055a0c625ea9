"""
A load that keeps the books: known events at a bounded rate, each noted in a delivery ledger.

    python -m spile.testkit.load --history DIR --rate 200 --seconds 30

Each key has one writer, which goes on to the next number only when the one before is settled, so
what a sink holds of a key must be in order. An event that is not confirmed is published again under
the same id, as a caller does that must not lose it. SIGTERM ends the load early, settled.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.kafka import KafkaSettings, create_publisher, register_settings
from spile.adapters.publishing import CircuitBreaker
from spile.spi import CircuitOpenError, SpileError
from spile.testkit.broker import BrokerSettings
from spile.testkit.ledger import History, Outcome
from spile.topics import TopicSpec, default_catalogue, uuid7_text

EVENT_TYPE = "LOAD_SEQUENCED"
"""Type of the events; the payload names `key` and `seq`."""

LOGICAL_TOPIC = "spile.load.sequenced.v1"
"""Topic of the events, without its environment."""

LOAD_CATALOGUE = default_catalogue().with_topics(
    TopicSpec(name=LOGICAL_TOPIC, owner="spile", models={EVENT_TYPE: None})
)
"""The catalogue with that topic: `SPILE_CATALOGUE=spile.testkit.load:LOAD_CATALOGUE` applies it."""

_OPEN_PAUSE_S = 0.1


class LoadPublisher(Protocol):
    """What the load needs of a publisher; `EventPublisher` has it."""

    async def publish_event(self, event: OutgoingEvent) -> bool:
        """Publish one event."""
        ...

    async def publish_many(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """Publish events with one await."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """
    What to publish.

    Attributes:
        rate_per_s: Most events a second over all keys; what an outage delays is not made up for.
        limit_s: When to stop by itself.
        keys: Writers, each with a key of its own.
        many: Publish the next event of every key by one `publish_many`, not each by itself.
        give_up_s: Time after which an event that is not confirmed is left behind; its key is
            retired, for it might still arrive out of order.
        padding: Characters of payload beside key and number.
        writer: Tells the keys of one process from those of another.
    """

    rate_per_s: float = 200.0
    limit_s: float = 30.0
    keys: int = 16
    many: bool = False
    give_up_s: float = 60.0
    padding: int = 100
    writer: str = "load"


class LoadSummary(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of the events.

    Attributes:
        acknowledged: Confirmed.
        failed: Given up, and provably not sent.
        indefinite: Given up, and perhaps sent.
        repeated: Attempts after the first one of an event.
        slowest_s: Longest single call of the publisher.
    """

    acknowledged: int
    failed: int
    indefinite: int
    repeated: int
    slowest_s: float


@dataclass(slots=True)
class _Writer:
    """One key, and how far it has come."""

    key: str
    seq: int = 0


@dataclass(slots=True)
class _Pending:
    """One event that is not settled yet."""

    writer: _Writer
    event: OutgoingEvent
    indefinite: bool = False


class Load:
    """
    Publishes by a plan and notes every event.

    Args:
        publisher: Used, not closed.
        history: Gets the entries; belongs to this load alone.
        plan: What to publish.
    """

    def __init__(
        self, publisher: LoadPublisher, history: History, plan: LoadPlan | None = None
    ) -> None:
        self._publisher = publisher
        self._history = history
        self._plan = plan or LoadPlan()
        self._stopping = asyncio.Event()
        self._names = 0
        self._counts = dict.fromkeys(Outcome, 0)
        self._repeated = 0
        self._slowest_s = 0.0

    @property
    def acknowledged(self) -> int:
        """How many events are confirmed so far."""
        return self._counts[Outcome.OK]

    def stop(self) -> None:
        """Begin no further event; `run` returns when those under way are settled."""
        self._stopping.set()

    async def run(self) -> LoadSummary:
        """
        Publish until the time is over or `stop` is called.

        A cancellation leaves events under way without an outcome: nobody knows theirs.

        Raises:
            SpileError: The publisher refuses an event: the load itself is wrong, or it is closed.
        """
        plan = self._plan
        writers = [self._new_writer() for _ in range(plan.keys)]
        until = time.monotonic() + plan.limit_s
        gap_s = plan.keys / plan.rate_per_s
        first: SpileError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                if plan.many:
                    tasks.create_task(self._write(writers, self._publish_many, gap_s, until))
                else:
                    for index, writer in enumerate(writers):
                        offset_s = gap_s * index / plan.keys
                        tasks.create_task(
                            self._write([writer], self._publish_one, gap_s, until, offset_s)
                        )
        except* SpileError as group:
            first = next(error for error in group.exceptions if isinstance(error, SpileError))
        if first is not None:
            raise first
        return LoadSummary(
            acknowledged=self._counts[Outcome.OK],
            failed=self._counts[Outcome.FAIL],
            indefinite=self._counts[Outcome.INFO],
            repeated=self._repeated,
            slowest_s=self._slowest_s,
        )

    async def _write(
        self,
        writers: list[_Writer],
        publish: Callable[[Sequence[_Pending]], Awaitable[list[bool]]],
        gap_s: float,
        until: float,
        offset_s: float = 0.0,
    ) -> None:
        """Publish the next event of each writer again and again."""
        due = time.monotonic() + offset_s
        while not self._stopping.is_set():
            now = time.monotonic()
            if due > now:
                await self._pause(due - now)
                continue
            if now >= until:
                return
            due = max(due + gap_s, now)
            pending = [self._next_event(writer) for writer in writers]
            for retired in await self._settle(pending, publish):
                writers[writers.index(retired)] = self._new_writer()

    async def _settle(
        self,
        pending: list[_Pending],
        publish: Callable[[Sequence[_Pending]], Awaitable[list[bool]]],
    ) -> list[_Writer]:
        """Publish until all are confirmed or the time is over; return the writers to retire."""
        for one in pending:
            self._note(Outcome.INVOKE, one)
        until = time.monotonic() + self._plan.give_up_s
        while True:
            results = await self._attempt(pending, publish)
            for one, confirmed in zip(pending, results, strict=True):
                if confirmed:
                    self._note(Outcome.OK, one)
            pending = [
                one for one, confirmed in zip(pending, results, strict=True) if not confirmed
            ]
            if not pending:
                return []
            if time.monotonic() >= until:
                break
            self._repeated += len(pending)
        for one in pending:
            self._note(Outcome.INFO if one.indefinite else Outcome.FAIL, one)
        return [one.writer for one in pending]

    async def _attempt(
        self,
        pending: Sequence[_Pending],
        publish: Callable[[Sequence[_Pending]], Awaitable[list[bool]]],
    ) -> list[bool]:
        """Publish once; an open breaker is waited for a little."""
        started = time.monotonic()
        try:
            results = await publish(pending)
        except CircuitOpenError:
            self._slowest_s = max(self._slowest_s, time.monotonic() - started)
            await asyncio.sleep(_OPEN_PAUSE_S)
            return [False] * len(pending)
        self._slowest_s = max(self._slowest_s, time.monotonic() - started)
        for one, confirmed in zip(pending, results, strict=True):
            one.indefinite = one.indefinite or not confirmed
        return results

    async def _publish_one(self, pending: Sequence[_Pending]) -> list[bool]:
        return [await self._publisher.publish_event(one.event) for one in pending]

    async def _publish_many(self, pending: Sequence[_Pending]) -> list[bool]:
        return await self._publisher.publish_many([one.event for one in pending])

    async def _pause(self, limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _new_writer(self) -> _Writer:
        self._names += 1
        return _Writer(f"{self._plan.writer}-{self._names}")

    def _next_event(self, writer: _Writer) -> _Pending:
        seq, writer.seq = writer.seq, writer.seq + 1
        event = OutgoingEvent(
            event_type=EVENT_TYPE,
            payload={"key": writer.key, "seq": seq, "padding": "x" * self._plan.padding},
            partition_key=writer.key,
            event_id=uuid7_text(),
        )
        return _Pending(writer, event)

    def _note(self, outcome: Outcome, one: _Pending) -> None:
        self._counts[outcome] += 1
        key, seq = one.event.payload["key"], one.event.payload["seq"]
        event_id = str(one.event.event_id)
        self._history.note(outcome, event_id, key=key, seq=seq)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a load as a process; the connection comes from SPILE_*. Prints the summary as JSON.

    Returns:
        0, or 1 with one line when the load could not go on.
    """
    chosen = _parser().parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        summary = asyncio.run(_run(chosen))
    except SpileError as exc:
        print(f"error: {exc}", file=sys.stderr)  # noqa: T201 - the last line of the process
        return 1
    print(msgspec.json.encode(summary).decode())  # noqa: T201 - the result of the process
    return 0


async def _run(chosen: argparse.Namespace) -> LoadSummary:
    register_settings(BrokerSettings)
    settings = KafkaSettings.load()
    writer = f"{chosen.writer}-{os.getpid()}"
    plan = LoadPlan(
        rate_per_s=chosen.rate,
        limit_s=chosen.seconds,
        keys=chosen.keys,
        many=chosen.many,
        give_up_s=chosen.give_up,
        writer=writer,
    )
    history = History(chosen.history / f"{writer}.jsonl")
    breaker = CircuitBreaker(reset_after_s=chosen.breaker_reset)
    try:
        async with create_publisher(
            settings, LOAD_CATALOGUE, service="load", breaker=breaker
        ) as publisher:
            load = Load(publisher, history, plan)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop)
            return await load.run()
    finally:
        history.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spile.testkit.load", description=__doc__)
    parser.add_argument("--history", type=Path, required=True, help="folder of the ledger")
    parser.add_argument("--rate", type=float, default=200.0, help="events a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="when to stop")
    parser.add_argument("--keys", type=int, default=16, help="keys, each with one writer")
    parser.add_argument("--many", action="store_true", help="publish with publish_many")
    parser.add_argument("--give-up", type=float, default=60.0, help="seconds for one event")
    parser.add_argument("--breaker-reset", type=float, default=30.0, help="seconds")
    parser.add_argument("--writer", default="load", help="prefix of keys and of the file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
