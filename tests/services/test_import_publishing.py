"""Publishing of what files hold: batches, order, refusals, the report."""

import json

import pytest

from spile.services.importing import import_files, read_events, recorded_session
from spile.spi import BrokerUnavailableError, InvalidEventError, UnknownTopicError


class Store:
    """A bus and a store in one: keeps what it is given, known by id."""

    def __init__(self):
        self.batches = []
        self.rows = {}

    async def publish(self, events):
        self.batches.append(len(events))
        for event in events:
            self.rows.setdefault(event.event_id, event)
        return [True] * len(events)


async def test_import_publishes_all_in_order():
    """Every event is published once, in the order of the file."""
    store = Store()
    report = await import_files([recorded_session()], store.publish)
    read = [
        record.event_id for record in read_events(recorded_session()) if hasattr(record, "event_id")
    ]
    assert list(store.rows) == read
    assert (report.published, report.failed) == (len(read), 0)


async def test_import_sends_batches_of_the_asked_size():
    """Events go out in full batches and one rest."""
    store = Store()
    report = await import_files([recorded_session()], store.publish, batch=10)
    assert set(store.batches[:-1]) == {10}
    assert sum(store.batches) == report.published


async def test_import_again_adds_nothing(tmp_path):
    """A second import, even of a copy under another name, leaves the store as it is."""
    store = Store()
    await import_files([recorded_session()], store.publish)
    before = dict(store.rows)
    copy = tmp_path / "copy.log"
    copy.write_bytes(recorded_session().read_bytes())
    await import_files([copy], store.publish)
    assert store.rows == before


async def test_import_of_the_same_content_twice_counts_it_once(tmp_path):
    """A copy within one import is skipped as a duplicate, and the report says so."""
    store = Store()
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(recorded_session().read_bytes())
    report = await import_files([recorded_session(), copy], store.publish)
    assert report.published == report.skipped["duplicate"] == len(store.rows)


async def test_import_dry_run_publishes_nothing():
    """Without a publisher the report counts what would be published."""
    report = await import_files([recorded_session()], None)
    assert report.events.total() > 0
    assert report.published == report.failed == 0


async def test_import_refused_event_does_not_stop_the_others():
    """An event that breaks its contract is reported; all others are sent, in order."""
    sent = []

    async def publish(events):
        if any(event.event_type == "FAILURE_DETECTED" for event in events):
            raise InvalidEventError("payload.severity: wrong")
        sent.extend(event.event_id for event in events)
        return [True] * len(events)

    report = await import_files([recorded_session()], publish)
    everything = [one for one in read_events(recorded_session()) if hasattr(one, "event_id")]
    wanted = [one.event_id for one in everything if one.event_type != "FAILURE_DETECTED"]
    assert sent == wanted
    assert report.failed == 1
    assert "FAILURE_DETECTED" in report.failures[0]
    assert "payload.severity: wrong" in report.failures[0]


async def test_import_unacknowledged_events_are_failures():
    """An event that was not acknowledged counts as failed and is named."""

    async def publish(events):
        return [event.event_type != "WORKFLOW_ENDED" for event in events]

    report = await import_files([recorded_session()], publish)
    assert report.failed == 1
    assert report.failures[0].endswith("not acknowledged")


async def test_import_stops_when_the_bus_is_away():
    """A bus that is away is asked once; what was not sent counts as failed."""
    asked = 0

    async def publish(events):
        nonlocal asked
        asked += 1
        raise BrokerUnavailableError("no broker at localhost:9")

    report = await import_files([recorded_session()], publish, batch=10)
    assert asked == 1
    assert report.failed == report.events.total()
    assert report.stopped == "no broker at localhost:9"


async def test_import_of_a_type_without_topic_is_tried_once():
    """Of a type that has no topic one event is tried; the rest of that type fails at once."""
    tried, sent = 0, []

    async def publish(events):
        nonlocal tried
        if any(event.event_type == "PRE_TOOL_USE" for event in events):
            tried += len(events) == 1
            raise UnknownTopicError("no topic for PRE_TOOL_USE")
        sent.extend(events)
        return [True] * len(events)

    report = await import_files([recorded_session()], publish, batch=10)
    assert tried == 1
    assert report.failed == report.events["PRE_TOOL_USE"]
    assert len(sent) == report.published == report.events.total() - report.failed


async def test_import_error_of_the_program_passes_through():
    """What is no error of the bus is not swallowed."""

    async def publish(events):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await import_files([recorded_session()], publish)


async def test_import_report_counts_tools():
    """The table of tools holds calls, errors, mean and p95 of the durations."""
    report = await import_files([recorded_session()], None)
    edit = next(tool for tool in report.tools if tool.tool_name == "Edit")
    assert (edit.count, edit.errors) == (7, 1)
    assert edit.p95_ms >= edit.mean_ms > 0


async def test_import_report_names_file_and_line(tmp_path):
    """Unreadable lines stand in the report with file, line and reason."""
    path = tmp_path / "s.jsonl"
    good = recorded_session().read_text(encoding="utf-8").splitlines()[2]
    path.write_text(f"{good}\nnot json\n", encoding="utf-8")
    report = (await import_files([path], None)).as_json()
    assert report["malformed"] == [
        {"file": str(path), "line": 2, "reason": "not JSON: expecting value at column 1"}
    ]
    assert json.loads(json.dumps(report)) == report


async def test_import_unknown_file_is_malformed(tmp_path):
    """A file of no known format is named with what would be right, and the next file is read."""
    path = tmp_path / "notes.txt"
    path.write_text("hello\n", encoding="utf-8")
    report = await import_files([path, tmp_path / "missing", recorded_session()], None)
    assert [bad.file for bad in report.malformed] == [path, tmp_path / "missing"]
    assert "expected a Claude Code transcript" in report.malformed[0].reason
    assert report.formats[recorded_session()] == "claude-code"


async def test_import_tells_how_far_it_is():
    """Reading reports its bytes, up to the size of the file."""
    told = []
    await import_files([recorded_session()], None, on_bytes=lambda _, count: told.append(count))
    assert told == sorted(told)
    assert told[-1] == recorded_session().stat().st_size
