"""Consumer groups in memory: eager rebalances, range assignment, committed offsets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from spile.adapters.delivery import RebalanceListener
from spile.adapters.delivery._tasks import Tasks
from spile.adapters.memory._log import MemoryLog
from spile.spi import PartitionKey

log = structlog.get_logger(__name__)


class Member(Protocol):
    """What a group needs from one of its members."""

    topics: Sequence[str]
    is_open: bool
    listener: RebalanceListener
    held: dict[PartitionKey, int]

    def begin(self, positions: dict[PartitionKey, int]) -> None:
        """Hold these partitions from now on, at these positions."""
        ...

    def settle(self) -> None:
        """Hand out from now on."""
        ...

    def end(self) -> None:
        """Hold nothing any more."""
        ...


class Group:
    """
    Members and committed offsets of one consumer group.

    A rebalance is eager as in aiokafka: all members give everything back at the same time, and each
    may drain and commit in its callback; then all get their new partitions. One rebalance at a
    time.
    """

    def __init__(self, group_id: str, records: MemoryLog) -> None:
        self.group_id = group_id
        self.members: list[Member] = []
        self.committed: dict[PartitionKey, int] = {}
        self.notes: dict[PartitionKey, str] = {}
        self._log = records
        self._one = asyncio.Lock()
        self._tasks = Tasks(_report)

    def start_rebalance(self, *joining: Member) -> asyncio.Task[None]:
        """Let members join and share the partitions anew, in a task that nobody's cancel ends."""
        return self._tasks.start(self._rebalance(joining), f"rebalance of {self.group_id}")

    def commit(
        self, offsets: Mapping[PartitionKey, int], notes: Mapping[PartitionKey, str]
    ) -> None:
        """Set offsets to read next; a note that is not given again is gone."""
        self.committed.update(offsets)
        self.notes.update({partition: notes.get(partition, "") for partition in offsets})

    async def _rebalance(self, joining: Sequence[Member]) -> None:
        async with self._one:
            await self._revoke_all()
            self.members += [m for m in joining if m.is_open and m not in self.members]
            shares = self._shares()
            for member, partitions in shares:
                member.begin({p: self.committed.setdefault(p, 0) for p in partitions})
            await _gather([m.listener.assigned(taken) for m, taken in shares if taken])
            for member, _ in shares:
                member.settle()
            self._log.wake()

    async def _revoke_all(self) -> None:
        holders = [member for member in self.members if member.held]
        await _gather([m.listener.revoked(sorted(m.held)) for m in holders])
        for member in holders:
            member.end()

    def _shares(self) -> list[tuple[Member, list[PartitionKey]]]:
        """Give each member a range of each topic's partitions, in the order of joining."""
        shares: list[tuple[Member, list[PartitionKey]]] = [(m, []) for m in self.members]
        for name, topic in sorted(self._log.topics.items()):
            takers = [share for member, share in shares if wants(member.topics, name)]
            start = 0
            for index, share in enumerate(takers):
                count = topic.partitions // len(takers) + (index < topic.partitions % len(takers))
                share.extend((name, number) for number in range(start, start + count))
                start += count
        return shares


def wants(topics: Sequence[str], name: str) -> bool:
    """Return whether a subscription to these names or patterns covers a topic."""
    return any(re.match(t, name) is not None if t.startswith("^") else t == name for t in topics)


def _report(failure: BaseException) -> None:
    log.error("rebalance failed", error_type=type(failure).__name__)


async def _gather(callbacks: Iterable[Awaitable[None]]) -> None:
    """Run callbacks side by side; what they raise is logged, as the Kafka client does."""
    for outcome in await asyncio.gather(*callbacks, return_exceptions=True):
        if isinstance(outcome, BaseException):
            log.error("rebalance callback failed", error_type=type(outcome).__name__)
