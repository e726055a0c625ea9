"""The dead letter queue: byte-exact, with true headers, and read again on request."""

from __future__ import annotations

import re

import pytest

from spile.adapters.dead_letters import DeadLetterQueue
from spile.adapters.delivery import OutgoingRecord, ReceivedMessage, Record
from spile.spi import (
    BrokerUnavailableError,
    ConfigurationError,
    InvalidTopicError,
    ProtocolDLQHandler,
    RejectedError,
    UnknownTopicError,
)

PREFIX = "x-spile-dlq-"


def _record(topic, *, headers=(), value=b"\x00\xffv", key=b"\xfe"):
    return Record(topic, 1, 41, 1_700_000_000_123, key, value, tuple(headers))


def _added(record):
    return {n.removeprefix(PREFIX): v.decode() for n, v in record.headers if n.startswith(PREFIX)}


def _raised(error):
    try:
        raise error
    except type(error) as exc:
        return exc


@pytest.fixture
def dlq(bench):
    return f"{bench.topic}.dlq"


async def test_poison_is_kept_byte_for_byte(bench, dlq):
    """A poison message reaches the queue with key, value and headers as they came."""
    headers = [("a", b"\xff\x00"), ("a", b"2"), ("", b"")]

    async def handle(message):
        raise ValueError("poison")

    await bench.messages(handle)
    await bench.sender.send([OutgoingRecord(bench.topic, b"\xfe\x01", b"\x00\xff{", headers, 2)])
    await bench.until(lambda: bench.committed() == 1)
    (kept,) = bench.cluster.records(dlq)
    assert (kept.key, kept.value) == (b"\xfe\x01", b"\x00\xff{")
    assert [pair for pair in kept.headers if not pair[0].startswith(PREFIX)] == headers
    added = _added(kept)
    (original,) = bench.cluster.records(bench.topic)
    assert added["original-topic"] == bench.topic
    assert (added["original-partition"], added["original-offset"]) == ("2", "0")
    assert added["original-timestamp"] == str(original.timestamp)
    assert (added["consumer-group"], added["attempts"]) == (bench.group, "4")
    assert (added["error-type"], added["error-message"]) == ("ValueError", "poison")
    assert re.fullmatch("[0-9a-f]{64}", added["error-digest"])
    assert added["first-failure"] < added["last-failure"]
    assert added["first-failure"].endswith("Z")
    assert "replay-count" not in added


async def test_tombstone_stays_a_tombstone(bench, dlq):
    """A value that is None stays None in the queue, and is empty bytes for the handler."""
    values: list[bytes] = []

    async def handle(message):
        values.append(message.value)
        raise RejectedError("no tombstones here")

    await bench.messages(handle)
    await bench.sender.send([OutgoingRecord(bench.topic, b"k", None, [])])
    await bench.until(lambda: bench.committed() == 1)
    (kept,) = bench.cluster.records(dlq)
    assert kept.value is None
    assert values == [b""]


async def test_foreign_headers_of_our_prefix_are_replaced(bench, dlq):
    """Headers that a producer forged under our prefix neither survive nor decide anything."""
    forged = [
        (f"{PREFIX}original-topic", b"prod.other.topic.x.v1"),
        ("X-Spile-DLQ-consumer-group", b"evil"),
        (f"{PREFIX}anything", b"1"),
    ]
    await bench.dead_letters.keep(
        _record(bench.topic, headers=forged), ValueError("x"), group="g", attempts=1
    )
    (kept,) = bench.cluster.records(dlq)
    assert _added(kept)["original-topic"] == bench.topic
    names = [name for name, _ in kept.headers]
    assert len(names) == len({name.lower() for name in names}) == 11


@pytest.mark.parametrize(
    ("text", "count"), [(b"3", "3"), (b"-1", None), (b"\xff", None), (b"9" * 50, None), (b"", None)]
)
async def test_replay_count_is_kept(bench, dlq, text, count):
    """A replay count of an earlier round is read and kept; a senseless one counts as none."""
    record = _record(bench.topic, headers=[(f"{PREFIX}replay-count", text)])
    await bench.dead_letters.keep(record, ValueError("x"), group="g", attempts=1)
    assert _added(bench.cluster.records(dlq)[0]).get("replay-count") == count


async def test_error_text_is_tamed(bench, dlq):
    """Error text is scrubbed, its control characters are escaped, and it ends at 1 KiB."""
    queue = DeadLetterQueue(bench.sender, scrub=lambda text: text.replace("secret", "***"))
    error = ValueError("secret\r\nx-forged: 1\x1b[31m \ud800 " + "é" * 2000)
    await queue.keep(_record(bench.topic), error, group="g", attempts=1)
    text = _added(bench.cluster.records(dlq)[0])["error-message"]
    assert text.startswith("***\\r\\nx-forged: 1\\x1b[31m \\ud800 é")
    assert len(text.encode()) in {1023, 1024}


async def test_digest_tells_places_apart(bench, dlq):
    """Errors raised at one place have one digest, whatever their text; another place another."""
    here = [_raised(ValueError(text)) for text in ("a", "b")]
    there = _raised(KeyError("a"))
    for error in (*here, there):
        await bench.dead_letters.keep(_record(bench.topic), error, group="g", attempts=1)
    digests = [_added(record)["error-digest"] for record in bench.cluster.records(dlq)]
    assert digests[0] == digests[1] != digests[2]


async def test_send_to_dlq(bench, dlq):
    """The seed's call keeps a message as it came, and counts the first attempt."""
    assert isinstance(bench.dead_letters, ProtocolDLQHandler)
    record = _record(bench.topic, headers=[("h", b"\xff")])
    await bench.dead_letters.send_to_dlq(bench.topic, ReceivedMessage(record), ValueError("x"), 3)
    (kept,) = bench.cluster.records(dlq)
    assert (kept.key, kept.value, kept.headers[0]) == (record.key, record.value, ("h", b"\xff"))
    assert (_added(kept)["attempts"], _added(kept)["consumer-group"]) == ("4", bench.group)


async def test_failures_are_raised(bench):
    """A queue that is away or missing is an error: the caller must not commit."""
    bench.cluster.faults.fail("send", BrokerUnavailableError("away"))
    with pytest.raises(BrokerUnavailableError):
        await bench.dead_letters.keep(_record(bench.topic), ValueError(), group="g", attempts=1)
    with pytest.raises(UnknownTopicError):
        await bench.dead_letters.keep(_record("dev.a.b.c.v1"), ValueError(), group="g", attempts=1)


async def test_refused_records_are_kept(bench, dlq):
    """A record that the broker refused at publishing is kept without an offset."""
    record = OutgoingRecord(bench.topic, b"k", b"v", [("h", b"1")])
    await bench.dead_letters.keep_refused(record, RejectedError("refused"))
    (kept,) = bench.cluster.records(dlq)
    assert (kept.key, kept.value, kept.headers[0]) == (b"k", b"v", ("h", b"1"))
    assert _added(kept)["original-offset"] == "-1"


async def _bury(bench, *values):
    for value in values:
        record = _record(bench.topic, value=value, key=value)
        await bench.dead_letters.keep(record, ValueError("x"), group="g", attempts=4)


async def test_reprocess_counts(bench, dlq):
    """Reprocessing handles what stands there, retries, and puts back what fails, one run older."""
    await _bury(bench, b"good", b"flaky", b"bad", b"raises")
    tries: dict[bytes, int] = {}

    async def handle(message):
        tries[message.value] = tries.get(message.value, 0) + 1
        if message.value == b"raises":
            raise KeyError("still broken")
        return message.value == b"good" or (message.value == b"flaky" and tries[b"flaky"] == 3)

    counts = await bench.dead_letters.reprocess_dlq_messages(dlq, handle)
    assert counts == {"processed": 4, "succeeded": 2, "failed": 2}
    assert tries == {b"good": 1, b"flaky": 3, b"bad": 3, b"raises": 3}
    records = bench.cluster.records(dlq)
    again = {r.value: _added(r) for r in records if "replay-count" in _added(r)}
    assert again.keys() == {b"bad", b"raises"}
    assert again[b"bad"]["replay-count"] == "1"
    assert again[b"raises"]["error-type"] == "KeyError"
    for added in again.values():
        assert added["original-topic"] == bench.topic
        assert (added["original-partition"], added["original-offset"]) == ("1", "41")
        assert added["consumer-group"] == "g"


async def test_reprocess_goes_on_where_it_was(bench, dlq):
    """A second run sees only what the first put back or what came since; counts rise by one."""
    await _bury(bench, b"bad")
    seen: list[bytes] = []

    async def fail(message):
        seen.append(message.value)
        return False

    for _ in range(3):
        counts = await bench.dead_letters.reprocess_dlq_messages(dlq, fail, max_retries=1)
        assert counts == {"processed": 1, "succeeded": 0, "failed": 1}
    assert seen == [b"bad"] * 3
    replays = [_added(record).get("replay-count") for record in bench.cluster.records(dlq)]
    assert replays == [None, "1", "2", "3"]


async def test_reprocess_of_an_empty_queue(bench, dlq):
    """An empty queue is read at once."""

    async def handle(message):
        raise AssertionError("must not be called")

    counts = await bench.dead_letters.reprocess_dlq_messages(dlq, handle)
    assert counts == {"processed": 0, "succeeded": 0, "failed": 0}


async def test_reprocess_commits_nothing_that_is_not_put_back(bench, dlq):
    """When a failed message cannot be put back its offset stays: the next run sees it again."""
    await _bury(bench, b"bad")

    async def fail(message):
        bench.cluster.faults.fail("send", BrokerUnavailableError("away"))
        return False

    with pytest.raises(BrokerUnavailableError):
        await bench.dead_letters.reprocess_dlq_messages(dlq, fail, max_retries=1)
    bench.cluster.faults.clear()

    async def handle(message):
        return True

    counts = await bench.dead_letters.reprocess_dlq_messages(dlq, handle)
    assert counts == {"processed": 1, "succeeded": 1, "failed": 0}


async def test_reprocess_stops_where_something_is_away(bench, dlq):
    """A retriable error says nothing about the letter: it stays, and its replays do not count."""
    await _bury(bench, b"first", b"second")
    away = True

    async def handle(message):
        if away and message.value == b"second":
            raise BrokerUnavailableError("the shop is away")
        return True

    for _ in range(5):
        with pytest.raises(BrokerUnavailableError):
            await bench.dead_letters.reprocess_dlq_messages(dlq, handle)
    away = False
    counts = await bench.dead_letters.reprocess_dlq_messages(dlq, handle)
    assert counts == {"processed": 1, "succeeded": 1, "failed": 0}
    assert len(bench.cluster.records(dlq)) == 2


async def test_reprocess_refuses_nonsense(bench, dlq):
    """A name that is no queue, a queue that is not there, and a missing factory are errors."""

    async def handle(message):
        return True

    with pytest.raises(InvalidTopicError):
        await bench.dead_letters.reprocess_dlq_messages(bench.topic, handle)
    with pytest.raises(UnknownTopicError):
        await bench.dead_letters.reprocess_dlq_messages("dev.a.b.c.v1.dlq", handle)
    with pytest.raises(ConfigurationError):
        await DeadLetterQueue(bench.sender).reprocess_dlq_messages(dlq, handle)
