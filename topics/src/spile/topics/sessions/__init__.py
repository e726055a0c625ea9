"""The events of shell sessions, and a registry of their schemas."""

from spile.topics.sessions._events import (
    EnvironmentInfo,
    SessionEndEvent,
    SessionStartEvent,
    UserInfo,
)
from spile.topics.sessions._fields import EVENT_VERSION
from spile.topics.sessions._registry import (
    export_schemas_to_file,
    get_all_schemas,
    get_schema,
    validate_event_json,
)

__all__ = [
    "EVENT_VERSION",
    "EnvironmentInfo",
    "SessionEndEvent",
    "SessionStartEvent",
    "UserInfo",
    "export_schemas_to_file",
    "get_all_schemas",
    "get_schema",
    "validate_event_json",
]
