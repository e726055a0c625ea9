"""The lane of a batch subscription whose failed records wait in retry topics."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.retrying import MOST_AT_ONCE, Key, size_of
from spile.adapters.subscribing._burial import Burier, write_all
from spile.adapters.subscribing._guard import FailureGuard
from spile.adapters.subscribing._holding import Holding
from spile.adapters.subscribing._lanes import Chunk
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._retries import Retries
from spile.adapters.subscribing._ticks import without_ticks
from spile.adapters.subscribing.tiers._attempts import BatchAttempts, Item, Outcome
from spile.adapters.subscribing.tiers._yard import Yard
from spile.adapters.subscribing.tiers._yards import Yards
from spile.spi import BatchHandler, PartitionKey, PermanentError, ProtocolRecord, SchemaError

_DRAIN_RECORDS = 64
_DRAIN_S = 0.1
_DRAIN_PAUSE_S = 1.0
"""As for messages: how much is drained, how long to wait for it, and how long then not again."""


class _Batch:
    """Chunks in hand, where each partition goes on after them, and what is parked of them."""

    __slots__ = ("chunks", "finished", "resume_at")

    def __init__(self) -> None:
        self.chunks: list[tuple[Yard, Chunk]] = []
        self.resume_at: dict[Yard, int] = {}
        self.finished = asyncio.Event()


class TieredBatches:
    """
    Hands out batches over all partitions, of new and of parked records in turn.

    Records whose key is parked are taken out of a batch first and written behind their key; those
    that fail are found, parked or buried. Then the offsets of the batch are done.

    Args:
        yards: Groups the partitions.
        stirred: Event of all yards.
        handler: What the subscriber gave.
        retries: In place, of a batch that comes for the first time.
        sender: Writes to the retry topics.
        burier: Writes to the dead letter queue.
        max_records: Most records per call.
        capacity: Records above which nothing is polled.
        observer: Hears what happens.
        guard: Ends it all when too much fails.
    """

    def __init__(
        self,
        yards: Yards,
        handler: BatchHandler,
        *,
        stirred: asyncio.Event,
        retries: Retries,
        sender: RecordSender,
        burier: Burier,
        max_records: int,
        capacity: int,
        observer: SubscriptionObserver,
        guard: FailureGuard | None,
    ) -> None:
        self.room = asyncio.Event()
        self._yards = yards
        self._stirred = stirred
        self._attempts = BatchAttempts(handler, retries=retries, observer=observer, rest=self._rest)
        self._patience = retries.patience
        self._sender = sender
        self._burier = burier
        self._max_records = max_records
        self._capacity = capacity
        self._observer = observer
        self._guard = guard
        self._chunks: deque[tuple[Yard, Chunk]] = deque()
        self._buffered = 0
        self._in_hand: _Batch | None = None
        self._is_open = True
        self._no_drain_until = 0.0
        self._ended = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether nothing more must be polled."""
        return self._buffered >= self._capacity

    @property
    def wanted(self) -> int:
        """A batch, or what the buffer still takes."""
        return max(1, min(self._max_records, self._capacity - self._buffered, MOST_AT_ONCE))

    @property
    def is_scanning(self) -> bool:
        """Whether polls without a record matter too."""
        return self._yards.is_scanning

    async def prepare(self, partitions: Sequence[PartitionKey]) -> None:
        """Learn where retry partitions end."""
        await self._yards.prepare(partitions)

    def take_on(self, holding: Holding) -> None:
        """Begin with a partition."""
        self._yards.take_on(holding)

    def accept(self, polled: Mapping[PartitionKey, Chunk]) -> None:
        """Buffer the chunks as they are."""
        for yard, chunk in self._yards.sort(polled):
            self._chunks.append((yard, chunk))
            self._buffered += len(chunk)
            self._observer.in_hand(len(chunk))
        if self.full:
            self.room.clear()
        self._stirred.set()

    def let_go(self, holdings: Collection[Holding]) -> None:
        """Drop what is buffered of these; a batch in hand may finish and counts."""
        self._yards.let_go(list(holdings))
        kept = [(yard, chunk) for yard, chunk in self._chunks if not yard.holding.ending]
        buffered = sum(len(chunk) for _, chunk in kept)
        self._observer.in_hand(buffered - self._buffered)
        self._chunks, self._buffered = deque(kept), buffered
        self._say_room()
        self._ended.set()
        self._stirred.set()

    async def drained(self, holdings: Collection[Holding]) -> None:
        """Wait until no batch with records of these is in hand."""
        batch = self._in_hand
        if batch is not None and any(yard.holding in holdings for yard in batch.resume_at):
            await batch.finished.wait()

    def called_at(self) -> float | None:
        """Return when the handler that runs now was called."""
        return self._attempts.called_at

    def set_open(self, *, is_open: bool) -> None:
        """Stop handing out, or go on."""
        self._is_open = is_open
        self._stirred.set()

    async def run(self) -> None:
        """Hand out batches; ends by cancelling, or by an error that nothing here can settle."""
        parked_first = True
        while True:
            self._stirred.clear()
            if not self._is_open:
                await self._stirred.wait()
                continue
            items = self._take_parked(self._yards) if parked_first or not self._chunks else []
            parked_first = not items
            if items:
                await self._hand(_Batch(), items)
            elif self._chunks:
                await self._hand(self._take(), [])
            else:
                await self._stirred_within(self._due_in())

    async def _hand(self, batch: _Batch, items: Sequence[Item]) -> None:
        """Settle a batch of new records, or of parked ones."""
        self._in_hand = batch
        taken = sum(len(chunk) for _, chunk in batch.chunks)
        self._say_room()
        try:
            if items:
                batch.resume_at = {item.yard: -1 for item in items}
                await self._settle(await self._bury_refused(items), batch)
            else:
                await self._settle_chunks(batch)
        finally:
            self._in_hand = None
            self._observer.in_hand(-taken)
            batch.finished.set()

    async def _bury_refused(self, items: Sequence[Item]) -> Sequence[Item]:
        """Bury what must not be handed out; return the rest."""
        for item in items:
            refusal = None if item.entry is None else item.entry.refusal
            if refusal is not None:
                await self._bury(item, refusal, 0)
        return [item for item in items if item.entry is None or item.entry.refusal is None]

    def _say_room(self) -> None:
        if self._buffered <= self._capacity // 2:
            self.room.set()

    def _take(self) -> _Batch:
        """Take what is buffered, at most a batch; a chunk that is too long is cut."""
        batch, free = _Batch(), self._max_records
        while self._chunks and free:
            yard, chunk = self._chunks.popleft()
            if len(chunk) > free:
                self._chunks.appendleft((yard, chunk[free:]))
                chunk = chunk[:free]
            batch.chunks.append((yard, chunk))
            batch.resume_at[yard] = chunk[-1].offset + 1
            free -= len(chunk)
        self._buffered -= self._max_records - free
        return batch

    def _take_parked(self, yards: Collection[Yard] | Yards) -> list[Item]:
        """Take what is due: keys that failed before, or others, but not both."""
        items: list[Item] = []
        again: bool | None = None
        for yard in yards:
            lot = yard.lot
            if not lot.scanned or yard.holding.ending:
                continue
            others = list[Item]()
            while len(items) < self._max_records and (entry := lot.take()) is not None:
                failed_before = entry.facts.role == "head"
                if again is None:
                    again = failed_before
                if failed_before is not again:
                    others.append(Item(entry.record, yard, entry.key, entry))
                    continue
                run = [entry, *lot.followers(entry, self._max_records - len(items) - 1)]
                items += [Item(one.record, yard, one.key, one) for one in run]
            for other in others:
                if other.entry is not None:
                    lot.put_back(other.entry)
        return items

    def _due_in(self) -> float | None:
        """Return the seconds until something parked may be handed out; None when nothing waits."""
        waits = (y.lot.due_in() for y in self._yards if y.lot.scanned and not y.holding.ending)
        return min((wait_s for wait_s in waits if wait_s is not None), default=None)

    async def _settle_chunks(self, batch: _Batch) -> None:
        await self._drain(batch)
        parts: list[tuple[Yard, Chunk]] = []
        outgoing: list[OutgoingRecord] = []
        for yard, chunk in batch.chunks:
            kept, followers = _apart(yard, chunk)
            outgoing += followers
            parts.append((yard, kept))
        if not await self._write(outgoing, batch):
            return
        handed, error, attempts = await self._attempts.whole(parts)
        left = {yard for yard, chunk in parts if chunk} - {yard for yard, _ in handed}
        if error is None:
            self._count([], sum(len(chunk) for _, chunk in handed))
        else:
            items = [Item(r, yard, yard.lot.key_of(r)) for yard, chunk in handed for r in chunk]
            await self._settle_outcome(await self._attempts.find(items, error, attempts), batch)
            left |= {item.yard for item in items if not item.is_settled}
        for yard, offset in batch.resume_at.items():
            if yard not in left:
                yard.done_below(offset)

    async def _settle(self, items: Sequence[Item], batch: _Batch) -> None:
        """Hand items out until each is handled, parked or buried, or its partition ends."""
        if items:
            outcome = await self._attempts.run(items, again=items[0].failed_before)
            await self._settle_outcome(outcome, batch)

    async def _settle_outcome(self, outcome: Outcome, batch: _Batch) -> None:
        while True:
            for item in outcome.handled:
                _settled(item)
            items = await self._settle_failed(outcome, batch)
            if not items:
                return
            outcome = await self._attempts.run(items, again=items[0].failed_before)

    async def _settle_failed(self, outcome: Outcome, batch: _Batch) -> Sequence[Item]:
        """Park or bury what failed; return what may be handed out now because of that."""
        heads, behind = _heads(outcome)
        self._count(heads, len(outcome.handled))
        outgoing: dict[Item, OutgoingRecord] = {}
        freed: set[tuple[int, Key]] = set()
        for item, error in heads:
            if self._waits_in_place(item, error, outcome.attempts):
                continue
            head = self._park(item, error, outcome.attempts)
            if head is not None:
                outgoing[item] = head
            elif await self._bury(item, error, outcome.attempts):
                freed.add(item.group)
        for item in behind:
            if item.entry is None and item.group not in freed:
                item.yard.lot.expect(item.key, item.record.offset, 0, size_of(item.record))
                outgoing[item] = item.yard.follower(item.record)
        if not await self._write(list(outgoing.values()), batch):
            return []
        for item in outgoing:
            item.is_settled = True
            if item.entry is not None:
                item.yard.moved(item.entry)
        return [item for item in behind if item.group in freed]

    def _count(self, heads: Sequence[tuple[Item, Exception]], handled: int) -> None:
        if self._guard is None:
            return
        if heads:
            self._guard.failed(heads[-1][1], len(heads), handled=handled)
        else:
            self._guard.handled(handled)

    def _waits_in_place(self, item: Item, error: Exception, attempts: int) -> bool:
        """Let a parked record wait where it stands, if that must be."""
        entry = item.entry
        if entry is None or isinstance(error, PermanentError | SchemaError):
            return False
        tier = item.yard.next_tier(entry)
        if tier is None:
            return False
        attempts += entry.facts.attempts
        first = _first_failure(item)
        if not item.yard.waits_in_place(entry, tier, error, attempts, first):
            return False
        self._observer.retried(item.record.topic, 1)
        return True

    def _park(self, item: Item, error: Exception, attempts: int) -> OutgoingRecord | None:
        """Return what to write for a record that failed; None when it is to be buried."""
        if isinstance(error, PermanentError | SchemaError):
            return None
        yard, record, entry = item.yard, item.record, item.entry
        tier = 0 if entry is None else yard.next_tier(entry)
        if tier is None:
            return None
        attempts += 0 if entry is None else entry.facts.attempts
        yard.lot.expect(item.key, record.offset, attempts, size_of(record))
        self._observer.retried(record.topic, 1)
        return yard.head(record, tier, error, attempts, _first_failure(item))

    async def _bury(self, item: Item, error: Exception, attempts: int) -> bool:
        entry = item.entry
        buried = await self._burier.bury(
            item.record,
            error,
            attempts=attempts + (0 if entry is None else entry.facts.attempts),
            first_failure=_first_failure(item),
            replays=None if entry is None else entry.replays,
            rest=partial(self._rest_burying, item.yard.holding),
        )
        if buried:
            _settled(item)
        return buried

    async def _write(self, records: Sequence[OutgoingRecord], batch: _Batch) -> bool:
        return await write_all(
            self._sender, records, self._patience, partial(self._rest_writing, batch)
        )

    async def _drain(self, batch: _Batch) -> None:
        """Handle what is parked of keys in a batch, if that is little and waits for no delay."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _DRAIN_S
        wanted = {
            (yard, key)
            for yard, chunk in batch.chunks
            if not yard.lot.is_empty
            for key in map(yard.lot.key_of, chunk)
            if 0 < yard.lot.left(key) <= _DRAIN_RECORDS
        }
        while True:
            wanted = {
                (yard, key)
                for yard, key in wanted
                if yard.lot.is_draining(key) and not yard.holding.ending
            }
            if not (wanted and self._is_open) or loop.time() < self._no_drain_until:
                return
            self._stirred.clear()
            items = self._take_parked({yard for yard, _ in wanted})
            if items:
                await self._settle(await self._bury_refused(items), batch)
            elif (left_s := until - loop.time()) > 0:
                await self._stirred_within(left_s)
            if loop.time() >= until:
                self._no_drain_until = loop.time() + _DRAIN_PAUSE_S

    async def _rest(self, seconds: float) -> None:
        """Wait before another attempt, less when a partition ends."""
        self._ended.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    async def _rest_burying(self, holding: Holding, seconds: float) -> bool:
        if not holding.ending:
            await self._rest(seconds)
        return not holding.ending

    async def _rest_writing(self, batch: _Batch, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return not all(yard.holding.gone for yard in batch.resume_at)

    async def _stirred_within(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()


def _apart(yard: Yard, chunk: Chunk) -> tuple[Chunk, list[OutgoingRecord]]:
    """Take ticks out of a chunk, and what must wait behind parked records of its key."""
    chunk, lot = without_ticks(chunk), yard.lot
    if lot.is_empty:
        return chunk, []
    kept: list[ProtocolRecord] = []
    followers: list[OutgoingRecord] = []
    for record in chunk:
        key = lot.key_of(record)
        if lot.is_parked(key):
            lot.expect(key, record.offset, 0, size_of(record))
            followers.append(yard.follower(record))
        else:
            kept.append(record)
    return kept, followers


def _settled(item: Item) -> None:
    item.is_settled = True
    if item.entry is not None:
        item.yard.settled(item.entry)


def _first_failure(item: Item) -> datetime:
    entry = item.entry
    if entry is None or entry.facts.role == "follower":
        return datetime.now(UTC)
    return entry.facts.first_failure


def _heads(outcome: Outcome) -> tuple[list[tuple[Item, Exception]], list[Item]]:
    """Return the first failed item of each key with its error, and what comes behind those."""
    heads: dict[tuple[int, Key], tuple[Item, Exception]] = {}
    behind = list(outcome.behind)
    for item, error in outcome.failed:
        if item.group in heads:
            behind.append(item)
        else:
            heads[item.group] = (item, error)
    behind.sort(key=lambda item: item.record.offset)
    return list(heads.values()), behind
