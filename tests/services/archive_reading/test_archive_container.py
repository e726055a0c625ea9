"""Object container files are read within bounds, to the last byte."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys

import fastavro
import pytest
import zstandard

from spile.adapters.delivery import Record
from spile.services.archiver.reading import Container, ReadLimits, RecordDecoder
from spile.spi import UndecodableError

TOPIC = "dev.agent.tool.recorded.v1"
SYNC = bytes(range(16))
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "topic", "type": "string"},
            {"name": "partition", "type": "int"},
            {"name": "offset", "type": "long"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "key", "type": ["null", "bytes"]},
            {"name": "value", "type": ["null", "bytes"]},
            {
                "name": "headers",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "H",
                        "fields": [
                            {"name": "name", "type": "string"},
                            {"name": "value", "type": ["null", "bytes"]},
                        ],
                    },
                },
            },
        ],
    }
).encode()
LIMITS = ReadLimits()
BASE_RSS = """
import io, resource, sys
from spile.services.archiver.reading import Container, ReadLimits
from spile.spi import UndecodableError
data = sys.stdin.buffer.read()
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    schema = sys.argv[1].encode()
    opened = Container(io.BytesIO(data), name="bomb", limits=ReadLimits(), schemas=[schema])
    for _ in opened.blocks():
        pass
except UndecodableError as exc:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base, exc)
"""


def long(number):
    """Write a zigzag number."""
    number = (number << 1) ^ (number >> 63)
    made = bytearray()
    while number & ~0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def sized(data):
    """Write bytes with their length."""
    return long(len(data)) + data


def head(schema=SCHEMA, codec=b"zstandard", extra=b""):
    """Write the header of a container."""
    entries = [(b"avro.schema", schema), (b"avro.codec", codec)]
    body = b"".join(sized(name) + sized(value) for name, value in entries)
    return b"Obj\x01" + long(len(entries)) + body + extra + long(0) + SYNC


def block(data, count, *, frame=None):
    """Write one block."""
    frame = zstandard.ZstdCompressor(level=3).compress(data) if frame is None else frame
    return long(count) + sized(frame) + SYNC


def encoded(offset=0, **changes):
    """Write one record."""
    parts = {
        "topic": sized(changes.get("topic", TOPIC).encode()),
        "partition": long(changes.get("partition", 0)),
        "offset": long(offset),
        "timestamp": long(1_767_323_045_000),
        "key": b"\x02" + sized(b"key"),
        "value": b"\x02" + sized(changes.get("value", b'{"n":%d}' % offset)),
        "headers": changes.get("headers", long(1) + sized(b"h") + b"\x00" + long(0)),
    }
    return b"".join(parts.values())


def read(data, schemas=(SCHEMA,), limits=LIMITS):
    """Read a whole container."""
    opened = Container(io.BytesIO(data), name="object", schemas=schemas, limits=limits)
    decoder = RecordDecoder("object", TOPIC, 0, limits)
    return [record for part in opened.blocks() for record in decoder.records(part)]


@pytest.fixture
def whole():
    """A container of three blocks."""
    made = head()
    for start in range(0, 60, 20):
        made += block(b"".join(encoded(n) for n in range(start, start + 20)), 20)
    return made


def test_reads_what_another_writer_wrote():
    """Records that fastavro writes come back as they were: nulls, repeats, empty and odd bytes."""
    headers = [("a", b"1"), ("a", None), ("", b""), ("ü", b"\xff\x00")]
    rows = [
        (None, None, []),
        (b"", b"", headers),
        (b"\xff", bytes(range(256)) * 999, headers * 30),
    ]
    expected = [
        Record(TOPIC, 0, (1 << 62) + n, -1 + n, key, value, tuple(found))
        for n, (key, value, found) in enumerate(rows)
    ]
    blocks = b""
    for record in expected:
        out = io.BytesIO()
        named = [{"name": name, "value": value} for name, value in record.headers]
        fields = ("topic", "partition", "offset", "timestamp", "key", "value")
        row = {name: getattr(record, name) for name in fields} | {"headers": named}
        fastavro.schemaless_writer(out, json.loads(SCHEMA), row)
        blocks += block(out.getvalue(), 1)

    assert read(head() + blocks) == expected


def test_reads_all_blocks(whole):
    """Every record of every block is read, in order."""
    assert [record.offset for record in read(whole)] == list(range(60))


def test_a_file_that_ends_anywhere_else_is_refused(whole):
    """No prefix of a file passes for the file, unless it ends with a block."""
    ends = {len(head())}
    for start in range(0, 60, 20):
        data = b"".join(encoded(n) for n in range(start, start + 20))
        ends.add(max(ends) + len(block(data, 20)))
    for size in set(range(len(whole))) - ends:
        with pytest.raises(UndecodableError):
            read(whole[:size])


def test_flipped_bits_raise_nothing_else(whole):
    """Whatever a flipped bit does, the reader refuses or reads on; nothing else is raised."""
    dice = random.Random(36)
    for _ in range(1_500):
        data = bytearray(whole)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        try:
            read(bytes(data))
        except UndecodableError:
            continue


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK\x03\x04", "is no Avro object container file"),
        (b"", "ends in the middle"),
        (head(codec=b"null"), "has the codec b'null'"),
        (head(schema=b'"bytes"'), "not one of this archive's records"),
        (b"Obj\x01" + long(1) + sized(b"x") + long(1 << 40), "header of more than 65536 bytes"),
        (b"Obj\x01" + long(1) + long(-5), "header of more than"),
        (b"Obj\x01" + long(1 << 40), "more than 64 entries"),
        (b"Obj\x01" + b"\xff" * 10, "more than 64 bits"),
        (head() + long(-1) + sized(b"x"), "block of -1 records"),
        (head() + long(1) + long(1 << 50), f"block of {1 << 50} compressed bytes"),
        (head() + long(1) + long(-1), "block of -1 compressed bytes"),
        (head() + block(b"", 1, frame=b"no frame"), "zstandard cannot read"),
        (head() + block(encoded(), 1 << 40), "records in"),
        (head() + block(encoded(), 2), "ends in a record"),
        (head() + block(encoded() * 2, 1), "bytes behind the records"),
        (head() + block(encoded(), 1)[:-1] + b"\xff", "sync marker"),
        (head() + block(encoded(topic="dev.other"), 1), "another partition"),
        (head() + block(encoded(partition=1), 1), "another partition"),
        (head() + block(encoded(-1), 1), "the offset -1"),
        (head() + block(encoded(headers=long(1_100_001)), 1), "more than 1100000 headers"),
        (head() + block(encoded(headers=long(1) + sized(b"\xff") + b"\0\0"), 1), "no UTF-8"),
        (head() + block(encoded(headers=long(1) + sized(b"h") + b"\x04"), 1), "neither null"),
        (head() + block(encoded()[:-8] + long(1 << 30), 1), "block"),
    ],
)
def test_hostile_bytes_are_refused_with_a_reason(data, why):
    """Each break of the format is an error that names the object and what is wrong."""
    with pytest.raises(UndecodableError, match=r"^object ") as caught:
        read(data)
    assert why in str(caught.value)


def test_value_beyond_the_bound_is_refused():
    """A value beyond the bound is refused before it is copied."""
    with pytest.raises(UndecodableError, match="value of 101 bytes, limit 100"):
        read(head() + block(encoded(value=bytes(101)), 1), limits=ReadLimits(value_bytes=100))


@pytest.mark.parametrize("cut", [1, 2, 4, 5])
def test_frame_without_its_end_is_refused(cut):
    """A frame that lacks its last bytes is refused, though its content may be whole."""
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(encoded())
    with pytest.raises(UndecodableError):
        read(head() + block(b"", 1, frame=frame[:-cut]))


def test_bytes_behind_a_frame_are_refused():
    """A block is exactly one frame: nothing may hide behind it."""
    frame = zstandard.ZstdCompressor().compress(encoded())
    for more in (frame, b"\x00", frame[:6]):
        with pytest.raises(UndecodableError, match="not exactly one zstandard frame"):
            read(head() + block(b"", 1, frame=frame + more))


def test_large_window_is_refused():
    """A frame may not make its reader keep 128 MiB of what came before."""
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    maker = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    frame = maker.compress(encoded()) + maker.flush()
    with pytest.raises(UndecodableError, match="zstandard cannot read"):
        read(head() + block(b"", 1, frame=frame))


@pytest.mark.parametrize("stated", [True, False])
def test_bomb_costs_no_memory(stated):
    """400 MiB in 13 KB are refused within 64 MiB, whether the frame states its size or not."""
    maker = zstandard.ZstdCompressor(level=3).compressobj(size=400 << 20 if stated else -1)
    frame = b"".join(maker.compress(bytes(8 << 20)) for _ in range(50)) + maker.flush()
    assert len(frame) < 64 * 1024
    data = head() + block(b"", 1, frame=frame)

    done = subprocess.run(
        [sys.executable, "-c", BASE_RSS, SCHEMA.decode()],
        input=data,
        capture_output=True,
        check=True,
        timeout=60,
    )

    kilobytes, _, why = done.stdout.decode().partition(" ")
    assert "bomb has a block of" in why
    assert int(kilobytes) < 64 * 1024
