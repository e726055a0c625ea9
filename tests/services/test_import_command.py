"""`spile import` on the command line."""

import importlib
import io
import json
from contextlib import asynccontextmanager

import pytest
from click.testing import CliRunner

from spile.services.importing import recorded_session
from spile.spi import BrokerUnavailableError, ConfigurationError, ProtocolBatchPublisher
from spile.topics import default_catalogue

# The module of a command is found by name: `import` is a keyword.
command = importlib.import_module("spile.services.command._import")


class Publisher(ProtocolBatchPublisher):
    """Checks every event against the catalogue, as the real one does, and keeps it."""

    def __init__(self, acknowledge=lambda event: True):
        self.events = []
        self._acknowledge = acknowledge
        self._catalogue = default_catalogue()

    async def publish_many(self, events):
        for event in events:
            route = self._catalogue.resolve(event.event_type, environment="dev", service="agent")
            prepared = route.contract.prepare(event.payload)
            assert prepared.event_id == event.event_id
            assert len(prepared.payload_json) <= 1_000_000
        self.events += events
        return [self._acknowledge(event) for event in events]


@pytest.fixture
def run():
    def invoke(*arguments, publisher=None, error=None):
        @asynccontextmanager
        async def opened():
            if error is not None:
                raise error
            yield publisher

        source = command.PublisherSource(open=opened)
        bus = source if publisher or error else None
        return CliRunner().invoke(command.import_, [str(one) for one in arguments], obj=bus)

    return invoke


def test_import_command_publishes_the_recorded_session(run):
    """Every event of the session passes its contract and is published under its own id and time."""
    publisher = Publisher()
    result = run(recorded_session(), publisher=publisher)
    assert result.exit_code == 0, result.output
    assert len(publisher.events) == 68
    assert all(event.event_id and event.timestamp for event in publisher.events)
    assert "68 published, 0 failed" in result.output


def test_import_command_shows_files_tools_and_skipped(run):
    """The summary for people has the files, the events, the tools and what was skipped."""
    output = run(recorded_session(), "--dry-run").output
    for expected in ("claude-code", "PRE_TOOL_USE", "Grep", "file-history-snapshot", "dry run"):
        assert expected in output


def test_import_command_dry_run_needs_no_bus(run):
    """A dry run reads and counts without a publisher."""
    result = run("--dry-run", "--json", recorded_session())
    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (report["events_total"], report["published"]) == (68, 0)


def test_import_command_json_is_one_object(run):
    """With --json standard output is one JSON object: files, events, tools, outcome."""
    report = json.loads(run("--json", recorded_session(), publisher=Publisher()).stdout)
    assert report["files"] == [{"file": str(recorded_session()), "format": "claude-code"}]
    assert report["published"] == report["events_total"] == sum(report["events"].values())
    assert {"tool", "count", "errors", "mean_ms", "p95_ms"} == set(report["tools"][0])


def test_import_command_searches_folders(run, tmp_path):
    """A folder is searched for recordings, nested ones too; other files are left alone."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "s.jsonl").write_bytes(recorded_session().read_bytes())
    (deep / "notes.md").write_text("no recording", encoding="utf-8")
    report = json.loads(run("--dry-run", "--json", tmp_path).stdout)
    assert [file["file"] for file in report["files"]] == [str(deep / "s.jsonl")]


def test_import_command_fails_when_an_event_is_not_published(run):
    """An event that was not acknowledged makes exit code 1 and is named."""
    publisher = Publisher(acknowledge=lambda event: event.event_type != "WORKFLOW_ENDED")
    result = run(recorded_session(), publisher=publisher)
    assert result.exit_code == 1
    assert "not acknowledged" in result.output


def test_import_command_malformed_lines_do_not_fail_it(run, tmp_path):
    """Lines that cannot be read are named with file and line; the exit code stays 0."""
    path = tmp_path / "s.jsonl"
    path.write_bytes(recorded_session().read_bytes() + b"{oops\n")
    result = run(path, publisher=Publisher())
    assert result.exit_code == 0
    assert f"{path}:73: not JSON" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError("SPILE_X: wrong"), 2), (BrokerUnavailableError("no broker"), 1)],
)
def test_import_command_says_why_the_bus_did_not_open(run, error, code):
    """Wrong settings are a usage error, an absent broker a failure; both are one readable line."""
    result = run(recorded_session(), error=error)
    assert result.exit_code == code
    assert str(error) in result.output


def test_import_command_shows_progress_on_a_terminal(run, monkeypatch):
    """On a terminal a bar on standard error says how far the import is."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(command.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    with command._progress([recorded_session()]) as on_bytes:
        on_bytes(recorded_session(), recorded_session().stat().st_size)
    assert "session.jsonl" in terminal.getvalue()


@pytest.mark.parametrize("arguments", [[], ["/no/such/file"]])
def test_import_command_refuses_wrong_arguments(run, arguments):
    """No file, or one that is not there, is a usage error."""
    assert run("--dry-run", *arguments).exit_code == 2


def test_import_command_refuses_what_holds_no_recording(run, tmp_path):
    """When no file has a known format, the exit code says that the arguments were wrong."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"hello": 1}\n', encoding="utf-8")
    result = run("--dry-run", path)
    assert result.exit_code == 2
    assert "format not recognised" in result.output
