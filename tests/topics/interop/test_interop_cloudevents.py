"""CloudEvents: ours written by the specification, read back without loss, foreign ones taken."""

import json
import re
import string
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from cloudevents.core.bindings import kafka as sdk
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from spile.spi import InvalidEventError, MessageTooLargeError, UndecodableError
from spile.topics import Envelope, correlation_uuid, decode_envelope
from spile.topics.interop import (
    CloudEvent,
    from_cloudevent,
    from_record,
    is_cloudevent,
    to_binary,
    to_cloudevent,
    to_structured,
)

NOW = datetime(2026, 3, 2, 9, 30, 0, 250_000, tzinfo=UTC)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
FORMAT = JSONFormat()
# RFC 3986, section 4.1, as far as its characters go.
URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-F]{2})+")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
own_headers = st.fixed_dictionaries(
    {},
    optional={
        "schema_version": st.sampled_from([b"1.0.0", b"1.1.0", b"draft"]),
        "trace_id": st.just(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        "span_id": st.just(b"00f067aa0ba902b7"),
        "operation_name": st.text().map(str.encode),
        "priority": st.sampled_from([b"high", b"whatever"]),
        "retry_count": st.sampled_from([b"0", b"3", b"-1"]),
        "partition_key": st.text().map(str.encode),
        "x-other": st.binary(max_size=6),
    },
)


@st.composite
def envelopes(draw):
    return Envelope(
        event_id=draw(st.uuids()),
        event_type=draw(st.from_regex(r"[A-Z][A-Z0-9]{0,5}(_[A-Z0-9]{1,5}){0,2}", fullmatch=True)),
        correlation_id=draw(st.uuids()),
        causation_id=draw(st.none() | st.uuids()),
        timestamp=draw(st.datetimes(timezones=st.just(UTC))),
        service=draw(st.text(min_size=1)),
        payload=msgspec.Raw(msgspec.json.encode(draw(objects))),
        version=draw(st.sampled_from(["v1", "v2", "v1.3"]) | st.text(min_size=1)),
        metadata=draw(st.none() | objects),
    )


def parts(envelope):
    return msgspec.structs.asdict(envelope) | {"payload": envelope.payload_json}


def ours(**change):
    values = {
        "event_id": UUID("0190c8a0-0000-7000-8000-000000000001"),
        "event_type": "PRE_TOOL_USE",
        "correlation_id": UUID("0190c8a0-0000-7000-8000-000000000002"),
        "causation_id": UUID("0190c8a0-0000-7000-8000-000000000003"),
        "timestamp": NOW,
        "service": "agent",
        "payload": msgspec.Raw(b'{"tool_name":"Read"}'),
    }
    return Envelope(**(values | change))


def foreign(**change):
    return CloudEvent(
        **{
            "id": "A234-1234",
            "source": "https://example.com/orders",
            "type": "com.example.order.paid.v2",
            "time": "2018-04-05T17:31:00.123456789+02:00",
            "datacontenttype": "application/json",
            "data": b'{"amount": 12}',
        }
        | change
    )


@settings(max_examples=60)
@given(
    envelope=envelopes(),
    headers=own_headers,
    key=st.none() | st.text().map(str.encode) | st.binary(max_size=4),
    mode=st.sampled_from([to_binary, to_structured]),
)
def test_interop_our_events_come_back_without_loss(envelope, headers, key, mode):
    """Envelope, headers and key survive either content mode; missing headers are filled in."""
    record = mode(to_cloudevent(envelope, headers.items(), key=key))
    read = from_cloudevent(from_record(record.headers, record.value, key=record.key))
    assert parts(read.envelope) == parts(envelope)
    assert dict(read.headers) == dict(read.headers) | headers
    assert read.key == (str(envelope.correlation_id).encode() if key is None else key)
    whole = decode_envelope(msgspec.json.encode(read.envelope))
    assert msgspec.json.decode(whole.payload) == msgspec.json.decode(envelope.payload)


@settings(max_examples=60)
@given(envelope=envelopes(), headers=own_headers)
def test_interop_our_attributes_keep_the_rules(envelope, headers):
    """Names are lower-case letters and digits, at most 20; sources are URI references."""
    event = to_cloudevent(envelope, headers.items(), key=b"key")
    for name, value in event.attributes.items():
        assert set(name) <= set(string.ascii_lowercase + string.digits)
        assert len(name) <= 20
        assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in value)
    assert URI_REFERENCE.fullmatch(event.source)
    assert datetime.fromisoformat(event.time) == envelope.timestamp


@settings(max_examples=60)
@given(
    type_=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20),
    id_=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12),
    data=st.one_of(
        st.none().map(lambda _: (None, None)),
        json_values.map(lambda value: ("application/json", msgspec.json.encode(value))),
        st.text(max_size=9).map(lambda text: ("text/plain", text.encode())),
        st.binary(max_size=9).map(lambda raw: ("application/octet-stream", raw)),
    ),
    extensions=st.dictionaries(
        st.from_regex(r"[a-c][a-z0-9]{1,5}", fullmatch=True).filter(lambda name: name != "data"),
        st.text(string.printable[:90], max_size=6),
        max_size=3,
    ),
)
def test_interop_foreign_events_come_back_without_loss(type_, id_, data, extensions):
    """A foreign CloudEvent that went through an envelope is the same CloudEvent again."""
    event = CloudEvent(
        id=id_,
        source="urn:x",
        type=type_,
        datacontenttype=data[0],
        data=data[1],
        extensions=extensions,
    )
    record = from_cloudevent(event, received=NOW)
    envelope = decode_envelope(msgspec.json.encode(record.envelope))
    assert to_cloudevent(envelope) == event


def test_interop_foreign_event_gets_what_it_lacks():
    """Type, id, correlation, time, service and headers follow by the stated rules."""
    record = from_cloudevent(foreign())
    envelope = record.envelope
    assert envelope.event_type == "COM_EXAMPLE_ORDER_PAID_V2"
    assert envelope.event_id == correlation_uuid("https://example.com/orders#A234-1234")
    assert envelope.correlation_id == envelope.event_id
    assert envelope.causation_id is None
    assert envelope.timestamp == datetime(2018, 4, 5, 15, 31, 0, 123_457, tzinfo=UTC)
    assert envelope.service == "https://example.com/orders"
    assert envelope.payload_json == b'{"amount": 12}'
    assert envelope.metadata["cloudevent"]["id"] == "A234-1234"
    assert [name for name, _ in record.headers] == [
        "content_type",
        "correlation_id",
        "message_id",
        "timestamp",
        "source",
        "event_type",
        "schema_version",
    ]
    assert record.key == str(envelope.correlation_id).encode()


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        ({"correlationid": "0190c8a0-0000-7000-8000-000000000002"}, None),
        ({"correlationid": "order 7"}, correlation_uuid("order 7")),
        (
            {"traceparent": TRACEPARENT},
            UUID("4bf92f35-77b3-4da6-a3ce-929d0e0e4736"),
        ),
        ({"traceparent": "00-" + "0" * 32 + "-00f067aa0ba902b7-01"}, ...),
        ({"traceparent": "broken"}, ...),
    ],
)
def test_interop_foreign_correlation(extensions, expected):
    """The correlation id is `correlationid`, else the trace, else the event's own id."""
    envelope = from_cloudevent(foreign(extensions=extensions)).envelope
    if expected is None:
        expected = UUID(extensions["correlationid"])
    assert envelope.correlation_id == (envelope.event_id if expected is ... else expected)


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("com.github.pull_request.opened", "COM_GITHUB_PULL_REQUEST_OPENED"),
        ("orderPaid", "ORDER_PAID"),
        ("spile.PRE_TOOL_USE", "PRE_TOOL_USE"),
        ("2nd.event", "CE_2ND_EVENT"),
        ("注文", "CLOUD_EVENT"),
        ("a//b", "A_B"),
    ],
)
def test_interop_foreign_type_becomes_upper_snake(type_, expected):
    """Any type becomes UPPER_SNAKE_CASE that an envelope accepts."""
    envelope = from_cloudevent(foreign(type=type_)).envelope
    assert envelope.event_type == expected
    assert decode_envelope(msgspec.json.encode(envelope)).event_type == expected


@pytest.mark.parametrize(
    ("media_type", "data", "payload"),
    [
        ("application/json", b"[1,2]", {"data": [1, 2]}),
        (None, b'"a"', {"data": "a"}),
        ("application/vnd.x+json; charset=UTF-8", b'{"a":1}', {"a": 1}),
        ("application/xml", b"<a/>", {"data": "<a/>"}),
        ("application/json; charset=utf-16", b"\xff\xfe{\x00", {"data_base64": "//57AA=="}),
        ("application/octet-stream", b"\xff", {"data_base64": "/w=="}),
        ("application/json", None, {}),
    ],
)
def test_interop_foreign_data_becomes_an_object(media_type, data, payload):
    """Every kind of data becomes a JSON object."""
    envelope = from_cloudevent(foreign(datacontenttype=media_type, data=data)).envelope
    assert msgspec.json.decode(envelope.payload) == payload


def test_interop_foreign_event_without_time_takes_the_time_of_the_record():
    """Without `received`, an event without time is refused."""
    event = foreign(time=None)
    assert from_cloudevent(event, received=NOW).envelope.timestamp == NOW
    with pytest.raises(UndecodableError, match="no time") as caught:
        from_cloudevent(event)
    assert caught.value.field == "time"


def test_interop_changed_envelope_is_the_foreign_event_while_its_identity_is_the_same():
    """A changed payload is the foreign event's new data; with another id it is an event of ours."""
    envelope = from_cloudevent(foreign()).envelope
    changed = msgspec.structs.replace(envelope, payload=msgspec.Raw(b'{"amount":13}'))
    assert to_cloudevent(changed) == foreign(data=b'{"amount":13}')
    other = msgspec.structs.replace(envelope, event_id=UUID(int=7))
    assert to_cloudevent(other).type == "spile.COM_EXAMPLE_ORDER_PAID_V2"


def test_interop_binary_mode_has_the_headers_of_the_binding():
    """Headers are `ce_` and the attribute, `content-type`, and the value is the payload alone."""
    event = to_cloudevent(
        ours(), [("schema_version", b"1.1.0"), ("traceparent", TRACEPARENT.encode())], key=b"s1"
    )
    record = to_binary(event)
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"0190c8a0-0000-7000-8000-000000000001",
        "ce_source": b"/spile/agent",
        "ce_type": b"spile.PRE_TOOL_USE",
        "ce_time": b"2026-03-02T09:30:00.250000Z",
        "ce_subject": b"s1",
        "content-type": b"application/json",
        "ce_correlationid": b"0190c8a0-0000-7000-8000-000000000002",
        "ce_causationid": b"0190c8a0-0000-7000-8000-000000000003",
        "ce_schemaversion": b"1.1.0",
        "ce_traceparent": TRACEPARENT.encode(),
        "ce_topicversion": b"v1",
        "ce_partitionkey": b"s1",
    }
    assert record.value == b'{"tool_name":"Read"}'
    assert record.key == b"s1"
    assert is_cloudevent(record.headers)


def test_interop_binary_mode_does_not_percent_encode_headers():
    """The Kafka binding sends UTF-8 as it is; percent-encoding is the HTTP binding's."""
    record = to_binary(foreign(subject="naïve 100%"))
    assert dict(record.headers)["ce_subject"] == "naïve 100%".encode()
    assert from_record(record.headers, record.value).subject == "naïve 100%"


def test_interop_no_data_is_a_record_without_value_in_binary_mode_only():
    """A CloudEvent without data is a tombstone in binary mode, and none in structured mode."""
    event = foreign(data=None)
    assert to_binary(event).value is None
    assert "data" not in json.loads(to_structured(event).value)


def test_interop_sdk_reads_our_binary_records():
    """The official SDK reads what we write in binary mode."""
    record = to_binary(to_cloudevent(ours(), key=b"s1"))
    message = sdk.KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value)
    read = sdk.from_binary(message, FORMAT)
    assert (read.get_id(), read.get_type(), read.get_source()) == (
        "0190c8a0-0000-7000-8000-000000000001",
        "spile.PRE_TOOL_USE",
        "/spile/agent",
    )
    assert read.get_time() == NOW
    assert read.get_extension("correlationid") == "0190c8a0-0000-7000-8000-000000000002"
    assert read.get_data() == {"tool_name": "Read"}


def test_interop_sdk_reads_our_structured_records():
    """The official SDK reads what we write in structured mode."""
    record = to_structured(to_cloudevent(ours(service="späh er"), key=b"s1"))
    message = sdk.KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value)
    read = sdk.from_structured(message, FORMAT)
    assert read.get_source() == "/spile/sp%C3%A4h%20er"
    assert read.get_time() == NOW
    assert read.get_data() == {"tool_name": "Read"}


@pytest.mark.parametrize("write", [sdk.to_binary, sdk.to_structured])
@pytest.mark.parametrize(
    ("media_type", "data"),
    [("application/json", {"a": [1, {"b": "ü"}]}), ("text/plain", "hello"), (None, None)],
)
def test_interop_we_read_what_the_sdk_writes(write, media_type, data):
    """What the official SDK writes is read, attribute by attribute, and written back the same."""
    attributes = {
        "type": "com.example.t",
        "source": "/x",
        "id": "1",
        "time": NOW,
        "partitionkey": "p",
    }
    if media_type is not None:
        attributes["datacontenttype"] = media_type
    message = write(SdkEvent(attributes, data), FORMAT)
    event = from_record(message.headers.items(), message.value or None, key=b"p")
    assert (event.id, event.source, event.type) == ("1", "/x", "com.example.t")
    assert datetime.fromisoformat(event.time) == NOW
    assert event.extensions == {"partitionkey": "p"}
    again = to_structured(to_cloudevent(from_cloudevent(event).envelope))
    back = FORMAT.read(None, again.value)
    assert (back.get_type(), back.get_data()) == ("com.example.t", data)


@pytest.mark.parametrize(
    ("headers", "value", "field"),
    [
        ({}, b"{}", "specversion"),
        ({"ce_specversion": b"0.3", "ce_id": b"1"}, b"", "specversion"),
        ({"ce_specversion": b"1.0", "ce_id": b"1", "ce_type": b"t"}, b"", "source"),
        (
            {"ce_specversion": b"1.0", "ce_id": b"\xff", "ce_type": b"t", "ce_source": b"s"},
            b"",
            "id",
        ),
        ({"ce_specversion": b"1.0", "ce_id": b"", "ce_type": b"t", "ce_source": b"s"}, b"", "id"),
        (
            {"ce_specversion": b"1.0", "ce_id": b"1", "ce_type": b"a\nb", "ce_source": b"s"},
            b"",
            "type",
        ),
        (
            {
                "ce_specversion": b"1.0",
                "ce_id": b"1",
                "ce_type": b"t",
                "ce_source": b"s",
                "ce_a_b": b"",
            },
            b"",
            "a_b",
        ),
        ({"content-type": b"application/cloudevents+avro"}, b"", "content-type"),
        ({"content-type": b"application/cloudevents-batch+json"}, b"[]", "content-type"),
        ({"content-type": b"Application/CloudEvents+JSON"}, b"[]", None),
        ({"content-type": b"application/cloudevents+json"}, b'{"specversion":"1.0"}', "id"),
        (
            {"content-type": b"application/cloudevents+json"},
            b'{"specversion":"1.0","id":1.5,"source":"s","type":"t"}',
            "id",
        ),
        (
            {"content-type": b"application/cloudevents+json"},
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}',
            "data_base64",
        ),
        (
            {"content-type": b"application/cloudevents+json"},
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}',
            "data_base64",
        ),
        (
            {"content-type": b"application/cloudevents+json"},
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":1}',
            "data",
        ),
        ({"content-type": b"application/cloudevents+json"}, b"[" * 100_000, None),
    ],
)
def test_interop_bad_cloudevent_is_refused_by_one_error(headers, value, field):
    """What is no CloudEvent 1.0 raises UndecodableError, which names the attribute."""
    with pytest.raises(UndecodableError) as caught:
        from_record(headers.items(), value)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "data", [b'1,"x":2', b"{", b'{"a":1}}', b"", b"\xff", b"[" * 40 + b"]" * 40]
)
def test_interop_bad_data_is_refused(data):
    """Data that is no JSON though it says so, or too deep, is refused when it becomes a payload."""
    with pytest.raises(UndecodableError) as caught:
        from_cloudevent(foreign(data=data))
    assert caught.value.field == "data"


def test_interop_large_data_is_refused():
    """A payload over the limit names its size."""
    with pytest.raises(MessageTooLargeError, match="1000002 bytes"):
        from_cloudevent(foreign(data=b'"' + b"x" * 999_991 + b'"'))


def test_interop_structured_mode_refuses_data_that_is_not_json():
    """A CloudEvent that says JSON and holds none cannot be written as JSON."""
    with pytest.raises(InvalidEventError, match="no JSON"):
        to_structured(foreign(data=b"{"))


def test_interop_foreign_headers_do_not_poison_ours():
    """Extensions that only look like our headers do not become headers that readers refuse."""
    event = foreign(extensions={"priority": "5", "schemaversion": "draft", "retrycount": "many"})
    headers = dict(from_cloudevent(event).headers)
    assert headers["schema_version"] == b"1.0.0"
    assert not {"priority", "retry_count"} & set(headers)


def test_interop_needs_no_optional_package():
    """Importing the package needs neither the SDKs nor protobuf."""
    code = (
        "import sys, spile.topics.interop\n"
        "assert not {'cloudevents', 'opentelemetry', 'google.protobuf'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_payloads_version_goes_with_it_without_headers():
    """An observability event says itself of which version it is."""
    payload = msgspec.Raw(b'{"metadata":{"schema_version":"1.1.0"}}')
    event = to_cloudevent(msgspec.structs.replace(ours(), payload=payload))
    assert event.extensions["schemaversion"] == "1.1.0"
    assert to_cloudevent(ours()).extensions["schemaversion"] == "1.0.0"
