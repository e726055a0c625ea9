"""Message subscriptions: at least once, in order, and every record handled or buried."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, OutgoingRecord
from spile.adapters.memory import MemorySource
from spile.adapters.subscribing import Retries, Subscription, SubscriptionOptions
from spile.spi import BrokerUnavailableError, RetriableError, UndecodableError
from spile.testkit.ledger import Outcome
from spile.testkit.simulation import Book, FaultRates, Simulation, simulate

PART = 0
TOPIC = "dev.shop.orders.placed.v1"
GROUP = "shop"
EVENTS = 60
RATES = FaultRates(
    send_fails=0.05,
    acks_lost=0.03,
    poll_fails=0.03,
    open_fails=0.05,
    commit_fails=0.06,
    slow=0.05,
    slow_s=3.0,
    crash=0.004,
)


class Shop:
    """A topic, its publisher, and members that come, stop, go and die."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.cluster = sim.cluster({TOPIC: 3, f"{TOPIC}.dlq": 3})
        self.book = Book(sim.loop.time)
        self.fates: dict[str, str] = {}
        self.attempts: Counter[str] = Counter()
        self.subscriptions: dict[str, Subscription] = {}
        self.retries = Retries(limit=2, backoff=Backoff(initial_s=0.2, max_s=2.0))

    async def publish(self) -> None:
        """Publish all events, one after the other, each until it is acknowledged."""
        sender = self.cluster.sender()
        for number in range(EVENTS):
            key, seq = f"k{number % 7}", number // 7
            event_id = f"{key}:{seq}"
            fate = self.sim.random.choices(["fine", "flaky", "poison", "bad"], [85, 9, 3, 3])[0]
            self.fates[event_id] = fate
            self.book.invoke(event_id, key, seq)
            record = OutgoingRecord(TOPIC, key.encode(), event_id.encode(), [("h", b"1")])
            while (await sender.send([record])).failures:
                self.book.settle(event_id, Outcome.INFO)
                await asyncio.sleep(0.1)
            self.book.settle(event_id, Outcome.OK)
            await asyncio.sleep(self.sim.draw_s(1.0))

    async def handle(self, message) -> None:
        """Take effect after a while, or fail as the event's fate wants."""
        event_id = message.value.decode()
        self.attempts[event_id] += 1
        self.sim.trace.note("handling", event_id, self.attempts[event_id])
        if self.sim.random.random() < 0.5:
            await asyncio.sleep(self.sim.draw_s(1.0))
        fate = self.fates[event_id]
        if fate == "poison" or (fate == "flaky" and self.attempts[event_id] < 3):
            raise ValueError("as planned")
        if fate == "bad":
            raise UndecodableError("as planned")
        self.book.apply("effects", event_id)
        self.sim.trace.note("effect", event_id)

    async def member(self, name: str) -> None:
        """Subscribe, as often as it takes."""
        while True:
            subscription = self.subscriptions[name] = Subscription.of_messages(
                self.cluster.source([TOPIC], GROUP),
                self.handle,
                group_id=GROUP,
                dead_letters=DeadLetterQueue(self.cluster.sender(), group=GROUP),
                retries=self.retries,
                options=SubscriptionOptions(poll_timeout_s=1.0),
            )
            try:
                await subscription.start()
            except BrokerUnavailableError:
                await asyncio.sleep(1.0)
            else:
                return

    def dead(self) -> set[str]:
        """Return the ids in the dead letter queue."""
        return {record.value.decode() for record in self.cluster.records(f"{TOPIC}.dlq")}

    def all_read(self) -> bool:
        """Whether the group has committed everything that was published."""
        ends = Counter((r.topic, r.partition) for r in self.cluster.records(TOPIC))
        committed = self.cluster.committed(GROUP)
        return all(committed.get(place, 0) == end for place, end in ends.items())


async def scenario(sim: Simulation) -> None:
    shop = Shop(sim)
    crowd = sim.crowd(shop.member, leave=lambda name: shop.subscriptions[name].close())
    crowd.join(2)
    sim.faults.rates = RATES
    publisher = sim.loop.create_task(shop.publish())
    await crowd.stir(60.0, most=3)
    await publisher
    sim.faults.heal()
    crowd.join(1)
    await sim.until(shop.all_read, "everything is committed")
    planned = {event_id for event_id, fate in shop.fates.items() if fate in {"poison", "bad"}}
    shop.book.judge("effects", dead=planned, at_least=EVENTS)
    assert shop.dead() == planned


def test_messages(seed):
    """Whatever fails, stops or dies: nothing is lost, each key in order, only poison buried."""
    simulate(scenario, seed)


def test_a_commit_before_the_handler_is_noticed(monkeypatch, violated):
    """A reader that commits what it polled loses what a crash interrupts."""
    poll = MemorySource.poll

    async def eager(self, **limits):
        polled = await poll(self, **limits)
        self._group.committed.update(self.held)
        return polled

    monkeypatch.setattr(MemorySource, "poll", eager)
    assert "lost:effects" in violated(scenario, 50)


def test_an_unconfirmed_dead_letter_is_noticed(monkeypatch, violated):
    """An engine that does not mind whether a dead letter was written loses it."""
    keep = DeadLetterQueue.keep

    async def careless(self, *letter, **facts):
        with contextlib.suppress(RetriableError):
            await keep(self, *letter, **facts)

    monkeypatch.setattr(DeadLetterQueue, "keep", careless)
    assert "==" in violated(scenario, 50)


def test_burying_too_early_is_noticed(monkeypatch, violated):
    """An engine that gives up one attempt too early buries what would have been handled."""
    monkeypatch.setattr(Shop, "__init__", _impatient(Shop.__init__))
    assert violated(scenario, 20)


def _impatient(init):
    def changed(self, sim):
        init(self, sim)
        self.retries = Retries(limit=1, backoff=Backoff(initial_s=0.2))

    return changed
