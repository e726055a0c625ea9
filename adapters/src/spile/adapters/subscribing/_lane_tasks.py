"""The tasks of lanes: one for each assignment of a partition, one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Generic, Protocol, TypeVar

from spile.adapters.delivery._tasks import Tasks
from spile.adapters.subscribing._holding import Holding
from spile.spi import PartitionKey


class Lane(Protocol):
    """
    One partition, from its assignment to its end.

    Attributes:
        is_open: Whether it may hand out.
    """

    is_open: bool

    @property
    def holding(self) -> Holding:
        """The partition."""
        ...

    def stir(self) -> None:
        """Let the task look whether there is something to do."""
        ...

    async def drained(self) -> None:
        """Wait until nothing is in hand."""
        ...

    async def run(self) -> None:
        """Hand out until the partition ends."""
        ...


LaneT = TypeVar("LaneT", bound=Lane)


class LaneTasks(Generic[LaneT]):
    """
    Runs lanes, for each partition one at a time.

    A lane waits for that of an earlier assignment of its partition: the handler there may still
    run, and the order of the partition must hold within this process.

    Args:
        tasks: Owns the tasks.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._latest: dict[PartitionKey, tuple[LaneT, asyncio.Task[None]]] = {}
        self._alive: set[LaneT] = set()
        self._is_open = True

    def begin(self, lane: LaneT) -> None:
        """Start the task of a lane."""
        lane.is_open = self._is_open
        topic, number = partition = lane.holding.partition
        latest = self._latest.get(partition)
        work = self._run(lane, latest[1] if latest else None)
        self._latest[partition] = (lane, self._tasks.start(work, f"lane of {topic}-{number}"))

    async def drained(self, holdings: Collection[Holding]) -> None:
        """Wait until nothing of these is in hand."""
        for holding in holdings:
            latest = self._latest.get(holding.partition)
            if latest is not None and latest[0].holding is holding:
                await latest[0].drained()

    def called_at(self) -> float | None:
        """Return the loop time at which the longest running handler was called."""
        calls = (lane.holding.called_at for lane in self._alive)
        return min((called for called in calls if called is not None), default=None)

    def set_open(self, lanes: Collection[LaneT], *, is_open: bool) -> None:
        """Let these lanes, and those to come, hand out or not."""
        self._is_open = is_open
        for lane in lanes:
            lane.is_open = is_open
            lane.stir()

    async def _run(self, lane: LaneT, previous: asyncio.Task[None] | None) -> None:
        self._alive.add(lane)
        try:
            if previous is not None and not previous.done():
                await asyncio.wait([previous])
            await lane.run()
        finally:
            self._alive.discard(lane)
