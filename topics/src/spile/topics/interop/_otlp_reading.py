"""Spans read from OTLP: JSON, and the messages of its protobuf definition."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, cast

from spile.spi import InvalidEventError
from spile.topics._limits import MAX_JSON_DEPTH
from spile.topics.interop._span import KINDS, STATUSES, Span, SpanEvent
from spile.topics.redaction import quotable

_SERVICE: Final = "service.name"
_NUMBER_DIGITS: Final = 20
_Found: TypeAlias = Iterator[tuple[str, Callable[[], Span]]]


def spans_from_otlp(request: Any, *, refused: list[InvalidEventError] | None = None) -> list[Span]:
    """
    Read the spans of an OTLP export request.

    Args:
        request: OTLP/JSON as a mapping, or an `ExportTraceServiceRequest` or `TracesData` message.
        refused: Takes the error of each bad span, and the others are read; without it the first
            bad span raises.

    Raises:
        InvalidEventError: The request is none, or a span breaks the definition; the error says
            where.
    """
    spans: list[Span] = []
    is_json = isinstance(request, Mapping)
    if not is_json and not hasattr(request, "resource_spans"):
        raise InvalidEventError(
            f"OTLP: expected a mapping with resourceSpans or a message with resource_spans, "
            f"got {type(request).__name__}",
            field="resourceSpans",
        )
    found = _read_json(cast("Any", request)) if is_json else _read_message(request)
    for where, make in found:
        try:
            spans.append(make())
        except InvalidEventError as exc:
            problem = InvalidEventError(f"OTLP: {where}: {exc}", field=exc.field)
            if refused is None:
                raise problem from None
            refused.append(problem)
    return spans


def _read_json(request: Mapping[str, Any]) -> _Found:
    for i, resource in _objects(request, "resourceSpans"):
        about = _object(resource.get("resource"), "resource")
        service = _attributes(about, 0).get(_SERVICE)
        for j, scope in _objects(resource, "scopeSpans"):
            for k, span in _objects(scope, "spans"):
                where = f"resourceSpans.{i}.scopeSpans.{j}.spans.{k}"
                yield where, partial(_span, span, service)


def _span(data: Mapping[str, Any], service: object) -> Span:
    status = _object(data.get("status"), "status")
    events = [
        SpanEvent(
            name=_text(event, "name"),
            time_ns=_number(event, "timeUnixNano"),
            attributes=_attributes(event, 0),
        )
        for _, event in _objects(data, "events")
    ]
    return Span(
        trace_id=_text(data, "traceId").lower(),
        span_id=_text(data, "spanId").lower(),
        parent_span_id=_text(data, "parentSpanId").lower() or None,
        name=_text(data, "name"),
        kind=_named(KINDS, _number(data, "kind"), "kind"),
        start_ns=_number(data, "startTimeUnixNano"),
        end_ns=_number(data, "endTimeUnixNano"),
        attributes=_attributes(data, 0),
        events=events,
        status=_named(STATUSES, _number(status, "code"), "status"),
        status_message=_text(status, "message") or None,
        service=service if isinstance(service, str) and service else None,
    )


def _attributes(owner: Mapping[str, Any], depth: int, name: str = "attributes") -> dict[str, Any]:
    return {
        _text(pair, "key"): _value(pair.get("value"), depth) for _, pair in _objects(owner, name)
    }


def _value(data: object, depth: int) -> Any:
    _check_depth(depth)
    value = _object(data, "value")
    if not value:
        return None
    kind, inner = next(iter(value.items()))
    match kind:
        case "stringValue":
            return _text(value, kind)
        case "intValue":
            return _number(value, kind)
        case "arrayValue":
            items = _objects(_object(inner, kind), "values")
            return [_value(item, depth + 1) for _, item in items]
        case "kvlistValue":
            return _attributes(_object(inner, kind), depth + 1, "values")
        case _:
            return _plain(kind, inner)


def _plain(kind: str, inner: object) -> bool | float | bytes:
    if kind == "boolValue" and isinstance(inner, bool):
        return inner
    if kind == "doubleValue":
        return _double(inner)
    if kind == "bytesValue":
        return _bytes(inner)
    shown = quotable(kind)
    raise InvalidEventError(f"attribute value {shown!r} is none of OTLP", field=shown)


def _double(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidEventError("doubleValue must be a number", field="doubleValue")
    try:
        return float(value)
    except ValueError:
        raise InvalidEventError("doubleValue must be a number", field="doubleValue") from None


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(cast("str", value), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidEventError("bytesValue must be base64", field="bytesValue") from None


def _objects(owner: Mapping[str, Any], name: str) -> Iterable[tuple[int, Mapping[str, Any]]]:
    items = owner.get(name)
    if items is None:
        return
    if not isinstance(items, list):
        raise InvalidEventError(f"OTLP: {name} must be a list", field=name)
    for index, item in enumerate(cast("list[object]", items)):
        yield index, _object(item, f"{name}.{index}")


def _object(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidEventError(f"OTLP: {name} must be an object", field=name)
    return cast("Mapping[str, Any]", value)


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidEventError(f"{name} must be a text", field=name)
    return value or ""


def _number(data: Mapping[str, Any], name: str) -> int:
    """Return a whole number, which JSON may hold as a text; 0 when it is not set."""
    value = data.get(name, 0)
    if isinstance(value, str) and len(value) <= _NUMBER_DIGITS:
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit():
            return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise InvalidEventError(f"{name} must be a whole number", field=name)


def _named(names: tuple[Any, ...], number: int, field: str) -> Any:
    if 0 <= number < len(names):
        return names[number]
    raise InvalidEventError(f"{field} must be a number from 0 to {len(names) - 1}", field=field)


def _check_depth(depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise InvalidEventError(f"an attribute is nested deeper than {MAX_JSON_DEPTH} levels")


def _read_message(request: Any) -> _Found:
    for i, resource in enumerate(request.resource_spans):
        service = _pairs(resource.resource.attributes, 0).get(_SERVICE)
        for j, scope in enumerate(resource.scope_spans):
            for k, span in enumerate(scope.spans):
                where = f"resource_spans.{i}.scope_spans.{j}.spans.{k}"
                yield where, partial(_message, span, service)


def _message(span: Any, service: object) -> Span:
    events = [
        SpanEvent(
            name=event.name, time_ns=event.time_unix_nano, attributes=_pairs(event.attributes, 0)
        )
        for event in span.events
    ]
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=_named(KINDS, span.kind, "kind"),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_pairs(span.attributes, 0),
        events=events,
        status=_named(STATUSES, span.status.code, "status"),
        status_message=span.status.message or None,
        service=service if isinstance(service, str) and service else None,
    )


def _pairs(pairs: Iterable[Any], depth: int) -> dict[str, Any]:
    return {pair.key: _message_value(pair.value, depth) for pair in pairs}


def _message_value(value: Any, depth: int) -> Any:
    _check_depth(depth)
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_message_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _pairs(value.kvlist_value.values, depth + 1)
    return getattr(value, kind)
