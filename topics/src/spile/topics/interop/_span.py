"""A span of a trace as a value, and the names that OpenTelemetry gives to what agents do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

from spile.spi import InvalidEventError

SpanKind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
SpanStatus = Literal["unset", "ok", "error"]

OPERATION: Final = "gen_ai.operation.name"
AGENT_ID: Final = "gen_ai.agent.id"
AGENT_NAME: Final = "gen_ai.agent.name"
CONVERSATION: Final = "gen_ai.conversation.id"
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
QUERY: Final = "gen_ai.retrieval.query.text"
TOP_K: Final = "gen_ai.request.top_k"
TOOL: Final = "gen_ai.tool.name"
CALL_ID: Final = "gen_ai.tool.call.id"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"
WORKFLOW: Final = "gen_ai.workflow.name"
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACK: Final = "exception.stacktrace"
OTHER: Final = "_OTHER"
START_REST: Final = "spile.start"
"""JSON of what the span does not say by itself of the event that began it."""
END_REST: Final = "spile.end"
"""The same of the event that ended it."""
EVENT_REST: Final = "spile.event"
"""The same, at a span event."""

KINDS: Final[tuple[SpanKind, ...]] = get_args(SpanKind)
"""In the order of OTLP's numbers."""
STATUSES: Final[tuple[SpanStatus, ...]] = get_args(SpanStatus)
"""The same."""

_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
_SPAN_ID: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")
# The last nanosecond of the year 9999, which is the last that a datetime holds.
_LAST_NS: Final = 253_402_300_799_999_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """
    Something that happened within a span.

    Attributes:
        name: Such as `exception`.
        time_ns: Nanoseconds since 1970, UTC.
        attributes: By name; JSON values, bytes too.
    """

    name: str
    time_ns: int
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """
    One operation in a trace, as OpenTelemetry knows it.

    Attributes:
        trace_id: 32 hex digits, lower case, not all zero.
        span_id: 16 hex digits, likewise.
        parent_span_id: The span that it is a part of; None for the root.
        name: Such as `execute_tool Read`.
        kind: Its place between processes.
        start_ns: Nanoseconds since 1970, UTC.
        end_ns: The same; not before the start.
        attributes: By name; JSON values, bytes too.
        events: What happened within.
        status: How it ended.
        status_message: Why, when the status is an error.
        service: `service.name` of the resource that it comes from.

    Raises:
        InvalidEventError: An id, a time, the kind or the status is none; the error names it.
    """

    trace_id: str
    span_id: str
    name: str
    start_ns: int
    end_ns: int
    parent_span_id: str | None = None
    kind: SpanKind = "internal"
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    events: Sequence[SpanEvent] = ()
    status: SpanStatus = "unset"
    status_message: str | None = None
    service: str | None = None

    def __post_init__(self) -> None:
        _check(is_trace_id(self.trace_id), "trace_id", "32 hex digits in lower case, not all zero")
        _check(is_span_id(self.span_id), "span_id", "16 hex digits in lower case, not all zero")
        _check(
            self.parent_span_id is None or is_span_id(self.parent_span_id),
            "parent_span_id",
            "16 hex digits in lower case, not all zero, or nothing",
        )
        _check(_is_time(self.start_ns), "start_ns", "nanoseconds from 1970 to 9999")
        _check(
            _is_time(self.end_ns) and self.end_ns >= self.start_ns,
            "end_ns",
            "nanoseconds up to the year 9999, and not before the start",
        )
        _check(self.kind in KINDS, "kind", f"one of {', '.join(KINDS)}")
        _check(self.status in STATUSES, "status", f"one of {', '.join(STATUSES)}")
        for index, event in enumerate(self.events):
            _check(_is_time(event.time_ns), f"events.{index}.time_ns", "nanoseconds from 1970")


def is_trace_id(value: object) -> bool:
    """Say whether a value is a trace id in hex."""
    return isinstance(value, str) and _TRACE_ID.fullmatch(value) is not None


def is_span_id(value: object) -> bool:
    """Say whether a value is a span id in hex."""
    return isinstance(value, str) and _SPAN_ID.fullmatch(value) is not None


def _is_time(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_NS


def _check(good: bool, field_name: str, expected: str) -> None:
    if not good:
        raise InvalidEventError(f"span: {field_name}: expected {expected}", field=field_name)
