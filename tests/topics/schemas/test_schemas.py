"""The schemas that are generated from the models: true, current, complete."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from spile.topics import default_catalogue
from spile.topics.encodings import AvroSchema
from spile.topics.events import EVENT_MODELS, MODELS, SCHEMA_VERSION
from spile.topics.schemas import (
    FAMILIES,
    Version,
    avro_schemas,
    check_schemas,
    compare,
    event_schema,
    generated_files,
    render,
)

SCHEMAS = Path(__file__).parents[3] / "schemas"
FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FAMILY_OF = {kind: family for family in FAMILIES.values() for kind in family.models}


@pytest.fixture(scope="module")
def validators():
    """Return a validator of each event type, formats included."""
    made = {name: family.schema() for name, family in FAMILIES.items()}
    return {
        kind: jsonschema_rs.validator_for(
            {**made[family.name], "oneOf": [{"$ref": f"#/$defs/{kind}"}], "anyOf": [True]},
            validate_formats=True,
        )
        for kind, family in FAMILY_OF.items()
    }


def test_the_committed_schemas_are_those_of_the_models():
    """What is committed is what the models make, and no release was touched or outgrown."""
    assert [str(finding) for finding in check_schemas(SCHEMAS)] == []


def test_every_event_type_has_one_family():
    """No event type is without a schema, none stands in two files."""
    listed = [kind for family in FAMILIES.values() for kind in family.models]
    assert sorted(listed) == sorted(MODELS)


def test_a_family_has_the_version_that_is_sent():
    """The version of a family is the `schema_version` of the headers of its events."""
    catalogue = default_catalogue()
    for spec in catalogue:
        for kind, contract in spec.contracts.items():
            if contract.model is not None:
                wanted = Version.parse(FAMILY_OF[kind].version)
                assert Version.parse(contract.schema_version) == wanted, kind


@pytest.mark.parametrize("name", FAMILIES)
def test_a_schema_is_a_schema(name):
    """Every file is a valid schema of the dialect that it names, 2020-12."""
    schema = FAMILIES[name].schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_generated_text_is_sorted_and_ends_in_a_newline():
    """The same models make the same bytes: keys sorted, one newline at the end."""
    for text in generated_files().values():
        value = json.loads(text)
        assert text == json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        assert text == render(value)


@pytest.fixture(scope="module")
def committed():
    """Return the committed schema of the observability events."""
    return json.loads((SCHEMAS / "observability_events.json").read_bytes())


def test_the_file_is_used_as_the_seed_shows(samples, committed):
    """`jsonschema.validate(event.dict(), schema)` takes and refuses events."""
    event = EVENT_MODELS["PreToolUse"](**samples["PreToolUse"]).dict()
    jsonschema.validate(event, committed)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**event, "event_type": "NoSuchThing"}, committed)


@pytest.mark.parametrize("name", sorted(EVENT_MODELS))
def test_an_event_fits_the_committed_file(name, samples, committed):
    """Each of the 29 fits the one file, and no other file of them is needed."""
    event = EVENT_MODELS[name](**samples[name])
    jsonschema.Draft202012Validator(committed).validate(event.model_dump(mode="json"))


def test_a_schema_states_its_version():
    """An event of another version does not fit: the version is a constant of the file."""
    schema = FAMILIES["observability_events"].schema()
    stated = schema["$defs"]["EventMetadata"]["properties"]["schema_version"]
    assert stated["const"] == SCHEMA_VERSION
    assert schema["$id"].endswith(f":{SCHEMA_VERSION}")


@pytest.mark.parametrize("kind", sorted(MODELS))
@given(data=st.data())
@FEW
def test_what_a_model_writes_fits_its_schema(kind, data, event_strategies, validators):
    """Whatever an event holds, its JSON fits the schema of its type."""
    event = data.draw(event_strategies[kind])
    written = json.loads(event.model_dump_json())
    assert [str(error) for error in validators[kind].iter_errors(written)] == []


_ODD_NUMBERS = st.integers(-5, 2**70) | st.sampled_from([0.5, -0.5, 1e300])
_ODD_TEXTS = st.sampled_from(
    ["", "x", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01", "0" * 36]
)
_ODD = st.none() | st.booleans() | _ODD_NUMBERS | _ODD_TEXTS | st.just([]) | st.just({})


def _places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list) and len(item) < 100:
            yield from _places(item, (*path, key))
        else:
            yield (*path, key)


def _changed(data, document):
    """Take a field away, add one, or put something odd in its place."""
    made = copy.deepcopy(document)
    path = data.draw(st.sampled_from([place for place in _places(made) if place]))
    parent = made
    for step in path[:-1]:
        parent = parent[step]
    match data.draw(st.sampled_from(["drop", "add", "replace", "replace"])):
        case "drop":
            del parent[path[-1]]
        case "add" if isinstance(parent, dict):
            parent["surprise"] = data.draw(_ODD)
        case _:
            parent[path[-1]] = data.draw(_ODD)
    return made


@pytest.mark.parametrize("kind", sorted(MODELS))
@given(data=st.data())
@FEW
def test_what_a_model_refuses_does_not_fit_its_schema(kind, data, event_strategies, validators):
    """A document that is changed in some place and still fits the schema, the model reads."""
    written = json.loads(data.draw(event_strategies[kind]).model_dump_json())
    document = _changed(data, written)
    try:
        MODELS[kind].model_validate_json(json.dumps(document))
    except ValidationError:
        assert not validators[kind].is_valid(document)


def test_avro_schemas_can_be_used():
    """Every event type has an Avro schema that the codec of events takes."""
    made = avro_schemas()
    assert sorted(made) == sorted(MODELS)
    for schema in made.values():
        AvroSchema.parse(schema)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("PRE_TOOL_USE", ("EventMetadata", "schema_version")),
        ("SESSION_START", ("SESSION_START", "event_version")),
        ("PLAN_GENERATED", ("PLAN_GENERATED", "schema_version")),
    ],
)
def test_a_schema_for_a_registry_states_no_version(kind, place):
    """With another version in the data nothing else changes: a new minor may follow the old one."""
    name, field = place
    made = event_schema(kind, MODELS[kind])
    assert made["$defs"][name]["properties"][field] == {"type": "string"}
    grown = copy.deepcopy(made)
    grown["$defs"][kind]["properties"]["extra"] = {"type": "string"}
    assert compare(made, grown) == []
    jsonschema.Draft202012Validator.check_schema(made)


def test_what_was_never_released_is_a_finding(tmp_path):
    """Without releases there is nothing that changes are held to."""
    places = {finding.place for finding in check_schemas(tmp_path)}
    assert set(FAMILIES) <= places
