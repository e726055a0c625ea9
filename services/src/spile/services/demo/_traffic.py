"""Publishing at a set rate, with a stopwatch on every event."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from spile.adapters.delivery import OutgoingEvent
from spile.adapters.publishing import EventPublisher
from spile.spi import SpileError
from spile.testkit.scenarios import GeneratedEvent, MockEventGenerator

LANES = 8
"""Workflows that go on at the same time."""

_EVENTS_PER_LANE_S = 0.7  # a little less than it really is, so that no event is in the future
_MARGIN_S = 60
_OUTSTANDING = 5_000
_BREATHE_EVERY = 50
_SOON_S = 0.001


@dataclass(slots=True, kw_only=True)
class Flight:
    """
    One event on its way; monotonic seconds.

    Attributes:
        sent: When publish was called.
        acknowledged: When publish returned True; None when it did not.
    """

    sent: float
    acknowledged: float | None = None


@dataclass(slots=True, kw_only=True)
class Stopwatch:
    """
    Publishes through a publisher and notes when.

    Attributes:
        publisher: The real one.
        flights: By event id, of every event that was handed to the publisher.
        acknowledged: How many are confirmed.
        failures: Why events were not, the first reason of each kind.
    """

    publisher: EventPublisher
    flights: dict[str, Flight] = field(default_factory=dict[str, Flight])
    acknowledged: int = 0
    failures: dict[str, str] = field(default_factory=dict[str, str])

    async def publish(self, made: GeneratedEvent) -> None:
        """Publish one event by the call of the contract, `ProtocolEventPublisher.publish`."""
        flight = self.flights[str(made.event.event_id)] = Flight(sent=time.perf_counter())
        outgoing = made.outgoing()
        try:
            confirmed = await self.publisher.publish(
                outgoing.event_type,
                outgoing.payload,
                correlation_id=outgoing.correlation_id,
                causation_id=outgoing.causation_id,
            )
        except SpileError as exc:
            self.failures.setdefault(type(exc).__name__, str(exc))
            return
        self._note(flight, confirmed=confirmed)

    async def publish_many(self, events: Sequence[OutgoingEvent]) -> list[bool]:
        """
        Publish a batch; all of it counts as acknowledged when the call returns.

        Raises:
            SpileError: As the publisher.
        """
        started = time.perf_counter()
        flights = [
            self.flights.setdefault(str(event.event_id), Flight(sent=started)) for event in events
        ]
        outcomes = await self.publisher.publish_many(events)
        for flight, confirmed in zip(flights, outcomes, strict=True):
            self._note(flight, confirmed=confirmed)
        return outcomes

    def acknowledged_ids(self) -> list[str]:
        """Return the ids of the events that were confirmed."""
        return [name for name, flight in self.flights.items() if flight.acknowledged is not None]

    def _note(self, flight: Flight, *, confirmed: bool) -> None:
        if confirmed:
            flight.acknowledged = time.perf_counter()
            self.acknowledged += 1
        else:
            self.failures.setdefault("not confirmed", "publish returned False")


async def play(
    events: Iterable[GeneratedEvent],
    stopwatch: Stopwatch,
    due: Callable[[int, GeneratedEvent], float],
) -> None:
    """
    Publish each event when it is due, without waiting for those before it.

    A slow acknowledgement does not slow down what follows, so that it is measured in full; only
    5,000 events without an answer make it wait.

    Args:
        events: What to publish.
        stopwatch: Publishes and measures.
        due: Seconds from the start at which an event, given its number, is due.
    """
    loop = asyncio.get_running_loop()
    room = asyncio.Semaphore(_OUTSTANDING)

    async def one(made: GeneratedEvent) -> None:
        try:
            await stopwatch.publish(made)
        finally:
            room.release()

    async with asyncio.TaskGroup() as tasks:
        start = loop.time()
        for number, made in enumerate(events):
            ahead_s = start + due(number, made) - loop.time()
            if ahead_s > _SOON_S:
                await asyncio.sleep(ahead_s)
            elif number % _BREATHE_EVERY == 0:
                await asyncio.sleep(0)
            await room.acquire()
            tasks.create_task(one(made))


def past_traffic(seed: int, count: int) -> Iterator[GeneratedEvent]:
    """
    Make events whose own times end a little before now.

    They are published faster than agents live, so they must have begun in the past.

    Args:
        seed: Decides everything but the times.
        count: How many.
    """
    start = datetime.now(UTC) - timedelta(seconds=count / LANES / _EVENTS_PER_LANE_S + _MARGIN_S)
    traffic = MockEventGenerator(seed=seed, start=start).generate_traffic(lanes=LANES)
    return itertools.islice(traffic, count)
