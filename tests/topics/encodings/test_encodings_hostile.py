"""Hostile bytes: one clear error, bounded memory, a process that lives."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from uuid import uuid4

import msgspec
import pytest
import zstandard
from pydantic import BaseModel

from spile.spi import ConfigurationError, UndecodableError
from spile.testkit.scenarios import MockEventGenerator
from spile.topics import MAX_PAYLOAD_BYTES
from spile.topics.encodings import (
    EventSerializer,
    SerializationFormat,
    deserialize,
    deserialize_from_storage,
    deserialize_from_stream,
    serialize_for_storage,
)
from spile.topics.encodings._compression import DICTIONARIES, _dictionary, compress
from spile.topics.events import PreToolUseEvent

EVENTS = [made.event for made in islice(MockEventGenerator(seed=11).generate_traffic(), 50)]


def _flipped(data, rng):
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def test_no_flip_in_stored_events_goes_unnoticed():
    """Of 5,000 bit flips none makes another event of a stored one: refused, or nothing changed."""
    rng = random.Random(5)
    stored = [(event, serialize_for_storage(event)[0]) for event in EVENTS]
    refused = 0
    for number in range(5000):
        event, data = stored[number % len(stored)]
        try:
            assert deserialize_from_storage(_flipped(data, rng)) == event
        except UndecodableError:
            refused += 1
    assert refused > 4900


@pytest.mark.parametrize("given", SerializationFormat)
def test_no_flip_goes_unnoticed_with_the_metadata(given):
    """With its metadata every flipped event is refused, in every encoding."""
    rng = random.Random(6)
    serializer = EventSerializer(given)
    written = [serializer.serialize(event) for event in EVENTS]
    for number in range(500):
        data, metadata = written[number % len(written)]
        with pytest.raises(UndecodableError):
            serializer.deserialize(_flipped(data, rng), metadata)


@pytest.mark.parametrize("given", SerializationFormat)
def test_mangled_bytes_end_in_an_event_or_the_one_error(given):
    """Flips, cuts, insertions and repeats never end in another exception."""
    rng = random.Random(7)
    serializer = EventSerializer(given)
    written = [serializer.serialize(event)[0] for event in EVENTS]
    for number in range(1000):
        data = written[number % len(written)]
        place = rng.randrange(len(data))
        mangled = [
            _flipped(_flipped(data, rng), rng),
            data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place:],
            data[:place] + rng.randbytes(4) + data[place + 4 :],
            data[:place] + data,
        ][number % 4]
        for read in (serializer.deserialize, deserialize):
            with contextlib.suppress(UndecodableError):
                assert isinstance(read(mangled), BaseModel)


@pytest.mark.parametrize("given", SerializationFormat)
def test_every_cut_and_every_extra_byte_is_refused(given):
    """No beginning of an event is one, and nothing may stand behind it."""
    serializer = EventSerializer(given)
    data, _ = serializer.serialize(EVENTS[0])
    for end in range(len(data)):
        with pytest.raises(UndecodableError):
            serializer.deserialize(data[:end])
    for more in (b"\x00", b"x", data):
        with pytest.raises(UndecodableError):
            serializer.deserialize(data + more)


HOSTILE = {
    "nothing": b"",
    "a number": b"\x05",
    "a list": b"\x90",
    "null": b"\xc0",
    "text that ends early": b"\x81\xdb\xff\xff\xff\xff",
    "an array of four billion": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "an object of four billion": b"\xdf\xff\xff\xff\xff\xa1a\x01",
    "deep arrays": b"\x81\xaaevent_type" + b"\x91" * 100_000,
    "deep objects": b"\x81\xa1a" * 100_000 + b"\x01",
    "deep JSON": b'{"event_type":' + b"[" * 100_000,
    "a foreign extension": b"\x81\xaaevent_type\xc7\xff\x05",
    "a time beyond the calendar": b"\x81\xa1a\xc7\x0c\xff" + b"\x7f" * 12,
    "no type": b"\x81\xa1a\x01",
    "an unknown type": b'{"event_type":"Nothing"}',
    "a type that is a list": b'{"event_type":["PreToolUse"]}',
    "unknown telemetry": b'{"event":"no.such"}',
    "a key twice, one broken": b'{"event_type":"PreToolUse","event_type":7}',
    "an Avro marker alone": b"\xc3\x01",
    "an unknown Avro schema": b"\xc3\x01" + b"\x01" * 20,
    "a zstd magic alone": b"\x28\xb5\x2f\xfd",
    "too large": b"\x00" * (MAX_PAYLOAD_BYTES + 1),
    "no UTF-8": b"\x81\xaaevent_type\xa2\xff\xfe",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused(name):
    """What is no event is refused by every reader with the one error."""
    data = HOSTILE[name]
    for read in (deserialize, deserialize_from_stream, deserialize_from_storage):
        with pytest.raises(UndecodableError):
            read(data)
    for given in SerializationFormat:
        serializer = EventSerializer(given)
        if name != "nothing" and data != b"\x90":
            with pytest.raises(UndecodableError):
                serializer.deserialize_batch(data)
        if len(data) < MAX_PAYLOAD_BYTES:
            with pytest.raises(UndecodableError):
                deserialize_from_storage(compress(data))


def _frame(data, **options):
    return zstandard.ZstdCompressor(level=19, **options).compress(data)


def test_frames_that_are_not_ours_are_refused():
    """No checksum, no size, another dictionary, two frames: the reason says which."""
    plain = EventSerializer().serialize(EVENTS[0])[0]
    samples = [msgspec.msgpack.encode({"x": number, "y": str(number)}) for number in range(2000)]
    other = zstandard.train_dictionary(4096, samples, dict_id=99_999)
    frame = _frame(plain, write_checksum=True)
    assert deserialize_from_storage(frame) == EVENTS[0]
    for data, reason in (
        (_frame(plain), "no checksum"),
        (_frame(plain, write_checksum=True, write_content_size=False), "not state the size"),
        (_frame(plain, write_checksum=True, dict_data=other), "unknown dictionary 99999"),
        (_frame(b"\x00" * 10_000_000, write_checksum=True), "limit"),
        (frame + frame, "zstd"),
        (frame[:-1], "zstd"),
    ):
        with pytest.raises(UndecodableError, match=reason):
            deserialize_from_storage(data)


RELEASED = {84_001: "523d98cdee308fa2e7a224cd1a2d2e394d0e37c98a75a752f25ce30b421cf632"}


@pytest.mark.parametrize("stated", [5, [], {}, "xml"])
def test_odd_metadata_are_refused(stated):
    """A format that is none ends in the one error, whatever its type."""
    with pytest.raises(UndecodableError, match="no format"):
        deserialize(serialize_for_storage(EVENTS[0])[0], {"format": stated})


def test_the_dictionaries_are_those_that_were_released():
    """Stored events need these very bytes for ever; a new dictionary gets a new id."""
    found = {number: _dictionary(number) for number in DICTIONARIES}
    assert {n: hashlib.sha256(d.as_bytes()).hexdigest() for n, d in found.items()} == RELEASED
    assert all(dictionary.dict_id() == number for number, dictionary in found.items())


def test_threads_may_store_at_once():
    """Compressors are not shared: events written by many threads are all read back."""
    with ThreadPoolExecutor(4) as pool:
        written = list(pool.map(serialize_for_storage, EVENTS * 20))
        read = list(pool.map(deserialize_from_storage, [data for data, _ in written]))
    assert read == EVENTS * 20


def test_without_the_extra_the_error_names_it(monkeypatch):
    """Whoever stores without `zstandard` is told what to install."""
    data, _ = serialize_for_storage(EVENTS[0])
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(ConfigurationError, match=r"spile-topics\[zstd\]"):
        deserialize_from_storage(data)


BOMBS = """
    import resource, struct, sys, zstandard
    from spile.spi import UndecodableError
    from spile.topics.encodings import *

    def peak():
        with open("/proc/self/status") as status:
            return next(int(x.split()[1]) for x in status if x.startswith("VmHWM:")) // 1024

    serializers = [EventSerializer(given) for given in SerializationFormat]
    zeros = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(400_000_000))
    lying = bytearray(zeros)
    size = struct.pack("<I", 400_000_000)
    assert size in lying
    lying[lying.index(size):lying.index(size) + 4] = struct.pack("<I", 900_000)
    bombs = [
        zeros, bytes(lying),
        b"\\x81\\xa1a\\xdd\\x00\\x0f\\x42\\x00" + b"\\x90" * 990_000,
        b"\\x81\\xa1a" * 300_000, b'{"a":' * 190_000, b"[" * 999_999,
        b'{"event_type":"PostToolUse","x":[' + b"[]," * 320_000 + b"[]]}",
    ]
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    before = peak()
    for bomb in bombs:
        for read in [deserialize, *(s.deserialize for s in serializers),
                     *(s.deserialize_batch for s in serializers)]:
            try:
                read(bomb)
            except UndecodableError:
                continue
            raise SystemExit("a bomb was read")
    array = AvroSchema.parse({"type": "array", "items": {"type": "record", "name": "R", "fields": [
        {"name": f"f{n}", "type": ["null", "int"]} for n in range(100)]}})
    try:
        array.decode(b"\\xa0\\x9c\\x01" + bytes(1_500_000))
    except UndecodableError:
        pass
    print(peak() - before)
"""


def test_bombs_take_little_memory():
    """400 MB in 12 kB, sizes that lie, a million empty lists: under 200 MB, and all refused."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BOMBS)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 200


@pytest.mark.parametrize("data", ["text", None, 10**9, [1]])
def test_what_is_no_bytes_is_refused(data):
    """A number would make as many zeros."""
    with pytest.raises(UndecodableError, match="expected bytes"):
        deserialize(data)


def test_compressed_bytes_name_their_reader():
    """The likeliest mistake gets the way out."""
    event = PreToolUseEvent(agent_id=uuid4(), tool_name="Read", parameters={})
    data, _ = serialize_for_storage(event)
    with pytest.raises(UndecodableError, match="deserialize_from_storage"):
        deserialize_from_stream(data)
    assert deserialize(memoryview(data)) == event
