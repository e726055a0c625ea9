"""Session events: filled in from this machine, exact, and their schemas by name."""

from __future__ import annotations

import json
import os
import platform
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid1, uuid4

import pytest
import yaml
from pydantic import ValidationError

from spile.topics.sessions import (
    EnvironmentInfo,
    SessionEndEvent,
    SessionStartEvent,
    UserInfo,
    export_schemas_to_file,
    get_all_schemas,
    get_schema,
    validate_event_json,
)


def _start(**changes: Any) -> dict[str, Any]:
    return {
        "event_version": "1.0",
        "event_id": "550e8400-e29b-41d4-a716-446655440000",
        "component_name": "shell-1",
        "shell_type": "Shell",
        "timestamp": "2026-02-06T12:34:56.789Z",
        "pid": 12345,
        "user": {"username": "ann", "home": "/home/ann"},
        "hostname": "server01",
        "environment": {"python_version": "3.13.0", "platform": "Linux", "cwd": "/srv"},
        **changes,
    }


def test_a_start_is_filled_in_from_this_process():
    """`create` needs a component and a shell; the rest is this process and machine, now."""
    before = datetime.now(UTC)
    event = SessionStartEvent.create("shell-1", "Shell", metadata={"test_mode": True})
    assert before <= event.timestamp <= datetime.now(UTC)
    assert len(event.event_id) == 36
    assert UUID(event.event_id).version == 4
    assert (event.event_version, event.event_type) == ("1.0", "session_start")
    assert (event.pid, event.hostname) == (os.getpid(), socket.gethostname())
    assert event.environment.python_version == platform.python_version()
    assert event.environment.cwd == str(Path.cwd())[:500]
    assert event.user == UserInfo.create() == UserInfo.from_system()
    assert event.metadata == {"test_mode": True}
    assert SessionStartEvent.validate_json(event.model_dump_json()) == event


def test_a_start_can_be_made_where_the_machine_says_little(monkeypatch):
    """Without a user, a home and a folder a session starts none the less."""

    def fail(*_):
        raise OSError("none")

    monkeypatch.setattr("getpass.getuser", fail)
    monkeypatch.setattr("pathlib.Path.home", fail)
    monkeypatch.setattr("pathlib.Path.cwd", fail)
    assert UserInfo.create() == UserInfo(username="unknown", home="unknown")
    assert EnvironmentInfo.create().cwd == "unknown"


def test_an_end_belongs_to_its_session():
    """`create` takes the session's id and the present."""
    event = SessionEndEvent.create("sess_abc123", {"exit_reason": "user_exit"})
    assert (event.event_type, event.session_id) == ("session_end", "sess_abc123")
    assert event.timestamp.utcoffset().total_seconds() == 0
    assert SessionEndEvent.validate_json(json.loads(event.model_dump_json())) == event


def test_an_event_can_be_metadata_of_another():
    """`dict()` gives JSON values, ids and times as texts."""
    start = SessionStartEvent.create("shell-1", "Shell")
    end = SessionEndEvent.create("sess_abc123", metadata=start.dict())
    assert end.metadata == json.loads(start.model_dump_json())
    assert SessionStartEvent.validate_json(end.metadata) == start


def test_json_text_and_object_are_read_alike():
    """The event type may be missing, the metadata too."""
    event = SessionStartEvent.validate_json(json.dumps(_start()))
    assert event == SessionStartEvent.validate_json(_start())
    assert event == SessionStartEvent(**_start())
    assert (event.event_type, event.metadata) == ("session_start", {})


def test_long_texts_are_cut():
    """The name at 100, the home and the folder at 500 characters, made and read."""
    user = UserInfo(username="ü" * 101, home="h" * 501)
    assert (user.username, user.home) == ("ü" * 100, "h" * 500)
    where = {"python_version": "3", "platform": "p", "cwd": "c" * 501}
    event = SessionStartEvent.validate_json(_start(environment=where))
    assert event.environment.cwd == "c" * 500


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("event_version", "2.0", "only 1.0"),
        ("event_version", 1.0, "string"),
        ("event_id", "abc", "UUID of version 4"),
        ("event_id", str(uuid1()), "UUID of version 4"),
        ("event_type", "session_end", "session_start"),
        ("component_name", "my component", "pattern"),
        ("component_name", "my.component", "pattern"),
        ("component_name", "", "pattern"),
        ("component_name", "a\n", "pattern"),
        ("timestamp", "2026-02-06", "ISO 8601"),
        ("timestamp", "2026-02-06T12:00:00", "offset"),
        ("timestamp", 5, "ISO 8601"),
        ("pid", 0, "greater than or equal to 1"),
        ("pid", 4194305, "less than or equal to 4194304"),
        ("pid", "1", "integer"),
        ("user", {"username": "a"}, "required"),
        ("metadata", {"a": float("nan")}, "NaN"),
        ("metadata", None, "dictionary"),
        ("surprise", 1, "Extra"),
    ],
)
def test_a_wrong_field_names_itself(field, value, reason):
    """Every rule of the start event, and the field that breaks it."""
    with pytest.raises(ValidationError, match=reason) as caught:
        SessionStartEvent.validate_json(_start(**{field: value}))
    assert caught.value.errors()[0]["loc"][0] == field


def test_an_id_of_another_spelling_is_made_canonical():
    """Upper case, and a UUID of Python, are the same id."""
    found = uuid4()
    assert SessionStartEvent(**_start(event_id=found)).event_id == str(found)
    assert SessionStartEvent(**_start(event_id=str(found).upper())).event_id == str(found)


@pytest.mark.parametrize("data", ["", "{", "[]", '{"event_version": "2.0"}', {}, "[" * 100_000])
def test_safe_validation_returns_the_reason(data):
    """Never raises: the event, or why there is none."""
    event, error = SessionStartEvent.validate_json_safe(data)
    assert event is None
    assert isinstance(error, ValidationError)
    event, error = SessionStartEvent.validate_json_safe(_start())
    assert (event.component_name, error) == ("shell-1", None)


def test_the_schema_states_draft_and_version():
    """Draft 2020-12 and the event version stand in every schema."""
    schemas = get_all_schemas()
    assert list(schemas) == ["SessionStartEvent", "SessionEndEvent", "UserInfo", "EnvironmentInfo"]
    for name, schema in schemas.items():
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert (schema["event_version"], schema["title"]) == ("1.0", name)
        assert schema["type"] == "object"
        assert get_schema(name) == schema


def test_the_schema_says_the_rules():
    """Limits and patterns stand in the schema of the start event."""
    schema = SessionStartEvent.json_schema()
    fields = schema["properties"]
    assert fields["event_type"]["const"] == "session_start"
    assert fields["event_id"]["format"] == "uuid"
    assert fields["component_name"]["pattern"] == "^[a-zA-Z0-9_-]+$"
    assert (fields["pid"]["minimum"], fields["pid"]["maximum"]) == (1, 4194304)
    assert schema["$defs"]["UserInfo"]["properties"]["home"]["maxLength"] == 500
    assert set(schema["required"]) == {
        "event_version", "event_id", "component_name", "shell_type", "timestamp", "pid", "user",
        "hostname", "environment",
    }  # fmt: skip
    assert set(SessionEndEvent.json_schema()["required"]) == {"session_id", "timestamp"}


def test_events_are_validated_by_name():
    """The registry finds the model; an unknown name is a ValueError that lists the known."""
    assert validate_event_json("SessionStartEvent", _start()).pid == 12345
    for ask in (get_schema, lambda name: validate_event_json(name, {})):
        with pytest.raises(ValueError, match=r"'Nope'.*SessionStartEvent"):
            ask("Nope")


def test_schemas_are_exported(tmp_path):
    """As JSON or YAML; another format is a ValueError."""
    as_json, as_yaml = tmp_path / "s.json", tmp_path / "s.yaml"
    export_schemas_to_file(as_json)
    export_schemas_to_file(str(as_yaml), format="yaml")
    assert json.loads(as_json.read_text()) == get_all_schemas()
    assert yaml.safe_load(as_yaml.read_text()) == get_all_schemas()
    with pytest.raises(ValueError, match="json or yaml"):
        export_schemas_to_file(tmp_path / "s.xml", format="xml")
