"""Dead letters are browsed, sent back to the group that failed, and purged; on memory."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from spile.adapters.dead_letters import (
    DeadLetter,
    DeadLetterBrowser,
    DeadLetterQueue,
    LetterFilter,
    Purger,
    Reprocessor,
    ReprocessWish,
    read_retry,
)
from spile.adapters.delivery import OutgoingRecord, Record
from spile.adapters.memory import MemoryCluster, MemoryEventBus
from spile.adapters.subscribing import Retries
from spile.spi import (
    BrokerUnavailableError,
    InvalidTopicError,
    MessageTooLargeError,
    RejectedError,
    UndecodableError,
    UnknownTopicError,
)
from spile.topics import Catalogue, ConsumerGroup, TopicSpec

TOPIC = "dev.shop.orders.placed.v1"
DLQ = f"{TOPIC}.dlq"
CATALOGUE = Catalogue(
    [
        TopicSpec(
            name="shop.orders.placed.v1",
            owner="shop",
            partitions=3,
            replication=1,
            min_insync_replicas=1,
            groups=(ConsumerGroup(name="billing"), ConsumerGroup(name="mail", tiers=1)),
        )
    ]
)
BILLING, MAIL = f"{TOPIC}.billing.retry.0", f"{TOPIC}.mail.retry.0"
BASE = datetime(2026, 1, 2, tzinfo=UTC)


class Desk:
    """A cluster with a queue, and what works on it."""

    def __init__(self, catalogue=CATALOGUE):
        self.cluster = MemoryCluster.of_catalogue(catalogue, "dev")
        self.sender = self.cluster.sender()
        self.now = BASE
        self.queue = DeadLetterQueue(
            self.sender, self.cluster.reader, group="billing", clock=lambda: self.now
        )
        self.reprocessor = Reprocessor(
            self.cluster.reader, self.sender, CATALOGUE.retry_topic, clock=lambda: self.now
        )

    async def bury(self, value=b"v", *, group="billing", error=None, headers=(), **more):
        self.now += timedelta(minutes=1)
        record = Record(TOPIC, 1, 41, 1_700_000_000_123, b"k", value, tuple(headers))
        record = Record(**{**{f: getattr(record, f) for f in record.__struct_fields__}, **more})
        await self.queue.keep(record, error or ValueError("x"), group=group, attempts=4)

    async def open(self, which=None):
        async with DeadLetterBrowser(self.cluster.reader, DLQ) as browser:
            state = await browser.look()
            return [letter async for letter in browser.letters(state, which)]

    async def values(self, which=None):
        return sorted(letter.record.value for letter in await self.open(which))

    async def run(self, **wish):
        return await self.reprocessor.run(DLQ, ReprocessWish(**wish))


@pytest.fixture
def desk():
    return Desk()


async def test_reaches_the_group_that_failed_alone(desk):
    """A letter goes to the retry topic of its group, and nothing else is written but a mark."""
    await desk.bury(b"1")
    done = await desk.run(operator="ann", reason="fixed")
    assert (done.processed, done.succeeded, done.failed) == (1, 1, 0)
    assert dict(done.targets) == {BILLING: 1}
    written = {name: len(desk.cluster.records(name)) for name in desk.cluster.topics}
    assert {n: c for n, c in written.items() if c} == {DLQ: 1, f"{DLQ}.done": 1, BILLING: 1}
    (mark,) = desk.cluster.records(f"{DLQ}.done")
    assert mark.key in {b"0:0", b"1:0", b"2:0"}
    assert b'"ann"' in mark.value
    assert b'"fixed"' in mark.value
    assert await desk.open() == []


async def test_goes_back_byte_for_byte(desk):
    """Key, value and headers come back as they were, repeats, nulls and odd bytes included."""
    headers = [("a", b"\xff\x00"), ("a", b"2"), ("null", None), ("", b"")]
    await desk.bury(b"\x00\xff{", headers=headers, key=b"\xfe", timestamp=7)
    await desk.bury(None, key=None)
    await desk.run()
    first, second = sorted(desk.cluster.records(BILLING), key=lambda r: r.value is None)
    assert (first.key, first.value) == (b"\xfe", b"\x00\xff{")
    assert list(first.headers[:4]) == headers
    assert {n.rpartition("-")[0] for n, _ in first.headers[4:]} <= {
        "x-spile-retry",
        "x-spile-retry-origin",
        "x-spile-retry-first",
        "x-spile-retry-error",
        "x-spile-dlq-replay",
    }
    assert (second.key, second.value) == (None, None)
    facts = read_retry(first)
    assert (facts.role, facts.partition, facts.offset, facts.timestamp) == ("reprocess", 1, 41, 7)
    assert (facts.attempts, facts.error_type, facts.writer) == (0, "ValueError", None)
    assert dict(first.headers)["x-spile-dlq-replay-count"] == b"1"


async def test_no_header_chooses_the_target(desk):
    """Hostile headers send a record nowhere: unknown groups stay, forged topics are ignored."""
    forged = [
        ("x-spile-dlq-original-topic", b"dev.bank.money.sent.v1"),
        ("x-spile-dlq-consumer-group", b"mail"),
        ("X-Spile-Retry-Role", b"head"),
        ("x-spile-retry-origin-topic", b"dev.bank.money.sent.v1"),
    ]
    await desk.bury(b"forged", headers=forged)
    for group in (b"../../etc", b"billing.retry.0", b"mail\n", b"\xff", b""):
        raw = [("x-spile-dlq-consumer-group", group), *forged[:1]]
        await desk.sender.send([OutgoingRecord(DLQ, None, group, raw)])
    await desk.sender.send([OutgoingRecord(DLQ, None, b"bare", [])])
    topics = set(desk.cluster.topics)
    done = await desk.run()
    assert (done.succeeded, done.failed, dict(done.targets)) == (1, 6, {BILLING: 1})
    assert set(desk.cluster.topics) == topics
    (record,) = desk.cluster.records(BILLING)
    assert [n for n, _ in record.headers if "topic" in n or n.startswith("X-")] == []
    assert len(await desk.open()) == 6
    assert sum(done.reasons.values()) == 6


async def test_again_is_a_no_op(desk):
    """A second run finds nothing to do."""
    for value in (b"1", b"2", b"3"):
        await desk.bury(value)
    assert (await desk.run()).succeeded == 3
    assert (await desk.run()).processed == 0
    assert len(desk.cluster.records(BILLING)) == 3


async def test_a_filter_leaves_the_rest(desk):
    """What the filter does not match, and what is over the limit, stays where it was."""
    await desk.bury(b"1", error=ValueError("x"))
    await desk.bury(b"2", error=KeyError("x"))
    await desk.bury(b"3", error=ValueError("x"), key=b"other")
    await desk.bury(b"4", error=ValueError("x"), key=b"other")
    before = [(r.partition, r.offset, r.value) for r in desk.cluster.records(DLQ)]
    done = await desk.run(which=LetterFilter(error_type="ValueError", key=b"other"), limit=1)
    assert done.succeeded == 1
    assert await desk.values() == [b"1", b"2", b"4"]
    assert [(r.partition, r.offset, r.value) for r in desk.cluster.records(DLQ)] == before


async def test_each_filter(desk):
    """Every filter chooses by what it names."""
    own = [("event_type", b"ORDER_PLACED"), ("correlation_id", b"c-1")]
    await desk.bury(b"secret sauce", headers=own, group="mail", error=KeyError("k"))
    await desk.bury(b"plain", headers=[("note", b"Sauce")])
    first, second = sorted(await desk.open(), key=lambda letter: letter.failed_at)
    for which, expected in (
        (LetterFilter(), [first, second]),
        (LetterFilter(places={first.place}), [first]),
        (LetterFilter(error_type="KeyError"), [first]),
        (LetterFilter(group="billing"), [second]),
        (LetterFilter(event_type="ORDER_PLACED"), [first]),
        (LetterFilter(correlation_id="c-1"), [first]),
        (LetterFilter(key=b"nobody"), []),
        (LetterFilter(since=BASE + timedelta(minutes=2)), [second]),
        (LetterFilter(until=BASE + timedelta(minutes=2)), [first]),
        (LetterFilter(text=re.compile("Sauce")), [second]),
        (LetterFilter(text=re.compile("(?i)sauce")), [first, second]),
        (LetterFilter(text=re.compile("'k'")), [first]),
    ):
        assert [letter.place for letter in await desk.open(which)] == [
            letter.place for letter in expected
        ], which


async def test_spent_letters_stay(desk):
    """A letter that was reprocessed three times stays, is counted, and is not in the way."""
    await desk.bury(b"spent", headers=[("x-spile-dlq-replay-count", b"3")])
    await desk.bury(b"fresh", headers=[("x-spile-dlq-replay-count", b"2")])
    done = await desk.run(limit=1)
    assert (done.succeeded, done.failed) == (1, 1)
    assert list(done.reasons) == ["reprocessed 3 times already, at most 3"]
    assert await desk.values() == [b"spent"]
    (record,) = desk.cluster.records(BILLING)
    assert dict(record.headers)["x-spile-dlq-replay-count"] == b"3"


async def test_a_dry_run_writes_nothing(desk):
    """A dry run says what would go where, and changes nothing."""
    await desk.bury(b"1")
    await desk.bury(b"2", group="unheard-of")
    history = len(desk.cluster.history)
    done = await desk.run(dry_run=True)
    assert (done.succeeded, done.failed) == (1, 1)
    assert dict(done.targets) == {BILLING: 1}
    assert len(desk.cluster.history) == history


async def test_nothing_is_marked_that_is_not_written(desk):
    """A letter whose retry record is not acknowledged stays; after it, the next run sends it."""
    await desk.bury(b"1")
    desk.cluster.faults.fail("send", BrokerUnavailableError("away"))
    with pytest.raises(BrokerUnavailableError):
        await desk.run()
    assert desk.cluster.records(f"{DLQ}.done") == []
    assert (await desk.run()).succeeded == 1


async def test_a_mark_that_is_not_written_repeats_the_record(desk):
    """Between record and mark a failure repeats the record, never loses it."""
    await desk.bury(b"1")
    sends = []

    async def second_fails(operation, about):
        if operation == "send":
            sends.append(about)
            if len(sends) == 2:
                raise BrokerUnavailableError("away")

    desk.cluster.faults.hook = second_fails
    with pytest.raises(BrokerUnavailableError):
        await desk.run()
    assert (await desk.run()).succeeded == 1
    assert len(desk.cluster.records(BILLING)) == 2


async def test_what_comes_back_during_a_run_waits(desk):
    """Letters that are written while a run goes on are left for the next run."""
    await desk.bury(b"1")

    async def fails_again(operation, about):
        if operation == "send" and about[0].topic == BILLING:
            desk.cluster.faults.hook = None
            await desk.bury(b"again")

    desk.cluster.faults.hook = fails_again
    assert (await desk.run()).processed == 1
    assert await desk.values() == [b"again"]


async def test_rate(desk):
    """A rate spreads letters over time."""
    for number in range(5):
        await desk.bury(b"%d" % number)
    loop_times = []

    async def note(operation, about):
        if operation == "send" and about[0].topic == BILLING:
            loop_times.append(len(about))

    desk.cluster.faults.hook = note
    started = datetime.now(UTC)
    assert (await desk.run(rate=50)).succeeded == 5
    assert datetime.now(UTC) - started >= timedelta(seconds=0.1)
    assert loop_times == [5]
    loop_times.clear()
    await desk.bury(b"6")
    await desk.bury(b"7")
    await desk.run(rate=4)
    assert loop_times == [1, 1]


async def test_marks_of_an_earlier_queue_do_not_hide_letters(desk):
    """A mark counts only for the letter whose record time it names."""
    await desk.bury(b"1")
    (letter,) = await desk.open()
    stale = b'{"what":"purged","at":"2020-01-01T00:00:00Z","timestamp":5}'
    for value in (stale, b"\xff", b"[]", b'{"what":"eaten"}'):
        await desk.sender.send([OutgoingRecord(f"{DLQ}.done", letter.place.encode(), value, [])])
        assert await desk.values() == [b"1"]


async def test_refuses_what_is_no_queue(desk):
    """A name that is no queue, a missing queue and missing marks are errors that say so."""
    with pytest.raises(InvalidTopicError):
        await desk.reprocessor.run(TOPIC, ReprocessWish())
    with pytest.raises(UnknownTopicError):
        await desk.reprocessor.run("dev.a.b.c.v1.dlq", ReprocessWish())
    bare = MemoryCluster({DLQ: 1})
    with pytest.raises(UnknownTopicError, match="spile topics apply"):
        await Reprocessor(bare.reader, bare.sender(), CATALOGUE.retry_topic).run(
            DLQ, ReprocessWish()
        )


async def test_an_edited_copy_goes_in_its_place(desk):
    """A copy goes to the group's retry topic as a first replay, and settles the original."""
    await desk.bury(b"bad", headers=[("x-spile-dlq-replay-count", b"3"), ("h", b"1")])
    (letter,) = await desk.open()
    copy = OutgoingRecord("", letter.record.key, b"good", [("h", b"1"), ("edited", b"yes")])
    done = await desk.reprocessor.send(letter, copy, ReprocessWish(operator="ann"))
    assert done.succeeded == 1
    (record,) = desk.cluster.records(BILLING)
    assert (record.value, list(record.headers[:2])) == (b"good", [("h", b"1"), ("edited", b"yes")])
    assert dict(record.headers)["x-spile-dlq-replay-count"] == b"1"
    assert await desk.open() == []
    assert desk.cluster.records(DLQ)[0].value == b"bad"


async def test_an_edited_copy_comes_too_late(desk):
    """While one operator edits another sends the letter back: the copy is not sent on top."""
    await desk.bury(b"bad")
    (letter,) = await desk.open()
    await desk.run()
    copy = OutgoingRecord("", letter.record.key, b"good", [])
    done = await desk.reprocessor.send(letter, copy, ReprocessWish())
    assert (done.succeeded, done.failed) == (0, 1)
    assert "settled meanwhile: reprocessed at" in next(iter(done.reasons))
    assert [record.value for record in desk.cluster.records(BILLING)] == [b"bad"]


async def _kept(letters: list[DeadLetter], found):
    letters.extend([letter async for letter in found])
    return len(letters)


async def test_purge_keeps_first(desk):
    """A purge marks nothing when keeping fails, and frees only what lies before an open letter."""
    for number in range(4):
        await desk.bury(b"%d" % number)
    (number,) = {record.partition for record in desk.cluster.records(DLQ)}
    freed = []

    async def free(before):
        freed.append(before)

    purger = Purger(desk.cluster.reader, desk.sender, free)

    async def fail(found):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await purger.run(DLQ, fail)
    assert len(await desk.open()) == 4

    letters: list[DeadLetter] = []
    which = LetterFilter(places={f"{number}:{offset}" for offset in (0, 1, 3)})
    purged = await purger.run(DLQ, lambda found: _kept(letters, found), which)
    assert purged.letters == 3
    assert [letter.record.value for letter in letters] == [b"0", b"1", b"3"]
    assert await desk.values() == [b"2"]
    assert freed == [{(DLQ, number): 2}]


async def test_record_too_large_for_any_queue_leaves_word_and_stays(desk):
    """A record that no queue can hold is told without its content, and is not sent back so."""
    desk.cluster.faults.fail("send", MessageTooLargeError("no", size_bytes=100, limit_bytes=9))
    await desk.bury(b"v" * 100, headers=[("mine", b"h")])

    (letter,) = await desk.open()
    headers = dict(letter.record.headers)
    assert (letter.record.key, letter.record.value) == (b"k", None)
    assert headers["x-spile-dlq-omitted-bytes"] == b"100"
    assert (letter.origin.offset, letter.headers) == (41, [("mine", b"h")])

    told = await desk.reprocessor.run(DLQ, ReprocessWish())
    assert (told.succeeded, told.failed) == (0, 1)
    assert desk.cluster.records(BILLING) == []


async def test_purge_takes_what_was_asked_for_alone(desk):
    """A letter that comes while the operator thinks is neither marked nor freed."""
    await desk.bury(b"seen")
    async with DeadLetterBrowser(desk.cluster.reader, DLQ) as browser:
        ends = (await browser.look()).ends
    await desk.bury(b"unseen")
    freed = {}

    async def free(before):
        freed.update(before)

    letters: list[DeadLetter] = []
    purger = Purger(desk.cluster.reader, desk.sender, free)
    purged = await purger.run(DLQ, lambda found: _kept(letters, found), ends=ends)
    assert purged.letters == len(letters) == 1
    assert await desk.values() == [b"unseen"]
    assert set(freed.values()) == {1}


async def test_refused_claim_of_transactions_ends_the_run(desk):
    """What a broker refuses before anything is written is raised, and not tried for ever."""
    await desk.bury()

    class Refused:
        async def claim(self):
            await asyncio.sleep(0)
            raise RejectedError("no such timeout", code="INVALID_TRANSACTION_TIMEOUT")

        async def close(self):
            pass

    work = Reprocessor(
        desk.cluster.reader,
        desk.sender,
        CATALOGUE.retry_topic,
        transactions=lambda name: Refused(),
    )
    async with asyncio.timeout(5):
        with pytest.raises(RejectedError, match="no such timeout"):
            await work.run(DLQ, ReprocessWish(transactional=True))


@pytest.mark.parametrize(
    "forged",
    [
        ("original-offset", b"9999999999999999999"),
        ("original-timestamp", b"9999999999999999999"),
        ("first-failure", b"0001-01-01T00:00:00+14:00"),
        ("last-failure", b"9999-12-31T23:59:59-14:00"),
    ],
)
async def test_forged_facts_are_taken_for_missing(desk, forged):
    """Numbers and times that no computer can hold keep nobody from the queue, nor go on."""
    name, value = forged
    facts = {
        "consumer-group": b"billing",
        "original-partition": b"1",
        "original-offset": b"41",
        "original-timestamp": b"7",
    } | {name: value}
    headers = [(f"x-spile-dlq-{fact}", said) for fact, said in facts.items()]
    await desk.sender.send([OutgoingRecord(DLQ, b"k", b"v", headers)])
    assert len(await desk.open(LetterFilter(since=BASE))) == 1
    assert (await desk.run()).succeeded == 1
    (sent,) = desk.cluster.records(BILLING)
    facts = read_retry(sent)
    assert max(facts.offset, facts.timestamp) < 2**63


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("origin-offset", b"9223372036854775808"),
        ("origin-timestamp", b"-9999999999999999999"),
        ("first-failure", b"0001-01-01T00:00:00+14:00"),
    ],
)
async def test_forged_record_of_a_retry_topic_is_said_to_be_one(desk, name, value):
    """What stands in a retry topic and cannot be is an error that names the header."""
    await desk.bury()
    await desk.run()
    (sent,) = desk.cluster.records(BILLING)
    name = f"x-spile-retry-{name}"
    headers = tuple((n, value if n == name else v) for n, v in sent.headers)
    with pytest.raises(UndecodableError, match=name):
        read_retry(msgspec.structs.replace(sent, headers=headers))


async def test_letter_without_its_value_is_no_tombstone_for_a_handler(desk):
    """A handler never gets a letter whose value was left out; it stays, and says so for ever."""
    desk.cluster.faults.fail("send", MessageTooLargeError("no", size_bytes=100, limit_bytes=9))
    await desk.bury(b"v" * 100)

    async def handle(message):
        pytest.fail("it was handled as a tombstone")

    for _ in range(2):
        counts = await desk.queue.reprocess_dlq_messages(DLQ, handle)
        assert counts == {"processed": 1, "succeeded": 0, "failed": 1}
    (letter,) = await desk.open()
    assert letter.is_without_value


async def test_headers_beyond_measure_are_left_out_with_the_value(desk):
    """Headers that may be what no queue takes do not stay in the letter that tells of it."""
    desk.cluster.faults.fail("send", MessageTooLargeError("no", size_bytes=100, limit_bytes=9))
    await desk.bury(b"v", headers=[("mine", b"h" * 70_000)])
    (letter,) = await desk.open()
    assert (letter.headers, letter.is_without_value) == ([], True)


async def test_a_subscriber_gets_its_own_letter_again(desk):
    """A reprocessed message reaches the handler that failed, as it first came, and no other."""
    broken = True
    billed, mailed = [], []
    again = asyncio.Event()

    async def bill(message):
        billed.append(message.record)
        if broken:
            raise RejectedError("no such account")
        again.set()

    async def mail(message):
        mailed.append(message.record)

    quick = Retries.tiered((0.01, 0.01, 0.01), limit=0)
    async with MemoryEventBus(desk.cluster, catalogue=CATALOGUE) as bus:
        await bus.subscribe(TOPIC, "billing", bill, retries=quick)
        await bus.subscribe(TOPIC, "mail", mail)
        await desk.sender.send([OutgoingRecord(TOPIC, b"k", b"v", [("h", b"\xff"), ("h", b"")])])
        async with asyncio.timeout(5):
            for count in (1, 2):
                while len(desk.cluster.records(DLQ)) < count:  # noqa: ASYNC110 - a foreign log
                    await asyncio.sleep(0.005)
                broken = count < 2
                done = await desk.run()
            await again.wait()
    assert done.succeeded == 1
    assert [len(billed), len(mailed)] == [3, 1]
    first, second, third = billed
    assert (first.topic, first.partition, first.offset) == (TOPIC, third.partition, 0)
    for later in (second, third):
        fields = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
        assert [getattr(later, f) for f in fields] == [getattr(first, f) for f in fields]
    counts = [dict(r.headers).get("x-spile-dlq-replay-count") for r in desk.cluster.records(DLQ)]
    assert counts == [None, b"1"]
