"""Spans written as OTLP: JSON, and the messages of its protobuf definition."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from spile.topics.interop._span import Span, SpanKind, SpanStatus

KINDS: Final[tuple[SpanKind, ...]] = (
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
)
STATUSES: Final[tuple[SpanStatus, ...]] = ("unset", "ok", "error")
_SERVICE: Final = "service.name"
_SCOPE: Final = "spile"
_INT64: Final = 2**63


def spans_to_otlp(spans: Iterable[Span]) -> dict[str, Any]:
    """
    Return spans as an OTLP/JSON export request, one resource per service.

    Source: OTLP 1.x, section JSON Protobuf Encoding: ids in hex, 64-bit numbers as text.
    """
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes_out({_SERVICE: service} if service else {})},
                "scopeSpans": [{"scope": {"name": _SCOPE}, "spans": [_span_out(s) for s in own]}],
            }
            for service, own in _by_service(spans).items()
        ]
    }


def write_otlp(spans: Iterable[Span], request: Any) -> None:
    """
    Write spans into an `ExportTraceServiceRequest` or `TracesData` message.

    Args:
        spans: What to write.
        request: The message, which the caller makes; nothing of protobuf is imported here.
    """
    for service, own in _by_service(spans).items():
        resource = request.resource_spans.add()
        if service:
            _fill(resource.resource.attributes.add(), _SERVICE, service)
        scope = resource.scope_spans.add()
        scope.scope.name = _SCOPE
        for span in own:
            _write_span(span, scope.spans.add())


def _by_service(spans: Iterable[Span]) -> dict[str, list[Span]]:
    groups: dict[str, list[Span]] = {}
    for span in spans:
        groups.setdefault(span.service or "", []).append(span)
    return groups


def _span_out(span: Span) -> dict[str, Any]:
    status: dict[str, Any] = {"code": STATUSES.index(span.status)}
    if span.status_message:
        status["message"] = span.status_message
    out = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": KINDS.index(span.kind),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.end_ns),
        "attributes": _attributes_out(span.attributes),
        "events": [
            {
                "timeUnixNano": str(event.time_ns),
                "name": event.name,
                "attributes": _attributes_out(event.attributes),
            }
            for event in span.events
        ],
        "status": status,
    }
    return out | ({"parentSpanId": span.parent_span_id} if span.parent_span_id else {})


def _attributes_out(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value_out(value)} for key, value in attributes.items()]


def _value_out(value: object) -> dict[str, Any]:
    match value:
        case None:
            out: dict[str, Any] = {}
        case bool():
            out = {"boolValue": value}
        case int() if -_INT64 <= value < _INT64:
            out = {"intValue": str(value)}
        case int() | float():
            out = {"doubleValue": _double_out(float(value))}
        case bytes():
            out = {"bytesValue": base64.b64encode(value).decode()}
        case Mapping():
            out = {"kvlistValue": {"values": _attributes_out(cast("Mapping[str, Any]", value))}}
        case list() | tuple():
            items = [_value_out(item) for item in cast("list[object]", value)]
            out = {"arrayValue": {"values": items}}
        case _:
            out = {"stringValue": str(value)}
    return out


def _double_out(number: float) -> float | str:
    """Return a number; protobuf's JSON has words for those that JSON has no number for."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    return number


def _write_span(span: Span, out: Any) -> None:
    out.trace_id = bytes.fromhex(span.trace_id)
    out.span_id = bytes.fromhex(span.span_id)
    out.parent_span_id = bytes.fromhex(span.parent_span_id or "")
    out.name = span.name
    out.kind = KINDS.index(span.kind)
    out.start_time_unix_nano = span.start_ns
    out.end_time_unix_nano = span.end_ns
    out.status.code = STATUSES.index(span.status)
    out.status.message = span.status_message or ""
    for key, value in span.attributes.items():
        _fill(out.attributes.add(), key, value)
    for event in span.events:
        written = out.events.add()
        written.name = event.name
        written.time_unix_nano = event.time_ns
        for key, value in event.attributes.items():
            _fill(written.attributes.add(), key, value)


def _fill(pair: Any, key: str, value: object) -> None:
    pair.key = key
    _write_value(pair.value, value)


def _write_value(out: Any, value: object) -> None:
    if isinstance(value, bool):
        out.bool_value = value
    elif isinstance(value, int) and -_INT64 <= value < _INT64:
        out.int_value = value
    elif isinstance(value, int | float):
        out.double_value = float(value)
    elif isinstance(value, bytes):
        out.bytes_value = value
    elif isinstance(value, Mapping):
        out.kvlist_value.SetInParent()
        for key, item in cast("Mapping[str, Any]", value).items():
            _fill(out.kvlist_value.values.add(), key, item)
    elif isinstance(value, list | tuple):
        out.array_value.SetInParent()
        for item in cast("list[object]", value):
            _write_value(out.array_value.values.add(), item)
    elif value is not None:
        out.string_value = str(value)
