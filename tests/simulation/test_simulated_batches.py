"""Batch subscriptions: exactly once in effect over a store with offsets, at least once without."""

from __future__ import annotations

import asyncio
from collections import Counter

from spile.adapters.delivery import Backoff, OutgoingRecord
from spile.adapters.memory import MemorySource
from spile.adapters.subscribing import Subscription, SubscriptionOptions
from spile.spi import BrokerUnavailableError, ClosedError, RetriableError
from spile.testkit.ledger import Outcome
from spile.testkit.simulation import Book, FaultRates, Simulation, simulate

PART = 2
TOPIC = "dev.shop.orders.placed.v1"
GROUP = "store"
EVENTS = 90
RATES = FaultRates(
    send_fails=0.05,
    poll_fails=0.04,
    open_fails=0.05,
    commit_fails=0.1,
    slow=0.06,
    slow_s=3.0,
    crash=0.006,
)


class Store:
    """A database: effects and offsets in one transaction, which takes its time."""

    def __init__(self, sim: Simulation, book: Book) -> None:
        self.sim = sim
        self.book = book
        self.offsets: dict[tuple[str, int], int] = {}
        self.gaps: list[str] = []

    async def next_offsets(self, partitions):
        """Return where to go on; see `ProtocolOffsetStore`."""
        await self.think()
        return {p: self.offsets[p] for p in partitions if p in self.offsets}

    async def think(self) -> None:
        """Take time, fail, or see the caller die."""
        await asyncio.sleep(self.sim.draw_s(1.0))
        await self.sim.faults.crash_point()
        if self.sim.faults.draw("store away", 0.05 if self.sim.faults.rates.slow else 0.0):
            raise BrokerUnavailableError("the store is away")

    async def write(self, records) -> None:
        """
        Apply records and move the offsets, in one step.

        Raises:
            ClosedError: Somebody else has moved them; the offsets must be read anew.
        """
        first = {}
        for record in records:
            first.setdefault((record.topic, record.partition), record.offset)
        await self.think()
        for place, offset in first.items():
            self.compare(place, offset)
        for record in records:
            self.offsets[record.topic, record.partition] = record.offset + 1
            self.book.apply("store", record.value.decode())
        self.sim.trace.note("stored", len(records), sorted(first.items()))
        await self.think()

    def compare(self, place, offset) -> None:
        """Refuse a batch that does not begin where the store stands."""
        stands = self.offsets.get(place, 0)
        if offset > stands:
            self.gaps.append(f"{place} at {stands}, given {offset}")
        if offset != stands:
            raise ClosedError(f"the store stands at {stands}, not {offset}")


class Shop:
    """A topic, and members that store what comes."""

    def __init__(self, sim: Simulation, *, with_offsets: bool) -> None:
        self.sim = sim
        self.cluster = sim.cluster({TOPIC: 4})
        self.book = Book(sim.loop.time)
        self.store = Store(sim, self.book)
        self.with_offsets = with_offsets
        self.subscriptions: dict[str, Subscription] = {}

    async def publish(self) -> None:
        """Publish all events; none twice."""
        sender = self.cluster.sender()
        for number in range(EVENTS):
            key, seq = f"k{number % 9}", number // 9
            event_id = f"{key}:{seq}"
            self.book.invoke(event_id, key, seq)
            record = OutgoingRecord(TOPIC, key.encode(), event_id.encode(), [])
            while (await sender.send([record])).failures:  # noqa: ASYNC110 - tries again
                await asyncio.sleep(self.sim.draw_s(0.2))
            self.book.settle(event_id, Outcome.OK)
            if self.sim.random.random() < 0.3:
                await asyncio.sleep(self.sim.draw_s(2.0))

    async def handle(self, records) -> None:
        """Store a batch in a transaction, or let each record take effect in its turn."""
        if self.with_offsets:
            await self.store.write(records)
            return
        for record in records:
            await asyncio.sleep(self.sim.draw_s(0.3))
            self.book.apply("store", record.value.decode())
            self.sim.trace.note("effect", record.partition, record.offset)
        await self.store.think()

    async def member(self, name: str) -> None:
        """Subscribe, and again whenever the subscription ends by an error."""
        while True:
            subscription = self.subscriptions[name] = Subscription.of_batches(
                self.cluster.source([TOPIC], GROUP),
                self.handle,
                offsets=self.store if self.with_offsets else None,
                options=SubscriptionOptions(
                    max_batch_records=8,
                    poll_timeout_s=1.0,
                    backoff=Backoff(initial_s=0.3, max_s=2.0),
                ),
            )
            try:
                await subscription.start()
                await subscription.wait()
            except (RetriableError, ClosedError):
                await asyncio.sleep(1.0)
            else:
                return

    def stored(self) -> bool:
        """Whether the place where readers go on is the end of each partition."""
        ends = Counter((r.topic, r.partition) for r in self.cluster.records(TOPIC))
        place = self.store.offsets if self.with_offsets else self.cluster.committed(GROUP)
        return all(place.get(partition, 0) == end for partition, end in ends.items())


async def play(sim: Simulation, *, with_offsets: bool) -> None:
    shop = Shop(sim, with_offsets=with_offsets)
    crowd = sim.crowd(shop.member, leave=lambda name: shop.subscriptions[name].close())
    crowd.join(2)
    sim.faults.rates = RATES
    publisher = sim.loop.create_task(shop.publish())
    await crowd.stir(60.0, most=3)
    await publisher
    sim.faults.heal()
    crowd.join(1)
    try:
        await sim.until(shop.stored, "everything is stored and committed", limit_s=600.0)
    finally:
        shop.book.judge("store", repeats=not with_offsets, at_least=EVENTS)
        assert not shop.store.gaps


async def scenario(sim: Simulation) -> None:
    await play(sim, with_offsets=sim.seed % 2 == 0)


async def transactional(sim: Simulation) -> None:
    await play(sim, with_offsets=True)


async def plain(sim: Simulation) -> None:
    await play(sim, with_offsets=False)


def test_batches(seed):
    """Exactly once per event in a store that keeps the offsets, at least once and in order else."""
    simulate(scenario, seed)


def test_a_store_that_does_not_compare_is_noticed(monkeypatch, violated):
    """Zombies and crashes double what a store takes without looking where it stands."""
    monkeypatch.setattr(Store, "compare", lambda self, place, offset: None)
    assert "duplicate:store" in violated(transactional, 50)


def test_starting_at_the_end_is_noticed(monkeypatch, violated):
    """An engine that starts a partition where the log ends skips what came meanwhile."""
    seek = MemorySource.seek

    def latest(self, partition, offset):
        seek(self, partition, self._log.end(partition))

    monkeypatch.setattr(MemorySource, "seek", latest)
    assert violated(transactional, 20)


def test_a_commit_before_the_handler_is_noticed(monkeypatch, violated):
    """A reader that commits what it polled loses what a crash interrupts."""
    poll = MemorySource.poll

    async def eager(self, **limits):
        polled = await poll(self, **limits)
        self._group.committed.update(self.held)
        return polled

    monkeypatch.setattr(MemorySource, "poll", eager)
    assert "lost:store" in violated(plain, 50)


def test_a_hasty_takeover_is_noticed(monkeypatch, violated):
    """A source that hands out before the engine has taken a partition over loses records."""
    begin = MemorySource.begin

    def hasty(self, positions):
        begin(self, positions)
        self._is_settled = True

    monkeypatch.setattr(MemorySource, "begin", hasty)
    assert violated(plain, 100)
