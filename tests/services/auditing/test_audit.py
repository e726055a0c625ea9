"""The audit names the minute and the tier of a difference, and raises no false alarm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner

from spile.adapters.dead_letters import DeadLetterQueue, Purger
from spile.adapters.delivery import OutgoingRecord, Record
from spile.adapters.memory import MemoryLogReader
from spile.services.archiver.objects import CuttingRule, PartitionCutter
from spile.services.auditing import AuditReport, Window, event_minute, show
from spile.services.auditing._metrics import DIFFERENCE
from spile.services.command import command
from spile.services.command.audit._group import _code
from spile.spi import DeliveryTimeoutError, RejectedError, RetriableError

FIRST, SECOND = "2026-01-02T03:04Z", "2026-01-02T03:05Z"


def found(report: AuditReport) -> list[tuple[str, str, str, int]]:
    """Return minute, tier, state and number of each difference."""
    return [(d.minute, d.tier, d.state, d.missing) for d in report.differences]


async def test_a_clean_run_is_equal_in_every_tier(world):
    """What was published is on the bus, in the store and in the archive, minute by minute."""
    await world.publish(0, 0, 1)
    await world.persist()
    world.archive_all()
    report = await world.audit()
    assert found(report) == []
    lines = {line.minute: line for line in report.counts}
    assert set(lines) == {FIRST, SECOND}
    line = lines[FIRST]
    assert (line.publish, line.records, line.bus, line.store, line.archive) == (2, 2, 2, 2, 2)
    assert not line.at_least
    assert report.notes == []


async def test_a_row_deleted_from_the_store_is_named(world):
    """One event less in the store is one missing event of its minute and of tier `store`."""
    await world.publish(0, 1, 1)
    await world.persist()
    world.archive_all()
    world.sql(
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events WHERE happened_us >= ?)",
        int((world.at + timedelta(minutes=1)).timestamp()) * 1_000_000,
    )
    report = await world.audit()
    assert found(report) == [(SECOND, "store", "missing", 1)]
    (difference,) = report.missing
    assert "1 event of 03:05" in difference.meaning
    assert "on the bus and not in the store, whose offset is further on" in difference.meaning
    assert len(difference.examples) == 1


async def test_an_event_that_left_the_bus_is_named(world):
    """A publisher was told of more events than stand on the bus: they are lost there."""
    await world.publish(0, 0, 0)
    await world.persist()
    world.archive_all()
    for number in range(6):
        log = world.cluster._log._partitions[world.topic, number]
        if log:
            log.pop()
            break
    assert (FIRST, "bus", "missing", 1) in found(await world.audit())


async def test_a_removed_object_of_the_archive_is_named(world):
    """Its manifest is there and past it, so its events are lost in the archive."""
    await world.publish(0, 1)
    await world.persist()
    world.archive_all()
    victim = next(o.key for o in world.archive.list() if o.key.startswith("v1-"))
    (world.archive._root / victim).unlink()
    report = await world.audit()
    assert [(tier, state, count) for _, tier, state, count in found(report)] == [
        ("archive", "missing", 1)
    ]


async def test_a_removed_manifest_in_the_middle_is_named(world):
    """The archive goes on behind a hole: what stood in it is lost."""
    for _ in range(3):
        async with world.publisher() as publisher:
            event = world.event()
            event.payload["agent_id"] = "00000000-0000-0000-0000-000000000001"
            await publisher.publish_event(event)
    await world.persist()
    world.archive_all()
    manifests = [o.key for o in world.archive.list() if o.key.startswith("manifests/")]
    assert len(manifests) == 3
    (world.archive._root / manifests[1]).unlink()
    assert found(await world.audit()) == [(FIRST, "archive", "missing", 1)]


async def test_what_store_and_archive_have_not_reached_is_no_loss(world):
    """Records behind their offsets are under way: lag is told, and is no difference."""
    await world.publish(0)
    await world.persist()
    world.archive_all()
    await world.publish(0, 1)
    report = await world.audit()
    assert found(report) == []
    assert [line.behind for line in report.counts] == [
        {"store": 1, "archive": 1},
        {"store": 1, "archive": 1},
    ]


async def test_poison_in_the_dead_letter_queue_is_accounted_for(world):
    """A record that the store's worker gave up is not lost, as long as its letter is there."""
    await world.publish(0)
    await world.poison()
    await world.persist()
    world.archive_all()
    report = await world.audit()
    assert found(report) == []
    (line,) = report.counts
    assert (line.bus, line.store, line.dlq) == (2, 1, 1)


async def test_poison_without_its_letter_is_lost(world):
    """Neither stored nor in the dead letter queue: tier `store`."""
    await world.poison()
    await world.persist()
    for number in range(6):
        world.cluster._log._partitions[f"{world.topic}.dlq", number].clear()
    assert found(await world.audit()) == [(FIRST, "store", "missing", 1)]


async def test_the_same_event_twice_is_no_alarm(world):
    """Two records, one event: the store has it once and the archive twice."""
    event_id = str(uuid4())
    async with world.publisher() as publisher:
        event = world.event(event_id=event_id)
        await publisher.publish_many([event, event])
        await publisher.publish_event(event)
    await world.persist()
    world.archive_all()
    report = await world.audit()
    assert found(report) == []
    (line,) = report.counts
    assert (line.publish, line.records, line.bus, line.store, line.archive) == (3, 3, 1, 1, 3)


async def test_an_event_that_is_stored_under_another_topic_is_no_alarm(world):
    """A copy on a second topic is not stored again; the audit looks for the id, not the count."""
    await world.publish(0)
    await world.persist()
    world.sql("UPDATE events SET topic = 'dev.shop.other.recorded.v1'")
    assert found(await world.audit()) == []


async def test_a_publisher_without_its_last_word_is_at_least(world):
    """A killed publisher has published what it reported or more; that is no difference."""
    publisher = world.publisher("killed")
    await publisher.publish_event(world.event())
    await publisher._audit.report()
    await publisher.publish_event(world.event())  # and it is gone before the next report
    publisher._audit._stop_timer()
    await world.persist()
    world.archive_all()
    report = await world.audit()
    assert found(report) == []
    (line,) = report.counts
    assert (line.publish, line.at_least, line.bus) == (1, True, 2)
    assert "shop/killed" in report.notes[0]
    early = await world.audit(later=timedelta(seconds=30))
    assert not early.counts[0].at_least


async def test_indefinite_events_are_counted_apart(world):
    """What may be on the bus is never missing there."""
    async with world.publisher() as publisher:
        world.cluster.faults.fail("send", DeliveryTimeoutError("slow"))
        await publisher.publish_event(world.event())
    report = await world.audit()
    assert found(report) == []
    assert report.counts[0].indefinite == 1


async def test_refused_events_must_be_in_the_dead_letter_queue(world):
    """A publisher says it kept a refused event; without its letter that is tier `dlq`."""
    async with world.publisher() as publisher:
        world.cluster.faults.fail("send", RejectedError("no", code="INVALID_RECORD"))
        await publisher.publish_event(world.event())
    assert found(await world.audit()) == []
    for number in range(6):
        world.cluster._log._partitions[f"{world.topic}.dlq", number].clear()
    assert found(await world.audit()) == [(FIRST, "dlq", "missing", 1)]


async def test_a_difference_within_the_grace_is_not_yet(world):
    """What is young may still come: it is told, and is not missing."""
    await world.publish(0)
    await world.persist()
    world.sql("DELETE FROM events")
    report = await world.audit(later=timedelta(minutes=5))
    assert [(state, count) for _, _, state, count in found(report)] == [("not yet", 1)]
    assert report.missing == []


async def test_what_retention_took_cannot_be_missed(world, monkeypatch):
    """Where the log does not reach back as far as the minute, the bus is not blamed."""
    await world.publish(0, 0)
    await world.persist()
    world.archive_all()

    async def beginnings(self, partitions):
        return {key: self._log.end(key) if key[0] == world.topic else 0 for key in partitions}

    monkeypatch.setattr("spile.adapters.memory.MemoryLogReader.beginnings", beginnings)
    report = await world.audit()
    assert [(tier, state) for _, tier, state, _ in found(report)] == [("bus", "unknown")]
    assert report.missing == []


async def test_a_loss_beside_what_retention_took(world, monkeypatch):
    """What only the store still has of a minute does not make up for what it lacks."""
    await world.publish(*[0] * 12)
    await world.persist()
    records = world.cluster.records(world.topic)
    gone = next(record for record in records if record.offset == 0)
    lost = next(record for record in records if record.partition != gone.partition)
    world.sql("DELETE FROM events WHERE event_id = ?", event_id(lost))

    async def beginnings(self, partitions):
        return {key: int(key == (world.topic, gone.partition)) for key in partitions}

    monkeypatch.setattr("spile.adapters.memory.MemoryLogReader.beginnings", beginnings)
    report = await world.audit()
    assert (FIRST, "store", "missing", 1) in found(report)


@pytest.mark.parametrize(("since", "state"), [(1, "missing"), (48, "unknown")])
async def test_an_old_purge_hides_no_loss(world, monkeypatch, since, state):
    """Letters that were purged before the window began account for nothing in it."""
    await world.publish(0, 0)
    await world.persist()
    world.sql("DELETE FROM events WHERE seq = 1")
    _purged_long_ago(world, monkeypatch, 7)
    report = await world.audit(since=world.at - timedelta(hours=since))
    assert found(report) == [(FIRST, "store", state, 1)]


async def test_a_purge_in_the_window(world, monkeypatch):
    """Letters that were purged since the window began may have been those of what is not stored."""
    await world.publish(0, 0, 0)
    await world.persist()
    world.sql("DELETE FROM events WHERE seq = 1")
    _purged_long_ago(world, monkeypatch, 7)
    await world.sender.send([OutgoingRecord(f"{world.topic}.dlq.done", b"0:6", None, [])])
    assert found(await world.audit()) == [(FIRST, "store", "unknown", 1)]
    world.sql("DELETE FROM events WHERE seq = 2")
    assert found(await world.audit()) == [(FIRST, "store", "missing", 2)]


async def test_a_purge_of_another_group_hides_no_loss(world, monkeypatch):
    """A mark says whose letter it was: that of another group accounts for nothing in the store."""
    await world.publish(0, 0, 0)
    await world.persist()
    world.sql("DELETE FROM events WHERE seq = 1")
    await _purge(world, monkeypatch, group="shipping")
    report = await world.audit()
    assert found(report) == [(FIRST, "store", "missing", 1)]


async def test_a_purged_letter_of_the_store_accounts_for_its_record_alone(world, monkeypatch):
    """Its mark, kept in the tombstone, names the record; a row that was deleted beside is lost."""
    await world.publish(0, 0, 0)
    await world.poison()
    await world.persist()
    await _purge(world, monkeypatch, group="persistence")
    assert found(await world.audit()) == []
    world.sql("DELETE FROM events WHERE seq = 1")
    assert found(await world.audit()) == [(FIRST, "store", "missing", 1)]


async def test_a_purged_letter_of_a_publisher_is_unknown(world, monkeypatch):
    """A refused event whose letter was purged cannot be told, and that is not success."""
    async with world.publisher() as publisher:
        world.cluster.faults.fail("send", RejectedError("no", code="INVALID_RECORD"))
        await publisher.publish_event(world.event())
    await _purge(world, monkeypatch)
    report = await world.audit()
    assert found(report) == [(FIRST, "dlq", "unknown", 1)]
    assert report.as_json()["complete"] is False
    assert (_code(report, allow_unknown=False), _code(report, allow_unknown=True)) == (3, 0)


async def _purge(world, monkeypatch, *, group=None):
    """Purge all letters; first keep one of a group, when the group has none yet."""
    queue = f"{world.topic}.dlq"
    if group == "shipping":
        letters = DeadLetterQueue(world.sender, group=group)
        record = world.cluster.records(world.topic)[0]
        await letters.keep(record, ValueError("x"), group=group, attempts=1)
    gone = {}

    async def free(before):
        gone.update(before)
        _begin_at(monkeypatch, gone)

    async def keep(letters):
        assert [letter async for letter in letters]

    purger = Purger(world.cluster.reader, world.sender, free, clock=lambda: world.now)
    assert (await purger.run(queue, keep)).freed == gone


def event_id(record):
    return UUID(dict(record.headers)["message_id"].decode()).bytes


def _purged_long_ago(world, monkeypatch, count):
    """Let the first partition of the queue begin behind letters that are gone."""
    _begin_at(monkeypatch, {(f"{world.topic}.dlq", 0): count})


def _begin_at(monkeypatch, places):
    """Let partitions begin and end at offsets."""
    for name in ("beginnings", "ends", "since"):
        before = getattr(MemoryLogReader, name)

        async def moved(self, partitions, *more, before=before):
            answer = dict(await before(self, partitions, *more))
            return answer | {key: at for key, at in places.items() if key in answer}

        monkeypatch.setattr(MemoryLogReader, name, moved)


async def test_ticks_and_tombstones_are_no_events(world):
    """They stand on the bus and in the archive, and the store has nothing of them."""
    tick = [("event_type", b"TICK"), ("timestamp", world.at.isoformat().encode())]
    await world.sender.send([OutgoingRecord(world.topic, b"a", b"", tick)])
    await world.sender.send([OutgoingRecord(world.topic, b"a", None, [])])
    await world.persist()
    world.archive_all()
    report = await world.audit()
    assert found(report) == []
    (line,) = report.counts
    assert (line.records, line.bus, line.store, line.archive) == (1, 0, 0, 1)


async def test_old_parts_of_the_archive_are_not_read(world):
    """A look at the last hour stops at the first object that is older, and misses nothing."""
    for _ in range(2):
        await world.publish(0)
        await world.persist()
        world.archive_all()
        world.now += timedelta(hours=3)
    report = await world.audit(since=world.at - timedelta(hours=1))
    assert found(report) == []


async def test_gauges_tell_tier_and_topic(world):
    """The metric is the number of missing events, 0 where nothing is missing."""
    await world.publish(0)
    await world.persist()
    world.archive_all()
    world.sql("DELETE FROM events")
    show(await world.audit())
    values = {
        sample.labels["tier"]: sample.value
        for metric in DIFFERENCE.collect()
        for sample in metric.samples
    }
    assert values == {"bus": 0, "store": 1, "dlq": 0, "archive": 0}


@pytest.mark.parametrize(
    "stamp",
    [b"2026-01-02T03:04:05.123456Z", b"2026-01-02T03:04:05+00:00", b"yesterday", b"", None],
)
def test_minutes_are_those_of_the_manifests(world, stamp):
    """Audit and archive put a record into the same minute, also one without a readable time."""
    headers = () if stamp is None else (("timestamp", stamp),)
    record = Record(world.topic, 0, 0, 1_767_323_045_000, None, b"x", headers)
    (sealed,) = PartitionCutter(CuttingRule(records=1), world.topic, 0).add(record)
    assert list(sealed.manifest.event_minutes) == [event_minute(stamp, record.timestamp)]


def test_a_day_that_no_calendar_has_ends_no_audit():
    """A foreign producer's 31 November sorts into a window, and is settled there."""
    window = Window(
        since=datetime(2026, 11, 30, tzinfo=UTC), until=datetime(2026, 12, 2, tzinfo=UTC)
    )
    minute = event_minute(b"2026-11-31T00:00:00Z", 0)
    assert window.holds(minute)
    assert window.is_settled(minute)


@pytest.mark.parametrize("name", ["SPILE_STORE", "SPILE_ARCHIVE"])
def test_a_tier_that_is_named_must_be_there(name, monkeypatch, tmp_path):
    """A mistyped setting makes no audit green: one line names it, and the exit code is 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, str(tmp_path / "mistyped"))
    done = CliRunner().invoke(command, ["audit"])
    assert done.exit_code == 1
    assert isinstance(done.exception, RetriableError)
    assert str(done.exception).startswith(f"{name}: there is no ")
