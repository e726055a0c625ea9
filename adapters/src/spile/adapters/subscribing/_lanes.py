"""
Lanes: bounded buffers between the poll loop and the handlers, each with one task.

The poll loop puts in what it polled and looks at `full`; a lane says `room` when it is half empty.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

from spile.adapters.subscribing._boundary import Case, MessageBoundary
from spile.adapters.subscribing._holding import Committer, Holding, Wiring
from spile.adapters.subscribing._lane_tasks import LaneTasks
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._ticks import is_tick
from spile.spi import PartitionKey, ProtocolRecord

Chunk = Sequence[ProtocolRecord]


class Lanes(Protocol):
    """What the subscription needs from either kind of lane."""

    room: asyncio.Event

    async def prepare(self, partitions: Sequence[PartitionKey]) -> None:
        """Ask what must be known of partitions before they are taken on."""
        ...

    @property
    def is_scanning(self) -> bool:
        """Whether `accept` is to be called after polls without a record too."""
        ...

    @property
    def full(self) -> bool:
        """Whether nothing more must be polled."""
        ...

    @property
    def wanted(self) -> int:
        """How many records to poll at most."""
        ...

    def take_on(self, holding: Holding) -> None:
        """Begin with a partition."""
        ...

    def accept(self, polled: Mapping[PartitionKey, Chunk]) -> None:
        """Buffer what was polled, of partitions that were taken on."""
        ...

    def let_go(self, holdings: Collection[Holding]) -> None:
        """Drop what is buffered of these and hand out no more."""
        ...

    async def drained(self, holdings: Collection[Holding]) -> None:
        """Wait until nothing of these is in hand."""
        ...

    def called_at(self) -> float | None:
        """Return the loop time at which the longest running handler was called."""
        ...

    def set_open(self, *, is_open: bool) -> None:
        """Stop handing out, or go on."""
        ...


class MessageLane:
    """
    One partition: messages one at a time, in order.

    Args:
        holding: The partition; when it ends, the lane ends after what is in hand.
        boundary: Settles one message.
        limit: Retries of a message.
        committer: Hears which offsets are done.
        observer: Hears what left the hand.
        on_taken: Called when a record left the buffer.
    """

    def __init__(
        self,
        holding: Holding,
        boundary: MessageBoundary,
        *,
        limit: int,
        committer: Committer,
        observer: SubscriptionObserver,
        on_taken: Callable[[MessageLane], None],
    ) -> None:
        self.holding = holding
        self.buffer: deque[ProtocolRecord] = deque()
        self.idle = asyncio.Event()
        self.idle.set()
        self.is_open = True
        self._boundary = boundary
        self._limit = limit
        self._committer = committer
        self._observer = observer
        self._on_taken = on_taken
        self._ready = asyncio.Event()

    def stir(self) -> None:
        """Let the task look whether there is something to do."""
        self._ready.set()

    async def drained(self) -> None:
        """Wait until nothing is in hand."""
        await self.idle.wait()

    async def run(self) -> None:
        """Hand out until the partition ends."""
        while not self.holding.ending:
            if not self.buffer or not self.is_open:
                self._ready.clear()
                await self._ready.wait()
                continue
            record = self.buffer.popleft()
            self._on_taken(self)
            self.idle.clear()
            try:
                settled = await self._settle(record)
            finally:
                self._observer.in_hand(-1)
                self.idle.set()
            if not settled:
                return

    async def _settle(self, record: ProtocolRecord) -> bool:
        done = partial(self._committer.done, self.holding, record.offset + 1)
        if is_tick(record):
            return done()
        case = Case(record=record, holding=self.holding, confirm=done, limit=self._limit)
        return await self._boundary.settle(case)


class MessageLanes:
    """
    One lane per partition.

    Args:
        boundary: Settles one message.
        limit: Retries of a message.
        wiring: What is shared with the subscription.
        capacity: Records per lane above which its partition is paused; one poll may exceed it.
        observer: Hears what comes in hand.
    """

    def __init__(
        self,
        boundary: MessageBoundary,
        *,
        limit: int,
        wiring: Wiring,
        capacity: int,
        observer: SubscriptionObserver,
    ) -> None:
        self.room = asyncio.Event()
        self._new_lane = partial(
            MessageLane,
            boundary=boundary,
            limit=limit,
            committer=wiring.committer,
            observer=observer,
            on_taken=self._taken,
        )
        self._wiring = wiring
        self._capacity = capacity
        self._observer = observer
        self._lanes: dict[PartitionKey, MessageLane] = {}
        self._tasks = LaneTasks[MessageLane](wiring.tasks)
        self.is_scanning = False

    async def prepare(self, partitions: Sequence[PartitionKey]) -> None:
        """Nothing needs to be known."""

    @property
    def full(self) -> bool:
        """Whether every lane is paused."""
        return bool(self._lanes) and all(x.holding.paused for x in self._lanes.values())

    @property
    def wanted(self) -> int:
        """As many as one lane holds."""
        return self._capacity

    def take_on(self, holding: Holding) -> None:
        """Begin a lane with its own task."""
        lane = self._lanes[holding.partition] = self._new_lane(holding)
        self._tasks.begin(lane)
        self.room.set()

    def accept(self, polled: Mapping[PartitionKey, Chunk]) -> None:
        """Buffer per partition; pause the partitions that are full now."""
        for partition, chunk in polled.items():
            lane = self._lanes.get(partition)
            if lane is None:
                continue
            lane.buffer.extend(chunk)
            lane.stir()
            self._observer.in_hand(len(chunk))
            if len(lane.buffer) >= self._capacity and not lane.holding.paused:
                self._wiring.hold_back(lane.holding)
        if self.full:
            self.room.clear()

    def let_go(self, holdings: Collection[Holding]) -> None:
        """Empty the lanes of these; they end after what is in hand."""
        for holding in holdings:
            holding.end()
            lane = self._lanes.get(holding.partition)
            if lane is not None and lane.holding is holding:
                del self._lanes[holding.partition]
                self._observer.in_hand(-len(lane.buffer))
                lane.buffer.clear()
                lane.stir()
        self.room.set()

    async def drained(self, holdings: Collection[Holding]) -> None:
        """Wait until nothing of these is in hand."""
        await self._tasks.drained(holdings)

    def called_at(self) -> float | None:
        """Return when the longest running handler was called."""
        return self._tasks.called_at()

    def set_open(self, *, is_open: bool) -> None:
        """Stop handing out, or go on."""
        self._tasks.set_open(self._lanes.values(), is_open=is_open)

    def _taken(self, lane: MessageLane) -> None:
        holding = lane.holding
        if holding.paused and len(lane.buffer) <= self._capacity // 2:
            self._wiring.open(holding)
            self.room.set()
