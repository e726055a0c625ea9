"""Avro: what the reference reads and writes, and nothing that harms."""

from __future__ import annotations

import io
import json
import math
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import avro.io
import avro.schema
import fastavro
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from spile.spi import ConfigurationError, InvalidEventError, SchemaError, UndecodableError
from spile.topics import EventContract, encode_envelope
from spile.topics.encodings import (
    AvroSchema,
    avro_schema,
    avro_to_json,
    envelope_schema,
    json_to_avro,
)
from spile.topics.events import MODELS
from spile.topics.schemas import Level, SchemaKind, compare

FEW = settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def _record(**fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "R",
        "fields": [{"name": name, "type": type_} for name, type_ in fields.items()],
    }


def _apache_reads(definition: Any, data: bytes) -> Any:
    reader = avro.io.DatumReader(avro.schema.parse(json.dumps(definition)))
    rest = io.BytesIO(data)
    value = reader.read(avro.io.BinaryDecoder(rest))
    assert not rest.read()
    return value


def _apache_writes(definition: Any, value: Any) -> bytes:
    out = io.BytesIO()
    writer = avro.io.DatumWriter(avro.schema.parse(json.dumps(definition)))
    writer.write(value, avro.io.BinaryEncoder(out))
    return out.getvalue()


def _stored(schema: Any) -> Any:
    """Leave the logical types out: Apache's library knows no JSON, and fingerprints them."""
    if isinstance(schema, list):
        return [_stored(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _stored(part) for key, part in schema.items() if key != "logicalType"}


@pytest.mark.parametrize("kind", sorted(MODELS))
@given(data=st.data())
@FEW
def test_an_envelope_goes_through_avro_and_back(kind, data, event_strategies):
    """JSON to Avro and back by the schema alone gives the same event; Apache reads it alike."""
    event = data.draw(event_strategies[kind])
    contract = EventContract(kind, MODELS[kind])
    payload = contract.prepare(event).payload_json
    definition = envelope_schema(kind, MODELS[kind])
    schema = AvroSchema.parse(definition)
    envelope = encode_envelope(
        event_id=str(uuid4()), event_type=kind, correlation_id=str(uuid4()), causation_id=None,
        timestamp="2026-01-01T00:00:00.000001Z", service_json=b'"s"', payload_json=payload,
        metadata={"a": [1, None]},
    )  # fmt: skip
    written = json_to_avro(schema, envelope)
    read = json.loads(avro_to_json(schema, written))
    assert contract.decode(msgspec.json.encode(read.pop("payload"))) == event
    before = json.loads(envelope)
    del before["payload"]
    assert read == before
    stored = _stored(definition)
    reference = _apache_reads(stored, written)
    assert AvroSchema.parse(stored).decode(written) == reference
    assert _apache_writes(stored, reference) == written


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_fingerprints_are_those_of_the_reference(kind):
    """Other readers find the schema of a single-object encoding by the same 64 bits."""
    definition = avro_schema(MODELS[kind])
    wanted = avro.schema.parse(json.dumps(_stored(definition))).fingerprint("CRC-64-AVRO")
    assert AvroSchema.parse(definition).fingerprint == bytes(wanted)


def test_the_schema_of_a_model_never_changes_by_itself():
    """Two runs over one model write the same text."""
    for model in MODELS.values():
        assert json.dumps(avro_schema(model)) == json.dumps(avro_schema(model))


EVERYTHING = _record(
    a="null", b="boolean", c="int", d="long", e="float", f="double", g="bytes", h="string",
    i={"type": "enum", "name": "E", "symbols": ["X", "Y"]},
    j={"type": "fixed", "name": "F", "size": 3},
    k={"type": "array", "items": "long"},
    l={"type": "map", "values": ["null", "string", "E"]},
    m=["null", "long", {"type": "record", "name": "In", "fields": [{"name": "x", "type": "F"}]}],
    n={"type": "string", "logicalType": "uuid"},
    o={"type": "long", "logicalType": "timestamp-millis"},
    p={"type": "array", "items": "double"},
)  # fmt: skip
VALUE = {
    "a": None, "b": True, "c": -(2**31), "d": 2**63 - 1, "e": 0.5, "f": 1e300, "g": b"\x00\xff",
    "h": "ä€😀", "i": "Y", "j": b"abc", "k": [1, -64, 64, -(2**63)], "l": {"1": None, "2": "X"},
    "m": {"x": b"xyz"}, "n": UUID(int=7), "o": datetime(1931, 5, 6, 1, 2, 3, 4000, tzinfo=UTC),
    "p": [0.1, -2.5],
}  # fmt: skip


def test_every_type_of_avro_is_written_and_read_as_apache_does():
    """Every type, union and logical type: each of the two reads what the other wrote."""
    schema = AvroSchema.parse(EVERYTHING)
    as_apache = {**VALUE, "n": str(VALUE["n"])}
    assert schema.decode(_apache_writes(EVERYTHING, as_apache)) == VALUE
    assert _apache_reads(EVERYTHING, schema.encode(VALUE)) == as_apache
    assert schema.encode(as_apache) == schema.encode(VALUE)


NAMELESS = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "string": st.text(max_size=5),
    "bytes": st.binary(max_size=3),
}


@st.composite
def typed(draw, depth=3, names=None, without=()):
    """Draw a schema and a value of it."""
    names = [] if names is None else names
    kinds = [*NAMELESS, "enum", "fixed", "array", "map", "record", "union"]
    allowed = [kind for kind in kinds[: 9 if depth == 0 else None] if kind not in without]
    kind = draw(st.sampled_from(allowed))
    names.append(f"N{len(names)}")
    name = names[-1]
    if kind in NAMELESS:
        return kind, draw(NAMELESS[kind])
    if kind in {"enum", "fixed"}:
        made = {"type": kind, "name": name, "symbols": ["A", name], "size": 2}
        return made, name if kind == "enum" else b"\x00\xff"
    if kind == "union":
        parts = draw(st.lists(typed(depth - 1, names, ("union", "bytes", "long")), min_size=1))
        found = {json.dumps(_kind(part)): (part, value) for part, value in parts}
        return [part for part, _ in found.values()], draw(st.sampled_from([*found.values()]))[1]
    inner, value = draw(typed(depth - 1, names, ("null",)))
    if kind == "record":
        more, other = draw(typed(depth - 1, names))
        return {**_record(a=inner, b=more), "name": name}, {"a": value, "b": other}
    items = {"array": ("items", [value] * 3), "map": ("values", {"k": value, "": value})}[kind]
    return {"type": kind, items[0]: inner}, items[1]


def _kind(schema: Any) -> Any:
    return schema.get("name", schema["type"]) if isinstance(schema, dict) else schema


@given(drawn=typed())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_of_any_schema_is_written(drawn):
    """Whatever the types and however they are nested, our reader and Apache's read the value."""
    definition, value = drawn
    written = AvroSchema.parse(definition).encode(value)
    assert AvroSchema.parse(definition).decode(written) == value
    assert _apache_reads(definition, written) == value


NULLS = {"type": "array", "items": _record(**{f"n{n}": "null" for n in range(1500)}, x="int")}


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (["int", "null"], b"\x01"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\x01"),
        ("boolean", b"\x02"),
        ("int", b"\x80\x80\x80\x80\x20"),
        ("long", b"\xff" * 11 + b"\x01"),
        ({"type": "array", "items": "long"}, b"\x03\x7e\x02\x04\x00"),
        ({"type": "map", "values": "int"}, b"\x04\x02a\x02\x02a\x04\x00"),
        (NULLS, b"\xf4\x03" + bytes(251)),
    ],
)
def test_why_fastavro_does_not_read(schema, data):
    """Of gated schemas too fastavro takes bytes that are refused here, and nothing shows it."""
    value = fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(schema))
    if schema is NULLS:
        assert sum(map(len, value)) > 1000 * len(data)
    with pytest.raises(UndecodableError):
        AvroSchema.parse(schema).decode(data)


def test_without_the_extra_the_error_names_it(monkeypatch):
    """Whoever writes Avro without fastavro is told what to install; reading goes on."""
    schema = AvroSchema.parse("int")
    monkeypatch.setitem(sys.modules, "fastavro", None)
    assert schema.decode(b"\x02") == 1
    for ask in (lambda: schema.encode(1), lambda: schema.encode_json(b"1")):
        with pytest.raises(ConfigurationError, match=r"spile-topics\[avro\]"):
            ask()


def test_blocks_that_state_their_size_are_read():
    """Other writers split arrays into blocks and say how long each is."""
    schema = AvroSchema.parse({"type": "array", "items": "long"})
    assert schema.decode(b"\x03\x04\x02\x04\x02\x06\x00") == [1, 2, 3]
    with pytest.raises(UndecodableError, match="does not end where it says"):
        schema.decode(b"\x03\x06\x02\x04\x02\x06\x00")


BOMB: Any = "null"
for _level in range(20):
    _again = f"R{_level - 1}" if _level else "null"
    BOMB = {
        "type": "record",
        "name": f"R{_level}",
        "fields": [{"name": "x", "type": BOMB}, {"name": "y", "type": _again}],
    }
DEEP: Any = "int"
for _level in range(40):
    DEEP = {"type": "array", "items": DEEP}
REFUSED = {
    "recursive": _record(n=["null", "R"]),
    "mutually recursive": _record(
        n={"type": "record", "name": "S", "fields": [{"name": "r", "type": ["null", "R"]}]}
    ),
    "array of nothing": {"type": "array", "items": "null"},
    "array of empty records": {"type": "array", "items": _record()},
    "array of empty fixed": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}},
    "doubling": BOMB,
    "deep": DEEP,
    "deep text": '{"type":"array","items":' * 2000 + '"int"' + "}" * 2000,
    "large": _record(**{f"field_{number}": "string" for number in range(3000)}),
    "no JSON": "{",
    "unknown type": "number",
    "no type": {},
    "a number": 5,
    "undefined name": _record(n="Other"),
    "two of a name": _record(a=_record(), b="int"),
    "union in a union": ["null", ["int"]],
    "union with a repeat": ["int", "int"],
    "empty union": [],
    "bad name": {"type": "record", "name": "a b", "fields": []},
    "bad field name": _record(**{"a-b": "int"}),
    "no symbols": {"type": "enum", "name": "E", "symbols": []},
    "bad symbol": {"type": "enum", "name": "E", "symbols": ["a.b"]},
    "long name": {"type": "record", "name": "n" * 257, "fields": []},
    "long name of a fixed": {"type": "fixed", "name": "n" * 257, "size": 1},
    "long field name": _record(**{"n" * 257: "int"}),
    "long symbol": {"type": "enum", "name": "E", "symbols": ["A", "s" * 257]},
    "negative size": {"type": "fixed", "name": "F", "size": -1},
    "bad default": {
        "type": "record", "name": "R", "fields": [{"name": "a", "type": "int", "default": "x"}]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_harmful_or_wrong_schema_is_refused(name):
    """What is recursive, unbounded, too large or no schema ends in SchemaError."""
    with pytest.raises(SchemaError):
        AvroSchema.parse(REFUSED[name])


def test_names_of_256_characters_are_read():
    """The limit is above what anybody needs, and itself allowed."""
    name = "n" * 256
    inner = {"type": "enum", "name": name, "symbols": [name]}
    assert AvroSchema.parse(_record(**{name: inner})).decode(b"\x00") == {name: name}


_LONGS = {"type": "array", "items": "long"}
_EMPTY_LISTS = {"type": "array", "items": _LONGS}
_WIDE = {"type": "array", "items": _record(**{f"f{n}": ["null", "int"] for n in range(200)})}
HOSTILE = [
    (_LONGS, b""),
    (_LONGS, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    (_LONGS, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00"),
    (_LONGS, b"\x80" * 50),
    (_LONGS, b"\x02\x02" * 200_000 + b"\x00"),
    (_LONGS, b"\x02\x02\x00\x00"),
    (_EMPTY_LISTS, b"\xa0\x8d\x06" + b"\x00" * 50_000),
    (_WIDE, b"\xc0\x84\x3d" + b"\x00" * 1_000_000),
    ("string", b"\x01"),
    ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    ("string", b"\x06\xed\xa0\x80"),
    ("bytes", b"\x04a"),
    ("boolean", b"\x02"),
    ("int", b"\x80\x80\x80\x80\x20"),
    ("double", b"\x00" * 7),
    ("double", b"\x00\x00\x00\x00\x00\x00\xf0\x7f"),
    ("float", b"\x00\x00\xc0\x7f"),
    ({"type": "array", "items": "double"}, b"\x02\x00\x00\x00\x00\x00\x00\xf8\x7f\x00"),
    (["null", "int"], b"\x01"),
    (["null", "int"], b"\x04"),
    ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01"),
    ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02"),
    ({"type": "fixed", "name": "F", "size": 4}, b"abc"),
    ({"type": "map", "values": "int"}, b"\x04\x02a\x02\x02a\x02\x00"),
    ({"type": "string", "logicalType": "uuid"}, b"\x02a"),
    ({"type": "string", "logicalType": "json"}, b"\x02{"),
    ({"type": "string", "logicalType": "json"}, b"\x84\x01" + b"[" * 33 + b"]" * 33),
    ({"type": "long", "logicalType": "timestamp-micros"}, b"\xfe" + b"\xff" * 8 + b"\x01"),
    ("null", b"\x00" * 1_600_001),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "data"), HOSTILE)
def test_hostile_bytes_are_refused(schema, data):
    """Counts, lengths and branches that lie, and values that JSON has not, end in one error."""
    with pytest.raises(UndecodableError):
        AvroSchema.parse(schema).decode(data)


@given(data=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_or_refused(data):
    """Whatever the bytes are, the reader returns a value of all of them or raises its error."""
    schema = AvroSchema.parse(EVERYTHING)
    try:
        value = schema.decode(data)
    except UndecodableError:
        return
    assert schema.decode(schema.encode(value)) == value


@pytest.mark.parametrize(
    ("schema", "value", "field"),
    [
        (_record(a="int"), {"a": 2**31}, "a"),
        (_record(a="int"), {"a": True}, "a"),
        (_record(a="int"), {}, "a"),
        (_record(a="int"), {"a": 1, "b": 2}, "b"),
        (_record(a={"type": "array", "items": "string"}), {"a": ["x", 5]}, "a.1"),
        (_record(a={"type": "map", "values": "int"}), {"a": {"k": "x"}}, "a.k"),
        (_record(a="double"), {"a": math.nan}, "a"),
        (_record(a="string"), {"a": "\ud800"}, "a"),
        (_record(a={"type": "string", "logicalType": "uuid"}), {"a": "x"}, "a"),
        (_record(a={"type": "string", "logicalType": "json"}), {"a": {"x": math.inf}}, "a"),
        (_record(a={"type": "long", "logicalType": "timestamp-micros"}), {"a": "2026"}, "a"),
        (_record(a=["null", "int"]), {"a": "s3cret"}, "a"),
        (_record(a=["int", "boolean"]), {"a": "s3cret"}, "a"),
        (_record(a={"type": "enum", "name": "E", "symbols": ["X"]}), {"a": "s3cret"}, "a"),
        (_record(a=["null", {"type": "map", "values": "string"}]), {"a": {"b": "\ud800"}}, "a.b"),
        (_record(a={"type": "map", "values": "int"}), {"a": {"\ud800": 1}}, "a"),
        (_record(a="float"), {"a": 1e39}, "a"),
        (_record(a="null"), {"a": 0}, "a"),
        (_record(a="bytes"), {"a": "s3cret"}, "a"),
        (_record(a={"type": "fixed", "name": "F", "size": 2}), {"a": b"abc"}, "a"),
        (_record(a={"type": "string", "logicalType": "json"}), {"a": object()}, "a"),
        (_record(a={"type": "string", "logicalType": "json"}), {"a": math.nan}, "a"),
    ],
)
def test_a_value_that_is_not_of_the_schema_is_refused(schema, value, field):
    """The error names the field and shows no value."""
    with pytest.raises(InvalidEventError) as caught:
        AvroSchema.parse(schema).encode(value)
    assert caught.value.field == field
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[", b"\xff", b"[" * 100_000, b'{"a":NaN}', b'{"b":1}'])
def test_json_that_is_not_of_the_schema_is_refused(data):
    """Broken JSON is undecodable, other JSON an invalid event."""
    with pytest.raises((UndecodableError, InvalidEventError)):
        json_to_avro(AvroSchema.parse(_record(a="int")), data)


class Inner(BaseModel):
    """A nested model."""

    size: int = 1


class Outer(BaseModel):
    """A model with what the events of the package do not have."""

    needed: str | None
    other: str | None = "x"
    level: Literal["low", "high"] | None = None
    version: Literal["1.0"] = "1.0"
    inner: list[Inner] = Field(default_factory=list)
    once_more: Inner | None = None
    mixed: int | str = 1
    scores: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)


def test_null_is_left_out_only_where_it_is_the_default():
    """A null that the model does not put there itself survives."""
    schema = AvroSchema.parse(avro_schema(Outer))
    for event in (
        Outer(needed=None, other=None),
        Outer(needed="a", level="high", inner=[Inner(), Inner(size=2)], once_more=Inner()),
        Outer(needed="a", mixed="text", scores={"a": 1}),
    ):
        data = json_to_avro(schema, event.model_dump_json().encode())
        assert Outer.model_validate_json(avro_to_json(schema, data)) == event


class Tree(BaseModel):
    """A model that holds itself."""

    children: list[Tree] = Field(default_factory=list)


def test_a_recursive_model_has_no_schema():
    """What would be a recursive schema is refused where it is made."""
    with pytest.raises(SchemaError, match="holds itself"):
        avro_schema(Tree)


class Colour(StrEnum):
    """An enum."""

    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    """A model that is whole by its own defaults."""

    size: int = 1
    note: str | None = None


class Older(BaseModel):
    """The first version of a model."""

    needed: str


class Newer(Older):
    """The next minor version: whatever was added has a default."""

    number: int = 5
    flag: bool = True
    share: float = 1
    text: str = "x"
    level: Literal["low", "high"] = "low"
    odd: Literal["1.0", "2.0"] = "2.0"
    colour: Colour = Colour.BLUE
    tags: list[str] = []
    words: list[str] = Field(default_factory=lambda: ["a"])
    names: set[str] = Field(default_factory=lambda: {"b", "a"})
    counts: dict[str, int] = Field(default_factory=dict)
    free: dict[str, Any] = Field(default_factory=dict)
    mixed: int | str = 1
    part: Part = Field(default_factory=Part)
    parts: list[Part] = [Part(size=2)]
    origin: UUID = UUID(int=7)
    since: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    other: str | None = None


ADDED = {
    "number": 5, "flag": True, "share": 1.0, "text": "x", "level": "low", "odd": "2.0",
    "colour": "blue", "tags": [], "words": ["a"], "names": ["a", "b"], "counts": {}, "free": "{}",
    "mixed": "1", "part": {"size": 1, "note": None}, "parts": [{"size": 2, "note": None}],
    "origin": str(UUID(int=7)), "since": 1_767_225_600_000_000, "other": None,
}  # fmt: skip


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    fields = avro_schema(model)["fields"]
    return {part["name"]: part["default"] for part in fields if "default" in part}


def test_what_a_model_adds_with_a_default_may_follow_in_a_registry():
    """A compatible minor version is no 409: every new field has its default in Avro too."""
    assert _defaults(Newer) == ADDED
    old, new = avro_schema(Older), {**avro_schema(Newer), "name": "Older"}
    assert compare(old, new, level=Level.BACKWARD, kind=SchemaKind.AVRO) == []
    read = fastavro.schemaless_reader(
        io.BytesIO(AvroSchema.parse(old).encode({"needed": "a"})),
        fastavro.parse_schema(old),
        fastavro.parse_schema(new),
    )
    assert read == {"needed": "a", **ADDED}


def test_a_field_that_is_missing_is_written_as_its_default():
    """A default in the schema is what the model would have: also JSON, times and records."""
    schema = AvroSchema.parse(avro_schema(Newer))
    made = Newer(needed="a").model_dump(mode="json")
    made["names"].sort()  # a set has no order of its own
    assert schema.encode_json(b'{"needed":"a"}') == schema.encode_json(json.dumps(made).encode())


class MadeUp(BaseModel):
    """Defaults that Avro cannot have."""

    id: UUID = Field(default_factory=uuid4)
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    fixed_at: datetime = Field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    name: str = Field(default_factory=lambda: "made up")
    free: dict[str, Any] = Field(default_factory=lambda: {"id": str(uuid4())})
    not_null: str | None = "x"
    infinite: float = math.inf
    large: int = 2**63


class Holder(BaseModel):
    """A model with such a one in it."""

    inner: MadeUp = Field(default_factory=MadeUp)


@pytest.mark.parametrize("model", [MadeUp, Holder])
def test_what_is_made_up_is_no_default(model):
    """A reader may not invent ids and times, and a union's default is of its first branch."""
    assert _defaults(model) == {}
    AvroSchema.parse(avro_schema(model))
