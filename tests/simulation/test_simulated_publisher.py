"""The publisher with the Kafka sender's retries and the breaker, over a producer that fails."""

from __future__ import annotations

import asyncio
from unittest.mock import patch
from uuid import UUID

import msgspec
from pydantic import BaseModel

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import Backoff, OutgoingEvent, OutgoingRecord
from spile.adapters.kafka import KafkaSettings
from spile.adapters.kafka import _sender as kafka_sender
from spile.adapters.kafka._pump import PartitionPump
from spile.adapters.kafka._sender import KafkaSender
from spile.adapters.memory import MemoryCluster
from spile.adapters.publishing import BreakerState, CircuitBreaker, EventPublisher
from spile.spi import BrokerUnavailableError, CircuitOpenError, RejectedError
from spile.testkit.ledger import Outcome
from spile.testkit.simulation import Book, FaultRates, Simulation, simulate
from spile.topics import Catalogue, TopicSpec

PART = 1
TOPIC = "dev.shop.orders.order-placed.v1"
PARTITIONS = 3
WRITERS = 5
EVENTS = 12
RESET_S = 10.0
UNEASY = FaultRates(send_fails=0.08, acks_lost=0.08, open_fails=0.1, slow=0.2, slow_s=2.0)
OUTAGE = FaultRates(send_fails=0.7, acks_lost=0.3, open_fails=0.7, slow=0.2, slow_s=2.0)


class OrderPlaced(BaseModel):
    order_id: str


CATALOGUE = Catalogue(
    [
        TopicSpec(
            name="shop.orders.order-placed.v1", owner="shop", models={"ORDER_PLACED": OrderPlaced}
        )
    ]
)


class Batch:
    """A batch of at most four records."""

    def __init__(self) -> None:
        self.records: list[OutgoingRecord] = []

    def fill(self, records, start, now_ms):
        """Take records from `start` on; see `ProducerClient`."""
        room = 4 - len(self.records)
        self.records += records[start : start + room]
        return min(len(records), start + room)


class Client:
    """Stands where `ProducerClient` stands: one producer of the simulated brokers."""

    def __init__(self, sim: Simulation, cluster: MemoryCluster) -> None:
        self.dead = asyncio.Event()
        self.sim = sim
        self.log = MemoryCluster.sender(cluster)
        self.new_batch = Batch

    async def start(self, *, deadline_s):
        """Connect, after a while or not at all."""
        await asyncio.sleep(self.sim.draw_s(0.2))
        if self.sim.faults.draw("connect failed", self.sim.faults.rates.open_fails):
            raise BrokerUnavailableError("no broker answered")

    async def partition_count(self, topic, *, deadline_s):
        """Return the partitions of any topic."""
        await asyncio.sleep(self.sim.draw_s(0.05))
        return PARTITIONS

    def known_partition_count(self, topic):
        """Return the same without asking."""
        return PARTITIONS

    async def submit(self, batch, topic, partition):
        """Write a batch whole or not at all, and answer or not."""
        records = [
            OutgoingRecord(topic, r.key, r.value, r.headers, partition) for r in batch.records
        ]
        await self.sim.faults.delay()
        outcome = self.sim.faults.outcome_of_send()
        if outcome == "failed":
            self.dead.set()
            raise BrokerUnavailableError("the leader went away")
        if outcome == "ack lost":
            return await self._write_in_silence(records)
        if not topic.endswith(".dlq") and any(b"refuse-" in r.value for r in records):
            raise RejectedError("a record is not to the brokers' taste", code="INVALID_RECORD")
        receipt = await self.log.send(records)
        self.sim.trace.note("written", topic, partition, len(records))
        return receipt.positions()[0].offset

    async def _write_in_silence(self, records):
        """Write, now or when everybody has given up, and never answer."""
        if self.sim.random.random() < 0.5:
            await self.log.send(records)
        else:
            late = self.log.send(records)
            self.sim.loop.call_later(self.sim.draw_s(40.0), lambda: self.sim.loop.create_task(late))
        return await self.sim.loop.create_future()

    async def abort(self):
        """Let go."""
        self.dead.set()
        await asyncio.sleep(0)

    async def close(self, *, deadline_s):
        """Let go."""
        await self.abort()


class Office:
    """Writers with one publisher, and what its breaker did."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.cluster = sim.cluster({TOPIC: PARTITIONS, f"{TOPIC}.dlq": PARTITIONS})
        self.book = Book(sim.loop.time)
        self.breaker = CircuitBreaker(
            threshold=3, reset_after_s=RESET_S, clock=sim.loop.time, on_change=self.changed
        )
        settings = KafkaSettings(security_protocol="PLAINTEXT", delivery_timeout_ms=20_000)
        self.sender = KafkaSender(settings, retries=2, backoff=Backoff(initial_s=0.3))
        self.publisher = EventPublisher(
            self.sender,
            CATALOGUE,
            environment="dev",
            service="shop",
            breaker=self.breaker,
            refused=DeadLetterQueue(self.sender, group="publisher.shop"),
            redactor=False,
        )
        self.opened_at = 0.0
        self.opens = self.half_opens = self.probes = self.let_in = 0

    def changed(self, before: BreakerState, after: BreakerState) -> None:
        """Follow the breaker."""
        self.sim.trace.note("breaker", after)
        self.half_opens += after is BreakerState.HALF_OPEN
        if self.breaker.opens > self.opens:
            self.opens = self.breaker.opens
            self.opened_at = self.sim.loop.time()

    def event(self, key: str, seq: int) -> OutgoingEvent:
        """Make the event of a key; one in twenty will be refused."""
        event_id = str(UUID(int=(1 << 64) + int(key[1:]) * 1000 + seq))
        self.book.invoke(event_id, key, seq)
        kind = "refuse" if self.sim.random.random() < 0.05 else "take"
        return OutgoingEvent(
            event_type="ORDER_PLACED",
            payload={"order_id": f"{kind}-{seq}"},
            event_id=event_id,
            correlation_id=event_id,
            partition_key=key,
            timestamp=self.sim.clock.now(),
        )

    async def publish(self, event: OutgoingEvent) -> None:
        """Publish one event, and hold the breaker to its word."""
        state, waited = self.breaker.state, self.sim.loop.time() - self.opened_at
        try:
            done = await self.publisher.publish_event(event)
        except CircuitOpenError:
            self.book.settle(event.event_id, Outcome.FAIL)
            return
        finally:
            self.sim.trace.note("published", event.event_id[-3:])
        may_probe = state is BreakerState.OPEN and waited >= RESET_S
        self.probes += may_probe
        self.let_in += not may_probe and state is not BreakerState.CLOSED
        self.book.settle(event.event_id, Outcome.OK if done else Outcome.INFO)

    async def write(self, number: int) -> None:
        """Publish the events of a key, one by one or some at once."""
        key, seq = f"k{number}", 0
        while seq < EVENTS:
            count = self.sim.random.choice([1, 1, 1, 3])
            events = [self.event(key, seq + n) for n in range(count)]
            seq += count
            await asyncio.gather(*(self.publish(event) for event in events))
            await asyncio.sleep(self.sim.draw_s(8.0))


async def scenario(sim: Simulation) -> None:
    office = Office(sim)
    client = lambda _connection, **_: Client(sim, office.cluster)  # noqa: E731 - as the class
    with patch.object(kafka_sender, "ProducerClient", client):
        writers = asyncio.gather(*(office.write(n) for n in range(WRITERS)))
        while not writers.done():
            sim.faults.rates = sim.random.choice([UNEASY, UNEASY, OUTAGE])
            await asyncio.sleep(sim.draw_s(40.0))
        sim.faults.heal()
        await writers
        for round_ in range(3):
            await asyncio.sleep(RESET_S)
            await office.publish(office.event(f"k{WRITERS}", round_))
        await office.publisher.close()
        await asyncio.sleep(60.0)
    assert office.let_in == 0, "the breaker let calls in while it was open"
    assert office.probes == office.half_opens, "a half-open breaker takes exactly one probe"
    assert office.breaker.state is BreakerState.CLOSED, "a good probe closes the breaker"
    office.book.judge_log(office.cluster, TOPIC, _event_id)
    metrics = await office.publisher.get_metrics()
    assert metrics["events_published"] == len(office.book.acknowledged)
    refused = {r.value for r in office.cluster.records(f"{TOPIC}.dlq")}
    assert metrics["events_sent_to_dlq"] <= len(refused)
    assert all(b"refuse-" in value for value in refused)


def _event_id(value: bytes) -> str:
    return msgspec.json.decode(value)["event_id"]


def test_publisher(seed):
    """True means in the log and in order, refused by the breaker means not sent, one probe each."""
    simulate(scenario, seed)


def test_a_second_probe_is_noticed(monkeypatch, violated):
    """A half-open breaker that lets everybody in."""
    admit = CircuitBreaker.admit

    def generous(self):
        half_open = self.state is BreakerState.HALF_OPEN
        return self._generation if half_open else admit(self)

    monkeypatch.setattr(CircuitBreaker, "admit", generous)
    assert "breaker" in violated(scenario, 50)


def test_a_wrong_acknowledgement_is_noticed(monkeypatch, violated):
    """A sender that takes a batch whose retries are spent for delivered."""

    def hopeful(self, slices, error, attempts):
        self._acknowledge(slices, 0)

    monkeypatch.setattr(PartitionPump, "_give_up", hopeful)
    assert "lost:" in violated(scenario, 50)


def test_an_overtaking_retry_is_noticed(monkeypatch, violated):
    """A sender that lets new batches go while an earlier one is tried again."""
    add = PartitionPump.add

    def hasty(self, segment):
        add(self, segment)
        self.running = False  # the sender starts another pump over the same queue

    monkeypatch.setattr(PartitionPump, "add", hasty)
    assert "reordered:" in violated(scenario, 100)
