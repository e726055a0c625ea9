"""Reading a dead letter from a record of a dead letter queue."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from spile.spi import InvalidEventError, ProtocolRecord
from spile.topics.events.dead_letters._record import DeadLetterHeader, DeadLetterRecord, Octets

_PREFIX: Final = "x-spile-dlq-"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_DIGITS: Final = 19
_TEXTS: Final = (
    "original-topic",
    "consumer-group",
    "error-type",
    "error-message",
    "error-digest",
    "first-failure",
    "last-failure",
)
_NUMBERS: Final = ("original-partition", "original-offset", "original-timestamp", "attempts")


def read_dead_letter(record: ProtocolRecord) -> DeadLetterRecord:
    """
    Return the typed view of a record from a dead letter queue.

    Raises:
        InvalidEventError: The headers that a dead letter gets are missing or senseless; names the
            header.
    """
    added = {n[len(_PREFIX) :]: v for n, v in record.headers if n.startswith(_PREFIX)}
    facts: dict[str, Any] = {_field(name): _text(added, name) for name in _TEXTS}
    facts.update({_field(name): _number(added, name) for name in _NUMBERS})
    if "replay-count" in added:
        facts["replay_count"] = _number(added, "replay-count")
    try:
        moment = _EPOCH + timedelta(milliseconds=facts["original_timestamp"])
    except OverflowError:
        raise _senseless("original-timestamp") from None
    facts["original_timestamp"] = moment
    # Kafka allows null values, whatever the protocol's type says.
    own: list[tuple[str, bytes | None]] = [
        (name, value) for name, value in record.headers if not name.startswith(_PREFIX)
    ]
    facts["headers"] = [DeadLetterHeader(name=n, value=_octets(v)) for n, v in own]
    try:
        return DeadLetterRecord(key=_octets(record.key), value=_octets(record.value), **facts)
    except ValidationError as exc:
        raise _senseless(str(exc.errors()[0]["loc"][0]).replace("_", "-")) from None


def _field(header: str) -> str:
    return header.replace("-", "_")


def _octets(data: bytes | None) -> Octets | None:
    return None if data is None else Octets.of(data)


def _text(added: dict[str, bytes], name: str) -> str:
    data: bytes | None = added.get(name)
    if data is None:
        raise InvalidEventError(
            f"header {_PREFIX}{name} is missing: this is no record of a dead letter queue",
            event_type="DEAD_LETTER",
            field=_PREFIX + name,
        )
    return data.decode("utf-8", "replace")


def _number(added: dict[str, bytes], name: str) -> int:
    text = _text(added, name)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > _MAX_DIGITS:
        raise _senseless(name)
    return int(text)


def _senseless(name: str) -> InvalidEventError:
    return InvalidEventError(
        f"header {_PREFIX}{name} makes no sense in a dead letter",
        event_type="DEAD_LETTER",
        field=_PREFIX + name,
    )
