"""The lane of one partition whose failed records wait in retry topics."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import partial
from typing import Any

from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._ports import RecordSender
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.retrying import Entry, Key, size_of
from spile.adapters.subscribing._boundary import Case, MessageBoundary
from spile.adapters.subscribing._burial import write_all
from spile.adapters.subscribing._holding import Holding
from spile.adapters.subscribing._observer import SubscriptionObserver
from spile.adapters.subscribing._ticks import is_tick
from spile.adapters.subscribing.tiers._yard import Yard
from spile.spi import ProtocolRecord

_UNWRITTEN = 500
"""Records that may wait to be written to retry topics before the lane waits for them."""

_DRAIN_RECORDS = 64
_DRAIN_S = 0.1
_DRAIN_PAUSE_S = 1.0
"""
When a record comes whose key is parked, but waits for no delay: how many parked ones are handled
first, how long the lane waits for those on their way, and how long not again after that was in
vain. Without it a busy key would stay parked as long as it is busy.
"""


class TieredLane:
    """
    One partition: new and parked records in turn, one at a time.

    A failed record is parked without waiting for the write: its offset is done when the retry topic
    has it. So is a record whose key is parked.

    Args:
        yard: The partition and what is parked beside it.
        boundary: Settles one record.
        limit: Retries in place of a record that comes for the first time.
        sender: Writes to the retry topics.
        backoff: Waits between the attempts to write.
        observer: Hears what left the hand.
        on_taken: Called when a record left the buffer.
    """

    def __init__(
        self,
        yard: Yard,
        boundary: MessageBoundary,
        *,
        limit: int,
        sender: RecordSender,
        backoff: Backoff,
        observer: SubscriptionObserver,
        on_taken: Callable[[TieredLane], None],
    ) -> None:
        self.yard = yard
        self.buffer: deque[ProtocolRecord] = deque()
        self.idle = asyncio.Event()
        self.idle.set()
        self.is_open = True
        self._boundary = boundary
        self._limit = limit
        self._sender = sender
        self._backoff = backoff
        self._observer = observer
        self._on_taken = on_taken
        self._unwritten: deque[tuple[OutgoingRecord, Callable[[], object]]] = deque()
        self._write = asyncio.Event()
        self._room = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._no_drain_until = 0.0
        self._finished = False

    @property
    def holding(self) -> Holding:
        """The partition."""
        return self.yard.holding

    def stir(self) -> None:
        """Let the lane look whether there is something to do."""
        self.yard.stir()

    async def drained(self) -> None:
        """Wait until nothing is in hand and all that is to be parked is written."""
        await self.idle.wait()
        await self._written.wait()

    async def run(self) -> None:
        """Hand out until the partition ends."""
        try:
            await self._hand_out()
        finally:
            self._finished = True
            self._write.set()

    async def write(self) -> None:
        """Write what is to be parked, as much at once as has come, until the lane has ended."""
        try:
            while not self._finished or self._unwritten:
                if not self._unwritten:
                    self._written.set()
                    self._write.clear()
                    await self._write.wait()
                elif not await self._write_once():
                    return
        finally:
            self._written.set()
            self._room.set()

    async def _hand_out(self) -> None:
        yard, parked_first = self.yard, True
        while not yard.holding.ending:
            yard.stirred.clear()
            if not self.is_open or not yard.lot.scanned:
                await yard.stirred.wait()
                continue
            entry = yard.lot.take() if parked_first or not self.buffer else None
            parked_first = entry is None
            if entry is not None:
                await self._hand(self._again(entry))
            elif self.buffer:
                record = self.buffer.popleft()
                self._on_taken(self)
                await self._hand(self._first(record))
                self._observer.in_hand(-1)
            else:
                await self._stirred_within(yard.lot.due_in())

    async def _hand(self, work: Coroutine[Any, Any, bool]) -> None:
        self.idle.clear()
        try:
            await work
        finally:
            self.idle.set()

    async def _first(self, record: ProtocolRecord) -> bool:
        """Settle a record of the partition itself, or park it behind its key."""
        yard, lot, offset = self.yard, self.yard.lot, record.offset
        yard.main.open(offset)
        done = partial(yard.done, offset)
        if is_tick(record):
            return done()
        key = lot.key_of(record)
        if lot.is_parked(key) and not await self._drained(key):
            if yard.holding.ending:
                return False
            lot.expect(key, offset, 0, size_of(record))
            await self._park(yard.follower(record), done)
            return True
        case = Case(
            record=record,
            holding=yard.holding,
            confirm=done,
            limit=self._limit,
            spent=partial(self._park_first, record, key),
        )
        return await self._boundary.settle(case)

    async def _park_first(
        self, record: ProtocolRecord, key: Key, error: Exception, attempts: int, first: datetime
    ) -> None:
        self.yard.lot.expect(key, record.offset, attempts, size_of(record))
        written = partial(self.yard.done, record.offset)
        await self._park(self.yard.head(record, 0, error, attempts, first), written)

    async def _again(self, entry: Entry) -> bool:
        """Settle a parked record."""
        yard, facts = self.yard, entry.facts
        tier = yard.next_tier(entry)
        case = Case(
            record=entry.record,
            holding=yard.holding,
            confirm=partial(yard.settled, entry),
            limit=0 if facts.role == "head" else self._limit,
            spent=None if tier is None else partial(self._move, entry, tier),
            attempts=facts.attempts,
            first_failure=None if facts.role == "follower" else facts.first_failure,
            replays=entry.replays,
        )
        refusal = entry.refusal
        if refusal is not None:
            return await self._boundary.bury(case, refusal)
        return await self._boundary.settle(case)

    async def _move(
        self, entry: Entry, tier: int, error: Exception, attempts: int, first: datetime
    ) -> None:
        if self.yard.waits_in_place(entry, tier, error, attempts, first):
            return
        self.yard.lot.move(entry, attempts)
        written = partial(self.yard.moved, entry)
        await self._park(self.yard.head(entry.record, tier, error, attempts, first), written)

    async def _park(self, record: OutgoingRecord, written: Callable[[], object]) -> None:
        self._unwritten.append((record, written))
        self._written.clear()
        self._write.set()
        while len(self._unwritten) >= _UNWRITTEN and not self._written.is_set():
            self._room.clear()
            await self._room.wait()

    async def _write_once(self) -> bool:
        taken = list(self._unwritten)
        records = [record for record, _ in taken]
        if not await write_all(self._sender, records, self._backoff, self._rest_writing):
            return False
        for _, written in taken:
            self._unwritten.popleft()
            if not self.yard.holding.gone:
                written()
        self._room.set()
        return True

    async def _rest_writing(self, seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return not self.yard.holding.gone

    async def _drained(self, key: Key) -> bool:
        """Handle what is parked of a key, if that is little and waits for nothing; is it free?"""
        lot, loop = self.yard.lot, asyncio.get_running_loop()
        for _ in range(_DRAIN_RECORDS):
            if not lot.is_parked(key):
                return True
            if self.yard.holding.ending or not (self.is_open and lot.is_draining(key)):
                return False
            entry = lot.take(key)
            if entry is not None:
                if not await self._again(entry):
                    return False
            elif loop.time() < self._no_drain_until or lot.left(key) > _DRAIN_RECORDS:
                return False
            elif not await self._arrives(key):
                self._no_drain_until = loop.time() + _DRAIN_PAUSE_S
                return False
        return not lot.is_parked(key)

    async def _arrives(self, key: Key) -> bool:
        """Wait for the next parked record of a key, which is on its way back."""
        lot, stirred = self.yard.lot, self.yard.stirred
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while lot.take(key) is None and not self.yard.holding.ending:
                    stirred.clear()
                    await stirred.wait()
        return lot.take(key) is not None

    async def _stirred_within(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.yard.stirred.wait()
