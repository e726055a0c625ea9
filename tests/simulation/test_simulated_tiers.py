"""Retries by tiers: each key in order over crashes, zombies and rebalances, and delays kept."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter, defaultdict

from spile.adapters.dead_letters import DeadLetterQueue, Reprocessor, ReprocessWish, read_retry
from spile.adapters.delivery import OutgoingRecord
from spile.adapters.retrying import Lot, RetryTopics, Window
from spile.adapters.subscribing import Parking, Retries, Subscription, SubscriptionOptions
from spile.spi import BatchFailedError, BrokerUnavailableError, RetriableError, UndecodableError
from spile.testkit.ledger import Outcome
from spile.testkit.simulation import Book, Crowd, FaultRates, ProcessDiedError, Simulation, simulate

PART = 4
TOPIC = "dev.shop.orders.placed.v1"
GROUP = "shop"
TIERS = (2.0, 6.0, 18.0)
EVENTS = 60
PARTITIONS = 3
QUIET = FaultRates(send_fails=0.03, acks_lost=0.02, poll_fails=0.03, slow=0.05, slow_s=1.0)
RATES = FaultRates(
    send_fails=0.04,
    send_torn=0.03,
    acks_lost=0.03,
    poll_fails=0.03,
    open_fails=0.04,
    commit_fails=0.06,
    slow=0.05,
    slow_s=3.0,
    crash=0.004,
)


class Shop:
    """A topic with retry topics, its publisher, and members with message or batch handlers."""

    def __init__(self, sim: Simulation, *, batches: bool) -> None:
        self.sim = sim
        self.batches = batches
        self.topics = RetryTopics([TOPIC], GROUP, len(TIERS))
        names = [*self.topics.names, f"{TOPIC}.dlq"]
        self.cluster = sim.cluster(dict.fromkeys(names, PARTITIONS) | {f"{TOPIC}.dlq.done": 1})
        self.mended = False
        self.book = Book(sim.loop.time)
        self.fates: dict[str, int] = {}
        self.attempts: defaultdict[str, list[float]] = defaultdict(list)
        self.subscriptions: dict[str, Subscription] = {}
        self.share = sim.random.choice([0.05, 0.3])

    async def publish(self) -> None:
        """Publish all events, one after the other, each until it is acknowledged."""
        sender = self.cluster.sender()
        for number in range(EVENTS):
            key, seq = f"k{number % 7}", number // 7
            event_id = f"{key}:{seq}"
            self.fates[event_id] = self.fate(key)
            self.book.invoke(event_id, key, seq)
            record = OutgoingRecord(TOPIC, key.encode(), event_id.encode(), [("h", b"1")])
            while (await sender.send([record])).failures:  # noqa: ASYNC110 - tries again
                await asyncio.sleep(self.sim.draw_s(0.2))
            self.book.settle(event_id, Outcome.OK)
            await asyncio.sleep(self.sim.draw_s(1.0))

    def fate(self, key: str) -> int:
        """Return how often an event fails: never, some times, -1 for always, -2 for unreadable."""
        if int(key[1:]) >= 7 * max(self.share, 0.2):
            return 0
        return self.sim.random.choices([0, 1, 2, 3, -1, -2], [60, 11, 11, 10, 4, 4])[0]

    def check(self, record) -> None:
        """Fail as the event's fate wants."""
        event_id = record.value.decode()
        assert record.topic == TOPIC
        assert record.headers == (("h", b"1"),)
        stands = self.cluster.records(TOPIC, record.partition)[record.offset]
        assert (stands.value, stands.timestamp) == (record.value, record.timestamp)
        self.attempts[event_id].append(self.sim.loop.time())
        self.sim.trace.note("attempt", event_id, len(self.attempts[event_id]))
        fate = self.fates[event_id]
        if self.mended and fate < 0:
            return
        if fate == -1 or len(self.attempts[event_id]) <= fate:
            raise ValueError("as planned")
        if fate == -2:
            raise UndecodableError("as planned")

    def effect(self, record) -> None:
        """Take effect."""
        late = self.fates[record.value.decode()] < 0
        self.book.apply("late" if late else "effects", record.value.decode())
        self.sim.trace.note("effect", record.value.decode())

    async def message(self, message) -> None:
        """Handle one."""
        await asyncio.sleep(self.sim.draw_s(0.2))
        self.check(message.record)
        self.effect(message.record)

    async def batch(self, records) -> None:
        """Handle many: all or none, or say which failed."""
        await asyncio.sleep(self.sim.draw_s(1.0))
        failures: dict[int, Exception] = {}
        failed: set[bytes] = set()
        for index, record in enumerate(records):
            try:
                if record.key in failed:
                    failures[index] = ValueError("behind one that failed")
                    continue
                self.check(record)
            except (ValueError, UndecodableError) as exc:
                failures[index] = exc
                failed.add(record.key)
        says_so = self.sim.random.random() < 0.5
        if failures and not says_so:
            raise next(iter(failures.values()))
        for index, record in enumerate(records):
            if index not in failures:
                self.effect(record)
        if failures:
            raise BatchFailedError(failures)

    async def member(self, name: str) -> None:
        """Subscribe, as often as it takes."""
        while True:
            subscription = self.subscriptions[name] = self.subscription()
            try:
                await subscription.start()
                await subscription.wait()
            except BrokerUnavailableError:
                await asyncio.sleep(1.0)
            else:
                return

    def subscription(self) -> Subscription:
        """Return a subscription with tiers."""
        source = self.cluster.source(self.topics.names, GROUP, together=self.topics.together)
        sender = self.cluster.sender()
        make = Subscription.of_batches if self.batches else Subscription.of_messages
        return make(
            source,
            self.batch if self.batches else self.message,
            group_id=GROUP,
            dead_letters=DeadLetterQueue(sender, group=GROUP),
            retries=Retries.tiered(TIERS, limit=1),
            parking=Parking(sender=sender, topics=self.topics, wall_clock=self.sim.clock.time),
            options=SubscriptionOptions(max_batch_records=20, poll_timeout_s=1.0),
        )

    def dead(self) -> dict[str, float]:
        """Return the ids in the dead letter queue, and when each came there first."""
        found: dict[str, float] = {}
        for record in self.cluster.records(f"{TOPIC}.dlq"):
            found.setdefault(record.value.decode(), record.timestamp)
        return found

    def all_read(self) -> bool:
        """Whether the group has committed everything, in the retry topics too."""
        ends = Counter(
            (r.topic, r.partition) for name in self.topics.names for r in self.cluster.records(name)
        )
        committed = self.cluster.committed(GROUP)
        return all(committed.get(place, 0) == end for place, end in ends.items())

    async def reprocess(self, number: int) -> int:
        """Send dead letters back in a process that may die; return how many went."""
        process = self.sim.process(f"operator-{number}")
        reprocessor = Reprocessor(
            self.cluster.reader,
            self.cluster.sender(),
            lambda topic, group: f"{topic}.{group}.retry.0",
            clock=self.sim.clock.now,
        )
        try:
            done = await process.run(reprocessor.run(f"{TOPIC}.dlq", ReprocessWish()))
        except (ProcessDiedError, RetriableError):
            return 1
        return done.succeeded

    async def mend(self, crowd: Crowd) -> None:
        """Mend the handler, and send everything back that is dead."""
        self.mended = True
        self.sim.faults.rates = dataclasses.replace(RATES, crash=0.02)
        for number in range(4):
            await self.reprocess(number)
        self.sim.faults.heal()
        crowd.join(1)
        moved = 1
        while moved:
            moved = await self.reprocess(99)
            await self.sim.until(self.all_read, "what was sent back is done", limit_s=600.0)

    def judge_delays(self) -> None:
        """Hold heads to their delays: nobody tries them between their parking and their time."""
        start_ms = self.sim.clock.time_ms() - self.sim.loop.time() * 1000
        for tier, name in enumerate(self.topics.of(TOPIC)):
            for record in self.cluster.records(name):
                facts = read_retry(record)
                if facts.role != "head":
                    continue
                assert TIERS[tier] - 2.5 <= (facts.due - record.timestamp) / 1000 <= TIERS[tier]
                event_id = record.value.decode()
                for moment in self.attempts[event_id]:
                    at_ms = start_ms + moment * 1000
                    assert not record.timestamp + 5 < at_ms < facts.due - 5, f"{event_id} too early"


async def play(sim: Simulation, *, batches: bool, calm: bool) -> None:
    shop = Shop(sim, batches=batches)
    crowd = sim.crowd(shop.member, leave=lambda name: shop.subscriptions[name].close())
    crowd.join(2)
    sim.faults.rates = QUIET if calm else RATES
    publisher = sim.loop.create_task(shop.publish())
    if not calm:
        await crowd.stir(60.0, most=3)
        sim.faults.heal()
        crowd.join(1)
    await publisher
    sim.faults.heal()
    await sim.until(shop.all_read, "everything is committed", limit_s=1200.0)
    dead = shop.dead()
    shop.book.judge("effects", dead=dead, at_least=EVENTS)
    assert set(dead) == {event_id for event_id, fate in shop.fates.items() if fate < 0}
    if calm:
        shop.judge_delays()
        return
    await shop.mend(crowd)
    assert set(shop.book.effects("late")) == set(dead)
    shop.book.judge("effects", dead=dead, at_least=EVENTS)


async def scenario(sim: Simulation) -> None:
    await play(sim, batches=sim.seed % 2 == 0, calm=sim.seed % 3 == 0)


async def messages(sim: Simulation) -> None:
    await play(sim, batches=False, calm=False)


async def in_calm(sim: Simulation) -> None:
    await play(sim, batches=sim.seed % 2 == 0, calm=True)


def test_tiers(seed):
    """Every key in order at its first effect, all keys end, only poison is buried, delays kept."""
    simulate(scenario, seed)


def test_an_event_that_does_not_wait_is_noticed(monkeypatch, violated):
    """An engine that lets the later events of a parked key go on."""
    monkeypatch.setattr(Lot, "is_parked", lambda self, key: False)
    assert "reordered:effects" in violated(scenario, 50)


def test_a_commit_over_parked_records_is_noticed(monkeypatch, violated):
    """An engine that commits what it has read of a retry topic, not what is done."""
    monkeypatch.setattr(Window, "position", property(lambda self: self.next))
    assert "lost:effects" in violated(messages, 100)


def test_a_short_delay_is_noticed(monkeypatch, violated):
    """An engine that tries again too early."""
    short = Retries(limit=1, tiers=(0.1, 0.1, 0.1))
    monkeypatch.setattr(Retries, "tiered", lambda *_, **__: short)
    assert violated(in_calm, 20)
