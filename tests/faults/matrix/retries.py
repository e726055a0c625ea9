"""Records that fail again, kill the process, or come back from the dead (F11, F23-F26)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator

from tests.faults.matrix.stage import Stage, cell
from tests.faults.raw import Poison, event_record, producer, write
from tests.faults.rig import DLQ, TOPIC, Process

from spile.adapters.kafka import KafkaEventBusAdapter
from spile.adapters.subscribing import Retries
from spile.spi import RetriableError
from spile.testkit.ledger import Observation, Seen
from spile.testkit.load import EVENT_TYPE, LOGICAL_TOPIC
from spile.topics import ConsumerGroup, TopicSpec, default_catalogue

GROUP = "ledger"
TIERS = (0.3, 0.6, 1.2)
TIERED_CATALOGUE = default_catalogue().with_topics(
    TopicSpec(
        name=LOGICAL_TOPIC,
        owner="spile",
        models={EVENT_TYPE: None},
        groups=(ConsumerGroup(name=GROUP, tiers=len(TIERS)),),
    )
)
REJECTED = "reject:40"
"""The mode of a worker that finds one event in 40 broken, as after a bad deploy."""


@cell("F11", "a record that kills the process while it is decoded (SIGSEGV), five of them")
async def killing_poison(stage: Stage) -> None:
    rig = stage.rig
    poison = Poison(rig)
    stage.loads.append(rig.load(rate=150, keys=24))
    await rig.acknowledges(20)
    deaths: list[int] = []
    worker = rig.worker("dies-of-poison")
    async with producer(rig) as made:
        for number in range(5):
            killer = event_record(f"poison-kills-{number}")
            place = await write(made, killer, number)
            poison.note(place, killer)
            died = 0
            while not passed(stage, place):
                if not worker.running:
                    died += await worker.ended() == -signal.SIGSEGV
                    worker = rig.worker("dies-of-poison")
                await asyncio.sleep(0.05)
                assert died < 10, worker.tail()
            deaths.append(died)
            stage.hit(died > 0)
            stage.healed()
    stage.workers.append(worker)
    await stage.finish()
    buried = await poison.buried()
    stage.figures |= {"restarts_per_record": max(deaths), "dead": len(buried.places)}
    stage.require(max(deaths) <= 2, "a worker was killed more than twice by one record")
    stage.require(buried.places == poison.places, "dead letters are not those that were injected")


def passed(stage: Stage, place: tuple[int, int]) -> bool:
    """Say whether the store has come past a place."""
    with contextlib.suppress(Exception):  # no store, or no tables, yet
        return stage.rig.offsets().get((TOPIC, place[0]), 0) > place[1]
    return False


class Sink:
    """Applies each event once; fails three times over some of them."""

    def __init__(self, stage: Stage) -> None:
        self.rows: list[Seen] = []
        self.ids: set[str] = set()
        self.failures: dict[str, int] = defaultdict(int)
        self._every = stage.chance.randint(15, 25)

    async def on_message(self, message) -> None:
        record = message.record
        body = json.loads(record.value)
        event_id, payload = body["event_id"], body["payload"]
        if payload["seq"] % self._every == 7 and self.failures[event_id] < 3:
            self.failures[event_id] += 1
            raise RetriableError("not now")
        if event_id not in self.ids:
            self.ids.add(event_id)
            place = (record.topic, record.partition, record.offset)
            self.rows.append(Seen(event_id, payload["key"], payload["seq"], *place))


@cell(
    "F23", "events that fail three times, on their way through retry topics, in a rebalancing group"
)
async def retried_in_order(stage: Stage) -> None:
    rig = stage.rig
    await rig.make_topics(TIERED_CATALOGUE)
    sink = Sink(stage)
    await stage.begin(rate=150)
    async with contextlib.AsyncExitStack() as stack:
        members: list[contextlib.AsyncExitStack] = []
        for number in range(7):
            members.append(await joined(stack, stage, sink))
            if number > 1:
                await members.pop(0).aclose()
                stage.hit()
            await asyncio.sleep(2.0)
        stage.healed()
        await stage.end_loads()
        wanted = len({row.event_id for row in (await rig.observe_bus()).rows})
        with contextlib.suppress(TimeoutError):  # the ledger says what is missing
            await rig.until(lambda: len(sink.rows) >= wanted, 60)
        while members:
            await members.pop().aclose()
    await stage.finish()
    stage.judge([Observation(sink="tiered", rows=sink.rows, committed=await rig.ends())])
    dead = len(await rig.read(DLQ))
    stage.figures |= {"events_that_failed": len(sink.failures), "dead": dead}
    stage.require(dead == 0, "an event that would succeed became a dead letter")
    stage.require(len(sink.failures) > 50, "too few events failed")


async def joined(
    stack: contextlib.AsyncExitStack, stage: Stage, sink: Sink
) -> contextlib.AsyncExitStack:
    """Let one more member join; closing what is returned lets it leave."""
    member = await stack.enter_async_context(contextlib.AsyncExitStack())
    adapter = KafkaEventBusAdapter(stage.rig.settings, group=GROUP)
    member.push_async_callback(adapter.close)
    await adapter.subscribe(TOPIC, GROUP, sink.on_message, retries=Retries.tiered(TIERS, limit=0))
    return member


@contextlib.asynccontextmanager
async def letters(stage: Stage, *, least: int = 120) -> AsyncIterator[None]:
    """Let a broken worker bury events, then mend it; the load is over, the letters are there."""
    rig = stage.rig
    await stage.begin(REJECTED, rate=500)
    broken = stage.workers[0]
    await rig.acknowledges(least * 40, 60)
    await stage.end_loads()
    await rig.drained()
    assert await stage.stop_worker(broken) == 0
    yield


async def reprocess(stage: Stage, *options: str) -> Process:
    """Start `spile dlq reprocess`."""
    extra = {"SPILE_CATALOGUE": "spile.testkit.load:LOAD_CATALOGUE"}
    return stage.rig.command("dlq", "reprocess", TOPIC, "--json", *options, **extra)


async def settle(stage: Stage, *, dead: frozenset[str] = frozenset()) -> None:
    """Judge by origin: reprocessing is the stated exception to the order of a key."""
    rig = stage.rig
    store, bus = rig.observe_store(), await rig.observe_bus()
    rows = sorted(store.rows, key=lambda row: (row.partition, row.offset))
    sound = Observation(sink="store", rows=rows, committed=store.committed, dead=dead)
    stage.judge([sound, bus])


async def stored_all(stage: Stage, missing: int = 0) -> None:
    """Wait until every event is stored, but for so many."""
    wanted = stage.rig.acknowledged() - missing
    await stage.rig.until(lambda: stage.rig.stored() >= wanted, 30)


@cell("F24", "reprocessing killed (SIGKILL) five times on its way")
async def reprocessing_killed(stage: Stage) -> None:
    rig = stage.rig
    async with letters(stage):
        buried = len(await rig.read(DLQ))
        stage.workers.append(rig.worker())
        options = ("--rate", "30", *(("--transactional",) if stage.seed % 2 == 0 else ()))
        for _ in range(5):
            before = rig.stored()
            run = await reprocess(stage, *options)
            await rig.until(lambda before=before: rig.stored() > before + 3, 30)
            await asyncio.sleep(stage.chance.uniform(0, 0.3))
            stage.hit(await run.kill())
        stage.healed()
        last = await reprocess(stage, *options[2:])
        assert await last.ended(60) == 0, last.tail()
        await stored_all(stage)
    await settle(stage)
    stage.figures |= {"letters": buried, "left_for_the_last_run": last.summary()["processed"]}
    stage.require(buried >= 100, "too few letters")


@cell("F25", "two operators who reprocess one queue at the same time, and again when all is done")
async def two_operators(stage: Stage) -> None:
    rig = stage.rig
    async with letters(stage):
        worker = rig.worker()
        stage.workers.append(worker)
        fenced = repeated = 0
        for _ in range(3):
            both = ("--transactional", "--rate", "3", "--limit", "15")
            first, second = await reprocess(stage, *both), await reprocess(stage, *both)
            codes = [await first.ended(60), await second.ended(60)]
            fenced += sum(code != 0 for code in codes)
            stage.hit()
        stage.healed()
        last = await reprocess(stage, "--transactional")
        assert await last.ended(60) == 0, last.tail()
        await stored_all(stage)
        for _ in range(2):
            again = await reprocess(stage)
            assert await again.ended(60) == 0, again.tail()
            repeated += again.summary()["processed"]
            stage.hit()
        effects = await worker.metric("spile_store_records_total", outcome="duplicate")
    await settle(stage)
    stage.figures |= {"fenced": fenced, "repeated": repeated, "second_effects": int(effects)}
    stage.require(fenced >= 1, "nobody was fenced")
    stage.require(repeated == 0, "a second run did something")
    stage.require(effects == 0, "a letter was sent twice")


@cell("F26", "events that fail again after each reprocessing, five times")
async def fails_again(stage: Stage) -> None:
    rig = stage.rig
    async with letters(stage, least=60):
        buried = await rig.read(DLQ)
        dead = frozenset(json.loads(letter.value)["event_id"] for letter in buried)
        broken = rig.worker(REJECTED)
        stage.workers.append(broken)
        moved = []
        for _ in range(5):
            run = await reprocess(stage)
            await run.ended(60)
            moved.append(run.summary()["succeeded"])
            await asyncio.sleep(2.0)  # whatever comes back is buried again meanwhile
            stage.hit()
        stage.healed()
        total = len(await rig.read(DLQ))
    await settle(stage, dead=dead)
    stage.figures |= {"letters": len(dead), "moved_in_all": sum(moved), "letters_written": total}
    stage.require(sum(moved) <= 3 * len(dead), "a letter was reprocessed more than three times")
    stage.require(moved[-1] == 0, "the letters still go round")
