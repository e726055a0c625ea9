"""All yards of a subscription: takes partitions over, reads what is parked, holds it in bounds."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import structlog

from spile.adapters.retrying import Lot
from spile.adapters.subscribing._holding import Holding, Wiring
from spile.adapters.subscribing._retries import Parking
from spile.adapters.subscribing.tiers._yard import Yard
from spile.spi import PartitionKey, ProtocolRecord

log = structlog.get_logger(__name__)


class Yards:
    """
    Groups the partitions of an assignment, each with its retry partitions.

    A partition is held back until all that was parked beside it at the assignment is known. One
    that came without its retry partitions stays held back: the group has members that subscribe
    otherwise, and its next rebalance comes when they leave.

    Args:
        wiring: What is shared with the subscription.
        parking: The retry topics.
        delays_s: Their delays.
        stirred: Shared by all yards; by default each has an event of its own.
    """

    def __init__(
        self,
        wiring: Wiring,
        parking: Parking,
        delays_s: Sequence[float],
        *,
        stirred: asyncio.Event | None = None,
    ) -> None:
        self._stirred = stirred
        self._wiring = wiring
        self._source = wiring.source
        self._parking = parking
        self._delays_s = delays_s
        self._ends: Mapping[PartitionKey, int] = {}
        self._holdings: dict[PartitionKey, Holding] = {}
        self._by_partition: dict[PartitionKey, Yard] = {}
        self._tier_of: dict[PartitionKey, tuple[Yard, int]] = {}

    def __iter__(self) -> Iterator[Yard]:
        return iter(self._by_partition.values())

    @property
    def is_scanning(self) -> bool:
        """Whether what is parked is still being read anywhere."""
        return any(not yard.lot.scanned for yard in self)

    async def prepare(self, partitions: Sequence[PartitionKey]) -> None:
        """Ask where the retry partitions end; raises as `RecordSource.ends`."""
        given = set(partitions)
        lame = [
            f"{topic}[{number}]"
            for topic, number in partitions
            if not given.issuperset((name, number) for name in self._family(topic))
        ]
        if lame:
            log.error(
                "partitions wait: their retry partitions belong to other members",
                group=self._parking.topics.group_id,
                partitions=lame,
                remedy="let all members of the group subscribe to the same topics with tiers",
            )
        retries = [p for p in partitions if self._parking.topics.place(p[0]) is not None]
        self._ends = await self._source.ends(retries) if retries else {}

    def take_on(self, holding: Holding) -> Yard | None:
        """Take a partition over; returns the yard that it completes."""
        self._holdings[holding.partition] = holding
        self._wiring.hold_back(holding)
        topic, number = holding.partition
        names = self._family(topic)
        parts = [self._holdings.get((name, number)) for name in names]
        whole = [part for part in parts if part is not None and not part.ending]
        return self._build(whole[0], whole[1:]) if len(whole) == len(names) else None

    def _family(self, topic: str) -> Sequence[str]:
        """Return the topic that one belongs to, and its retry topics."""
        place = self._parking.topics.place(topic)
        origin = topic if place is None else place.origin
        return [origin, *self._parking.topics.of(origin)]

    def _build(self, main: Holding, tiers: Sequence[Holding]) -> Yard:
        source, clock = self._source, asyncio.get_running_loop().time
        lot = Lot(
            *main.partition,
            main_start=source.taken_over(main.partition)[0],
            starts=[source.taken_over(tier.partition) for tier in tiers],
            ends=[self._ends[tier.partition] for tier in tiers],
            delays_s=self._delays_s,
            clock=clock,
            wall_clock=self._parking.wall_clock,
        )
        yard = Yard(
            main,
            tiers,
            lot,
            committer=self._wiring.committer,
            parking=self._parking,
            delays_s=self._delays_s,
            on_progress=self.hold_in_bounds,
            stirred=self._stirred or asyncio.Event(),
        )
        self._by_partition[main.partition] = yard
        for tier, holding in enumerate(tiers):
            self._tier_of[holding.partition] = (yard, tier)
            self._wiring.open(holding)
        if lot.scanned:
            self._wiring.open(main)
        return yard

    def let_go(self, holdings: Sequence[Holding]) -> list[Yard]:
        """Forget partitions; returns the yards that end."""
        ending: list[Yard] = []
        for holding in holdings:
            holding.end()
            if self._holdings.get(holding.partition) is not holding:
                continue
            del self._holdings[holding.partition]
            self._tier_of.pop(holding.partition, None)
            yard = self._by_partition.pop(holding.partition, None)
            if yard is not None:
                ending.append(yard)
                yard.stir()
        return ending

    def sort(
        self, polled: Mapping[PartitionKey, Sequence[ProtocolRecord]]
    ) -> list[tuple[Yard, Sequence[ProtocolRecord]]]:
        """Take what was read from retry partitions; return what was read from the others."""
        main: list[tuple[Yard, Sequence[ProtocolRecord]]] = []
        read: dict[Yard, set[int]] = defaultdict(set)
        for partition, records in polled.items():
            if partition in self._tier_of:
                yard, tier = self._tier_of[partition]
                yard.lot.accept(tier, records)
                read[yard].add(tier)
            elif partition in self._by_partition:
                main.append((self._by_partition[partition], records))
        for yard, tiers in read.items():
            for tier in tiers:
                yard.note_progress(tier)
            self.hold_in_bounds(yard)
            yard.stir()
        for yard in self:
            if not yard.lot.scanned:
                self._look_for_end(yard)
        return main

    def hold_in_bounds(self, yard: Yard) -> None:
        """
        Pause retry partitions of which too much is in memory, and resume those with room.

        None is paused while all that is in memory waits for something that has yet to be read.
        """
        lot = yard.lot
        if not lot.scanned:
            return
        is_stuck = lot.is_stuck
        for tier, holding in enumerate(yard.tiers):
            if not holding.paused and lot.is_crowded(tier) and not is_stuck:
                self._wiring.hold_back(holding)
            elif holding.paused and (is_stuck or lot.has_room(tier)):
                self._wiring.open(holding)

    def _look_for_end(self, yard: Yard) -> None:
        for tier, holding in enumerate(yard.tiers):
            if not yard.lot.reached(tier, self._source.position(holding.partition)):
                return
        for tier, offset in yard.lot.finish_scan().items():
            self._source.seek(yard.tiers[tier].partition, offset)
        if yard.lot.ignored:
            topic, number = yard.holding.partition
            log.warning(
                "parked copies ignored, their partition delivers them again",
                topic=topic,
                partition=number,
                records=yard.lot.ignored,
            )
        self.hold_in_bounds(yard)
        self._wiring.open(yard.holding)
        yard.stir()
