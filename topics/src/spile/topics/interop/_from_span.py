"""What a span says, as events of ours."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

import msgspec
from pydantic import ValidationError

from spile.spi import InvalidEventError
from spile.topics._ids import correlation_uuid
from spile.topics._limits import MAX_JSON_DEPTH
from spile.topics.events import EVENT_MODELS, SCHEMA_VERSION, ObservabilityEvent
from spile.topics.events.observability._base import explain
from spile.topics.interop._span import (
    AGENT_ID,
    AGENT_NAME,
    ARGUMENTS,
    CONVERSATION,
    END_REST,
    ERROR_TYPE,
    EVENT_REST,
    EXCEPTION,
    EXCEPTION_MESSAGE,
    EXCEPTION_STACK,
    EXCEPTION_TYPE,
    MODEL,
    OPERATION,
    OTHER,
    QUERY,
    RESULT,
    START_REST,
    TOOL,
    TOP_K,
    WORKFLOW,
    Span,
    SpanEvent,
)
from spile.topics.redaction import quotable

Flat: TypeAlias = dict[str, Any]
"""An event as JSON, its own fields beside the common ones."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OUTPUTS: Final = ("gen_ai.response.", "gen_ai.usage.", "gen_ai.output.")
_MS_NS: Final = 1_000_000


def from_span(span: Span) -> list[ObservabilityEvent]:
    """
    Return the events that a span stands for, in the order of time; none for one that is not GenAI.

    Two calls with the same span give the same events, ids included.

    Args:
        span: With `gen_ai.operation.name`, as the GenAI conventions of OpenTelemetry say.

    Raises:
        InvalidEventError: The span lacks what its operation needs, or says what no event can be;
            the error names the attribute or field.
    """
    if OPERATION not in span.attributes:
        return []
    made: list[ObservabilityEvent] = []
    for role, flat in said_by(span):
        rest = _rest(span.attributes, role)
        if rest is not None:
            made.append(_event(flat | rest))
    for index, event in enumerate(span.events):
        failure = said_by_exception(span, index, event)
        rest = _rest(event.attributes, EVENT_REST)
        if failure is not None and rest is not None:
            made.append(_event(failure | rest))
    return sorted(made, key=lambda event: event.timestamp)


def said_by(span: Span) -> Iterator[tuple[str, Flat]]:
    """
    Yield the events that the span alone says: the name of the attribute with the rest, the event.

    Raises:
        InvalidEventError: The span lacks what its operation needs.
    """
    operation = _text(span, OPERATION)
    read = _READERS.get(operation or "", _inference)
    yield from read(span)


def said_by_exception(span: Span, index: int, event: SpanEvent) -> Flat | None:
    """Return the failure that a span event says; None when it says none of its own."""
    of_call = span.attributes.get(OPERATION) == "execute_tool"
    if event.name != EXCEPTION or (of_call and EVENT_REST not in event.attributes):
        return None
    said = event.attributes
    stack = said.get(EXCEPTION_STACK)
    return _common(span, f"event:{index}", event.time_ns, "FailureDetected") | {
        "failure_type": str(said.get(EXCEPTION_TYPE) or OTHER),
        "failure_description": str(said.get(EXCEPTION_MESSAGE) or ""),
        "affected_component": _component(span),
        "severity": "medium",
        "error_details": {} if stack is None else {"stacktrace": json_value(stack)},
    }


def _tool(span: Span) -> Iterator[tuple[str, Flat]]:
    name = _text(span, TOOL)
    if not name:
        raise InvalidEventError(
            f"span {span.span_id}: an execute_tool span needs {TOOL}", field=TOOL
        )
    agent = {"agent_id": _agent_id(span), "tool_name": name}
    arguments = _parsed(span.attributes.get(ARGUMENTS))
    if not isinstance(arguments, dict):
        arguments = {} if arguments is None else {"arguments": arguments}
    yield (
        START_REST,
        _common(span, "start", span.start_ns, "PreToolUse") | agent | {"parameters": arguments},
    )
    flat = _common(span, "end", span.end_ns, "PostToolUse") | agent
    flat |= {"success": not _failed(span), "execution_time_ms": _duration_ms(span)}
    if (result := _parsed(span.attributes.get(RESULT))) is not None:
        flat["result"] = result
    yield END_REST, flat | _error(span)


def _agent(span: Span) -> Iterator[tuple[str, Flat]]:
    agent = {"agent_id": _agent_id(span)}
    start = _common(span, "start", span.start_ns, "AgentStarted") | agent
    if name := _text(span, AGENT_NAME):
        start["agent_name"] = name
    yield START_REST, start
    reason = _error(span).get("error_type") or "error" if _failed(span) else "completed"
    yield (
        END_REST,
        _common(span, "end", span.end_ns, "AgentStopped")
        | agent
        | {"stop_reason": reason, "uptime_ms": _duration_ms(span)},
    )


def _workflow(span: Span) -> Iterator[tuple[str, Flat]]:
    workflow = {"workflow_id": str(_derived(span, "workflow"))}
    name = _text(span, WORKFLOW) or span.name or "invoke_workflow"
    yield (
        START_REST,
        _common(span, "start", span.start_ns, "WorkflowStarted")
        | workflow
        | {"workflow_name": name, "workflow_definition": {}},
    )
    failed = _failed(span)
    error = _error(span)
    why = error.get("error") or error.get("error_type") or "error" if failed else "completed"
    yield (
        END_REST,
        _common(span, "end", span.end_ns, "WorkflowEnded")
        | workflow
        | {
            "status": "failed" if failed else "completed",
            "completion_reason": why,
            "actual_duration_ms": _duration_ms(span),
        },
    )


def _retrieval(span: Span) -> Iterator[tuple[str, Flat]]:
    flat = _common(span, "end", span.end_ns, "SemanticQuery") | _cost(span)
    flat["query_text"] = _text(span, QUERY) or ""
    limit = span.attributes.get(TOP_K)
    if isinstance(limit, int | float) and not isinstance(limit, bool) and limit >= 0:
        flat["max_results"] = int(limit)
    if AGENT_ID in span.attributes or AGENT_NAME in span.attributes:
        flat["agent_id"] = _agent_id(span)
    yield END_REST, flat
    yield from _failure(span)


def _inference(span: Span) -> Iterator[tuple[str, Flat]]:
    operation = _text(span, OPERATION)
    if not operation:
        raise InvalidEventError(
            f"span {span.span_id}: {OPERATION} must be a text that is not empty", field=OPERATION
        )
    given: Flat = {}
    came: Flat = {}
    for name, value in span.attributes.items():
        if name.startswith("gen_ai.") and name not in _CARRIED:
            (came if name.startswith(_OUTPUTS) else given)[name] = _parsed(value)
    flat = _common(span, "end", span.end_ns, "AgentCapabilityUtilized") | _cost(span)
    flat |= {
        "agent_id": _agent_id(span),
        "capability_name": operation,
        "utilization_context": _text(span, MODEL) or span.name,
    }
    if given:
        flat["input_parameters"] = given
    if came:
        flat["capability_result"] = came
    yield END_REST, flat
    yield from _failure(span)


_CARRIED: Final = frozenset((OPERATION, AGENT_ID, AGENT_NAME, CONVERSATION))
_READERS: Final[Mapping[str, Callable[[Span], Iterator[tuple[str, Flat]]]]] = {
    "execute_tool": _tool,
    "invoke_agent": _agent,
    "invoke_workflow": _workflow,
    "retrieval": _retrieval,
}


def _failure(span: Span) -> Iterator[tuple[str, Flat]]:
    """Yield the failure that the status says, when no span event says it."""
    if not _failed(span) or any(event.name == EXCEPTION for event in span.events):
        return
    error = _error(span)
    yield (
        "",
        _common(span, "failure", span.end_ns, "FailureDetected")
        | {
            "failure_type": error.get("error_type") or OTHER,
            "failure_description": error.get("error") or "",
            "affected_component": _component(span),
            "severity": "medium",
            "error_details": {},
        },
    )


def _common(span: Span, role: str, time_ns: int, event_type: str) -> Flat:
    flat: Flat = {
        "event_id": str(_derived(span, role)),
        "timestamp": instant_text(time_ns),
        "event_type": event_type,
        "event_category": EVENT_MODELS[event_type].model_fields["event_category"].default,
        "metadata": {
            "schema_version": SCHEMA_VERSION,
            "correlation_id": str(UUID(hex=span.trace_id)),
            "trace_id": span.trace_id,
            "span_id": span.span_id,
        },
    }
    if span.service:
        flat["metadata"]["source_service"] = span.service
    if conversation := _text(span, CONVERSATION):
        flat["session_id"] = str(correlation_uuid(conversation))
    return flat


def _derived(span: Span, role: str) -> UUID:
    return correlation_uuid(f"{span.trace_id}:{span.span_id}:{role}")


def _agent_id(span: Span) -> str:
    """Return the agent's id, else one that follows from its name, else from the trace."""
    if stated := _text(span, AGENT_ID):
        return str(correlation_uuid(stated))
    if name := _text(span, AGENT_NAME):
        return str(correlation_uuid(f"agent:{span.service or ''}:{name}"))
    return str(correlation_uuid(f"agent:{span.service or ''}:{span.trace_id}"))


def _component(span: Span) -> str:
    name = next((text for key in (TOOL, AGENT_NAME, WORKFLOW) if (text := _text(span, key))), None)
    return name or span.name or str(span.attributes.get(OPERATION)) or OTHER


def _failed(span: Span) -> bool:
    return span.status == "error" or bool(span.attributes.get(ERROR_TYPE))


def _error(span: Span) -> Flat:
    """Return `error` and `error_type` as far as the span says them."""
    if not _failed(span):
        return {}
    exception = next((event for event in span.events if event.name == EXCEPTION), None)
    said: Mapping[str, Any] = {} if exception is None else exception.attributes
    error = span.status_message or said.get(EXCEPTION_MESSAGE)
    kind = span.attributes.get(ERROR_TYPE) or said.get(EXCEPTION_TYPE)
    found = {"error": error, "error_type": None if kind == OTHER else kind}
    return {name: str(value) for name, value in found.items() if value}


def _cost(span: Span) -> Flat:
    took_ms = _duration_ms(span)
    return {"performance_metrics": {"execution_time_ms": took_ms}} if took_ms else {}


def _duration_ms(span: Span) -> float:
    return (span.end_ns - span.start_ns) / _MS_NS


def instant_text(time_ns: int) -> str:
    """Return ISO 8601 of nanoseconds since 1970, cut at the microsecond, as the models write it."""
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return f"{moment.isoformat()[:-6]}Z"


def _text(span: Span, name: str) -> str | None:
    value = span.attributes.get(name)
    return value if isinstance(value, str) and value else None


def _parsed(value: object) -> Any:
    """Return an attribute as JSON; a text that is JSON itself is read."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            return value
    return json_value(value)


def json_value(value: object, depth: int = 0) -> Any:
    """
    Return a value as JSON: bytes as base64, numbers that are not finite as text.

    Raises:
        InvalidEventError: It is nested deeper than `MAX_JSON_DEPTH`.
    """
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if depth > MAX_JSON_DEPTH:
        raise InvalidEventError(f"span: an attribute is nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(key): json_value(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple):
        return [json_value(item, depth + 1) for item in cast("list[object]", value)]
    return value


def _rest(attributes: Mapping[str, Any], role: str) -> Flat | None:
    """Return what the span could not say of an event; None when there was no such event."""
    text = attributes.get(role)
    if text is None:
        return {}
    try:
        rest = msgspec.json.decode(text) if isinstance(text, str) else text
    except (msgspec.DecodeError, RecursionError, UnicodeError) as exc:
        raise InvalidEventError(f"span: attribute {role} is no JSON: {exc}", field=role) from None
    if rest is not None and not isinstance(rest, dict):
        raise InvalidEventError(f"span: attribute {role} must be a JSON object", field=role)
    return cast("Flat | None", rest)


def _event(flat: Flat) -> ObservabilityEvent:
    model = EVENT_MODELS.get(str(flat.get("event_type")))
    if model is None:
        shown = quotable(repr(flat.get("event_type")))
        raise InvalidEventError(f"span: {shown} is no observability event", field="event_type")
    try:
        return model.model_validate({k: v for k, v in flat.items() if v is not None})
    except ValidationError as exc:
        raise explain(exc, model) from None
