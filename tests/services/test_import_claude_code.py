"""Claude Code transcripts become events."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from spile.services.importing import (
    ImportedEvent,
    Malformed,
    Skipped,
    detect_format,
    read_events,
    recorded_session,
)

SESSION = "3f0c2a51-7e64-4b1d-9a55-0d6b8e2f7c11"
START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


class Transcript:
    """Writes entries as Claude Code does, a second apart."""

    def __init__(self, path):
        self.path = path
        self.lines = []

    def add(self, kind, content=None, *, after=1.0, **fields):
        number = len(self.lines)
        time = START + timedelta(seconds=after * number)
        entry = {
            "type": kind,
            "uuid": f"00000000-0000-4000-8000-{number:012d}",
            "parentUuid": None,
            "sessionId": SESSION,
            "isSidechain": False,
            "timestamp": time.isoformat().replace("+00:00", "Z"),
            **fields,
        }
        if content is not None:
            entry["message"] = {"role": kind, "content": content}
        self.lines.append(json.dumps(entry))
        return self

    def thinks(self, text):
        return self.add("assistant", [{"type": "thinking", "thinking": text, "signature": "s"}])

    def calls(self, call, name, **parameters):
        block = {"type": "tool_use", "id": call, "name": name, "input": parameters}
        return self.add("assistant", [block])

    def answers(self, call, content, *, failed=None, structured=None, **fields):
        block = {"type": "tool_result", "tool_use_id": call, "content": content}
        if failed is not None:
            block["is_error"] = failed
        return self.add("user", [block], toolUseResult=structured, **fields)

    def records(self):
        self.path.write_text("".join(f"{line}\n" for line in self.lines), encoding="utf-8")
        return list(read_events(self.path))

    def events(self, event_type=None):
        found = [record for record in self.records() if isinstance(record, ImportedEvent)]
        return [one for one in found if event_type in (None, one.event_type)]


@pytest.fixture
def transcript(tmp_path):
    return Transcript(tmp_path / "anything.txt")


def test_transcript_keeps_the_order_of_thought_call_and_result(transcript):
    """Thought, tool call and observation come out in the order in which they were written."""
    transcript.add("user", "fix it").thinks("look first").calls("t1", "Read", file_path="a.py")
    transcript.answers("t1", "x = 1")
    assert [event.event_type for event in transcript.events()] == [
        "WORKFLOW_STARTED",
        "MESSAGE_PUBLISHED",
        "AGENT_CAPABILITY_UTILIZED",
        "PRE_TOOL_USE",
        "POST_TOOL_USE",
    ]


def test_transcript_thought_is_the_capability_reasoning(transcript):
    """A thinking block is a use of the capability `reasoning`, its text the context."""
    (event,) = transcript.thinks("off by one").events("AGENT_CAPABILITY_UTILIZED")
    assert (event.event.capability_name, event.event.utilization_context) == (
        "reasoning",
        "off by one",
    )


def test_transcript_spoken_text_is_the_capability_response(transcript):
    """What the agent says to its user is told apart from what it thinks."""
    transcript.add("assistant", [{"type": "text", "text": "Done."}])
    (event,) = transcript.events("AGENT_CAPABILITY_UTILIZED")
    assert event.event.capability_name == "response"


def test_transcript_result_answers_its_call(transcript):
    """A result carries tool name and agent of its call, and the call's event id as its cause."""
    transcript.calls("t1", "Bash", command="ls").calls("t2", "Grep", pattern="x")
    transcript.answers("t2", "b").answers("t1", "a")
    calls = {event.event.tool_name: event for event in transcript.events("PRE_TOOL_USE")}
    results = transcript.events("POST_TOOL_USE")
    assert [result.event.tool_name for result in results] == ["Grep", "Bash"]
    assert [result.causation_id for result in results] == [
        calls["Grep"].event_id,
        calls["Bash"].event_id,
    ]


def test_transcript_duration_is_the_time_from_call_to_result(transcript):
    """Where the entry states no duration, the two timestamps give it."""
    transcript.calls("t1", "Bash", command="make").answers("t1", "ok")
    (result,) = transcript.events("POST_TOOL_USE")
    assert result.event.execution_time_ms == 1000.0


def test_transcript_stated_duration_wins(transcript):
    """A duration that the tool measured itself is more exact than the two timestamps."""
    transcript.calls("t1", "Glob", pattern="*").answers("t1", "a", structured={"durationMs": 42})
    (result,) = transcript.events("POST_TOOL_USE")
    assert result.event.execution_time_ms == 42.0


def test_transcript_result_before_its_call_has_no_duration(transcript):
    """A clock that went backwards gives no duration rather than a negative one."""
    transcript.calls("t1", "Bash", command="date")
    transcript.answers("t1", "x", timestamp=(START - timedelta(hours=1)).isoformat())
    (result,) = transcript.events("POST_TOOL_USE")
    assert result.event.execution_time_ms is None


@pytest.mark.parametrize(
    ("text", "error_type"),
    [
        ("Exit code 2\nboom", "ExitCode2"),
        ("<tool_use_error>InputValidationError: no path</tool_use_error>", "InputValidationError"),
        ("<tool_use_error>File does not exist.</tool_use_error>", "ToolError"),
        ("The user doesn't want to proceed with this tool use.", "Rejected"),
    ],
)
def test_transcript_failed_call_names_its_kind_of_error(transcript, text, error_type):
    """A failed call is a result with `success` false, its text as error, and a kind of error."""
    transcript.calls("t1", "Bash", command="x").answers("t1", text, failed=True)
    (result,) = transcript.events("POST_TOOL_USE")
    event = result.event
    assert (event.success, event.error, event.error_type) == (False, text, error_type)
    assert event.result is None


def test_transcript_interrupted_command_failed(transcript):
    """A command that the user interrupted did not succeed."""
    transcript.calls("t1", "Bash", command="sleep 9")
    transcript.answers("t1", "", structured={"stdout": "", "interrupted": True})
    (result,) = transcript.events("POST_TOOL_USE")
    assert (result.event.success, result.event.error_type) == (False, "Interrupted")


def test_transcript_result_without_call_is_kept(transcript):
    """An answer whose call is not in the file is an event of tool `unknown`."""
    (result,) = transcript.answers("gone", "text").events("POST_TOOL_USE")
    assert (result.event.tool_name, result.causation_id) == ("unknown", None)


def test_transcript_result_blocks_become_text(transcript):
    """Text blocks are joined; an image is named, not carried."""
    image = {"type": "image", "source": {"media_type": "image/png", "data": "A" * 400}}
    transcript.calls("t1", "Read", file_path="p").answers(
        "t1", [{"type": "text", "text": "two"}, image, {"type": "text", "text": "pages"}]
    )
    (result,) = transcript.events("POST_TOOL_USE")
    assert result.event.result == "two\n[image/png, 400 characters]\npages"


def test_transcript_large_result_is_truncated(transcript):
    """A result over the payload limit is cut, says so and states its whole size."""
    text = 'é"' * 400_000
    transcript.calls("t1", "Read", file_path="p").answers("t1", text)
    (result,) = transcript.events("POST_TOOL_USE")
    assert result.event.result_truncated is True
    assert result.event.full_result_size == len(text.encode())
    assert len(result.event.model_dump_json().encode()) < 1_000_000


def test_transcript_large_parameters_are_truncated(transcript):
    """Parameters over the payload limit are cut and state what they were."""
    transcript.calls("t1", "Write", file_path="p", content="x" * 2_000_000)
    (call,) = transcript.events("PRE_TOOL_USE")
    assert call.event.parameters["file_path"] == "p"
    assert call.event.parameters["truncated_from_bytes"] > 2_000_000
    assert len(call.event.model_dump_json().encode()) < 1_000_000


def test_transcript_deep_parameters_are_bounded(transcript):
    """Parameters nested deeper than the contract allows keep the rest as JSON text."""
    deep = {}
    for _ in range(60):
        deep = {"in": deep}
    (call,) = transcript.calls("t1", "mcp__x__y", deep=deep).events("PRE_TOOL_USE")
    assert '{"in":' in json.dumps(call.event.parameters).replace("\\", "").replace(" ", "")


def test_transcript_lone_surrogate_survives_as_replacement(transcript):
    """Half of a surrogate pair, which UTF-8 cannot carry, becomes U+FFFD."""
    transcript.calls("t1", "Bash", command="x")
    transcript.answers("t1", "cut \ud83d")
    (result,) = transcript.events("POST_TOOL_USE")
    assert result.event.result == "cut \ufffd"


def test_transcript_sub_agent_acts_under_its_own_id(transcript):
    """A sub agent's entries carry its own agent id within the session of its parent."""
    side = {"isSidechain": True, "agentId": "a1b2c3"}
    transcript.calls("t1", "Task", prompt="look")
    transcript.add("user", "look", **side)
    transcript.add(
        "assistant", [{"type": "tool_use", "id": "t2", "name": "Grep", "input": {}}], **side
    )
    parent, child = transcript.events("PRE_TOOL_USE")
    (started,) = transcript.events("AGENT_STARTED")
    assert child.event.agent_id == started.event.agent_id != parent.event.agent_id
    assert child.correlation_id == parent.correlation_id == SESSION


def test_transcript_ids_of_the_session_are_its_own(transcript):
    """A session id that is a UUID is taken as it is: session, workflow and correlation."""
    event = transcript.thinks("x").events()[-1]
    assert event.event.session_id == event.event.workflow_id == UUID(SESSION)
    assert event.correlation_id == SESSION


def test_transcript_foreign_session_id_is_mapped(transcript):
    """A session id that is no UUID always maps to the same UUID."""
    transcript.add("user", "one", sessionId="agent/7").add("user", "two", sessionId="agent/7")
    assert len({UUID(event.correlation_id) for event in transcript.events()}) == 1


def test_transcript_event_time_is_the_entrys(transcript):
    """An event happened when its entry says, and nothing about it is called synthetic."""
    event = transcript.add("user", "a").thinks("b").events("AGENT_CAPABILITY_UTILIZED")[0]
    assert event.timestamp == event.event.timestamp == START + timedelta(seconds=1)
    assert "time" not in event.metadata


def test_transcript_entry_without_time_follows_its_predecessor(transcript):
    """An entry without a timestamp follows the one before it and says that its time is made up."""
    transcript.add("user", "a").add("user", "b", timestamp=None)
    first, second = transcript.events("MESSAGE_PUBLISHED")
    assert first.timestamp < second.timestamp < first.timestamp + timedelta(seconds=1)
    assert second.metadata["time"] == "synthetic"


def test_transcript_api_error_is_a_failure(transcript):
    """An error of the model's API that ended a turn is a failure, not something the agent said."""
    transcript.add(
        "assistant",
        [{"type": "text", "text": "API Error: 429"}],
        isApiErrorMessage=True,
        apiErrorStatus=429,
        error="rate_limit",
    )
    (event,) = transcript.events("FAILURE_DETECTED")
    assert (event.event.failure_type, event.event.severity) == ("rate_limit", "high")
    assert event.event.error_details == {"status": 429}
    assert not transcript.events("AGENT_CAPABILITY_UTILIZED")


def test_transcript_api_retry_is_a_low_failure(transcript):
    """An error that the client tries again is a failure of low severity."""
    error = {"status": 529, "error": {"error": {"message": "Overloaded"}}}
    transcript.add(
        "system", subtype="api_error", level="error", error=error, retryAttempt=1, maxRetries=10
    )
    (event,) = transcript.events("FAILURE_DETECTED")
    assert (event.event.failure_description, event.event.severity) == ("Overloaded", "low")


def test_transcript_compaction_is_a_consolidation(transcript):
    """Condensing the context is an event; the summary that replaces the talk is no prompt."""
    transcript.add("system", subtype="compact_boundary", compactMetadata={"preTokens": 170_000})
    transcript.add("user", "This session is being continued", isCompactSummary=True)
    (event,) = transcript.events("MEMORY_CONSOLIDATION")
    assert event.event.summary == {"preTokens": 170_000}
    assert not transcript.events("MESSAGE_PUBLISHED")


def test_transcript_queued_prompt_is_a_prompt(transcript):
    """What the user typed while the agent worked is a prompt; other attachments are skipped."""
    transcript.add("attachment", attachment={"type": "queued_command", "prompt": "and test it"})
    transcript.add("attachment", attachment={"type": "skill_listing", "content": "x"})
    (event,) = transcript.events("MESSAGE_PUBLISHED")
    assert event.event.message_content == {"text": "and test it"}


def test_transcript_exit_ends_the_session_once(transcript):
    """The exit command and the hook that follows it are one end of the session."""
    transcript.add("user", "hello").add("user", "<command-name>/exit</command-name>")
    transcript.add("progress", data={"type": "hook_progress", "hookEvent": "SessionEnd"})
    (event,) = transcript.events("WORKFLOW_ENDED")
    assert event.event.status == "completed"


def test_transcript_without_exit_has_no_end(transcript):
    """Where the data does not say that the session ended, no end is made up."""
    assert not transcript.add("user", "hello").events("WORKFLOW_ENDED")


def test_transcript_unknown_entries_are_counted_by_type(transcript):
    """Entries that hold no event are skipped under their type, not reported as errors."""
    transcript.add("user", "hello").add("summary").add("file-history-snapshot").add("brand-new")
    skipped = [record for record in transcript.records() if isinstance(record, Skipped)]
    assert [one.kind for one in skipped] == ["summary", "file-history-snapshot", "brand-new"]


def test_transcript_malformed_lines_are_reported_and_passed_over(transcript):
    """A broken line is reported with its number and reason; the lines around it are read."""
    transcript.add("user", "one")
    transcript.lines += [
        '{"type": "user", "uuid": ',
        "[1, 2]",
        '{"type": "user", "sessionId": "s"}',
    ]
    transcript.add("user", "two")
    bad = [record for record in transcript.records() if isinstance(record, Malformed)]
    assert [one.line for one in bad] == [2, 3, 4]
    assert bad[0].reason.startswith("not JSON")
    assert len(transcript.events("MESSAGE_PUBLISHED")) == 2


def test_transcript_with_a_broken_first_line_is_recognised(transcript):
    """The format is told from the first lines that can be read."""
    transcript.lines.append("{half")
    transcript.add("user", "hello")
    assert [type(record) for record in transcript.records()][:2] == [Malformed, ImportedEvent]
    assert detect_format(transcript.path) == "claude-code"


def test_transcript_not_utf8_is_malformed(transcript):
    """Bytes that are no UTF-8 make one line malformed, not the file."""
    transcript.add("user", "hello").records()
    transcript.path.write_bytes(transcript.path.read_bytes() + b'{"type":"user\xff"}\n')
    assert [
        record.reason for record in read_events(transcript.path) if isinstance(record, Malformed)
    ] == ["not UTF-8 at byte 13"]


def test_transcript_ids_do_not_depend_on_the_path(transcript, tmp_path):
    """The same content under another name gives the same ids."""
    transcript.add("user", "go").thinks("x").calls("t", "Bash", command="y").answers("t", "z")
    first = [event.event_id for event in transcript.events()]
    copy = tmp_path / "elsewhere" / "b.jsonl"
    copy.parent.mkdir()
    copy.write_bytes(transcript.path.read_bytes())
    assert first == [event.event_id for event in read_events(copy)]
    assert len(set(first)) == len(first)


def test_transcript_that_grew_keeps_the_ids_of_its_beginning(transcript):
    """Importing a session that went on adds only what is new."""
    transcript.add("user", "go").thinks("x")
    first = [event.event_id for event in transcript.events()]
    transcript.calls("t", "Bash", command="y")
    assert [event.event_id for event in transcript.events()][: len(first)] == first


def test_recorded_session_reads_without_a_fault():
    """The session that ships with spile has failures and a recovery, and no malformed line."""
    records = list(read_events(recorded_session()))
    events = [record for record in records if isinstance(record, ImportedEvent)]
    seen = [event.observation for event in events if event.observation is not None]
    assert not [record for record in records if isinstance(record, Malformed)]
    assert {"Read", "Grep", "Edit", "Bash", "Task"} <= {one.tool_name for one in seen}
    assert any(not one.success for one in seen)
    assert seen[-1].success
    assert all(one.duration_ms is not None for one in seen)
    assert [event.timestamp for event in events] == sorted(event.timestamp for event in events)
