"""The frame of a schema id."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.adapters.registry import Framed, frame, subject_for, unframe
from spile.spi import UndecodableError

ids = st.integers(0, (1 << 31) - 1)


def test_the_frame_is_the_published_one():
    """A zero byte, the id as four bytes with the highest first, then the body."""
    assert frame(258, b"body") == b"\x00\x00\x00\x01\x02body"


@given(ids, st.binary(max_size=50))
def test_what_is_framed_comes_back(schema_id, body):
    """Framing and unframing change nothing."""
    assert unframe(frame(schema_id, body)) == Framed(schema_id=schema_id, body=body)


@given(ids, st.binary(max_size=50), st.lists(st.integers(0, (1 << 31) - 1), min_size=1))
def test_protobuf_indexes_come_back(schema_id, body, indexes):
    """The indexes of a Protobuf message type are read as they were written."""
    indexes = indexes[:64]
    framed = frame(schema_id, body, message_indexes=indexes)
    expected = Framed(schema_id=schema_id, body=body, message_indexes=tuple(indexes))
    assert unframe(framed, protobuf=True) == expected


@given(st.binary(max_size=60))
def test_protobuf_is_passed_through_untouched(data):
    """Without asking for the indexes they stay in the body: framing again gives the same bytes."""
    framed = frame(7, data)
    opened = unframe(framed)
    assert frame(opened.schema_id, opened.body) == framed


@pytest.mark.parametrize(
    ("tail", "indexes", "body"),
    [
        (b"\x00rest", (0,), b"rest"),  # the short form of the first message type
        (b"\x02\x00rest", (0,), b"rest"),
        (b"\x04\x02\x06rest", (1, 3), b"rest"),
        (b"\x02\x80\x02rest", (128,), b"rest"),
    ],
)
def test_protobuf_indexes_are_the_published_ones(tail, indexes, body):
    """Zig-zag varints: how many, then each; a single zero stands for the first type."""
    opened = unframe(b"\0\0\0\0\x07" + tail, protobuf=True)
    assert (opened.message_indexes, opened.body) == (indexes, body)


def test_the_first_message_type_is_written_short():
    """As other clients do."""
    assert frame(7, b"x", message_indexes=[0]) == b"\0\0\0\0\x07\0x"


@pytest.mark.parametrize(
    "tail", [b"", b"\x80", b"\x02", b"\x01", b"\x02\x01", b"\xff" * 9, b"\x82\x01" + b"\0" * 65]
)
def test_broken_protobuf_indexes_are_undecodable(tail):
    """Missing, negative, endless or absurdly many indexes are refused."""
    with pytest.raises(UndecodableError, match="message index"):
        unframe(b"\0\0\0\0\x07" + tail, protobuf=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes are too short"),
        (b"\0\0\0\0", "4 bytes are too short"),
        (b"\x01\0\0\0\x07body", "byte 1, expected 0"),
        (b'{"a": 1}', "byte 123, expected 0"),
        (b"\xff\0\0\0\x07", "byte 255, expected 0"),
        (b"\0\xff\xff\xff\xffbody", "4294967295, above 2147483647"),
    ],
)
def test_what_is_no_frame_is_undecodable(data, reason):
    """Bytes without a frame say what is wrong with them, and never show themselves."""
    with pytest.raises(UndecodableError, match=reason):
        unframe(data)


@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_do_more_than_that(data, protobuf):
    """Whatever comes, it is a frame or undecodable."""
    with contextlib.suppress(UndecodableError):
        unframe(data, protobuf=protobuf)


@pytest.mark.parametrize("schema_id", [-1, 1 << 31])
def test_an_impossible_id_is_not_framed(schema_id):
    """An id that does not fit is a mistake of the caller."""
    with pytest.raises(ValueError, match="no schema id"):
        frame(schema_id, b"")


@pytest.mark.parametrize("indexes", [[], [-1], [0] * 65])
def test_impossible_indexes_are_not_framed(indexes):
    """Indexes that do not fit are a mistake of the caller."""
    with pytest.raises(ValueError, match="message indexes"):
        frame(1, b"", message_indexes=indexes)


def test_a_frame_shows_no_payload():
    """What is logged by mistake is the id, not the body."""
    assert "secret" not in repr(Framed(schema_id=1, body=b"secret"))


def test_a_subject_is_of_topic_and_event_type():
    """One topic holds several event types, so each has a subject of its own there."""
    assert subject_for("dev.a.tool.recorded.v1", "PRE_TOOL_USE") == (
        "dev.a.tool.recorded.v1-PRE_TOOL_USE"
    )
