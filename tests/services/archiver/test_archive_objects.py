"""Objects, their keys and manifests, and where they are cut."""

import hashlib
import io
import json
from datetime import timedelta

import fastavro
import pytest
from fastavro.schema import to_parsing_canonical_form

from spile.services.archiver.objects import (
    MAX_BLOCK_BYTES,
    MAX_READ_BYTES,
    SCHEMA,
    SCHEMA_SHA256,
    CuttingRule,
    Manifest,
    ObjectKey,
    manifest_key,
    parse_manifest_key,
    sync_marker,
)
from spile.services.archiver.reading import Container, ReadLimits
from spile.spi import InvalidTopicError, UndecodableError


def test_the_schema_is_in_canonical_form():
    """The text is Avro's canonical form, so its hash is the fingerprint that Avro defines."""
    assert to_parsing_canonical_form(fastavro.parse_schema(json.loads(SCHEMA))) == SCHEMA
    assert hashlib.sha256(SCHEMA.encode()).hexdigest() == SCHEMA_SHA256


def test_a_record_comes_back_as_it_was(numbered, seal, read_avro):
    """Apache's reader gives every part of a record: nulls, empty bytes, repeated headers."""
    headers = (("a", b""), ("a", b"\x00\xff"), ("none", None), ("ä" * 100, b"x" * 9_000))
    odd = [
        {"key": None, "value": None, "headers": ()},
        {"key": b"", "value": b"", "headers": headers},
        {"timestamp": -(2**63), "value": b"\x00" * 100_000},
        {"timestamp": 2**63 - 1},
    ]
    records = [numbered(1, first=2**40 + n, **changes)[0] for n, changes in enumerate(odd)]

    sealed = seal(records, CuttingRule(records=1))
    rows = [row for made in sealed for row in read_avro(made.data)]

    assert [
        (
            row["topic"],
            row["partition"],
            row["offset"],
            row["timestamp"],
            row["key"],
            row["value"],
            tuple((header["name"], header["value"]) for header in row["headers"]),
        )
        for row in rows
    ] == [(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in records]


def test_the_same_records_give_the_same_bytes(numbered, seal):
    """Neither the moment nor the process decides a byte of object and manifest."""
    first, second = (seal(numbered(5_000))[0] for _ in range(2))

    assert first == second
    assert first.data[-16:] == sync_marker(first.manifest.object)


def test_blocks_are_bounded(numbered, seal, tmp_path):
    """A block holds at most 512 KiB, unless one record alone is larger."""
    sizes = [100_000] * 12 + [700_000, 10]
    records = [numbered(1, first=offset, value=b"v" * size)[0] for offset, size in enumerate(sizes)]
    path = tmp_path / "object.avro"
    path.write_bytes(seal(records)[0].data)
    with path.open("rb") as file:
        blocks = list(Container(file, name="it", limits=ReadLimits()).blocks())

    assert [block.count for block in blocks] == [5, 5, 2, 1, 1]
    assert all(len(block.data) <= MAX_BLOCK_BYTES for block in blocks if block.count > 1)


@pytest.mark.parametrize(
    ("rule", "counts"),
    [
        (CuttingRule(records=4), [4, 4]),
        (CuttingRule(size_bytes=200), [2, 2, 2, 2, 2]),
        (CuttingRule(window=timedelta(seconds=3)), [4, 4]),
    ],
)
def test_an_object_ends_with_the_record_that_fills_it(numbered, seal, rule, counts):
    """The first record that reaches a limit is the object's last one; the rest stays open."""
    sealed = seal(numbered(10, step_ms=1_000, value=b"v" * 50), rule)

    assert [made.manifest.count for made in sealed] == counts


def blocks(sealed):
    """Read an object as a reader with the default limits."""
    return list(Container(io.BytesIO(sealed.data), name="object", limits=ReadLimits()).blocks())


def test_a_record_that_no_reader_takes_stands_alone(numbered, seal):
    """It ends the object before it and its own, so that its neighbours can be read."""
    records = numbered(10)
    records[4] = numbered(1, first=4, value=bytes(MAX_READ_BYTES))[0]
    sealed = seal(records, CuttingRule(records=5))

    assert [made.manifest.first_offset for made in sealed] == [0, 4, 5]
    assert [made.manifest.count for made in sealed] == [4, 1, 5]
    assert [made.manifest.start_position for made in sealed] == [0, 4, 5]
    for made in (sealed[0], sealed[2]):
        assert blocks(made)
    with pytest.raises(UndecodableError, match="limit"):
        blocks(sealed[1])


def test_such_a_record_may_come_first(numbered, seal):
    """Where nothing is open there is nothing to end before it."""
    (sealed,) = seal(numbered(1, value=bytes(MAX_READ_BYTES)), CuttingRule(records=5))
    assert sealed.manifest.count == 1


def test_a_record_from_another_time_ends_an_object(numbered, seal, noon):
    """A jump of record time either way closes, so that none can hold an object open for ever."""
    future, back = numbered(1, timestamp=noon + 10**10)[0], numbered(2, first=1)

    assert [made.manifest.count for made in seal([future, *back], CuttingRule())] == [2]


def test_the_rule_names_its_prefix():
    """Another limit is another prefix; the same limits are the same one."""
    rules = [CuttingRule(), CuttingRule(records=9), CuttingRule(size_bytes=9)]
    rules.append(CuttingRule(window=timedelta(seconds=9)))

    assert len({rule.name for rule in rules}) == 4
    assert CuttingRule().name == CuttingRule().name


def test_a_manifest_says_what_the_object_holds(numbered, seal, noon, topic):
    """Offsets, times, ticks and events by minute are those of the records."""
    records = numbered(2, first=7, headers=(("timestamp", b"2025-12-31T23:59:59.999Z"),))
    records += numbered(1, first=12, timestamp=noon - 5, headers=(("timestamp", b"yesterday"),))
    records += numbered(1, first=13, headers=(("event_type", b"TICK"),))
    sealed = seal(records)[0]
    manifest = sealed.manifest

    assert manifest.object.endswith(
        f"/topic={topic}/date=2026-01-01/hour=12/0-00000000000000000007.avro"
    )
    assert manifest.sha256 == hashlib.sha256(sealed.data).hexdigest()
    assert (manifest.count, manifest.ticks) == (4, 1)
    assert (manifest.start_position, manifest.first_offset) == (7, 7)
    assert (manifest.last_offset, manifest.next_position) == (13, 14)
    assert (manifest.earliest_timestamp, manifest.latest_timestamp) == (noon - 5, noon + 13)
    assert manifest.event_minutes == {"2025-12-31T23:59Z": 2, "2026-01-01T11:59Z": 1}
    assert Manifest.from_json(manifest.to_json(), key=manifest.key) == manifest


@pytest.mark.parametrize(
    "change",
    [
        {"count": 100},
        {"next_position": 0},
        {"topic": "dev.other.tool.recorded.v1"},
        {"object": "../../etc/passwd"},
        {"ticks": 1},
        {"sha256": "0"},
        {"more": 1},
        {"format": 2},
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(numbered, seal, change):
    """What was changed by hand is not believed."""
    manifest = seal(numbered(3))[0].manifest
    changed = json.dumps(json.loads(manifest.to_json()) | change).encode()

    with pytest.raises(UndecodableError):
        Manifest.from_json(changed, key=manifest.key)


def test_minutes_of_a_manifest_are_bounded(numbered, seal):
    """A producer with made-up times cannot make manifests grow without bound."""
    records = [
        numbered(
            1, first=n, headers=(("timestamp", b"%04d-01-01T00:%02d:00Z" % (n // 60, n % 60)),)
        )
        for n in range(12_000)
    ]
    minutes = seal([record for (record,) in records])[0].manifest.event_minutes

    assert len(minutes) == 10_001
    assert minutes["other"] == 2_000


@pytest.mark.parametrize(
    "topic_name", ["../etc", "/etc", "dev..v1", "dev.%2e.v1", "a\0b", "A.b", ""]
)
def test_no_topic_leads_out_of_the_archive(topic_name):
    """Keys are made of validated names alone."""
    with pytest.raises(InvalidTopicError):
        ObjectKey.of("v1-00000000", topic_name, 0, first_offset=0, timestamp=0)
    with pytest.raises(InvalidTopicError):
        manifest_key(topic_name, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        "manifests/topic=dev.a.b.c.v1/partition=0/../../../00000000000000000000.json",
        "manifests/topic=dev.a.b.c.v1/partition=0/00000000000000000000.json\n",
        "manifests/topic=dev.a.b.c.v1/partition=٣/00000000000000000000.json",
        "v1-00000000/topic=a/date=2026-01-01/hour=00/0-0.avro",
        "/v1-00000000/topic=a/date=2026-01-01/hour=00/0-00000000000000000000.avro",
    ],
)
def test_foreign_keys_are_refused(text):
    """A key is matched as a whole."""
    with pytest.raises(UndecodableError):
        ObjectKey.parse(text)
    with pytest.raises(UndecodableError):
        parse_manifest_key(text)


def test_keys_come_back(topic):
    """What was made is parsed."""
    key = ObjectKey.of("v1-00ff00ff", topic, 3, first_offset=2**62, timestamp=-(2**63))

    assert ObjectKey.parse(str(key)) == key
    assert key.date == "0001-01-01"
    assert parse_manifest_key(manifest_key(topic, 3, 5)) == ((topic, 3), 5)
