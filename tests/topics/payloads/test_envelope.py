"""Envelopes and ids."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.spi import InvalidEventError, ProtocolEventEnvelope, UndecodableError
from spile.topics import (
    MAX_RECORD_BYTES,
    correlation_uuid,
    decode_envelope,
    encode_envelope,
    parse_uuid,
    uuid7,
    uuid7_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip
objects = st.dictionaries(st.text(), json_values, max_size=5)


def _envelope(**change):
    parts = {
        "event_id": str(uuid4()),
        "event_type": "PRE_TOOL_USE",
        "correlation_id": str(uuid4()),
        "timestamp": "2026-01-01T00:00:00Z",
        "service": "agent",
        "payload": {"x": 1},
        **change,
    }
    return json.dumps({key: value for key, value in parts.items() if value is not ...}).encode()


@given(
    ids=st.tuples(st.uuids(), st.uuids(), st.none() | st.uuids()),
    moment=st.datetimes(timezones=st.just(UTC)),
    service=st.text(min_size=1),
    payload=objects,
    metadata=st.none() | objects,
)
async def test_what_is_encoded_is_decoded(ids, moment, service, payload, metadata):
    """An envelope joined from parts reads back field by field."""
    data = encode_envelope(
        event_id=str(ids[0]),
        event_type="ORDER_PLACED",
        correlation_id=str(ids[1]),
        causation_id=str(ids[2]) if ids[2] else None,
        timestamp=moment.isoformat().replace("+00:00", "Z"),
        service_json=msgspec.json.encode(service),
        payload_json=msgspec.json.encode(payload),
        version="v2",
        metadata=metadata,
    )
    envelope = decode_envelope(data)
    assert (envelope.event_id, envelope.correlation_id, envelope.causation_id) == ids
    assert (envelope.timestamp, envelope.service, envelope.version) == (moment, service, "v2")
    assert (await envelope.get_payload(), envelope.metadata) == (payload, metadata)
    assert isinstance(envelope, ProtocolEventEnvelope)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": "abc"}, "event_id"),
        ({"event_id": ...}, "event_id"),
        ({"event_type": "PreToolUse"}, "event_type"),
        ({"event_type": "A\n"}, "event_type"),
        ({"event_type": ""}, "event_type"),
        ({"correlation_id": "abc-123"}, "correlation_id"),
        ({"causation_id": 5}, "causation_id"),
        ({"timestamp": "2026-01-01T00:00:00"}, "timestamp"),
        ({"timestamp": 5}, "timestamp"),
        ({"timestamp": "0001-01-01T00:00:00+01:00"}, "timestamp"),
        ({"service": ""}, "service"),
        ({"payload": ...}, "payload"),
        ({"payload": [1]}, "payload"),
        ({"payload": None}, "payload"),
        ({"version": 1}, "version"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    """What is no envelope is refused, and the field is named."""
    with pytest.raises(UndecodableError, match=field) as caught:
        decode_envelope(_envelope(**change))
    assert caught.value.field == field


def _nested(depth):
    return b'{"x":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\x00\x00\x00\x00\x01",
        b"\xff\xfe",
        b"[" * 100_000,
        _envelope().replace(b'{"x": 1}', b"[" * 100_000),
        _envelope().replace(b'{"x": 1}', _nested(35)),
        _envelope().replace(b'{"x": 1}', b'{"x": NaN}'),
        _envelope() + b"x",
        b" " * (MAX_RECORD_BYTES + 1),
    ],
    ids=lambda data: data[:12].hex() + str(len(data)),
)
def test_hostile_bytes_are_undecodable(data):
    """Broken, deep and huge input ends in UndecodableError, nothing else."""
    with pytest.raises(UndecodableError):
        decode_envelope(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_undecodable(data):
    """No bytes make the reader fail in another way."""
    with pytest.raises(UndecodableError):
        decode_envelope(data)


def test_brackets_in_text_are_no_depth():
    """Depth counts structure, not characters."""
    payload = json.dumps({"x": '[{"\\' * 50, "y": [1]}).encode()
    assert decode_envelope(_envelope().replace(b'{"x": 1}', payload)).payload_json == payload
    assert decode_envelope(_envelope().replace(b'{"x": 1}', _nested(34)))


def test_the_time_of_an_envelope_is_utc():
    """An offset that a foreign producer wrote is turned into UTC."""
    moment = decode_envelope(_envelope(timestamp="2026-01-01T01:00:00+01:00")).timestamp
    assert (moment, moment.tzinfo) == (datetime(2026, 1, 1, tzinfo=UTC), UTC)


def test_unknown_fields_of_an_envelope_are_left_alone():
    """A newer minor version may add fields."""
    assert decode_envelope(_envelope(new_field=[1])).service == "agent"


def test_ids_are_time_ordered_and_unique():
    """UUIDv7 of one thread increase strictly and carry the time."""
    ids = [UUID(uuid7_text()) if number % 2 else uuid7() for number in range(20_000)]
    assert ids == sorted(set(ids))
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    seconds = datetime.now(UTC).timestamp() - (ids[-1].int >> 80) / 1000
    assert abs(seconds) < 5


def test_the_seed_of_the_application_does_not_repeat_ids():
    """`random.seed` of the surrounding program has no say."""
    random.seed(1)
    first = uuid7().int & (2**62 - 1)
    random.seed(1)
    assert uuid7().int & (2**62 - 1) != first


_FORK = """
import os
from spile.topics import uuid7
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, uuid7().bytes)
    os._exit(0)
os.wait()
print(os.read(reader, 16).hex(), uuid7().hex)
"""


def test_a_forked_process_makes_other_ids():
    """Parent and child do not share the random part."""
    done = subprocess.run(
        [sys.executable, "-c", _FORK], check=True, capture_output=True, text=True, timeout=60
    )
    child, parent = (UUID(text).int & (2**62 - 1) for text in done.stdout.split())
    assert child != parent


@given(st.text())
def test_a_foreign_id_maps_to_one_uuid(text):
    """The same text gives the same UUID; a UUID maps to itself."""
    mapped = correlation_uuid(text)
    assert mapped == correlation_uuid(text) == correlation_uuid(str(mapped))


def test_a_foreign_correlation_id_is_refused_with_the_way_out():
    """The error names the field and the function that maps."""
    with pytest.raises(InvalidEventError, match="correlation_uuid") as caught:
        parse_uuid("abc-123", "correlation_id")
    assert caught.value.field == "correlation_id"
    one = uuid4()
    assert parse_uuid(str(one).upper(), "x") == parse_uuid(one, "x") == str(one)
