"""What is parked beside one partition: its keys, their order, what is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Final, NamedTuple, TypeAlias
from uuid import uuid4

from spile.adapters.dead_letters import (
    MAX_REPLAYS,
    ReplaysSpentError,
    RetryFacts,
    original_record,
    read_retry,
    replay_count,
)
from spile.adapters.delivery import Record
from spile.adapters.retrying._window import MAX_SPAN, Window
from spile.spi import ProtocolRecord, UndecodableError

_CROWDED_SPAN: Final = MAX_SPAN // 2
_CROWDED_BYTES: Final = 64 << 20
_OVERHEAD_BYTES: Final = 500

Key: TypeAlias = bytes | tuple[str, int, int]
"""A record key; records without one, and reprocessed ones, have a key each."""


@dataclass(slots=True, eq=False)
class Entry:
    """
    One parked record that is in memory.

    Attributes:
        key: What it is parked under.
        record: As it stood on its topic of origin.
        facts: Its headers.
        tier: Retry topic that it stands in.
        offset: Offset there.
        due: When it may be handed out, on the clock of the lot.
        replays: How often it was reprocessed.
        broken: Why its facts cannot be read; it can only be buried.
        is_queued: Whether it stands in the queue of what is to be handed out.
    """

    key: Key
    record: Record
    facts: RetryFacts
    tier: int
    offset: int
    due: float
    replays: int = 0
    broken: UndecodableError | None = None
    is_queued: bool = False

    @property
    def is_alone(self) -> bool:
        """Whether it waits for no other record and none waits for it."""
        return self.facts.role == "reprocess" or self.broken is not None

    @property
    def refusal(self) -> UndecodableError | ReplaysSpentError | None:
        """Why it must not be handed out, but buried as it is."""
        if self.broken is None and self.replays > MAX_REPLAYS:
            return ReplaysSpentError(
                f"reprocessed {self.replays} times, at most {MAX_REPLAYS} are allowed: it stays"
            )
        return self.broken

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return size_of(self.record)


class _Unread(NamedTuple):
    """A parked record that is not in memory: how often it was tried, and its size in bytes."""

    attempts: int
    size: int


def size_of(record: ProtocolRecord) -> int:
    """Return about how much memory a record takes, in bytes."""
    return len(record.key or b"") + len(record.value or b"") + _OVERHEAD_BYTES


class _ParkedKey:
    """Records of one key by offset of origin: in memory, or what is known of them."""

    __slots__ = ("known", "order")

    def __init__(self) -> None:
        self.known: dict[int, Entry | _Unread] = {}
        self.order: list[int] = []

    def add(self, origin: int, what: Entry | _Unread) -> None:
        if origin not in self.known:
            heapq.heappush(self.order, origin)
        self.known[origin] = what

    def first(self) -> Entry | _Unread:
        while self.order[0] not in self.known:
            heapq.heappop(self.order)
        return self.known[self.order[0]]

    def drop(self, origin: int) -> None:
        self.known.pop(origin, None)


class Lot:
    """
    The parked records of one partition, read from the retry topics beside it; does no I/O.

    Of a key, only the record with the smallest offset of origin is ever handed out, whatever topic
    it stands in; the others follow when it is done or dead. So the key moves as a whole, without
    its followers being written again at each tier.

    Each topic is first read to where it ended at the assignment (`scanned`). Of records with one
    offset of origin the one that was tried most often counts. Records that the main partition will
    deliver again (copies of a crash, or of an owner that had lost the partition) count as done, and
    so do later ones that this owner did not write, but for those that an operator sent.

    Args:
        topic: Topic of origin.
        partition: Partition of it, and of each retry topic.
        main_start: Offset of the main partition that was committed.
        starts: Offset and note that were committed, for each tier.
        ends: Where each tier ended at the assignment.
        delays_s: Longest delay of each tier in seconds.
        clock: Monotonic seconds.
        wall_clock: Seconds since 1970; says how far away a due time is.

    Attributes:
        ignored: How many records counted as done because the main partition delivers them again,
            or nobody who may wrote them.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        main_start: int,
        starts: Sequence[tuple[int, str]],
        ends: Sequence[int],
        delays_s: Sequence[float],
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.token = uuid4().hex
        self.windows = [Window(start, note) for start, note in starts]
        self.ends = list(ends)
        self.scanned = all(start >= end for (start, _), end in zip(starts, ends, strict=True))
        self.ignored = 0
        self._main_start = main_start
        self._delays_s = delays_s
        self._clock = clock
        self._wall_clock = wall_clock
        self._held_bytes = [0] * len(self.windows)
        self._unread = 0
        self._unread_bytes = 0
        self._resume_at: list[int | None] = [None] * len(self.windows)
        self._keys: dict[Key, _ParkedKey] = {}
        self._timed: list[tuple[float, int, Entry]] = []
        self._turn = count()

    @property
    def is_empty(self) -> bool:
        """Whether no key is parked."""
        return not self._keys

    def key_of(self, record: ProtocolRecord) -> Key:
        """Return what a record of the main partition is parked under."""
        return ("null", record.partition, record.offset) if record.key is None else record.key

    def is_parked(self, key: Key) -> bool:
        """Whether records of a key wait; then those that come must wait too."""
        return key in self._keys

    def is_draining(self, key: Key) -> bool:
        """Whether a parked key waits for no delay: it will be free when its records are read."""
        parked = self._keys.get(key)
        if parked is None:
            return False
        first = parked.first()
        return first.due <= self._clock() if isinstance(first, Entry) else first.attempts == 0

    def left(self, key: Key) -> int:
        """Return how many records of a key are parked."""
        parked = self._keys.get(key)
        return 0 if parked is None else len(parked.known)

    def expect(self, key: Key, origin: int, attempts: int, size: int = _OVERHEAD_BYTES) -> None:
        """Park a record that is about to be written; it is in memory once it is read back."""
        self._put(key, origin, _Unread(attempts, size))

    def accept(self, tier: int, records: Sequence[ProtocolRecord]) -> None:
        """Take in what was read from a tier, in order."""
        for record in records:
            if self.scanned or self._resume_at[tier] is None:
                if self.scanned or not self.is_crowded(tier):
                    self._take_in(tier, record)
                    continue
                self._resume_at[tier] = record.offset
            if not self.windows[tier].is_done(record.offset):
                self._remember(record)

    def reached(self, tier: int, position: int) -> bool:
        """Return whether a tier is read to where it ended at the assignment."""
        return position >= self.ends[tier]

    def finish_scan(self) -> dict[int, int]:
        """End the scan; returns where tiers must go on that had more than memory should hold."""
        self.scanned = True
        again = {tier: at for tier, at in enumerate(self._resume_at) if at is not None}
        self._resume_at = [None] * len(self.windows)
        return again

    def is_crowded(self, tier: int) -> bool:
        """Whether nothing more of a tier should be in memory."""
        return self.windows[tier].span >= _CROWDED_SPAN or self._held_bytes[tier] >= _CROWDED_BYTES

    @property
    def is_stuck(self) -> bool:
        """Whether all that is parked waits for records that are not in memory."""
        return not self.is_empty and self.due_in() is None

    def has_room(self, tier: int) -> bool:
        """Whether a tier that was crowded may be read again."""
        return (
            self.windows[tier].span <= _CROWDED_SPAN // 2
            and self._held_bytes[tier] <= _CROWDED_BYTES // 2
        )

    def due_in(self) -> float | None:
        """Return the seconds until something may be handed out; None when nothing waits."""
        self._forget_stale()
        return max(0.0, self._timed[0][0] - self._clock()) if self._timed else None

    def comes_back(self, tier: int) -> bool:
        """
        Say whether a record that is written to a tier now is read before the tier is crowded.

        Where it is not, the records of its key that crowd the tier would wait for it for ever.
        """
        return (
            self.windows[tier].span + self._unread <= _CROWDED_SPAN // 2
            and self._held_bytes[tier] + self._unread_bytes <= _CROWDED_BYTES // 2
        )

    def take(self, key: Key | None = None) -> Entry | None:
        """Return a record to hand out now, of one key or of any; it stays parked until settled."""
        if key is not None:
            parked = self._keys.get(key)
            first = parked.first() if parked is not None else None
            return first if isinstance(first, Entry) and first.due <= self._clock() else None
        self._forget_stale()
        if not self._timed or self._timed[0][0] > self._clock():
            return None
        entry = heapq.heappop(self._timed)[2]
        entry.is_queued = False
        return entry

    def followers(self, entry: Entry, limit: int) -> list[Entry]:
        """Return the records that may be handed out right behind one, in order."""
        parked, found = self._keys.get(entry.key), list[Entry]()
        if parked is None or entry.is_alone:
            return found
        now = self._clock()
        for origin in sorted(parked.known)[1 : limit + 1]:
            known = parked.known[origin]
            if not isinstance(known, Entry) or known.due > now:
                break
            found.append(known)
        return found

    def put_back(self, entry: Entry) -> None:
        """Let a record that was taken be taken again."""
        if not entry.is_queued:
            entry.is_queued = True
            heapq.heappush(self._timed, (entry.due, next(self._turn), entry))

    def wait(self, entry: Entry, error: Exception, attempts: int, first_failure: datetime) -> None:
        """
        Let a record that failed wait where it stands, as long as its tier says.

        Its topic does not know that: after a restart it is handed out at once.
        """
        entry.facts = replace(
            entry.facts,
            role="head",
            attempts=attempts,
            first_failure=first_failure,
            error_type=type(error).__name__,
        )
        entry.due = self._clock() + self._delays_s[entry.tier]
        self.put_back(entry)

    def settle(self, entry: Entry) -> None:
        """Note that a record is done or dead: the next one of its key may be handed out."""
        self.release(entry)
        parked = self._keys.get(entry.key)
        if parked is None or entry.is_alone:
            return
        parked.drop(entry.record.offset)
        if not parked.known:
            del self._keys[entry.key]
            return
        first = parked.first()
        if isinstance(first, Entry):
            self.put_back(first)

    def move(self, entry: Entry, attempts: int) -> None:
        """Expect a record in the next tier; `release` its old place when the new one stands."""
        self.expect(entry.key, entry.record.offset, attempts, entry.size_bytes)

    def release(self, entry: Entry) -> None:
        """Count the place of a record as done."""
        self.windows[entry.tier].close(entry.offset)
        self._held_bytes[entry.tier] -= entry.size_bytes

    def _put(self, key: Key, origin: int, what: Entry | _Unread) -> None:
        """Park a record, in place of what was known of it."""
        parked = self._keys.setdefault(key, _ParkedKey())
        before = parked.known.get(origin)
        if isinstance(before, _Unread):
            self._unread -= 1
            self._unread_bytes -= before.size
        if isinstance(what, _Unread):
            self._unread += 1
            self._unread_bytes += what.size
        parked.add(origin, what)

    def _forget_stale(self) -> None:
        while self._timed and not self._is_first(self._timed[0][2]):
            heapq.heappop(self._timed)[2].is_queued = False

    def _is_first(self, entry: Entry) -> bool:
        parked = self._keys.get(entry.key)
        return entry.is_alone or (parked is not None and parked.first() is entry)

    def _take_in(self, tier: int, record: ProtocolRecord) -> None:
        if not self.windows[tier].open(record.offset):
            return
        entry = self._read(tier, record)
        if not entry.is_alone and not self._is_wanted(entry, record.offset):
            self.windows[tier].close(record.offset)
            self.ignored += 1
            return
        self._held_bytes[tier] += entry.size_bytes
        if entry.is_alone:
            self.put_back(entry)
            return
        self._put(entry.key, entry.record.offset, entry)
        if self._is_first(entry):
            self.put_back(entry)

    def _is_wanted(self, entry: Entry, offset: int) -> bool:
        facts, parked = entry.facts, self._keys.get(entry.key)
        known = None if parked is None else parked.known.get(facts.offset)
        if self.scanned:
            is_known_place = facts.writer == self.token or offset < self.ends[entry.tier]
            return (
                isinstance(known, _Unread) and known.attempts == facts.attempts and is_known_place
            )
        return self._supersedes(facts, known)

    def _supersedes(self, facts: RetryFacts, known: Entry | _Unread | None) -> bool:
        """Say whether a record counts that the scan meets; releases one that it replaces."""
        if facts.offset >= self._main_start:
            return False
        if known is None:
            return True
        if not isinstance(known, Entry):
            return facts.attempts > known.attempts
        if facts.attempts <= known.facts.attempts:
            return False
        self.release(known)
        return True

    def _remember(self, record: ProtocolRecord) -> None:
        """Know that a record is parked, without holding it."""
        try:
            facts = read_retry(record)
        except UndecodableError:
            return
        if facts.role == "reprocess" or facts.partition != self.partition:
            return
        key = self._key(record, facts)
        parked = self._keys.get(key)
        known = None if parked is None else parked.known.get(facts.offset)
        if self._supersedes(facts, known):
            self.expect(key, facts.offset, facts.attempts, size_of(record))

    def _key(self, record: ProtocolRecord, facts: RetryFacts) -> Key:
        if record.key is None:
            return ("null", facts.partition, facts.offset)
        return record.key

    def _read(self, tier: int, record: ProtocolRecord) -> Entry:
        facts, broken = self._facts(record)
        alone = facts.role == "reprocess"
        key = ("alone", tier, record.offset) if alone else self._key(record, facts)
        # The clocks of two machines differ: never later than the tier's own delay.
        wait_s = min(facts.due / 1000 - self._wall_clock(), self._delays_s[tier])
        return Entry(
            key=key,
            record=original_record(record, facts, self.topic),
            facts=facts,
            tier=tier,
            offset=record.offset,
            due=self._clock() + max(0.0, wait_s),
            replays=replay_count(record) if facts.role == "reprocess" else 0,
            broken=broken,
        )

    def _facts(self, record: ProtocolRecord) -> tuple[RetryFacts, UndecodableError | None]:
        error: UndecodableError
        try:
            facts = read_retry(record)
        except UndecodableError as exc:
            error = exc
        else:
            if facts.role == "reprocess" or facts.partition == self.partition:
                return facts, None
            error = UndecodableError(
                f"a record of partition {facts.partition} is parked beside {self.partition}"
            )
        facts = RetryFacts(
            role="reprocess",
            partition=-1,
            offset=-1,
            timestamp=record.timestamp,
            attempts=0,
            due=0,
            first_failure=datetime.fromtimestamp(record.timestamp / 1000, UTC),
        )
        return facts, error
