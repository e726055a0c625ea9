"""CloudEvents in Kafka records: the binary and the structured content mode."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec

from spile.spi import InvalidEventError, UndecodableError
from spile.topics._json import is_deeper, json_encoder
from spile.topics._limits import MAX_JSON_DEPTH, MAX_RECORD_BYTES
from spile.topics.interop._cloudevent import JSON_TYPE, SPEC_VERSION, CloudEvent

STRUCTURED_TYPE: Final = "application/cloudevents+json"
"""Media type of a CloudEvent in the JSON format."""

_PREFIX: Final = "ce_"
_CONTENT_TYPE: Final = "content-type"
_FAMILY: Final = "application/cloudevents"
_JSON: Final = re.compile(r"[^/;\s]+/(?:json|[^/;\s]+\+json)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)
_OTHER_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?(?!utf-?8|us-ascii)", re.IGNORECASE)
_TEXT: Final = re.compile(
    r"(?:text/[^;\s]+|[^/;\s]+/(?:xml|[^/;\s]+\+xml))\s*(?:;.*)?", re.IGNORECASE | re.DOTALL
)
_INT32: Final = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEventRecord:
    """
    A Kafka record that holds a CloudEvent.

    Attributes:
        headers: In the order in which they are sent.
        value: None is a record without a value: a CloudEvent without data in binary mode.
        key: Of the record.
    """

    headers: tuple[tuple[str, bytes], ...]
    value: bytes | None
    key: bytes | None = None


class _Data(msgspec.Struct, frozen=True):
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_attributes_decoder: Final = msgspec.json.Decoder(dict[str, Any])
_data_decoder: Final = msgspec.json.Decoder(_Data)


def is_json_type(media_type: str | None) -> bool:
    """Say whether a media type declares JSON in UTF-8; none at all does, by the JSON format."""
    if media_type is None:
        return True
    return _JSON.fullmatch(media_type) is not None and _OTHER_CHARSET.search(media_type) is None


def is_cloudevent(headers: Iterable[tuple[str, bytes | None]]) -> bool:
    """Say whether a record's headers declare a CloudEvent, in either content mode."""
    names = _by_name(headers)
    return _is_structured(names) or all(
        names.get(_PREFIX + name) for name in ("specversion", "id", "source", "type")
    )


def to_binary(event: CloudEvent, *, key: bytes | None = None) -> CloudEventRecord:
    """
    Write a CloudEvent in binary content mode: attributes as headers, data as the value.

    Header values are UTF-8 as they are; percent-encoding belongs to the HTTP binding, not to this
    one.

    Args:
        event: What to write.
        key: Key of the record; `partitionkey` by default.

    Source: CloudEvents 1.0.2, Kafka protocol binding, sections 3.1 and 3.2.
    """
    headers = [(_PREFIX + "specversion", SPEC_VERSION.encode())]
    for name, value in event.attributes.items():
        header = _CONTENT_TYPE if name == "datacontenttype" else _PREFIX + name
        headers.append((header, value.encode()))
    return CloudEventRecord(headers=tuple(headers), value=event.data, key=_key(event, key))


def to_structured(event: CloudEvent, *, key: bytes | None = None) -> CloudEventRecord:
    """
    Write a CloudEvent in structured content mode: one JSON object as the value.

    Data that its content type calls JSON stands there as it is, to the byte; text and XML in UTF-8
    as a text; all other data as base64.

    Args:
        event: What to write.
        key: Key of the record; `partitionkey` by default.

    Raises:
        InvalidEventError: The data is no JSON though its content type says so.

    Source: CloudEvents 1.0.2, JSON event format, section 3.1.
    """
    members: dict[str, Any] = {"specversion": SPEC_VERSION, **event.attributes}
    if event.data is not None and is_json_type(event.datacontenttype):
        try:
            msgspec.json.decode(event.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InvalidEventError(
                f"CloudEvent {event.id[:80]}: data is no JSON, though datacontenttype says so",
                field="data",
            ) from None
        members["data"] = msgspec.Raw(event.data)
    elif event.data is not None and _is_text(event.datacontenttype or "", event.data):
        members["data"] = event.data.decode()
    elif event.data is not None:
        members["data_base64"] = base64.b64encode(event.data).decode()
    headers = ((_CONTENT_TYPE, f"{STRUCTURED_TYPE}; charset=UTF-8".encode()),)
    return CloudEventRecord(
        headers=headers, value=json_encoder.encode(members), key=_key(event, key)
    )


def from_record(
    headers: Iterable[tuple[str, bytes | None]],
    value: bytes | None,
    *,
    key: bytes | None = None,
) -> CloudEvent:
    """
    Read a CloudEvent from a Kafka record; its content type decides the mode.

    A key that is text becomes `partitionkey` where the event has none.

    Args:
        headers: Of the record; the last of a name counts, one without a value is not set.
        value: Of the record.
        key: Of the record.

    Raises:
        UndecodableError: It is no CloudEvent 1.0, or breaks the specification; names the attribute.
    """
    names = _by_name(headers)
    if len(value or b"") > MAX_RECORD_BYTES:
        raise UndecodableError(
            f"CloudEvent has {len(value or b'')} bytes, limit {MAX_RECORD_BYTES}"
        )
    if _is_structured(names):
        attributes, data = _read_structured(names[_CONTENT_TYPE], value)
    else:
        attributes, data = _read_binary(names, value)
    version = attributes.pop("specversion", None)
    if version != SPEC_VERSION:
        said = "is missing" if version is None else f"is {version[:20]!r}"
        raise UndecodableError(
            f"CloudEvent: specversion {said}, this release reads {SPEC_VERSION!r}",
            field="specversion",
        )
    try:
        if key is not None and "partitionkey" not in attributes:
            attributes["partitionkey"] = key.decode()
            return CloudEvent.of(attributes, data)
    except (UnicodeDecodeError, InvalidEventError):
        # A key that no attribute can hold stays the record's alone.
        attributes.pop("partitionkey", None)
    try:
        return CloudEvent.of(attributes, data)
    except InvalidEventError as exc:
        raise UndecodableError(str(exc), field=exc.field) from None


def _is_text(media_type: str, data: bytes) -> bool:
    if not _TEXT.fullmatch(media_type) or _OTHER_CHARSET.search(media_type):
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _key(event: CloudEvent, key: bytes | None) -> bytes | None:
    if key is not None:
        return key
    partition_key = event.extensions.get("partitionkey")
    return None if partition_key is None else partition_key.encode()


def _by_name(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, bytes]:
    return {name.lower(): value for name, value in headers if value is not None}


def _is_structured(names: Mapping[str, bytes]) -> bool:
    return names.get(_CONTENT_TYPE, b"").lstrip().lower().startswith(_FAMILY.encode())


def _read_binary(
    names: Mapping[str, bytes], value: bytes | None
) -> tuple[dict[str, str], bytes | None]:
    attributes: dict[str, str] = {}
    for name, raw in names.items():
        if name == _CONTENT_TYPE:
            attribute = "datacontenttype"
        elif name.startswith(_PREFIX):
            attribute = name.removeprefix(_PREFIX)
        else:
            continue
        try:
            attributes[attribute] = raw.decode()
        except UnicodeDecodeError:
            raise UndecodableError(
                f"CloudEvent: header {name[:40]} is not UTF-8", field=attribute
            ) from None
    return attributes, value


def _read_structured(
    content_type: bytes, value: bytes | None
) -> tuple[dict[str, str], bytes | None]:
    media_type = content_type.split(b";")[0].strip().lower()
    if media_type != STRUCTURED_TYPE.encode():
        raise UndecodableError(
            f"CloudEvent: content type {media_type[:60]!r} is not read, only {STRUCTURED_TYPE!r}",
            field="content-type",
        )
    text = value or b""
    try:
        if is_deeper(text, MAX_JSON_DEPTH + 1):
            raise UndecodableError(f"CloudEvent is nested deeper than {MAX_JSON_DEPTH + 1} levels")
        members = _attributes_decoder.decode(text)
        raw = _data_decoder.decode(text).data
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise UndecodableError(f"CloudEvent is no JSON object: {exc}") from None
    return _split(members, raw)


def _split(
    members: dict[str, Any], raw: msgspec.Raw | msgspec.UnsetType
) -> tuple[dict[str, str], bytes | None]:
    members.pop("data", None)
    encoded = members.pop("data_base64", None)
    attributes = {
        name: _canonical(name, value) for name, value in members.items() if value is not None
    }
    media_type = attributes.get("datacontenttype")
    if encoded is not None:
        if not isinstance(raw, msgspec.UnsetType):
            raise UndecodableError("CloudEvent has both data and data_base64", field="data_base64")
        return attributes, _unpacked(encoded)
    if isinstance(raw, msgspec.UnsetType):
        return attributes, None
    if media_type is None:
        attributes["datacontenttype"] = JSON_TYPE
    if is_json_type(media_type):
        return attributes, bytes(raw)
    content: Any = msgspec.json.decode(raw)
    if not isinstance(content, str):
        raise UndecodableError(
            "CloudEvent: data must be a text where datacontenttype is not JSON", field="data"
        )
    return attributes, content.encode()


def _canonical(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and -_INT32 <= value < _INT32:
        return str(value)
    if isinstance(value, str):
        return value
    raise UndecodableError(
        f"CloudEvent: attribute {name[:40]} must be a text, a boolean or a 32-bit whole number",
        field=name,
    )


def _unpacked(encoded: object) -> bytes:
    try:
        return base64.b64decode(cast("str", encoded), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise UndecodableError(
            "CloudEvent: data_base64 is no base64 text", field="data_base64"
        ) from None
