"""A cluster in memory whose senders and sources fail as a network makes them fail."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeAlias
from zlib import crc32

from typing_extensions import override

from spile.adapters.delivery import OutgoingRecord, RebalanceListener, Receipt, Settled
from spile.adapters.memory import MemoryCluster, MemorySender, MemorySource, MemoryTopic
from spile.adapters.memory._groups import Group
from spile.spi import BrokerUnavailableError, DeliveryTimeoutError, PartitionKey, SpileError
from spile.testkit.simulation._faults import FaultPlan, Outcome
from spile.testkit.simulation._process import Process
from spile.testkit.simulation._trace import Trace

SESSION_S = 15.0
"""Virtual seconds after which a group goes on without a member that does not answer."""

HEARTBEAT_S = 3.0
"""Virtual seconds until a member that was expelled hears of it."""

_Listen: TypeAlias = Callable[[Sequence[PartitionKey]], Coroutine[Any, Any, None]]


class SimulatedCluster(MemoryCluster):
    """
    A `MemoryCluster` under a fault plan.

    Senders and sources belong to the process that makes them: a member whose process dies or stops
    keeps its partitions until its session has run out; one that goes on afterwards is a zombie,
    whose commits are refused, and which then joins anew.

    Args:
        topics: As for `MemoryCluster`.
        plan: What goes wrong.
        trace: Hears what is written and committed.
        clock: Milliseconds since 1970.
    """

    def __init__(
        self,
        topics: Mapping[str, int | MemoryTopic],
        *,
        plan: FaultPlan,
        trace: Trace,
        clock: Callable[[], int],
    ) -> None:
        super().__init__(topics, clock=clock)
        self._plan = plan
        self._trace = trace
        self.faults.hook = plan.before

    @override
    def group(self, group_id: str) -> Group:
        """Return a group, which belongs to no process."""
        return contextvars.Context().run(super().group, group_id)

    @override
    def sender(self) -> SimulatedSender:
        """Return a sender of the current process."""
        return SimulatedSender(super().sender(), self._plan, self._trace)

    @override
    def source(
        self,
        topics: Sequence[str],
        group_id: str,
        *,
        together: Collection[Sequence[str]] = (),
    ) -> SimulatedSource:
        """Return a source of the current process, not open yet."""
        group = self.group(group_id)
        source = SimulatedSource(topics, group, self._log, self.faults, together=together)
        source.simulate(self._plan, self._trace, group_id)
        return source


class SimulatedSender(MemorySender):
    """
    Writes to a log in memory, or does not, or does and nobody hears of it.

    One send at a time, so that records of one key keep their order, as on Kafka.
    """

    def __init__(self, inner: MemorySender, plan: FaultPlan, trace: Trace) -> None:
        super().__init__(inner._log, inner._faults)  # noqa: SLF001 - a subclass of it
        self._plan = plan
        self._trace = trace
        self._line = asyncio.Lock()

    @override
    async def send(
        self, records: Sequence[OutgoingRecord], *, settled: Settled | None = None
    ) -> Receipt:
        """Write records in the order given; see `RecordSender.send`."""
        if any(record.topic not in self._log.topics for record in records):
            return await super().send(records, settled=settled)
        async with self._line:
            return await self._send_in_line(records, settled)

    async def _send_in_line(
        self, records: Sequence[OutgoingRecord], settled: Settled | None
    ) -> Receipt:
        outcome = self._plan.outcome_of_send() if records else "ok"
        if outcome == "ok":
            receipt = await MemorySender.send(self, records)
            self._note(records, receipt)
            await self._plan.after("send")
        else:
            receipt = await self._send_badly(records, outcome)
        if settled is not None:
            for index in range(len(records)):
                settled([index], receipt.failures.get(index))
        return receipt

    async def _send_badly(self, records: Sequence[OutgoingRecord], outcome: Outcome) -> Receipt:
        count = {"failed": 0, "torn": self._plan.cut(len(records))}.get(outcome, len(records))
        receipt = await MemorySender.send(self, records[:count])
        self._note(records[:count], receipt)
        await self._plan.after("send")
        error: SpileError = BrokerUnavailableError("the simulated broker went away")
        first = count
        if outcome == "ack lost":
            error = DeliveryTimeoutError("the simulated acknowledgement was lost")
            receipt, first = Receipt(), 0
        receipt.failures.update(dict.fromkeys(range(first, len(records)), error))
        return receipt

    def _note(self, records: Sequence[OutgoingRecord], receipt: Receipt) -> None:
        for index, position in receipt.positions().items():
            record = records[index]
            key = (record.key or b"").decode(errors="replace")
            self._trace.note("written", *_place(position), key, crc32(record.value or b""))


def _place(position: Any) -> tuple[str, int, int]:
    return position.topic, position.partition, position.offset


class SimulatedSource(MemorySource):
    """One member of a group, of one process."""

    def simulate(self, plan: FaultPlan, trace: Trace, group_id: str) -> None:
        """Say what it lives under; called by the cluster right after making it."""
        self._plan = plan
        self._trace = trace
        self._group_id = group_id
        self._lost: list[PartitionKey] = []
        self._stops = 0
        self._process = Process.current()
        if self._process is not None:
            self._process.watch(self._process_changed)

    @override
    async def open(self, listener: RebalanceListener) -> None:
        """Join the group; see `RecordSource.open`."""
        await super().open(listener if self._process is None else _Reach(listener, self._process))

    @override
    async def commit(self, offsets: Mapping[PartitionKey, int], *args: Any, **kwargs: Any) -> None:
        """Commit the offsets to read next; see `RecordSource.commit`."""
        await super().commit(offsets, *args, **kwargs)
        for (topic, partition), offset in sorted(offsets.items()):
            self._trace.note("committed", self._group_id, topic, partition, offset)
        await self._plan.after("commit")

    def _process_changed(self) -> None:
        """Count the session down when the process stops; join anew when it goes on."""
        process = self._process
        if process is None:
            return
        self._stops += 1
        if process.dead:
            self.is_open = False
        loop = asyncio.get_running_loop()
        if process.stopped:
            loop.call_later(SESSION_S, self._expel, self._stops)
        else:
            loop.call_later(HEARTBEAT_S, lambda: process.start(self._join_again()))

    def _expel(self, stops: int) -> None:
        """Let the group go on without this member, unless it went on in the meantime."""
        if stops != self._stops:
            return
        if self in self._group.members:
            self._trace.note("expelled", self._group_id)
            self._group.members.remove(self)
            self._lost = sorted(self.held)
            self.end()
            self._group.start_rebalance()
        elif self.is_open:  # it was just joining
            asyncio.get_running_loop().call_later(SESSION_S, self._expel, stops)

    async def _join_again(self) -> None:
        """Take note of having been expelled, as a client does at its next heartbeat."""
        if self.is_open and self not in self._group.members:
            lost, self._lost = self._lost, []
            if lost:
                await self.listener.revoked(lost)
            if self in self._group.members:
                return
            await asyncio.wait([self._group.start_rebalance(self)])


class _Reach(RebalanceListener):
    """
    Reaches the listener of a process that may be stopped or dead, for one session at most.

    A call that comes through late comes through all the same, in its turn, as in a client that
    finds it in its queue.
    """

    def __init__(self, listener: RebalanceListener, process: Process) -> None:
        self._listener = listener
        self._process = process
        self._last: asyncio.Task[None] | None = None

    async def assigned(self, partitions: Sequence[PartitionKey]) -> None:
        await self._call(self._listener.assigned, partitions)

    async def revoked(self, partitions: Sequence[PartitionKey]) -> None:
        await self._call(self._listener.revoked, partitions)

    async def _call(self, listen: _Listen, partitions: Sequence[PartitionKey]) -> None:
        if self._process.dead:
            return
        task = self._process.start(
            _in_turn(self._last, listen, partitions), f"rebalance of {self._process.name}"
        )
        self._last = task
        await asyncio.wait([task], timeout=SESSION_S)
        if task.done():
            await task
        else:
            task.add_done_callback(_forget)  # the group has gone on without its answer


async def _in_turn(
    before: asyncio.Task[None] | None, listen: _Listen, partitions: Sequence[PartitionKey]
) -> None:
    if before is not None and not before.done():
        await asyncio.wait([before])
    await listen(partitions)


def _forget(task: asyncio.Task[None]) -> None:
    """Look at what became of a late answer, so that nobody complains that nobody did."""
    if not task.cancelled():
        task.exception()
