"""One topic in all tiers: what some tier does not have, and whether it is lost."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from spile.services.auditing._bus import BusTopic, MinuteRecords
from spile.services.auditing._letters import Letters
from spile.services.auditing._minutes import OTHER
from spile.services.auditing._reports import Published
from spile.services.auditing._store import StoreTier
from spile.services.auditing._values import (
    ArchivedPartition,
    Difference,
    MinuteCounts,
    State,
    StoreCounts,
    Tier,
    Window,
)

_EXAMPLES = 3


@dataclass(slots=True, kw_only=True)
class TopicAudit:
    """
    One topic, compared.

    Args:
        window: Which minutes.
        bus: What stands on the bus.
        letters: Of its dead letter queue.
        published: What publishers say.

    Attributes:
        lines: By minute.
        differences: What was found.
    """

    window: Window
    bus: BusTopic
    letters: Letters
    published: Published
    lines: dict[str, MinuteCounts] = field(default_factory=dict[str, MinuteCounts])
    differences: list[Difference] = field(default_factory=list[Difference])

    def compare_publish(self) -> None:
        """Hold what publishers were told against the bus, and what was refused against letters."""
        topic = self.bus.topic
        for minute, records in self.bus.minutes.items():
            line = self._line(minute)
            line.records, line.bus = len(records), len(records.events())
        for minute, count in self.letters.minutes.items():
            self._line(minute).dlq = count
        for (its_topic, minute, service), said in self.published.said.items():
            if its_topic != topic:
                continue
            line = self._line(minute)
            line.publish += said.acknowledged
            line.indefinite += said.indefinite
            line.refused += said.refused
            line.at_least |= said.at_least
            records = self.bus.minutes.get(minute)
            there = 0 if records is None else records.services[service]
            words = f"told to {service} as written, and not on the bus"
            if minute < self.bus.whole_from:
                words = (
                    f"retention has taken records of {minute}; {service} wrote more than is left"
                )
                self._note("bus", minute, said.acknowledged - there, words, state="unknown")
            else:
                self._note("bus", minute, said.acknowledged - there, words)
            kept = self.letters.refused[minute, service]
            words = f"refused by the broker, and not in the queue {topic}.dlq"
            lacking = said.refused - kept
            state: State | None = None
            if lacking > 0 and self.letters.explain_refused(service, lacking):
                state = "unknown"
                words += "; letters that were purged may explain it"
            self._note("dlq", minute, lacking, words, state=state)

    async def compare_store(self, counts: StoreCounts, store: StoreTier) -> None:
        """Hold what is on the bus against the store, event by event where it has less."""
        topic = self.bus.topic
        freed = self.letters.freed
        for minute, records in sorted(self.bus.minutes.items()):
            line = self._line(minute)
            line.store = counts.events.get((topic, minute), 0)
            # Where retention took some from the bus, the store may have those and lack others.
            if line.store >= line.bus and minute >= self.bus.whole_from:
                continue
            events = records.events()
            known = await store.known(events.keys())
            lost: list[tuple[int, int]] = []
            behind = 0
            for event_id, places in events.items():
                if event_id in known or not self.letters.places.isdisjoint(places):
                    continue
                if all(offset >= counts.next.get((topic, p), 0) for p, offset in places):
                    behind += 1
                else:
                    lost.append(places[0])
            if behind:
                line.behind["store"] = behind
            if not lost:
                continue
            words = "on the bus and not in the store, whose offset is further on"
            state: State | None = None
            if freed >= len(lost):
                freed -= len(lost)
                state = "unknown"
                words += "; letters that were purged may explain it"
            self._note("store", minute, len(lost), words, state=state, places=lost)

    def compare_archive(self, partitions: Mapping[int, ArchivedPartition]) -> None:
        """Hold what is on the bus against the archive, record by record."""
        held = {number: _Partition(archived) for number, archived in partitions.items()}
        lost: dict[str, list[tuple[int, int]]] = {}
        for minute, records in sorted(self.bus.minutes.items()):
            self._line(minute).archive = 0
            lost[minute] = self._unarchived(minute, records, held)
        short: Counter[str] = Counter()
        for partition in held.values():
            for minute, archived, lacking in partition.sums():
                self._line(minute).archive = (self._line(minute).archive or 0) + archived
                short[minute] += lacking
        for minute, places in lost.items():
            words = "on the bus and not in the archive, which is further on"
            self._note("archive", minute, len(places) + short[minute], words, places=places)

    def _unarchived(
        self, minute: str, records: MinuteRecords, held: Mapping[int, _Partition]
    ) -> list[tuple[int, int]]:
        lost: list[tuple[int, int]] = []
        behind = 0
        for number, offset in records.places():
            partition = held.get(number)
            if partition is None or offset >= partition.position:
                behind += 1
            elif not partition.takes(minute, offset):
                lost.append((number, offset))
        if behind:
            self._line(minute).behind["archive"] = behind
        return lost

    def _line(self, minute: str) -> MinuteCounts:
        line = self.lines.get(minute)
        if line is None:
            line = self.lines[minute] = MinuteCounts(topic=self.bus.topic, minute=minute)
        return line

    def _note(
        self,
        tier: Tier,
        minute: str,
        missing: int,
        words: str,
        *,
        state: State | None = None,
        places: Sequence[tuple[int, int]] = (),
    ) -> None:
        if missing <= 0:
            return
        if state is None:
            state = "missing" if self.window.is_settled(minute) else "not yet"
        self.differences.append(
            Difference(
                topic=self.bus.topic,
                minute=minute,
                tier=tier,
                state=state,
                missing=missing,
                meaning=f"{missing} event{'' if missing == 1 else 's'} of {minute[11:16]}: {words}",
                examples=tuple(f"{number}:{offset}" for number, offset in places[:_EXAMPLES]),
            )
        )


class _Partition:
    """The objects of one partition, and which records of the bus they must hold."""

    def __init__(self, archived: ArchivedPartition) -> None:
        self._ranges = archived.ranges
        self._is_whole = archived.is_whole
        self._starts = [one.first_offset for one in archived.ranges]
        self._wanted: Counter[tuple[int, str]] = Counter()
        self.position = max((one.next_position for one in archived.ranges), default=0)

    def takes(self, minute: str, offset: int) -> bool:
        """Note a record that must be in an object; False when no object is there for it."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return not self._is_whole
        found = self._ranges[index]
        if not found.is_there or offset >= found.next_position:
            return False
        self._wanted[index, minute] += 1
        return True

    def sums(self) -> list[tuple[str, int, int]]:
        """Return minute, archived records and lacking records, by object and minute."""
        sums: list[tuple[str, int, int]] = []
        for (index, minute), wanted in self._wanted.items():
            minutes = self._ranges[index].minutes
            has = wanted if OTHER in minutes else min(wanted, minutes.get(minute, 0))
            sums.append((minute, has, wanted - has))
        return sums
