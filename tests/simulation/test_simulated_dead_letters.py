"""Reprocessing of dead letters: killed anywhere it loses nothing, and a filter leaves the rest."""

from __future__ import annotations

import asyncio
from collections import Counter

from spile.adapters.dead_letters import (
    DeadLetterBrowser,
    DeadLetterQueue,
    LetterFilter,
    Reprocessor,
    ReprocessWish,
    done_topic,
    original_record,
    read_retry,
    replay_count,
)
from spile.adapters.dead_letters._moving import Moving
from spile.adapters.delivery import Backoff, FencedError, Record
from spile.adapters.memory import MemoryCluster
from spile.adapters.subscribing import Retries, Subscription
from spile.spi import BrokerUnavailableError, DeliveryTimeoutError, RetriableError
from spile.testkit.ledger import Outcome
from spile.testkit.simulation import Book, FaultRates, ProcessDiedError, Simulation, simulate

PART = 3
TOPIC = "dev.shop.orders.placed.v1"
QUEUE = f"{TOPIC}.dlq"
SHOP, MAIL = f"{TOPIC}.shop.retry.0", f"{TOPIC}.mail.retry.0"
LETTERS = 24
RATES = FaultRates(
    send_fails=0.04,
    send_torn=0.05,
    acks_lost=0.04,
    open_fails=0.03,
    poll_fails=0.03,
    commit_fails=0.05,
    slow=0.1,
    slow_s=2.0,
    crash=0.02,
)
MOST_REPLAYS = 3


def retry_topic(topic: str, group: str) -> str | None:
    """Know two groups."""
    return f"{topic}.{group}.retry.0" if group in {"shop", "mail"} else None


class Transactions:
    """Transactions as Kafka has them: all at once, the last claim fences, answers get lost."""

    def __init__(self, hall: Hall, name: str) -> None:
        self.hall = hall
        self.name = name
        self.epoch = 0
        self.log = MemoryCluster.sender(hall.cluster)

    async def claim(self) -> None:
        """Fence everybody who claimed before."""
        await self.hall.sim.faults.delay()
        await self.hall.sim.faults.crash_point()
        self.hall.epochs[self.name] += 1
        self.epoch = self.hall.epochs[self.name]
        await self.hall.sim.faults.crash_point()

    async def write(self, records) -> None:
        """Write all or none."""
        faults = self.hall.sim.faults
        await faults.delay()
        await faults.crash_point()
        outcome = faults.outcome_of_send()
        if outcome in {"failed", "torn"}:
            raise BrokerUnavailableError("the coordinator went away")
        if self.epoch != self.hall.epochs[self.name]:
            raise FencedError("somebody else has claimed the name")
        for record in records:
            self.log._log.append(record)
        self.log._log.wake()
        self.hall.sim.trace.note("transaction", len(records))
        await faults.crash_point()
        if outcome == "ack lost":
            raise DeliveryTimeoutError("nobody knows")

    async def close(self) -> None:
        """Let go."""


class Hall:
    """A queue with letters of two groups and of strangers, operators, and the group's consumer."""

    def __init__(self, sim: Simulation, mode: str) -> None:
        self.sim = sim
        self.mode = mode
        self.cluster = sim.cluster(
            {TOPIC: 3, QUEUE: 3, done_topic(QUEUE): 1, SHOP: 3, MAIL: 3, f"{SHOP}.dlq": 1}
        )
        self.book = Book(sim.loop.time)
        self.fates: dict[str, str] = {}
        self.epochs: Counter[str] = Counter()
        self.runs = 0
        self.tally: Counter[str] = Counter()

    async def bury(self) -> None:
        """Let events fail in their groups, over some time."""
        letters = DeadLetterQueue(MemoryCluster.sender(self.cluster), clock=self.sim.clock.now)
        for number in range(LETTERS):
            group = self.sim.random.choices(["shop", "mail", "stranger"], [7, 2, 1])[0]
            event_id = f"{group}-{number}"
            poison = self.sim.random.random() < 0.15
            self.fates[event_id] = "poison" if poison and group == "shop" else "mended"
            if group == "shop":
                self.book.invoke(event_id, event_id, 0)
                self.book.settle(event_id, Outcome.OK)
            await letters.keep(_record(event_id, number), ValueError("no"), group=group, attempts=3)
            await asyncio.sleep(self.sim.draw_s(1.5))

    async def operate(self) -> int:
        """Reprocess once in a process that may die; return how many letters moved."""
        self.runs += 1
        process = self.sim.process(f"operator-{self.runs}")
        try:
            by_hand = self.mode == "by a handler"
            moved = await process.run(self.reprocess_here() if by_hand else self.reprocess())
        except (ProcessDiedError, RetriableError, FencedError) as exc:
            self.sim.trace.note("run ended", type(exc).__name__)
            self.tally["broken"] += 1
            return 1
        self.sim.trace.note("run done", moved)
        return moved

    async def reprocess(self) -> int:
        """Do what `spile dlq reprocess` does."""
        reprocessor = Reprocessor(
            self.cluster.reader,
            self.cluster.sender(),
            retry_topic,
            transactions=lambda name: Transactions(self, name),
            backoff=Backoff(initial_s=0.2, max_s=1.0),
            clock=self.sim.clock.now,
        )
        wish = ReprocessWish(
            which=LetterFilter(group="shop"), transactional=self.mode == "transactional"
        )
        return (await reprocessor.run(QUEUE, wish)).succeeded

    async def reprocess_here(self) -> int:
        """Do what `ProtocolDLQHandler` offers: handle the letters by a function."""
        queue = DeadLetterQueue(
            self.cluster.sender(),
            self.cluster.reader,
            backoff=Backoff(initial_s=0.1),
            clock=self.sim.clock.now,
        )
        return (await queue.reprocess_dlq_messages(QUEUE, self.mend, 2))["succeeded"]

    async def mend(self, message) -> bool:
        """Take effect once, unless it cannot be mended."""
        event_id = message.value.decode()
        await asyncio.sleep(self.sim.draw_s(0.3))
        await self.sim.faults.crash_point()
        if self.fates[event_id] == "poison":
            return False
        if event_id.startswith("shop") and event_id not in self.book.effects("shop"):
            self.book.apply("shop", event_id)
        self.sim.trace.note("mended", event_id)
        return True

    async def handle(self, message) -> None:
        """Take effect once, or bury it again with its count."""
        facts = read_retry(message.record)
        event_id = message.value.decode()
        original = original_record(message.record, facts, TOPIC)
        assert original.headers == (("h", b"1"), ("h", b"\xff")), "not byte for byte"
        await asyncio.sleep(self.sim.draw_s(0.3))
        if self.fates[event_id] == "poison":
            queue = DeadLetterQueue(self.cluster.sender(), clock=self.sim.clock.now)
            await queue.keep(
                original,
                ValueError("again"),
                group="shop",
                attempts=1,
                replays=replay_count(message.record),
            )
        elif event_id not in self.book.effects("shop"):
            self.book.apply("shop", event_id)
        self.sim.trace.note("handled", event_id, replay_count(message.record))

    async def member(self, _name: str) -> None:
        """Consume the retry topic of the group."""
        while True:
            subscription = Subscription.of_messages(
                self.cluster.source([SHOP], "shop"),
                self.handle,
                group_id="shop",
                dead_letters=DeadLetterQueue(self.cluster.sender(), clock=self.sim.clock.now),
                retries=Retries(limit=10_000, backoff=Backoff(initial_s=0.1, max_s=0.5)),
            )
            try:
                await subscription.start()
                await subscription.wait()
            except BrokerUnavailableError:
                await asyncio.sleep(0.5)

    def consumed(self) -> bool:
        """Whether the group has read all that came back."""
        committed = self.cluster.committed("shop")
        ends = Counter((r.topic, r.partition) for r in self.cluster.records(SHOP))
        return all(committed.get(place, 0) == end for place, end in ends.items())

    async def open_letters(self):
        """Return the letters that stand there unsettled."""
        async with DeadLetterBrowser(self.cluster.reader, QUEUE) as browser:
            return [letter async for letter in browser.letters(await browser.look())]


def _record(event_id: str, number: int) -> Record:
    return Record(
        topic=TOPIC,
        partition=number % 3,
        offset=number,
        timestamp=1,
        key=b"k%d" % (number % 5),
        value=event_id.encode(),
        headers=(("h", b"1"), ("h", b"\xff")),
    )


async def play(sim: Simulation, mode: str) -> None:
    hall = Hall(sim, mode)
    crowd = sim.crowd(hall.member)
    crowd.join(1)
    sim.faults.rates = RATES
    burying = sim.loop.create_task(hall.bury())
    stirring = sim.loop.create_task(crowd.stir(60.0, most=2))
    while not stirring.done():
        await asyncio.gather(*(hall.operate() for _ in range(sim.random.choice([1, 1, 2]))))
        await asyncio.sleep(sim.draw_s(10.0))
    await asyncio.gather(burying, stirring)
    sim.faults.heal()
    crowd.join(1)
    while await hall.operate() or not hall.consumed():
        await sim.until(hall.consumed, "what came back is handled")
    await judge(hall)


async def judge(hall: Hall) -> None:
    """Nothing lost, nothing else moved, poison stays with its count."""
    poison = {event_id for event_id, fate in hall.fates.items() if fate == "poison"}
    hall.book.judge("shop", dead=poison, repeats=False, at_least=0)
    left = Counter(letter.record.value.decode() for letter in await hall.open_letters())
    if hall.mode == "by a handler":
        assert set(left) == poison
        return
    others = {event_id for event_id in hall.fates if not event_id.startswith("shop")}
    assert set(left) == others | poison
    assert all(left[event_id] == 1 for event_id in others)
    assert hall.cluster.records(MAIL) == []
    spent = [letter.replays for letter in await hall.open_letters() if letter.group == "shop"]
    assert set(spent) <= {MOST_REPLAYS}
    came_back = Counter(r.value.decode() for r in hall.cluster.records(SHOP))
    if hall.mode == "transactional":
        mended = [i for i, fate in hall.fates.items() if fate == "mended" and i.startswith("shop")]
        assert {i: n for i, n in came_back.items() if n > 1 and i in mended} == {}


async def scenario(sim: Simulation) -> None:
    await play(sim, ["at least once", "transactional", "by a handler"][sim.seed % 3])


async def transactional(sim: Simulation) -> None:
    await play(sim, "transactional")


async def at_least_once(sim: Simulation) -> None:
    await play(sim, "at least once")


def test_dead_letters(seed):
    """Killed at any point: all letters of the group take effect once, the others stay."""
    simulate(scenario, seed)


def test_a_mark_before_the_retry_record_is_noticed(monkeypatch, violated):
    """Marking a letter first loses it when the process dies in between."""

    async def wrong_way(self, moves):
        await self._send([move.mark for move in moves])
        await self._send([move.retry for move in moves])
        for move in moves:
            self.tally.goes(move.retry.topic)

    monkeypatch.setattr(Moving, "write", wrong_way)
    assert violated(at_least_once, 30)


def test_a_transaction_that_is_none_is_noticed(monkeypatch, violated):
    """Transactions whose name fences nobody repeat what two operators do at once."""
    write = Transactions.write

    async def lax(self, records):
        self.epoch = self.hall.epochs[self.name]
        await write(self, records)

    monkeypatch.setattr(Transactions, "write", lax)
    assert violated(transactional, 60)
