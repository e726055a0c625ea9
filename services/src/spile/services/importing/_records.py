"""What reading a file gives: events, lines that could not be read, entries left out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

Format: TypeAlias = Literal["claude-code", "swe-agent", "mini-swe-agent", "envelopes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """
    What one tool result adds to the table of tools.

    Attributes:
        duration_ms: milliseconds from call to result; None where the data does not say.
    """

    tool_name: str
    success: bool
    duration_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedEvent:
    """
    One event made from a recording, ready to be published.

    Attributes:
        event_type: UPPER_SNAKE name, the envelope's and the header's type.
        event: a model of `spile.topics.events`, or the payload object of an envelope.
        event_id: UUID text that depends on the content only, so that importing a recording again
            gives the same ids.
        correlation_id: UUID text, one per session.
        causation_id: the id of the tool call that this event answers, else None.
        timestamp: the time of the event (UTC), not of the import.
        session: the recording's own name of the session, as it stands there.
        line: line in `file`, from 1; for a document that is one JSON value the number of the step.
        metadata: goes into the envelope: where the event came from, and `"time": "synthetic"` where
            the recording has no times.
    """

    event_type: str
    event: BaseModel | Mapping[str, Any]
    event_id: str
    correlation_id: str
    causation_id: str | None
    timestamp: datetime
    session: str
    format: Format
    file: Path
    line: int
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    observation: Observation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A line (or step) that could not be read; the rest of the file was."""

    file: Path
    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """An entry that is in order and holds no event: its kind says what it was."""

    file: Path
    line: int
    kind: str


Record: TypeAlias = ImportedEvent | Malformed | Skipped
