"""Which definitions are accepted, and that no definition makes checking expensive."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spile.adapters.registry import FileSchemaRegistry
from spile.spi import SchemaError
from spile.topics.encodings import avro_schema
from spile.topics.events import MODELS


@pytest.fixture
async def folder(tmp_path):
    async with FileSchemaRegistry(tmp_path) as registry:
        yield registry


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"items": {"$ref": "#"}},
        {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}},
        {
            "$ref": "#/$defs/a/properties/x",
            "$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/a"}}}},
        },
        {"$defs": {"a/b": {"items": {"$ref": "#/$defs/a~1b"}}}},
        {"$defs": {"a b": {"items": {"$ref": "#/%24defs/a%20b"}}}},
        {"anyOf": [{"type": "null"}, {"items": {"$ref": "#/anyOf/1"}}]},
        {"items": {"$dynamicRef": "#node"}, "$dynamicAnchor": "node"},
        {"items": {"$recursiveRef": "#"}, "$recursiveAnchor": True},
    ],
)
async def test_recursion_is_found_wherever_it_hides(folder, schema):
    """A definition that leads back to itself, by whatever way, is refused."""
    with pytest.raises(SchemaError, match="recursi"):
        await folder.register_schema("s", schema)


@pytest.mark.parametrize(
    "reference", ["http://127.0.0.1:1/a", "file:///etc/passwd", "other.json#/a", "#anchor", ""]
)
async def test_no_definition_is_fetched(folder, reference):
    """A definition refers only to places in itself: nothing is read from elsewhere."""
    with pytest.raises(SchemaError, match="refers to"):
        await folder.register_schema("s", {"items": {"$ref": reference}})


async def test_a_reference_used_twice_is_no_recursion(folder):
    """A definition may share its parts, and hold a field that is called like a keyword."""
    money = {"type": "object", "properties": {"amount": {"type": "integer"}}}
    schema = {
        "properties": {
            "net": {"$ref": "#/$defs/money"},
            "gross": {"$ref": "#/$defs/money"},
            "$ref": {"type": "string"},
        },
        "$defs": {"money": money},
    }
    schema_id = await folder.register_schema("s", schema)
    assert await folder.validate_message(b'{"net": {"amount": 1}, "$ref": "x"}', schema_id)
    assert not await folder.validate_message(b'{"gross": {"amount": "1"}}', schema_id)


async def test_a_reference_to_nowhere_is_refused(folder):
    """A definition whose parts are missing is no schema."""
    with pytest.raises(SchemaError, match="no JSON Schema"):
        await folder.register_schema("s", {"items": {"$ref": "#/$defs/missing"}})


async def test_a_definition_may_not_be_nested_absurdly(folder):
    """Depth is bounded, before anything recurses over it."""
    schema: dict = {"type": "string"}
    for _ in range(100):
        schema = {"items": schema}
    with pytest.raises(SchemaError, match="deeper than 64"):
        await folder.register_schema("s", schema)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(?=(a+)+$)b", "^(a|aa)+(?!x)$", "(a*)*b"])
async def test_a_pattern_cannot_burn_time(folder, pattern):
    """A pattern made to backtrack for ever ends at once."""
    schema_id = await folder.register_schema("s", {"type": "string", "pattern": pattern})
    begin = time.monotonic()
    await folder.validate_message(b'"' + b"a" * 5_000 + b'!"', schema_id)
    assert time.monotonic() - begin < 1.0


async def test_shared_parts_cannot_multiply(folder):
    """Forty levels that each use the next one twice would cost 2^40 steps for one message."""
    parts: dict[str, dict] = {"p40": {"type": "string"}}
    for n in range(40):
        parts[f"p{n}"] = {"allOf": [{"$ref": f"#/$defs/p{n + 1}"}] * 2}
    with pytest.raises(SchemaError, match=r"parts|deeper"):
        await folder.register_schema("s", {"$ref": "#/$defs/p0", "$defs": parts})
    short = {"$ref": "#/$defs/p25", "$defs": {f"p{n}": parts[f"p{n}"] for n in range(25, 41)}}
    with pytest.raises(SchemaError, match="more than 20000 parts"):
        await folder.register_schema("s", short)


@pytest.mark.parametrize("event_type", sorted(MODELS))
async def test_the_schemas_of_all_events_are_accepted(folder, event_type):
    """What the limits refuse is nothing that our own events need."""
    await folder.register_schema("json", MODELS[event_type].model_json_schema())
    await folder.register_schema("avro", avro_schema(MODELS[event_type]), "AVRO")


@given(st.binary(max_size=200))
async def test_no_message_makes_the_check_fail(tmp_path_factory, data):
    """Whatever the bytes are, the answer is yes or no."""
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    async with FileSchemaRegistry(tmp_path_factory.getbasetemp() / "fuzzed") as registry:
        schema_id = await registry.register_schema("s", schema)
        assert await registry.validate_message(data, schema_id) in {True, False}
