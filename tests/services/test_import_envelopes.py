"""JSONL of envelopes is imported as it stands."""

import json
from datetime import UTC, datetime

import pytest

from spile.services.importing import ImportedEvent, Malformed, detect_format, read_events
from spile.topics import default_catalogue, uuid7, uuid7_text
from spile.topics.events import PostToolUseEvent


def envelope(**fields):
    event = PostToolUseEvent(
        agent_id=uuid7(), tool_name="Read", success=False, error="gone", execution_time_ms=7.0
    )
    return {
        "event_id": str(event.event_id),
        "event_type": "POST_TOOL_USE",
        "correlation_id": uuid7_text(),
        "causation_id": uuid7_text(),
        "timestamp": "2026-05-04T11:00:00+02:00",
        "service": "elsewhere",
        "payload": json.loads(event.model_dump_json()),
        "metadata": {"run": "7"},
        **fields,
    }


@pytest.fixture
def written(tmp_path):
    def write(*lines):
        path = tmp_path / "export.log"
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    return write


def test_envelope_keeps_ids_time_and_metadata(written):
    """An envelope is imported under its own ids, time and metadata."""
    value = envelope()
    (event,) = read_events(written(value))
    assert isinstance(event, ImportedEvent)
    kept = (event.event_id, event.correlation_id, event.causation_id, event.metadata)
    names = ("event_id", "correlation_id", "causation_id", "metadata")
    assert kept == tuple(value[name] for name in names)
    assert event.timestamp == datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
    assert detect_format(event.file) == "envelopes"


def test_envelope_payload_passes_its_contract(written):
    """The payload goes on as it was, and the catalogue's contract takes it."""
    (event,) = read_events(written(envelope()))
    route = default_catalogue().resolve(event.event_type, environment="dev", service="agent")
    assert route.contract.prepare(event.event).event_id == event.event_id


def test_envelope_tool_result_counts_in_the_table(written):
    """A tool result in an envelope adds to the table of tools as one from a transcript does."""
    (event,) = read_events(written(envelope()))
    seen = event.observation
    assert (seen.tool_name, seen.success, seen.duration_ms) == ("Read", False, 7.0)


def test_envelope_that_is_wrong_is_malformed(written):
    """A wrong envelope is reported with its line and the field; the others are read."""
    records = list(read_events(written(envelope(), envelope(event_id="x"), "{", envelope())))
    bad = [record for record in records if isinstance(record, Malformed)]
    assert [one.line for one in bad] == [2, 3]
    assert "event_id" in bad[0].reason
    assert len(records) == 4
