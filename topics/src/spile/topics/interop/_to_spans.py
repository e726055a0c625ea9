"""Events of ours as spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import msgspec

from spile.spi import InvalidEventError
from spile.topics.events import (
    AgentCapabilityUtilizedEvent,
    FailureDetectedEvent,
    ObservabilityEvent,
    PostToolUseEvent,
    PreToolUseEvent,
    SemanticQueryEvent,
    WorkflowEndedEvent,
    WorkflowStartedEvent,
)
from spile.topics.interop._from_span import Flat, said_by, said_by_exception
from spile.topics.interop._operations import (
    INFERENCE,
    Gathering,
    Operation,
    nanoseconds,
    trace_id_of,
)
from spile.topics.interop._span import (
    AGENT_ID,
    AGENT_NAME,
    ARGUMENTS,
    CALL_ID,
    CONVERSATION,
    ERROR_TYPE,
    EVENT_REST,
    EXCEPTION,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
    MODEL,
    OPERATION,
    OTHER,
    PROVIDER,
    QUERY,
    RESULT,
    START_REST,
    TOOL,
    TOP_K,
    WORKFLOW,
    Span,
    SpanEvent,
    SpanKind,
)

_CLIENT: Final = frozenset((*INFERENCE, "retrieval"))
_MESSAGES: Final = (".messages", ".system_instructions", ".definitions", ".prompt", ".completion")
_KEPT: Final = frozenset(
    {
        "event_id",
        "timestamp",
        "event_type",
        "workflow_id",
        "agent_id",
        "session_id",
        "context_id",
        "metadata",
        "performance_metrics",
    }
)
"""Fields that are no content: ids, times, costs."""


def to_spans(
    events: Iterable[ObservabilityEvent],
    *,
    causes: Mapping[UUID, UUID] | None = None,
    content: bool = True,
    provider: str = OTHER,
) -> list[Span]:
    """
    Return the operations that events tell of as spans, in the order in which they began.

    Pre- and PostToolUse, AgentStarted and -Stopped, WorkflowStarted and -Ended are one span each
    pair; SemanticQuery and calls of a model one each; FailureDetected an `exception` on the span of
    its agent, else of its workflow. An operation that is not over is not there; other events have
    no span. `from_span` gives the events back.

    Args:
        events: In any order; pairs are found within them.
        causes: Event id to the id of its cause, as envelopes have it, which tells exactly which
            call a result belongs to; otherwise it is the oldest open call of the same tool and
            agent.
        content: Whether arguments, results, queries and other content are told; OpenTelemetry
            wants that to be a choice.
        provider: `gen_ai.provider.name` where the events do not say.

    Raises:
        InvalidEventError: One of them is no observability event.
    """
    gathering = Gathering(causes=causes or {})
    for event in sorted(map(_observed, events), key=lambda event: event.timestamp):
        gathering.add(event)
    return [_span(operation, provider, content=content) for operation in gathering.finish()]


def _observed(event: object) -> ObservabilityEvent:
    if isinstance(event, ObservabilityEvent):
        return event
    raise InvalidEventError(
        f"expected observability events, got a {type(event).__name__}: `parse` makes them"
    )


def _span(operation: Operation, provider: str, *, content: bool) -> Span:
    first, last = operation.first, operation.last
    attributes, message = _said(operation, provider, content=content)
    subject = next((attributes[key] for key in (TOOL, WORKFLOW, MODEL) if key in attributes), None)
    if operation.name == "invoke_agent":
        subject = operation.agent_name
    kind: SpanKind = "client" if operation.name in _CLIENT else "internal"
    start_ns = operation.start_ns
    span = Span(
        trace_id=trace_id_of(first),
        span_id=operation.span_id,
        parent_span_id=operation.parent_id,
        name=f"{operation.name} {subject}" if subject else operation.name,
        kind=kind,
        start_ns=start_ns,
        end_ns=max(start_ns, nanoseconds(last.timestamp)),
        attributes=attributes,
        status="error" if ERROR_TYPE in attributes else "unset",
        status_message=message,
        service=first.metadata.source_service,
    )
    span = replace(span, events=[_exception(one, content=content) for one in operation.failures])
    return _with_rest(span, operation, content=content)


def _said(
    operation: Operation, provider: str, *, content: bool
) -> tuple[dict[str, Any], str | None]:
    """Return the attributes of an operation, and why it failed."""
    first, last = operation.first, operation.last
    attributes: dict[str, Any] = {OPERATION: operation.name} | _ids(operation)
    message: str | None = None
    if isinstance(last, PostToolUseEvent):
        more, message = _call(operation, last, content=content)
        attributes |= more
    elif isinstance(last, WorkflowEndedEvent):
        if isinstance(first, WorkflowStartedEvent):
            attributes[WORKFLOW] = first.workflow_name
        if last.status != "completed":
            attributes[ERROR_TYPE] = last.status
            message = last.completion_reason if content else None
    elif isinstance(last, SemanticQueryEvent):
        attributes |= _query(last, content=content)
    elif isinstance(last, AgentCapabilityUtilizedEvent):
        attributes |= _model_call(last, content=content)
    if operation.name in INFERENCE or operation.name == "invoke_agent":
        attributes.setdefault(PROVIDER, provider)
    return attributes, message


def _ids(operation: Operation) -> dict[str, Any]:
    last = operation.last
    said = {
        AGENT_ID: last.agent_id,
        AGENT_NAME: operation.agent_name or None,
        CONVERSATION: last.session_id,
    }
    return {name: str(value) for name, value in said.items() if value is not None}


def _call(
    operation: Operation, end: PostToolUseEvent, *, content: bool
) -> tuple[dict[str, Any], str | None]:
    first = operation.first
    attributes = {TOOL: end.tool_name, CALL_ID: str(operation.seed or first.event_id)}
    if content and isinstance(first, PreToolUseEvent):
        attributes[ARGUMENTS] = _json(first.parameters)
    if content and end.result is not None:
        attributes[RESULT] = _json(end.result)
    if end.success:
        return attributes, None
    attributes[ERROR_TYPE] = end.error_type or OTHER
    return attributes, end.error if content else None


def _query(event: SemanticQueryEvent, *, content: bool) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if content and event.query_text:
        attributes[QUERY] = event.query_text
    if event.max_results is not None:
        attributes[TOP_K] = event.max_results
    return attributes


def _model_call(event: AgentCapabilityUtilizedEvent, *, content: bool) -> dict[str, Any]:
    """Return what a call of a model says of itself under the names of OpenTelemetry."""
    said = (event.input_parameters or {}) | (event.capability_result or {})
    return {
        name: value if isinstance(value, bool | int | float | str) else _json(value)
        for name, value in said.items()
        if name.startswith("gen_ai.") and (content or not name.endswith(_MESSAGES))
    }


def _exception(failure: FailureDetectedEvent, *, content: bool) -> SpanEvent:
    attributes = {EXCEPTION_TYPE: failure.failure_type}
    if content:
        attributes[EXCEPTION_MESSAGE] = failure.failure_description
    return SpanEvent(name=EXCEPTION, time_ns=nanoseconds(failure.timestamp), attributes=attributes)


def _with_rest(span: Span, operation: Operation, *, content: bool) -> Span:
    """Add what the span does not say of its events, so that they can be made of it again."""
    rests: dict[str, Any] = {}
    for role, said in said_by(span):
        if role:
            event = operation.start if role == START_REST else operation.end
            rest = None if event is None else _difference(said, event, content=content)
            if rest is None or rest:
                rests[role] = _json(rest)
    attributes = {**span.attributes, **rests}
    return replace(
        span, attributes=attributes, events=list(_events(span, operation, content=content))
    )


def _events(span: Span, operation: Operation, *, content: bool) -> Iterator[SpanEvent]:
    pairs = zip(span.events, operation.failures, strict=True)
    for index, (event, failure) in enumerate(pairs):
        said = said_by_exception(span, index, event) or {}
        rest = _json(_difference(said, failure, content=content))
        yield replace(event, attributes={**event.attributes, EVENT_REST: rest})


def _difference(said: Flat, event: ObservabilityEvent, *, content: bool) -> Flat:
    """Return the fields of an event that are not said already; None stands for one that is not."""
    nested = event.model_dump(mode="json")
    actual: Flat = {**nested, **nested["payload"]}
    del actual["payload"]
    rest: Flat = {name: None for name in said if name not in actual}
    rest |= {name: value for name, value in actual.items() if said.get(name) != value}
    if content:
        return rest
    return {name: value for name, value in rest.items() if name in _KEPT or value is None}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
