"""The data of a CloudEvent as a payload, which is always a JSON object."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec

from spile.spi import MessageTooLargeError, UndecodableError
from spile.topics._json import is_deeper
from spile.topics._limits import MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES
from spile.topics.interop._cloudevent import CloudEvent
from spile.topics.interop._cloudevent_records import is_json_type


def is_utf8(value: bytes) -> bool:
    """Say whether bytes are UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def form_of(event: CloudEvent) -> str:
    """Return how the data of a CloudEvent stands in the payload."""
    if event.data is None:
        return "none"
    if is_json_type(event.datacontenttype):
        return "object" if event.data.lstrip()[:1] == b"{" else "value"
    return "text" if is_utf8(event.data) else "base64"


def payload_of(event: CloudEvent) -> bytes:
    """
    Return the payload that holds the data of a CloudEvent.

    Raises:
        UndecodableError: The data is no JSON though its content type says so, or nested too deep.
        MessageTooLargeError: The payload has more than `MAX_PAYLOAD_BYTES`.
    """
    form, data = form_of(event), (event.data or b"").strip()
    if form in {"object", "value"}:
        _check_json(data)
    if form == "none":
        payload = b"{}"
    elif form == "text":
        payload = msgspec.json.encode({"data": cast("bytes", event.data).decode()})
    elif form == "base64":
        payload = msgspec.json.encode({"data_base64": cast("bytes", event.data)})
    else:
        payload = data if form == "object" else b'{"data":' + data + b"}"
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise MessageTooLargeError(
            f"CloudEvent {event.id[:80]}: payload has {len(payload)} bytes, "
            f"limit {MAX_PAYLOAD_BYTES}",
            size_bytes=len(payload),
            limit_bytes=MAX_PAYLOAD_BYTES,
            event_type=event.type,
        )
    if is_deeper(payload, MAX_JSON_DEPTH):
        raise UndecodableError(
            f"CloudEvent: data is nested deeper than {MAX_JSON_DEPTH} levels", field="data"
        )
    return payload


def _check_json(data: bytes) -> None:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UndecodableError(
            "CloudEvent: data is no JSON, though datacontenttype says so", field="data"
        ) from None


def data_of(form: object, payload: bytes) -> bytes | None:
    """
    Return the data that `payload_of` made a payload of.

    Raises:
        UndecodableError: It made no such payload.
    """
    if form == "none":
        return None
    if form == "object":
        return payload
    if form == "value":
        return payload.removeprefix(b'{"data":').removesuffix(b"}")
    members: dict[str, Any] = msgspec.json.decode(payload)
    try:
        if form == "text":
            return members["data"].encode()
        return base64.b64decode(members["data_base64"], validate=True)
    except (KeyError, AttributeError, TypeError, ValueError):
        raise UndecodableError("payload is not what the CloudEvent held", field="data") from None
