"""SWE-agent trajectories of all generations become events."""

import json

import pytest

from spile.services.importing import ImportedEvent, Malformed, detect_format, read_events

FIND = {
    "action": "find_file lamp.py\n",
    "observation": "Found 1 matches",
    "response": "Find the file.\n```\nfind_file lamp.py\n```",
    "state": '{"open_file": "n/a", "working_dir": "/repo"}\n',
    "thought": "Find the file.\n",
}
RUN = FIND | {"action": "python lamp.py\n", "observation": "ok\n", "thought": "Run it.\n"}
SUBMIT = FIND | {"action": "submit\n", "observation": "diff --git a b", "thought": "Done.\n"}
HISTORY = [
    {"role": "system", "content": "SETTING", "agent": "main"},
    {"role": "user", "content": "a demonstration", "is_demo": True, "agent": "main"},
    {"role": "user", "content": "ISSUE: the lamp is off", "agent": "main"},
]


@pytest.fixture
def written(tmp_path):
    def write(document, *, indent=2, name="run.traj"):
        path = tmp_path / name
        path.write_text(json.dumps(document, indent=indent), encoding="utf-8")
        return path

    return write


@pytest.fixture
def events(written):
    def read(document, event_type=None):
        found = list(read_events(written(document)))
        assert not [record for record in found if isinstance(record, Malformed)]
        return [
            one
            for one in found
            if isinstance(one, ImportedEvent) and event_type in (None, one.event_type)
        ]

    return read


def first_generation(*steps, **info):
    return {
        "environment": "swe_main",
        "trajectory": list(steps),
        "history": HISTORY,
        "info": {"exit_status": "submitted", "submission": "diff", **info},
    }


def timed(step, seconds, **fields):
    return step | {"execution_time": seconds, "state": {"working_dir": "/repo"}, **fields}


def called(step, name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": step["thought"],
        "action": step["action"],
        "tool_calls": [{"function": function, "id": f"call_{name}", "type": "function"}],
        "message_type": "action",
    }


def test_swe_first_generation_keeps_order_tools_and_end(events):
    """A 0.x trajectory gives start, prompt, then thought, call and result per step, and the end."""
    found = events(first_generation(FIND, RUN))
    assert [event.event_type for event in found] == [
        "WORKFLOW_STARTED",
        "MESSAGE_PUBLISHED",
        *["AGENT_CAPABILITY_UTILIZED", "PRE_TOOL_USE", "POST_TOOL_USE"] * 2,
        "WORKFLOW_ENDED",
    ]
    assert [event.event.tool_name for event in found if event.event_type == "PRE_TOOL_USE"] == [
        "find_file",
        "bash",
    ]
    assert found[1].event.message_content == {"text": "ISSUE: the lamp is off"}
    assert found[-1].event.status == "completed"


def test_swe_results_answer_their_calls(events):
    """A result is caused by its call, and all events share the run's correlation id."""
    found = events(first_generation(FIND, RUN))
    calls = [event.event_id for event in found if event.event_type == "PRE_TOOL_USE"]
    causes = [event.causation_id for event in found if event.event_type == "POST_TOOL_USE"]
    assert causes == calls
    assert len({event.correlation_id for event in found}) == 1


def test_swe_times_are_synthetic_and_increase(events):
    """A format without times gives increasing ones, marked as made up."""
    found = events(first_generation(FIND, RUN, SUBMIT))
    times = [event.timestamp for event in found]
    assert times == sorted(set(times))
    assert all(event.metadata["time"] == "synthetic" for event in found)


def test_swe_second_generation_has_durations_and_parameters(events):
    """A 1.x trajectory gives each call's duration, and its tool and arguments from the history."""
    step = timed(RUN, 0.25, messages=[])
    edit = timed(FIND | {"action": "edit 'a' 'b'"}, 0.5)
    history = [called(step, "bash", command="python lamp.py"), called(edit, "edit", search="a")]
    document = first_generation(step, edit) | {
        "history": [*HISTORY, *history],
        "replay_config": {
            "problem_statement": {"id": "lamp-1"},
            "agent": {"model": {"name": "m", "api_key": "hush"}},
        },
    }
    found = events(document)
    calls = [one.event for one in found if one.event_type == "PRE_TOOL_USE"]
    assert [(call.tool_name, call.parameters) for call in calls] == [
        ("bash", {"command": "python lamp.py"}),
        ("edit", {"search": "a"}),
    ]
    results = [one.event for one in found if one.event_type == "POST_TOOL_USE"]
    assert [result.execution_time_ms for result in results] == [250.0, 500.0]
    definition = found[0].event.workflow_definition
    assert (definition["problem"], definition["model"]) == ("lamp-1", "m")
    assert "hush" not in str(found)


def test_swe_third_generation_reads_config_text_and_query(events):
    """A 1.1 trajectory holds its configuration as text and the query per step."""
    config = {"problem_statement": {"id": "lamp-2"}}
    step = timed(RUN, 0.1, query=[{"role": "user", "content": "x"}], extra_info={})
    document = first_generation(step) | {"replay_config": json.dumps(config)}
    assert events(document)[0].event.workflow_definition["problem"] == "lamp-2"


def test_swe_step_that_was_refused_is_a_failed_call(events):
    """An action that the agent did not run (no time, no output) is a call that failed."""
    step = timed(RUN | {"observation": ""}, 0.0)
    (result,) = events(first_generation(step), "POST_TOOL_USE")
    assert (result.event.success, result.event.error_type) == (False, "NotExecuted")


def test_swe_step_without_action_is_a_format_error(events):
    """An answer of the model that held no action is a failure that is tied to no tool."""
    step = timed(FIND | {"action": "", "observation": "", "thought": "hm"}, 0.0)
    (event,) = events(first_generation(step), "FAILURE_DETECTED")
    assert (event.event.failure_type, event.event.severity) == ("format_error", "low")


@pytest.mark.parametrize(
    "step",
    [
        FIND | {"action": "exit_cost", "thought": "Exit due to cost limit"},
        FIND | {"action": "", "thought": "Exit due to cost limit", "observation": "Exited"},
    ],
)
def test_swe_exit_by_limit_is_a_failure_of_the_run(events, step):
    """A run that a limit ended has a failure and ends as failed, although it submitted."""
    document = first_generation(RUN, step, exit_status="submitted (exit_cost)")
    (failure,) = events(document, "FAILURE_DETECTED")
    (end,) = events(document, "WORKFLOW_ENDED")
    assert failure.event.severity == "high"
    assert (end.event.status, end.event.completion_reason) == ("failed", "submitted (exit_cost)")


@pytest.mark.parametrize(
    ("action", "observation", "error_type"),
    [
        (
            "edit 1:2\nx\nend_of_edit",
            "Your proposed edit has introduced new syntax error(s).",
            "EditRejected",
        ),
        ("python a.py", "\nEXECUTION TIMED OUT", "Timeout"),
        (
            "sleep 99",
            "The command 'sleep 99' was cancelled because it took more than 30 s",
            "Timeout",
        ),
        ("python a.py", "hello\nTraceback (most recent call last):\n  File", "Traceback"),
        ("frob", "bash: line 1: frob: command not found", "CommandNotFound"),
        ("open nowhere.py", "Error: file not found", "ToolError"),
    ],
)
def test_swe_failures_are_told_from_the_observation(events, action, observation, error_type):
    """As the format has no exit codes, the texts that the agent's tools print say what failed."""
    step = FIND | {"action": action, "observation": observation}
    (result,) = events(first_generation(step), "POST_TOOL_USE")
    assert (result.event.success, result.event.error_type) == (False, error_type)


def test_swe_attempts_are_sessions_of_their_own(events):
    """A retry agent's attempts are runs; the copy of the best one at the top is not another."""
    first, second = first_generation(FIND), first_generation(RUN)
    document = {"attempts": [first, second], **second}
    found = events(document)
    assert len({event.correlation_id for event in found}) == 2
    assert len([event for event in found if event.event_type == "PRE_TOOL_USE"]) == 2


def test_swe_later_attempt_leaves_ids_of_earlier_ones(events):
    """Importing a document again that got another attempt repeats the first ones' ids."""
    first = events({"attempts": [first_generation(FIND)]})
    both = events({"attempts": [first_generation(FIND), first_generation(RUN)]})
    assert [event.event_id for event in first] == [event.event_id for event in both][: len(first)]


def test_swe_demonstration_of_history_alone(events):
    """A document with nothing but a history gives its calls and answers."""
    answer = {"role": "tool", "content": "Found 1", "tool_call_ids": ["call_find_file"]}
    document = {"history": [*HISTORY, called(FIND, "find_file", file_name="lamp.py"), answer]}
    (call,) = events(document, "PRE_TOOL_USE")
    (result,) = events(document, "POST_TOOL_USE")
    assert call.event.parameters == {"file_name": "lamp.py"}
    assert result.event.result == "Found 1"


def test_swe_run_without_exit_status_has_no_end(events):
    """A trajectory that is still being written has no end yet."""
    assert not events(first_generation(FIND) | {"info": {}}, "WORKFLOW_ENDED")


def test_swe_ids_depend_on_content_not_on_layout(written):
    """The same run, printed differently and under another name, gives the same ids."""
    document = first_generation(FIND, RUN)
    one = [event.event_id for event in read_events(written(document))]
    other = [event.event_id for event in read_events(written(document, indent=None, name="b.json"))]
    assert one == other


def test_swe_equal_steps_stay_two_events(events):
    """The same command run twice is two calls."""
    calls = events(first_generation(RUN, RUN), "PRE_TOOL_USE")
    assert calls[0].event_id != calls[1].event_id


def test_swe_step_that_is_no_object_is_malformed(written):
    """A step that cannot be read is reported with its number; the others are read."""
    records = list(read_events(written(first_generation(FIND, 7, RUN))))
    (bad,) = [record for record in records if isinstance(record, Malformed)]
    assert bad.line == 2
    assert sum(getattr(record, "event_type", "") == "PRE_TOOL_USE" for record in records) == 2


def test_swe_broken_document_is_one_malformed(tmp_path):
    """A document that was cut off is reported with the place, and nothing is raised."""
    path = tmp_path / "cut.traj"
    path.write_text('{\n  "trajectory": [\n    {"action": "ls"', encoding="utf-8")
    (bad,) = read_events(path)
    assert isinstance(bad, Malformed)
    assert "line 3" in bad.reason


def test_swe_nan_is_read(tmp_path):
    """NaN, which Python's json writes, does not make a trajectory unreadable."""
    path = tmp_path / "nan.traj"
    path.write_text(json.dumps(first_generation(timed(RUN, float("nan")))), encoding="utf-8")
    assert detect_format(path) == "swe-agent"
    assert not [record for record in read_events(path) if isinstance(record, Malformed)]
