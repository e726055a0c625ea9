"""
SWE-agent trajectories: one JSON document per run, rewritten after each step.

Generations, told apart by what they hold, not by a version:

* 0.x: `trajectory` of action, observation, response, state (JSON text) and thought; `history`,
  `info`, `environment`.
* 1.0: also `execution_time` per step, tool calls in `history`, `replay_config` (an object, later
  its JSON text), and for a time `messages` per step.
* 1.1: `query` and `extra_info` per step; a step with an action that was not run stands there too.
* retry agents: `attempts`, each a run of its own; the best one is repeated at the top.
* demonstrations: `history` alone.

No generation has times: events follow one another from the file's time of change backwards, one
millisecond each plus what a tool took, and say so in their metadata. Ids never depend on it.

Source: github.com/SWE-agent/SWE-agent, sweagent/agent/agents.py, sweagent/types.py and the
trajectories under tests/ and trajectories/.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from spile.services.importing._records import Malformed, Record
from spile.services.importing._session import STEP, Outcome, Session, Status
from spile.services.importing._values import (
    as_list,
    as_number,
    as_object,
    as_text,
    digest,
    is_object,
    modified,
    parse_json,
)

# Commands that are tools of the agent; anything else in an action is a shell command.
_TOOLS: Final = frozenset(
    {
        "append",
        "click_mouse",
        "connect_sendline",
        "connect_start",
        "connect_stop",
        "create",
        "debug_add_breakpoint",
        "debug_continue",
        "debug_exec",
        "debug_start",
        "debug_step",
        "debug_stop",
        "decompile",
        "disassemble",
        "edit",
        "exit_forfeit",
        "filemap",
        "find_file",
        "goto",
        "insert",
        "open",
        "scroll_down",
        "scroll_up",
        "search_dir",
        "search_file",
        "state",
        "str_replace_editor",
        "submit",
        "undo_edit",
        "view_image_file",
    }
)
# The document has no exit codes: these openings of an observation say that the call failed.
_FAILED: Final = (
    (
        re.compile(
            r"(?:The command .{1,400}? was cancelled because|\s*EXECUTION TIMED OUT)", re.DOTALL
        ),
        "Timeout",
    ),
    (re.compile(r"Your (?:bash )?command .{0,40}syntax errors", re.DOTALL), "NotExecuted"),
    (
        re.compile(r"(?:Interactive o|O)peration .{1,200}? is not supported", re.DOTALL),
        "NotExecuted",
    ),
    (re.compile(r"Your proposed edit has introduced new syntax error"), "EditRejected"),
    (re.compile(r"No replacement was performed|Invalid `?\w+`? parameter"), "EditRejected"),
    (re.compile(r"COMMAND FAILED TO EXECUTE"), "CommandFailed"),
    (re.compile(r"(?:Error|ERROR|error|Usage|usage): ?"), "ToolError"),
    (
        re.compile(r"(?:/bin/)?(?:ba)?sh: (?:line \d+: )?\S{1,200}: (?:command )?not found"),
        "CommandNotFound",
    ),
)
_TRACEBACK: Final = re.compile(r"^Traceback \(most recent call last\):", re.MULTILINE)
_EXITED: Final = ("Exited", "Environment died")
_CANCELLED: Final = ("early_exit", "exit_forfeit", "exit_command", "interrupt")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    thought: str
    action: str
    observation: str
    seconds: float | None
    tool_calls: list[Any]


def is_swe_agent(value: dict[str, Any]) -> bool:
    """Tell a trajectory from other JSON objects."""
    return any(isinstance(value.get(key), list) for key in ("trajectory", "history", "attempts"))


def read_swe_agent(file: Path, document: dict[str, Any]) -> Iterator[Record]:
    """Give the events of all runs in the document; each attempt is a session of its own."""
    attempts = as_list(document.get("attempts"))
    if not attempts:
        yield from _read_run(file, document, 0)
    for number, attempt in enumerate(attempts):
        if is_object(attempt):
            yield from _read_run(file, attempt, number)
        else:
            reason = f"attempt {number + 1} is not an object"
            yield Malformed(file=file, line=number + 1, reason=reason)


def _read_run(file: Path, run: dict[str, Any], attempt: int) -> Iterator[Record]:
    steps, malformed = _steps(run)
    for number in malformed:
        yield Malformed(file=file, line=number, reason=f"step {number} is not an object")
    config = _config(run.get("replay_config"))
    problem = as_text(as_object(config.get("problem_statement")).get("id"))
    content = [(step.thought, step.action, step.observation) for _, step in steps]
    taken = sum(step.seconds or 0.0 for _, step in steps)
    session = Session(
        key=f"{problem or 'run'}#{attempt}#{digest(content)}",
        recorded="swe-agent",
        file=file,
        start=modified(file) - timedelta(seconds=taken) - STEP * (4 * len(steps) + 4),
    )
    session.at(1, None)
    yield session.started("swe-agent run", _definition(run, config, problem), {"attempt": attempt})
    if text := _problem_text(run):
        session.at(1, None)
        yield session.prompt("prompt", 0, text, sender="user", agent="main")
    for number, step in steps:
        yield from _read_step(session, number, step)
    session.at(len(steps) or 1, None)
    yield from _read_end(session, as_object(run.get("info")))


def _steps(run: dict[str, Any]) -> tuple[list[tuple[int, _Step]], list[int]]:
    """Give numbered steps, and the numbers of those that are no objects."""
    history = [as_object(entry) for entry in as_list(run.get("history"))]
    own = [entry for entry in history if entry.get("is_demo") is not True]
    recorded = as_list(run.get("trajectory"))
    if not recorded:
        return list(enumerate(_steps_of_history(own), 1)), []
    called = [entry for entry in own if as_list(entry.get("tool_calls"))]
    steps: list[tuple[int, _Step]] = []
    for number, value in enumerate(recorded, 1):
        if is_object(value):
            steps.append((number, _step(value, called)))
    known = {number for number, _ in steps}
    return steps, [number for number in range(1, len(recorded) + 1) if number not in known]


def _step(value: dict[str, Any], called: list[dict[str, Any]]) -> _Step:
    action = as_text(value.get("action"))
    tool_calls: list[Any] = []
    for index, entry in enumerate(called):
        if entry.get("action") == action:
            tool_calls = as_list(entry.get("tool_calls"))
            del called[: index + 1]
            break
    return _Step(
        thought=as_text(value.get("thought")) or as_text(value.get("response")),
        action=action,
        observation=_text(value.get("observation")),
        seconds=as_number(value.get("execution_time")),
        tool_calls=tool_calls,
    )


def _steps_of_history(history: list[dict[str, Any]]) -> Iterator[_Step]:
    for index, entry in enumerate(history):
        if entry.get("role") != "assistant":
            continue
        answer = history[index + 1] if index + 1 < len(history) else {}
        yield _Step(
            thought=as_text(entry.get("thought")) or _text(entry.get("content")),
            action=as_text(entry.get("action")),
            observation=_text(answer.get("content")) if answer.get("role") != "assistant" else "",
            seconds=None,
            tool_calls=as_list(entry.get("tool_calls")),
        )


def _read_step(session: Session, number: int, step: _Step) -> Iterator[Record]:
    entry = f"step {number} {digest([step.thought, step.action, step.observation])}"
    action = step.action.strip()
    if not action or action.startswith("exit_"):
        yield _stopped(session, entry, number, step)
        return
    if step.thought.strip():
        session.at(number, None)
        yield session.thought(entry, 0, step.thought)
    name, parameters = _tool(step)
    session.at(number, None)
    yield session.call(entry, 0, entry, tool_name=name, parameters=parameters)
    if step.seconds is not None and step.seconds > 0:
        session.advance(timedelta(seconds=step.seconds))
    session.at(number, None)
    yield session.result(entry, 0, entry, _outcome(step, name))


def _stopped(session: Session, entry: str, number: int, step: _Step) -> Record:
    """Make the failure of a step without action: the run was ended, or nothing understood."""
    session.at(number, None)
    exited = step.observation.startswith(_EXITED) or step.thought.startswith(("Exit", "Exceeded"))
    kind = step.action.strip() or ("exit" if exited else "format_error")
    return session.failure(
        entry,
        0,
        kind=kind,
        text=step.thought or step.observation or "the model's answer held no action",
        component="agent" if kind != "format_error" else "model",
        severity="low" if kind == "format_error" else "high",
        details={"observation": step.observation},
    )


def _tool(step: _Step) -> tuple[str, dict[str, Any]]:
    function = as_object(as_object(next(iter(step.tool_calls), None)).get("function"))
    if name := as_text(function.get("name")):
        arguments = function.get("arguments")
        try:
            parsed = parse_json(arguments.encode()) if isinstance(arguments, str) else arguments
        except ValueError:
            parsed = None
        return name, as_object(parsed) or {"command": step.action}
    word = step.action.split(maxsplit=1)[0]
    return word if word in _TOOLS else "bash", {"command": step.action}


def _outcome(step: _Step, tool_name: str) -> Outcome:
    duration = None if step.seconds is None else step.seconds * 1000
    if step.seconds == 0 and not step.observation:
        text = "the action was not run: the agent refused it and asked the model again"
        return Outcome(text=text, success=False, error_type="NotExecuted")
    for pattern, kind in _FAILED:
        if pattern.match(step.observation.lstrip()):
            return Outcome(
                text=step.observation, success=False, error_type=kind, duration_ms=duration
            )
    failed = tool_name == "bash" and _TRACEBACK.search(step.observation) is not None
    return Outcome(
        text=step.observation,
        success=not failed,
        error_type="Traceback" if failed else None,
        duration_ms=duration,
    )


def _read_end(session: Session, info: dict[str, Any]) -> Iterator[Record]:
    exit_status = as_text(info.get("exit_status"))
    if not exit_status:
        return
    status: Status = "failed"
    if exit_status == "submitted":
        status = "completed"
    elif any(word in exit_status for word in _CANCELLED):
        status = "cancelled"
    kept = {key: info[key] for key in ("submission", "model_stats") if info.get(key) is not None}
    yield session.finished("end", status, exit_status, result=kept)


def _config(value: object) -> dict[str, Any]:
    try:
        return as_object(parse_json(value.encode()) if isinstance(value, str) else value)
    except ValueError:
        return {}


def _definition(run: dict[str, Any], config: dict[str, Any], problem: str) -> dict[str, Any]:
    model = as_text(as_object(as_object(config.get("agent")).get("model")).get("name"))
    version = as_text(as_object(run.get("info")).get("swe_agent_version"))
    facts = {
        "recorded_by": "swe-agent",
        "environment": as_text(run.get("environment")),
        "problem": problem,
        "model": model,
        "version": version,
    }
    return {key: value for key, value in facts.items() if value}


def _problem_text(run: dict[str, Any]) -> str:
    for value in as_list(run.get("history")):
        entry = as_object(value)
        if entry.get("role") == "user" and entry.get("is_demo") is not True:
            return _text(entry.get("content"))
        if entry.get("role") == "assistant":
            return ""
    return ""


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(as_text(as_object(part).get("text")) for part in as_list(content))
