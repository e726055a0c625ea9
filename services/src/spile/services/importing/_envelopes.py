"""JSONL of spile envelopes: one per line, as the bus carries it and the stores export it."""

from datetime import UTC
from pathlib import Path
from typing import Any, Final

from spile.services.importing._records import ImportedEvent, Malformed, Observation, Record
from spile.services.importing._values import as_number, as_object, as_text, parse_json
from spile.spi import UndecodableError
from spile.topics import decode_envelope

_MARKS: Final = ("event_id", "event_type", "correlation_id", "payload")
_TOOL_ANSWER: Final = "POST_TOOL_USE"


def is_envelope(value: dict[str, Any]) -> bool:
    """Tell an envelope from other JSON objects."""
    return all(mark in value for mark in _MARKS)


def read_envelope(file: Path, line: int, data: bytes) -> Record:
    """
    Give the event of one line, under its own id, times and metadata.

    The payload is passed on as it stands; the publisher holds it against the catalogue.
    """
    try:
        envelope = decode_envelope(data)
        payload = as_object(parse_json(envelope.payload_json))
    except (UndecodableError, ValueError) as exc:
        return Malformed(file=file, line=line, reason=str(exc))
    cause = envelope.causation_id
    return ImportedEvent(
        event_type=envelope.event_type,
        event=payload,
        event_id=str(envelope.event_id),
        correlation_id=str(envelope.correlation_id),
        causation_id=None if cause is None else str(cause),
        timestamp=envelope.timestamp.astimezone(UTC),
        session=as_text(payload.get("session_id")) or str(envelope.correlation_id),
        format="envelopes",
        file=file,
        line=line,
        metadata=envelope.metadata or {},
        observation=_observation(envelope.event_type, payload),
    )


def _observation(event_type: str, payload: dict[str, Any]) -> Observation | None:
    if event_type != _TOOL_ANSWER:
        return None
    own = as_object(payload.get("payload")) or payload  # nested, or flat as some producers write it
    return Observation(
        tool_name=as_text(own.get("tool_name")) or "unknown",
        success=own.get("success") is True,
        duration_ms=as_number(own.get("execution_time_ms")),
    )
