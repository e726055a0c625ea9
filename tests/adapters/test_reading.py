"""Reading events: what is not complete and consistent is refused with the reason."""

from uuid import uuid4

import pytest

from spile.adapters.delivery import OutgoingEvent, Record
from spile.adapters.publishing import EventEncoder
from spile.adapters.subscribing import EventReader
from spile.spi import UndecodableError
from spile.topics import default_catalogue
from spile.topics.events import PreToolUseEvent

CATALOGUE = default_catalogue(services=("shop",))


@pytest.fixture
def event():
    return PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={"path": "/a"})


@pytest.fixture
def record(event):
    encoder = EventEncoder(CATALOGUE, environment="dev", service="shop")
    made = encoder.encode(OutgoingEvent(event_type="PRE_TOOL_USE", payload=event)).record
    return Record(made.topic, 0, 7, 0, made.key, made.value, tuple(made.headers))


def changed(record, **headers):
    """Return the record with headers replaced, or left out where None."""
    kept = [(n, v) for n, v in record.headers if n not in headers]
    kept += [(name, value) for name, value in headers.items() if value is not None]
    return Record(record.topic, 0, 7, 0, record.key, record.value, tuple(kept))


@pytest.mark.parametrize("times", [1, 3])
def test_the_quick_and_the_slow_way_read_the_same(record, event, times):
    """The first record of a kind goes the slow way, later ones the quick one."""
    reader = EventReader(CATALOGUE)
    for _ in range(times):
        received = reader.read(record)
    again = reader.read(changed(record, extra=b"1"))
    for read in (received, again):
        assert read.payload == event
        assert read.event_id == event.event_id
        assert read.event_type == "PRE_TOOL_USE"
        assert read.timestamp == event.timestamp
        assert read.data.payload.tool_name == "Read"
        assert read.facts.service == "shop"


def test_an_environment_of_any_name_is_read(event):
    """What a publisher of the environment `qa` writes is no poison for its readers."""
    encoder = EventEncoder(CATALOGUE, environment="qa", service="shop")
    made = encoder.encode(OutgoingEvent(event_type="PRE_TOOL_USE", payload=event)).record
    record = Record(made.topic, 0, 7, 0, made.key, made.value, tuple(made.headers))
    assert EventReader(CATALOGUE).read(record).payload == event


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"content_type": None}, "content_type"),
        ({"content_type": b"text/plain"}, "content_type"),
        ({"message_id": str(uuid4()).encode()}, "message_id"),
        ({"message_id": b"junk"}, "message_id"),
        ({"correlation_id": str(uuid4()).encode()}, "correlation_id"),
        ({"event_type": b"POST_TOOL_USE"}, "event_type"),
        ({"event_type": None}, "event_type"),
        ({"schema_version": b"9.9.9"}, "schema_version"),
        ({"schema_version": b"1.99.0"}, "schema_version"),
        ({"schema_version": b"one"}, "schema_version"),
        ({"schema_version": b"1." + b"9" * 5000 + b".0"}, "schema_version"),
        ({"timestamp": b"yesterday"}, "timestamp"),
        ({"source": b""}, "source"),
    ],
)
def test_headers_that_are_missing_or_at_odds_are_refused(record, headers, field):
    """Nothing is guessed; the error names the header, also after records that were fine."""
    reader = EventReader(CATALOGUE)
    reader.read(record)
    with pytest.raises(UndecodableError) as caught:
        reader.read(changed(record, **headers))
    assert caught.value.field == field


def test_headers_in_their_usual_order_are_held_to_the_envelope_too(record):
    """The quick way compares them byte for byte."""
    reader = EventReader(CATALOGUE)
    reader.read(record)
    swapped = list(record.headers)
    swapped[2] = ("message_id", str(uuid4()).encode())
    with pytest.raises(UndecodableError, match="message_id"):
        reader.read(Record(record.topic, 0, 7, 0, record.key, record.value, tuple(swapped)))


def test_a_tombstone_and_a_foreign_topic_are_refused(record):
    """No value, and a type that does not belong to the topic."""
    reader = EventReader(CATALOGUE)
    with pytest.raises(UndecodableError, match="tombstone"):
        reader.read(Record(record.topic, 0, 7, 0, record.key, None, record.headers))
    other = "dev.shop.memory.recorded.v1"
    with pytest.raises(UndecodableError, match="does not belong"):
        reader.read(Record(other, 0, 7, 0, record.key, record.value, record.headers))


def test_a_payload_that_breaks_its_contract_is_refused(record):
    """The error names the field."""
    reader = EventReader(CATALOGUE)
    reader.read(record)
    broken = record.value.replace(b'"tool_name":"Read"', b'"tool_name":5')
    with pytest.raises(UndecodableError, match="tool_name"):
        reader.read(Record(record.topic, 0, 7, 0, record.key, broken, record.headers))
