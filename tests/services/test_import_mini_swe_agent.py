"""mini-swe-agent trajectories become events."""

import json
from datetime import UTC, datetime

import pytest

from spile.services.importing import ImportedEvent, detect_format, read_events

SYSTEM = {"role": "system", "content": "You are helpful."}
TASK = {"role": "user", "content": "Fix the lamp."}
BEGAN = 1_775_802_700.0


@pytest.fixture
def events(tmp_path):
    def read(document, event_type=None):
        path = tmp_path / "run.traj.json"
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
        assert detect_format(path) == "mini-swe-agent"
        return [
            one
            for one in read_events(path)
            if isinstance(one, ImportedEvent) and event_type in (None, one.event_type)
        ]

    return read


def says(text, command, fence="bash"):
    return {"role": "assistant", "content": f"THOUGHT: {text}\n\n```{fence}\n{command}\n```"}


def printed(output, code=0):
    text = f"<returncode>{code}</returncode>\n<output>\n{output}\n</output>"
    return {"role": "user", "content": text}


def document(*messages, version="1.1", **info):
    return {
        "info": {"mini_version": "2.2.7", "config": {"model": {"model_name": "m"}}, **info},
        "messages": [SYSTEM, TASK, *messages],
        "trajectory_format": f"mini-swe-agent-{version}",
        "instance_id": "lamp-1",
    }


def calls(*commands, at=BEGAN):
    ids = [f"call_{index}" for index in range(len(commands))]
    return {
        "role": "assistant",
        "content": "Look around.",
        "tool_calls": [
            {
                "id": call,
                "type": "function",
                "function": {"name": "bash", "arguments": json.dumps({"command": command})},
            }
            for call, command in zip(ids, commands, strict=True)
        ],
        "extra": {
            "actions": [
                {"command": command, "tool_call_id": call}
                for call, command in zip(ids, commands, strict=True)
            ],
            "timestamp": at,
        },
    }


def answers(call, output, *, code=0, at=BEGAN + 1.5, exception=""):
    return {
        "role": "tool",
        "tool_call_id": call,
        "content": f"<returncode>{code}</returncode>\n<output>\n{output}</output>",
        "extra": {
            "raw_output": output,
            "returncode": code,
            "timestamp": at,
            "exception_info": exception,
        },
    }


@pytest.mark.parametrize("fence", ["bash", "mswea_bash_command"])
def test_mini_first_generation_reads_fenced_commands(events, fence):
    """In version 1 the command is the fenced block, the thought what stands around it."""
    messages = [says("list it", "ls -la", fence), printed("lamp.py")]
    found = events(document(*messages, version="1", exit_status="Submitted"))
    assert [event.event_type for event in found] == [
        "WORKFLOW_STARTED",
        "MESSAGE_PUBLISHED",
        "AGENT_CAPABILITY_UTILIZED",
        "PRE_TOOL_USE",
        "POST_TOOL_USE",
        "WORKFLOW_ENDED",
    ]
    assert found[2].event.utilization_context == "THOUGHT: list it"
    assert found[3].event.parameters == {"command": "ls -la"}
    assert found[4].event.result == "lamp.py"
    assert found[4].causation_id == found[3].event_id


def test_mini_bare_list_of_messages_is_read(events):
    """The oldest files are the list of messages alone."""
    found = events([SYSTEM, TASK, says("x", "ls"), printed("", 2)])
    assert [event.event_type for event in found][-2:] == ["PRE_TOOL_USE", "POST_TOOL_USE"]
    assert (found[-1].event.success, found[-1].event.error_type) == (False, "ExitCode2")


def test_mini_first_generation_timeout_is_an_error(events):
    """A command that ran out of time failed, although there is no exit code."""
    late = {"role": "user", "content": "The last command <command>x</command> timed out and has"}
    (result,) = events(document(says("x", "x"), late, version="1"), "POST_TOOL_USE")
    assert result.event.error_type == "Timeout"


def test_mini_tool_call_has_its_time_and_duration(events):
    """In version 1.1 times stand in the data: a single call's duration is their difference."""
    found = events(document(calls("ls"), answers("call_0", "lamp.py")))
    result = next(event for event in found if event.event_type == "POST_TOOL_USE")
    assert result.timestamp == datetime.fromtimestamp(BEGAN + 1.5, UTC)
    assert result.event.execution_time_ms == 1500.0
    assert "time" not in result.metadata
    times = [event.timestamp for event in found]
    assert times == sorted(times)


def test_mini_parallel_calls_have_no_duration(events):
    """Answers to several calls are stamped together, so none of them tells how long it took."""
    messages = [calls("ls", "pwd"), answers("call_0", "a"), answers("call_1", "b")]
    results = events(document(*messages), "POST_TOOL_USE")
    assert [result.event.execution_time_ms for result in results] == [None, None]
    assert [result.event.result for result in results] == ["a", "b"]


def test_mini_exception_is_the_error_type(events):
    """A command that was never run says so."""
    answer = answers("call_0", "", code=-1, exception="action was not executed")
    (result,) = events(document(calls("ls"), answer), "POST_TOOL_USE")
    assert (result.event.success, result.event.error_type) == (False, "NotExecuted")


def test_mini_submission_answers_the_last_call_and_ends_the_run(events):
    """The command that submits has no answer of its own: the exit message is it."""
    exit_message = {
        "role": "exit",
        "content": "diff --git",
        "extra": {"exit_status": "Submitted", "submission": "diff --git"},
    }
    found = events(document(calls("submit"), exit_message, exit_status="Submitted"))
    assert [event.event_type for event in found][-2:] == ["POST_TOOL_USE", "WORKFLOW_ENDED"]
    assert found[-1].event.status == "completed"
    assert found[-1].event.final_result == {"submission": "diff --git"}


def test_mini_format_error_is_a_failure(events):
    """An answer of the model that could not be understood is a failure of low severity."""
    wrong = {"role": "user", "content": "No tool calls", "extra": {"interrupt_type": "FormatError"}}
    (event,) = events(document({"role": "assistant", "content": "hm"}, wrong), "FAILURE_DETECTED")
    assert (event.event.failure_type, event.event.severity) == ("FormatError", "low")


def test_mini_exception_of_the_agent_fails_the_run(events):
    """A run that an exception ended has a failure with its traceback, and ends as failed."""
    extra = {"exit_status": "RuntimeError", "exception_str": "gone", "traceback": "Traceback"}
    found = events(document({"role": "exit", "content": "gone", "extra": extra}))
    assert found[-2].event.error_details == {"traceback": "Traceback"}
    assert (found[-1].event.status, found[-1].event.completion_reason) == ("failed", "RuntimeError")


def test_mini_responses_api_items_are_read(events):
    """The form of the Responses API gives the same events as chat messages do."""
    response = {
        "object": "response",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "think"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "say"}]},
            {
                "type": "function_call",
                "call_id": "c1",
                "name": "bash",
                "arguments": '{"command": "ls"}',
            },
        ],
        "extra": {"timestamp": BEGAN},
    }
    output = {
        "type": "function_call_output",
        "call_id": "c1",
        "output": "<returncode>0</returncode>\n<output>\na</output>",
        "extra": {"raw_output": "a", "returncode": 0, "timestamp": BEGAN + 2},
    }
    found = events(document(response, output))
    thoughts = [one.event.utilization_context for one in found if "CAPABILITY" in one.event_type]
    assert thoughts == ["think", "say"]
    assert found[-1].event.execution_time_ms == 2000.0
