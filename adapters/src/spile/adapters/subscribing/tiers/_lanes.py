"""The lanes of a message subscription whose failed records wait in retry topics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

from spile.adapters.delivery._ports import RecordSender
from spile.adapters.retrying import MOST_AT_ONCE
from spile.adapters.subscribing._boundary import MessageBoundary
from spile.adapters.subscribing._holding import Holding, Wiring
from spile.adapters.subscribing._lane_tasks import LaneTasks
from spile.adapters.subscribing._lanes import Chunk
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._retries import Retries
from spile.adapters.subscribing.tiers._lane import TieredLane
from spile.adapters.subscribing.tiers._yard import Yard
from spile.adapters.subscribing.tiers._yards import Yards
from spile.spi import PartitionKey


class TieredLanes:
    """
    One lane per partition and its retry partitions.

    Args:
        yards: Groups the partitions.
        new_lane: Makes the lane of a yard, which tells when it took a record.
        wiring: What is shared with the subscription.
        capacity: Records per lane above which its partition is paused; one poll may exceed it.
        observer: Hears what comes in hand.
    """

    def __init__(
        self,
        yards: Yards,
        new_lane: Callable[[Yard, Callable[[TieredLane], None]], TieredLane],
        wiring: Wiring,
        *,
        capacity: int,
        observer: SubscriptionObserver,
    ) -> None:
        self.room = asyncio.Event()
        self._yards = yards
        self._new_lane = new_lane
        self._wiring = wiring
        self._capacity = capacity
        self._observer = observer
        self._lanes: dict[Yard, TieredLane] = {}
        self._tasks = LaneTasks[TieredLane](wiring.tasks)

    @property
    def full(self) -> bool:
        """Never: retry partitions are read while partitions are paused, each for itself."""
        return False

    @property
    def wanted(self) -> int:
        """As many as one lane holds."""
        return min(self._capacity, MOST_AT_ONCE)

    @property
    def is_scanning(self) -> bool:
        """Whether polls without a record matter too."""
        return self._yards.is_scanning

    async def prepare(self, partitions: Sequence[PartitionKey]) -> None:
        """Learn where retry partitions end."""
        await self._yards.prepare(partitions)

    def take_on(self, holding: Holding) -> None:
        """Begin with a partition; its lane begins when all its retry partitions are there."""
        yard = self._yards.take_on(holding)
        if yard is None:
            return
        lane = self._lanes[yard] = self._new_lane(yard, self._taken)
        topic, partition = yard.holding.partition
        self._tasks.begin(lane)
        self._wiring.tasks.start(lane.write(), f"retries of {topic}-{partition}")
        self.room.set()

    def accept(self, polled: Mapping[PartitionKey, Chunk]) -> None:
        """Buffer per partition; pause the partitions that are full now."""
        for yard, chunk in self._yards.sort(polled):
            lane, holding = self._lanes[yard], yard.holding
            lane.buffer.extend(chunk)
            lane.stir()
            self._observer.in_hand(len(chunk))
            if len(lane.buffer) >= self._capacity and not holding.paused:
                self._wiring.hold_back(holding)

    def let_go(self, holdings: Collection[Holding]) -> None:
        """Empty the lanes of these; they end after what is in hand."""
        for yard in self._yards.let_go(list(holdings)):
            lane = self._lanes.pop(yard)
            self._observer.in_hand(-len(lane.buffer))
            lane.buffer.clear()
            lane.stir()
        self.room.set()

    async def drained(self, holdings: Collection[Holding]) -> None:
        """Wait until nothing of these is in hand, or on its way to a retry topic."""
        await self._tasks.drained(holdings)

    def called_at(self) -> float | None:
        """Return when the longest running handler was called."""
        return self._tasks.called_at()

    def set_open(self, *, is_open: bool) -> None:
        """Stop handing out, or go on."""
        self._tasks.set_open(self._lanes.values(), is_open=is_open)

    def _taken(self, lane: TieredLane) -> None:
        holding = lane.yard.holding
        if holding.paused and len(lane.buffer) <= self._capacity // 2:
            self._wiring.open(holding)


def tiered_lanes(
    boundary: MessageBoundary,
    yards: Yards,
    wiring: Wiring,
    *,
    retries: Retries,
    sender: RecordSender,
    capacity: int,
    observer: SubscriptionObserver,
) -> TieredLanes:
    """Return lanes whose records go through the retry topics when `retries` in place are spent."""

    def new_lane(yard: Yard, on_taken: Callable[[TieredLane], None]) -> TieredLane:
        return TieredLane(
            yard,
            boundary,
            limit=retries.limit,
            sender=sender,
            backoff=retries.patience,
            observer=observer,
            on_taken=on_taken,
        )

    return TieredLanes(yards, new_lane, wiring, capacity=capacity, observer=observer)
