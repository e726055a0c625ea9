"""A record of an archive as a line of JSON."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec

from spile.adapters.delivery import Record
from spile.adapters.wire import Opener
from spile.spi import RedactionError, RegistryUnavailableError, UndecodableError
from spile.topics import Catalogue
from spile.topics.redaction import Redactor, sensitive_paths

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What a terminal may obey, or show in another order than it stands; JSON itself escapes the rest.
_ODD = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def moment_text(milliseconds: int) -> str:
    """Return a record time as ISO 8601; beyond the calendar as the number that it is."""
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return f"{milliseconds} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def span_text(first: str, last: str) -> str:
    """Return a span between ISO 8601 moments to the minute; what it shares with its start once."""
    start, end = (moment[:16].replace("T", " ") for moment in (first, last))
    if start[:10] == end[:10]:
        return f"{start} - {end[11:]}"
    return f"{start} - {end[5:] if start[:5] == end[:5] else end}"


def line_of(fields: dict[str, Any]) -> str:
    """Return JSON on one line, safe to print."""
    text = json.dumps(fields, ensure_ascii=False)
    return _ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def raw_fields(record: Record) -> dict[str, Any]:
    """Return a record byte for byte: text where it is UTF-8, else `{"base64": ...}`."""
    return _fields(record, _exact(record.value), _exact)


class RedactedView:
    """
    Shows records to people: no secrets, and of odd bytes only how many there are.

    Args:
        redactor: Finds and replaces secrets.
        opener: Reads other content types than JSON.
        catalogue: Knows which fields are marked as sensitive.
    """

    def __init__(self, redactor: Redactor, opener: Opener, catalogue: Catalogue) -> None:
        self._redactor = redactor
        self._opener = opener
        self._catalogue = catalogue

    def fields(self, record: Record) -> dict[str, Any]:
        """Return a record; what cannot be looked into is hidden, with the reason."""
        return _fields(record, self._value(record), self._text) | {"headers": self._headers(record)}

    def _text(self, data: bytes | None) -> Any:
        text = _exact(data)
        return self._redactor.scrub(text) if isinstance(text, str) else _counted(data)

    def _headers(self, record: Record) -> Any:
        shown: list[list[Any]] = []
        for name, content in record.headers:
            text = _exact(content)
            given = text if isinstance(text, str) else _counted(content)
            # By its name first; then all of them, for what is split over several.
            ((clean_name, clean),) = self._clean({name: given}, "headers").items()
            shown.append([clean_name, clean])
        return self._clean(shown, "headers")

    def _value(self, record: Record) -> Any:
        value = record.value
        if value is None:
            return None
        headers = dict(record.headers)
        try:
            opened = self._opener.open(headers.get("content_type") or b"", value)
            envelope = self._clean(msgspec.json.decode(opened), "")
        except (UndecodableError, RegistryUnavailableError, msgspec.DecodeError, ValueError):
            return _counted(value)
        marks = self._marks(record.topic, headers.get("event_type") or b"")
        if not marks or not isinstance(envelope, dict):
            return envelope
        named = cast("dict[str, Any]", envelope)
        return named | {"payload": self._clean(named.get("payload"), "payload", marks)}

    def _clean(self, value: Any, root: str, marks: Sequence[str] = ()) -> Any:
        try:
            return self._redactor.redact(value, marks=marks, root=root).value
        except RedactionError as exc:
            return {"hidden": str(exc)}

    def _marks(self, topic: str, event_type: bytes) -> Sequence[str]:
        environment = topic.partition(".")[0]
        contracts = self._catalogue.contracts(topic, (environment,)) or {}
        contract = contracts.get(event_type.decode(errors="replace"))
        return () if contract is None else sensitive_paths(contract.model)


def _fields(record: Record, value: Any, shown: Callable[[bytes | None], Any]) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": moment_text(record.timestamp),
        "key": shown(record.key),
        "headers": [[name, shown(content)] for name, content in record.headers],
        "value": value,
    }


def _exact(data: bytes | None) -> str | dict[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _counted(data: bytes | None) -> dict[str, int] | None:
    return None if data is None else {"bytes": len(data)}
