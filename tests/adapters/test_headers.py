"""Headers on the wire."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.adapters.delivery import (
    Backoff,
    SemVer,
    check_required,
    decode_headers,
    encode_headers,
    plain_headers,
    utc_text,
)
from spile.spi import UndecodableError

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture
def wire():
    return plain_headers(source="tests", event_type="SOMETHING_HAPPENED", now=NOW)


def test_what_is_written_is_read(wire):
    """Every required header comes back typed."""
    headers = decode_headers(wire)
    check_required(headers)
    assert headers.source == "tests"
    assert headers.event_type == "SOMETHING_HAPPENED"
    assert headers.timestamp == NOW
    assert headers.schema_version == SemVer(1, 0, 0)
    assert isinstance(headers.message_id, UUID)


def test_encoding_what_was_decoded_gives_the_same_bytes(wire):
    """Decode and encode are inverse, optional headers included."""
    wire += [("priority", b"high"), ("retry_count", b"2")]
    assert encode_headers(decode_headers(wire)) == wire


def test_a_trace_becomes_traceparent(wire):
    """A trace and a span id make the W3C header."""
    wire += [("trace_id", b"4bf92f3577b34da6a3ce929d0e0e4736"), ("span_id", b"00f067aa0ba902b7")]
    encoded = dict(encode_headers(decode_headers(wire)))
    assert encoded["traceparent"] == b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("correlation_id", b"not-a-uuid"),
        ("message_id", b""),
        ("timestamp", b"yesterday"),
        ("timestamp", b"2026-01-02T03:04:05"),
        ("timestamp", b"2026-01-02T03:04:05+02:00"),
        ("schema_version", b"1.0"),
        ("schema_version", b"one.two.three"),
        ("source", b"\xff\xfe"),
    ],
)
def test_a_malformed_required_header_is_named(wire, name, value):
    """The error names the header."""
    with pytest.raises(UndecodableError) as caught:
        check_required(decode_headers([*wire, (name, value)]))
    assert caught.value.field == name


def test_a_missing_required_header_is_named(wire):
    """Each of the seven is asked for."""
    for name, _ in list(wire):
        rest = [pair for pair in wire if pair[0] != name]
        with pytest.raises(UndecodableError, match=name):
            check_required(decode_headers(rest))


def test_wrong_optional_headers_are_refused_when_looked_at(wire):
    """They do not stop a reader that does not need them."""
    headers = decode_headers([*wire, ("priority", b"urgent"), ("ttl_seconds", b"-1")])
    check_required(headers)
    with pytest.raises(UndecodableError, match="low, normal, high, critical"):
        _ = headers.priority
    with pytest.raises(UndecodableError, match="ttl_seconds"):
        _ = headers.ttl_seconds


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7, minutes=30))])))
def test_times_are_written_in_utc(moment):
    """Whatever the zone, the text ends in Z and means the same moment."""
    if moment.year in {1, 9999}:
        return
    text = utc_text(moment)
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == moment


def test_a_naive_time_is_refused():
    """A time without zone could mean anything."""
    with pytest.raises(ValueError, match="no time zone"):
        utc_text(datetime(2026, 1, 1))  # noqa: DTZ001


def test_waits_double_and_stay_below_the_limit():
    """1, 2, 4 seconds by default, never more than 30, and jitter only shortens."""
    plain = Backoff(jitter=0)
    assert [plain.delay(n) for n in (1, 2, 3, 10, 5000)] == [1, 2, 4, 30, 30]
    assert all(0.8 <= Backoff().delay(1) <= 1 for _ in range(100))


def test_ids_differ_between_plain_headers():
    """Two records without headers do not share an id."""
    first, second = (dict(plain_headers(source="s", event_type="T", now=NOW)) for _ in "ab")
    assert first["message_id"] != second["message_id"]
