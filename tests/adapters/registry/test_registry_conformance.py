"""What every registry does, be it a server or a folder."""

from __future__ import annotations

import pytest

from spile.adapters.registry import (
    CompatibilityLevel,
    SchemaRegistry,
    SchemaType,
    UnknownIdError,
)
from spile.spi import (
    ClosedError,
    IncompatibleSchemaError,
    ProtocolSchemaRegistry,
    SchemaError,
)
from spile.topics.encodings import AvroSchema

PROTO = {"proto": 'syntax = "proto3"; message A { string s = 1; }'}


def test_it_is_the_contract(registry: SchemaRegistry):
    """A registry is a `ProtocolSchemaRegistry`."""
    assert isinstance(registry, ProtocolSchemaRegistry)


async def test_a_schema_comes_back_under_its_id(registry, unique, order):
    """What was registered is what its id returns."""
    schema = order(total="integer")
    schema_id = await registry.register_schema(unique("s"), schema)
    assert await registry.get_schema(schema_id) == schema
    assert (await registry.stored_schema(schema_id)).schema_type is SchemaType.JSON


async def test_the_same_again_gives_the_same_id(registry, unique, order):
    """Registering is idempotent, in whatever order the keys come."""
    subject, schema = unique("s"), order(total="integer", name="string")
    first = await registry.register_schema(subject, schema)
    turned = dict(reversed(schema.items()))
    assert await registry.register_schema(subject, turned) == first
    assert await registry.versions(subject) == [1]


async def test_one_schema_has_one_id_under_all_subjects(registry, unique, record):
    """An id names a schema, not a place."""
    schema = record(total="int")
    first = await registry.register_schema(unique("s"), schema, "AVRO")
    assert await registry.register_schema(unique("s"), schema, "AVRO") == first


async def test_versions_count_from_one(registry, unique, record):
    """A new schema of a subject is its next version, and the newest one."""
    subject, old = unique("s"), record(total="int")
    new = record({"name": "note", "type": "string", "default": ""}, total="int")
    first = await registry.register_schema(subject, old, "AVRO")
    second = await registry.register_schema(subject, new, "AVRO")
    newest = await registry.version(subject)
    assert (newest.version, newest.stored.schema_id, newest.stored.schema) == (2, second, new)
    assert (await registry.version(subject, 1)).stored.schema_id == first
    assert subject in await registry.subjects()


@pytest.mark.parametrize("number", [None, 7])
async def test_a_version_that_is_not_there_is_an_error(registry, unique, number):
    """An unknown subject or version is named."""
    subject = unique("s")
    with pytest.raises(SchemaError, match=f"{subject}.*has no version"):
        await registry.version(subject, number)
    assert await registry.versions(subject) == []


async def test_an_unknown_id_is_an_error(registry, unique, order):
    """An id that was never given is a schema error, which no waiting helps."""
    await registry.register_schema(unique("s"), order(total="integer"))
    with pytest.raises(UnknownIdError, match="no schema 2000000000") as caught:
        await registry.get_schema(2_000_000_000)
    assert not caught.value.retriable
    with pytest.raises(SchemaError):
        await registry.validate_message(b"{}", 2_000_000_000)


async def test_lookup_finds_what_is_registered(registry, unique, order):
    """Looking up a schema gives its version, and registers nothing."""
    subject, schema = unique("s"), order(total="integer")
    assert await registry.lookup(subject, schema) is None
    schema_id = await registry.register_schema(subject, schema)
    found = await registry.lookup(subject, schema)
    assert (found.version, found.stored.schema_id) == (1, schema_id)
    assert found.stored.schema_type is SchemaType.JSON
    assert await registry.lookup(subject, order(other="integer")) is None


@pytest.mark.parametrize(
    ("level", "refuses_new_required", "refuses_removed"),
    [
        (CompatibilityLevel.NONE, False, False),
        (CompatibilityLevel.BACKWARD, True, False),
        (CompatibilityLevel.FORWARD, False, True),
        (CompatibilityLevel.FULL, True, True),
    ],
)
async def test_the_level_of_a_subject_decides(
    registry, unique, record, level, refuses_new_required, refuses_removed
):
    """A subject refuses what its level forbids, says so beforehand, and keeps what it had."""
    subject, first = unique("s"), record(total="int", name="string")
    schema_id = await registry.register_schema(subject, first, "AVRO")
    await registry.set_compatibility_level(level, subject)
    assert await registry.compatibility_level(subject) is level
    cases = [
        (record(total="int", name="string", more="int"), refuses_new_required),
        (record(total="int"), refuses_removed),
    ]
    for schema, refused in cases:
        verdict = await registry.check_compatibility(subject, schema, "AVRO")
        assert bool(verdict) is not refused
        if refused:
            with pytest.raises(IncompatibleSchemaError, match=subject) as caught:
                await registry.register_schema(subject, schema, "AVRO")
            assert len(str(caught.value)) > len(subject) + 20  # the reasons are there
    if level is CompatibilityLevel.FULL:
        assert (await registry.version(subject)).stored.schema_id == schema_id


async def test_a_transitive_level_looks_at_all_versions(registry, unique, record):
    """What the last version allows, an older one may still forbid."""
    subject = unique("s")
    later = {"name": "more", "type": "string", "default": ""}
    await registry.set_compatibility_level(CompatibilityLevel.NONE, subject)
    await registry.register_schema(subject, record(total="int"), "AVRO")
    await registry.register_schema(subject, record(later, total="int"), "AVRO")
    required = record({"name": "more", "type": "string"}, total="int")
    await registry.set_compatibility_level(CompatibilityLevel.BACKWARD, subject)
    assert await registry.check_compatibility(subject, required, "AVRO")
    await registry.set_compatibility_level(CompatibilityLevel.BACKWARD_TRANSITIVE, subject)
    assert not await registry.check_compatibility(subject, required, "AVRO")
    with pytest.raises(IncompatibleSchemaError):
        await registry.register_schema(subject, required, "AVRO")


async def test_json_schemas_have_levels_too(registry, unique, order):
    """A retyped field is refused in JSON Schema as it is in Avro."""
    subject = unique("s")
    await registry.register_schema(subject, order(total="integer"))
    await registry.set_compatibility_level(CompatibilityLevel.BACKWARD, subject)
    with pytest.raises(IncompatibleSchemaError, match="total"):
        await registry.register_schema(subject, order(total="string"))


async def test_a_new_subject_takes_any_schema(registry, unique, order):
    """There is nothing yet to be compatible with."""
    assert await registry.check_compatibility(unique("s"), order(total="integer"))


async def test_json_messages_are_held_against_their_schema(registry, unique, order):
    """True for what keeps the schema; false for what does not, is no JSON, or is absurdly deep."""
    schema_id = await registry.register_schema(unique("s"), order(total="integer"))
    verdicts = {
        b'{"total": 3}': True,
        b'{"total": "3"}': False,
        b"{}": False,
        b'{"total": 3': False,
        b'{"total": NaN}': False,
        b"\xff": False,
        b"": False,
        b"[" * 100_000: False,
        b"[" * 900 + b"]" * 900: False,
    }
    for message, expected in verdicts.items():
        assert await registry.validate_message(message, schema_id) is expected, message[:20]


async def test_avro_messages_are_held_against_their_schema(registry, unique, record):
    """True only when all the bytes are one value of the schema."""
    schema = record(total="int", name="string")
    schema_id = await registry.register_schema(unique("s"), schema, "AVRO")
    good = AvroSchema.parse(schema).encode({"total": 3, "name": "x"})
    assert await registry.validate_message(good, schema_id)
    for message in (good[:-1], good + b"\0", b"", b"\xff" * 20):
        assert not await registry.validate_message(message, schema_id)


async def test_protobuf_is_kept_and_not_checked(registry, unique):
    """A Protobuf definition gets an id and comes back as text; its messages are not judged."""
    schema_id = await registry.register_schema(unique("s"), PROTO, "PROTOBUF")
    assert await registry.get_schema(schema_id) == PROTO
    with pytest.raises(SchemaError, match="not checked"):
        await registry.validate_message(b"", schema_id)


@pytest.mark.parametrize(
    ("schema", "kind", "reason"),
    [
        ({"type": "nonsense"}, "JSON", "no JSON Schema"),
        ({"properties": {"a": {"$ref": "#"}}}, "JSON", "recursive"),
        ({"$ref": "http://127.0.0.1:1/schema"}, "JSON", "refers to"),
        ({"enum": ["x" * 70_000]}, "JSON", "limit 65536"),
        ({"type": "nonsense"}, "AVRO", "nonsense"),
        (
            {"type": "record", "name": "R", "fields": [{"name": "r", "type": ["null", "R"]}]},
            "AVRO",
            "recursive",
        ),
        ({"text": "message A {}"}, "PROTOBUF", "proto"),
        ({}, "THRIFT", "JSON, AVRO, PROTOBUF"),
        ({"a": float("nan")}, "JSON", "no JSON"),
    ],
)
async def test_what_is_no_fit_schema_is_refused(registry, unique, schema, kind, reason):
    """A wrong, recursive, referring or oversized schema is refused before it is sent."""
    subject = unique("s")
    with pytest.raises(SchemaError, match=reason):
        await registry.register_schema(subject, schema, kind)
    assert await registry.versions(subject) == []


@pytest.mark.parametrize("subject", ["", ".", "..", "a\nb", "x" * 1001])
async def test_what_can_be_no_subject_is_refused(registry, order, subject):
    """A subject cannot lead elsewhere, whatever keeps it."""
    with pytest.raises(SchemaError, match="is no subject"):
        await registry.register_schema(subject, order(total="integer"))


@pytest.mark.parametrize("stem", ["a/b", "../../up", ".hidden", "a b", "a%2Fb", "ü", "a?b#c"])
async def test_a_subject_may_hold_odd_characters(registry, unique, order, stem):
    """Characters that mean something in paths and addresses stay what they are."""
    subject = unique(stem)
    schema_id = await registry.register_schema(subject, order(total="integer"))
    assert (await registry.version(subject)).stored.schema_id == schema_id
    assert subject in await registry.subjects()


async def test_after_the_end_it_says_so(registry, unique, order):
    """A closed registry answers nothing, not even from its memory."""
    schema_id = await registry.register_schema(unique("s"), order(total="integer"))
    await registry.get_schema(schema_id)
    async with registry:
        pass
    with pytest.raises(ClosedError):
        await registry.get_schema(schema_id)
    with pytest.raises(ClosedError):
        await registry.subjects()
