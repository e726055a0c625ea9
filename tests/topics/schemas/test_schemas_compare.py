"""Comparing schemas: what the verdicts promise, and what wrong schemas end in."""

from __future__ import annotations

import jsonschema_rs
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from spile.spi import SchemaError
from spile.topics.events import MODELS
from spile.topics.schemas import FAMILIES, Level, SchemaKind, avro_schemas, compare

_leaves = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": st.integers(0, 2)}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": st.integers(0, 2), "exclusiveMaximum": st.integers(1, 3)},
    ),
    st.lists(st.sampled_from(["a", 1, None, True]), min_size=1, max_size=3, unique_by=repr).map(
        lambda values: {"enum": values}
    ),
    st.just({"type": ["string", "null"]}),
    st.just({"const": 1}),
)


def _deeper(inner):
    objects = st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("ab"), inner)},
        optional={
            "required": st.lists(st.sampled_from("ab"), unique=True),
            "additionalProperties": st.booleans() | inner,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "c"]), inner),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": inner,
            "prefixItems": st.lists(inner, min_size=1, max_size=2),
            "contains": inner,
        },
    )
    return objects | arrays | st.builds(dict, anyOf=st.lists(inner, min_size=1, max_size=2))


def _deeper_still(inner):
    all_of = st.builds(dict, allOf=st.lists(inner, min_size=1, max_size=2))
    return _deeper(inner) | all_of | inner.map(lambda found: {"not": found})


_schemas = st.recursive(_leaves, _deeper_still, max_leaves=5)
_values = st.recursive(
    st.sampled_from(["", "a", "abc", 0, 1, 2, 0.5, 2.5, None, True]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(old=_schemas, new=_schemas, values=st.lists(_values, min_size=5, max_size=10))
@settings(max_examples=150, deadline=None)
def test_what_may_follow_reads_everything(old, new, values):
    """When a schema may follow another one, it accepts every value that the other accepts."""
    assume(not compare(old, new, level=Level.BACKWARD))
    before, after = (jsonschema_rs.validator_for(schema) for schema in (old, new))
    for value in values:
        assert after.is_valid(value) or not before.is_valid(value)


@given(schema=st.recursive(_leaves, _deeper, max_leaves=5))
@settings(max_examples=100, deadline=None)
def test_a_schema_may_follow_itself(schema):
    """Nothing changed, nothing broken: the safe side is not that of refusing all."""
    assert compare(schema, schema, level=Level.FULL) == []


@pytest.mark.parametrize("name", FAMILIES)
def test_every_schema_of_ours_may_follow_itself(name):
    """The comparison understands all that our schemas hold."""
    schema = FAMILIES[name].schema()
    assert compare(schema, schema, level=Level.FULL) == []


def test_every_avro_schema_of_ours_may_follow_itself():
    """The comparison understands all that our Avro schemas hold."""
    for kind, schema in avro_schemas().items():
        assert compare(schema, schema, level=Level.FULL, kind=SchemaKind.AVRO) == [], kind
    assert len(MODELS) == len(avro_schemas())


def test_a_difference_names_field_and_rule():
    """The path leads to the field, the rule says what is broken, the message says why."""
    old = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}}
    new = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    (found,) = compare(old, new)
    assert (found.path, found.rule, found.breaks) == ("a[]", "type", Level.BACKWARD)
    assert str(found) == "a[]: may be string, the reader takes integer"


def test_full_says_which_side_breaks():
    """At FULL both readers are looked at, and each difference says whose it is."""
    found = compare({"type": "string"}, {"type": "integer"}, level="FULL")
    assert [one.breaks for one in found] == [Level.BACKWARD, Level.FORWARD]


def test_a_schema_may_refer_to_itself():
    """A tree, whose nodes refer to the schema itself, is compared and not followed for ever."""
    old = {"type": "object", "properties": {"next": {"$ref": "#"}, "a": {"type": "string"}}}
    new = {"type": "object", "properties": {"next": {"$ref": "#"}, "a": {"type": "integer"}}}
    assert compare(old, old, level="FULL") == []
    assert compare(old, new) != []


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ("{", "JSON"),
        ("nonsense", "JSON"),
        ({"$ref": "#/$defs/none"}, "JSON"),
        ({"$ref": "other.json"}, "JSON"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "JSON"),
        ({"type": "string", "pattern": "(a+)+$"}, "JSON"),
        ({"type": "object", "properties": []}, "JSON"),
        ([], "JSON"),
        ("{", "AVRO"),
        ({"type": "record", "name": "E"}, "AVRO"),
        ({"type": "record", "name": "E", "fields": [{"name": "a"}]}, "AVRO"),
        ({"type": "record", "name": "E", "fields": [{"name": "a", "type": "F"}]}, "AVRO"),
        ({"type": "array"}, "AVRO"),
        ({}, "AVRO"),
        (7, "AVRO"),
    ],
    ids=repr,
)
def test_what_is_no_schema_never_follows(schema, kind):
    """Broken, foreign and circular schemas are refused or a SchemaError, never anything else."""
    other = {"type": "string", "enum": ["x"]} if kind == "JSON" else "string"
    try:
        found = compare(other, schema, kind=kind)
    except SchemaError:
        return
    assert found


@pytest.mark.parametrize("kind", ["JSON", "AVRO"])
def test_a_schema_that_is_nested_too_deep_is_refused(kind):
    """Depth is bounded: a hostile schema costs an error, not the stack."""
    schema = "string" if kind == "AVRO" else {"type": "string"}
    for _ in range(400):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaError, match="nested deeper than 64"):
        compare(schema, schema, kind=kind)


def test_text_is_read_as_json():
    """Registries keep schemas as text: text is as good as the object."""
    assert compare('{"type": "string"}', b'{"type": "string"}') == []
    assert compare('"string"', "bytes", kind="AVRO") == []


def test_an_unknown_level_is_refused():
    """There are three levels and two kinds."""
    with pytest.raises(ValueError, match="SIDEWAYS"):
        compare({}, {}, level="SIDEWAYS")
    with pytest.raises(ValueError, match="XML"):
        compare({}, {}, kind="XML")
