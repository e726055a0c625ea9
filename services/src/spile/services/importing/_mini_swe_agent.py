"""
mini-swe-agent trajectories: one JSON document with the messages that went to the model.

Generations: a bare list of messages; `mini-swe-agent-1` (`info`, commands in a fenced block,
answers as user messages with `<returncode>`); `mini-swe-agent-1.1` (parsed commands, exit codes
and times under `extra`, tool calls, `exit` messages; or the items of OpenAI's Responses API).

Times stand in `extra.timestamp` (1.1) or, in whole seconds and for the model's messages only, in
`extra.response.created` (1). What has none follows its predecessor by a millisecond and says so.

Source: github.com/SWE-agent/mini-swe-agent, src/minisweagent/agents/default.py, models/utils/.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from spile.services.importing._records import Malformed, Record, Skipped
from spile.services.importing._session import STEP, Outcome, Session, Status
from spile.services.importing._values import (
    as_list,
    as_number,
    as_object,
    as_text,
    as_time,
    digest,
    is_object,
    modified,
    parse_json,
)

_COMMAND: Final = re.compile(r"```(?:bash|mswea_bash_command)\s*\n(.*?)\n```", re.DOTALL)
_RETURN_CODE: Final = re.compile(r"<returncode>\s*(-?\d+)\s*</returncode>")
_OUTPUT: Final = re.compile(r"<output>\n?(.*?)\n?</output>", re.DOTALL)
_TIMED_OUT: Final = re.compile(r"The last command .{0,2000}?timed out", re.DOTALL)
_CANCELLED: Final = ("UserInterruption", "KeyboardInterrupt")

_Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    call_id: str
    tool_name: str
    parameters: dict[str, Any]


@dataclass(slots=True, kw_only=True)
class _Run:
    """The state of reading: calls that wait for their answer, in order."""

    file: Path
    session: Session
    waiting: list[str] = field(default_factory=list[str])
    together: int = 0
    prompted: bool = False


def is_mini_swe_agent(value: object) -> bool:
    """Tell a trajectory of mini-swe-agent from other JSON documents."""
    messages = value.get("messages") if is_object(value) else value
    first = as_object(next(iter(as_list(messages)), None))
    return isinstance(first.get("role"), str) and "content" in first


def read_mini_swe_agent(file: Path, document: object) -> Iterator[Record]:
    """Give the events of the document's run."""
    whole = as_object(document)
    messages = as_list(whole.get("messages")) if whole else as_list(document)
    info = as_object(whole.get("info"))
    name = as_text(whole.get("instance_id")) or "run"
    session = Session(
        key=f"{name}#{digest(messages)}",
        recorded="mini-swe-agent",
        file=file,
        start=_start(file, messages),
    )
    session.at(1, None)
    yield session.started("mini-swe-agent run", _definition(whole, info), {})
    run = _Run(file=file, session=session)
    for number, value in enumerate(messages, 1):
        if is_object(value):
            session.at(number, _time(value))
            yield from _read(run, number, value)
        else:
            yield Malformed(file=file, line=number, reason=f"message {number} is not an object")
    exit_status = as_text(info.get("exit_status"))
    if exit_status and not session.ended:
        session.at(len(messages), None)
        yield _end(session, exit_status, info)


def _start(file: Path, messages: list[Any]) -> datetime:
    for number, value in enumerate(messages):
        if (time := _time(as_object(value))) is not None:
            return time - STEP * (4 * number + 4)
    return modified(file) - STEP * 4 * (len(messages) + 1)


def _time(message: _Message) -> datetime | None:
    extra = as_object(message.get("extra"))
    stated = as_time(extra.get("timestamp"))
    return stated or as_time(as_object(extra.get("response")).get("created"))


def _read(run: _Run, number: int, message: _Message) -> Iterator[Record]:
    role = as_text(message.get("role")) or as_text(message.get("type"))
    if message.get("object") == "response" or role == "assistant":
        yield from _answer(run, number, message)
    elif role == "exit":
        yield from _exit(run, number, message)
    elif role in ("user", "tool", "function_call_output", "message"):
        yield _observed(run, number, message)
    else:
        yield Skipped(file=run.file, line=number, kind=f"{role or 'unnamed'} message")


def _answer(run: _Run, number: int, message: _Message) -> Iterator[Record]:
    entry = f"message {number}"
    commands, thoughts = _commands(message, entry), _thoughts(message)
    for part, text in enumerate(thoughts):
        yield run.session.thought(entry, part, text)
    run.waiting = [command.call_id for command in commands]
    run.together = len(commands)
    for part, command in enumerate(commands):
        yield run.session.call(
            entry,
            part,
            command.call_id,
            tool_name=command.tool_name,
            parameters=command.parameters,
        )


def _thoughts(message: _Message) -> list[str]:
    texts = [as_text(message.get("reasoning_content")), _text(message.get("content"))]
    for item in (as_object(item) for item in as_list(message.get("output"))):
        texts += [_text(item.get("summary")), _text(item.get("content"))]
    return [bare for text in texts if (bare := _COMMAND.sub("", text).strip())]


def _commands(message: _Message, entry: str) -> list[_Command]:
    called = [as_object(item) for item in as_list(message.get("tool_calls"))]
    called += [
        item
        for item in (as_object(item) for item in as_list(message.get("output")))
        if item.get("type") == "function_call"
    ]
    if called:
        return [_called(item, f"{entry} {part}") for part, item in enumerate(called)]
    actions = as_list(as_object(message.get("extra")).get("actions"))
    texts = [_action_text(action) for action in actions]
    if not actions:
        found = _COMMAND.findall(_text(message.get("content")))
        texts = [found[0].strip()] if len(found) == 1 else []  # several are refused by the agent
    return [
        _Command(call_id=f"{entry} {part}", tool_name="bash", parameters={"command": text})
        for part, text in enumerate(texts)
    ]


def _called(item: dict[str, Any], fallback: str) -> _Command:
    function = as_object(item.get("function")) or item
    arguments = function.get("arguments")
    try:
        parsed = parse_json(arguments.encode()) if isinstance(arguments, str) else arguments
    except ValueError:
        parsed = None
    return _Command(
        call_id=as_text(item.get("call_id")) or as_text(item.get("id")) or fallback,
        tool_name=as_text(function.get("name")) or "bash",
        parameters=as_object(parsed) or {"arguments": arguments},
    )


def _action_text(action: object) -> str:
    value = as_object(action)
    return as_text(action) or as_text(value.get("command")) or as_text(value.get("action"))


def _observed(run: _Run, number: int, message: _Message) -> Record:
    session, entry = run.session, f"message {number}"
    extra = as_object(message.get("extra"))
    content = _text(message.get("content")) or _text(message.get("output"))
    call_id = as_text(message.get("tool_call_id")) or as_text(message.get("call_id"))
    if call_id or (run.waiting and "interrupt_type" not in extra):
        call_id = call_id or run.waiting[0]
        if call_id in run.waiting:
            run.waiting.remove(call_id)
        timed = run.together == 1  # several answers are written at once, after the last one
        return session.result(entry, 0, call_id, _outcome(extra, content, timed=timed))
    if not run.prompted and "interrupt_type" not in extra:
        run.prompted = True
        return session.prompt(entry, 0, content, sender="user", agent="main")
    kind = as_text(extra.get("interrupt_type")) or "FormatError"
    severity = "low" if kind in ("FormatError", *_CANCELLED) else "high"
    return session.failure(entry, 0, kind=kind, text=content, component="model", severity=severity)


def _outcome(extra: dict[str, Any], content: str, *, timed: bool) -> Outcome:
    code = as_number(extra.get("returncode"))
    if code is None and (found := _RETURN_CODE.search(content)) is not None:
        code = float(found[1])
    output = _OUTPUT.search(content)
    text = as_text(extra.get("raw_output")) or (output[1] if output is not None else content)
    exception = as_text(extra.get("exception_info"))
    kind: str | None = None
    if "timed out" in exception or _TIMED_OUT.match(content):
        kind = "Timeout"
    elif exception:
        kind = "NotExecuted" if "not executed" in exception else "Exception"
    elif code is not None and code != 0:
        kind = f"ExitCode{int(code)}"
    if kind is None:
        return Outcome(text=text, timed=timed)
    joined = "\n".join(part for part in (exception, text) if part)
    return Outcome(text=joined, success=False, error_type=kind, timed=timed)


def _exit(run: _Run, number: int, message: _Message) -> Iterator[Record]:
    extra = as_object(message.get("extra"))
    text = as_text(extra.get("exception_str"))
    status = as_text(extra.get("exit_status")) or _text(message.get("content"))
    if run.waiting and status == "Submitted":
        # The command that submits is answered by the exit itself.
        answer = Outcome(text=_text(message.get("content")), timed=False)
        yield run.session.result(f"message {number}", 0, run.waiting.pop(0), answer)
    if text or "traceback" in extra:
        yield run.session.failure(
            f"message {number}",
            0,
            kind=status or "exception",
            text=text or status,
            component="agent",
            severity="high",
            details={"traceback": as_text(extra.get("traceback"))},
        )
    yield _end(run.session, status or "exit", extra)


def _end(session: Session, exit_status: str, facts: dict[str, Any]) -> Record:
    status: Status = "failed"
    if exit_status == "Submitted":
        status = "completed"
    elif exit_status in _CANCELLED:
        status = "cancelled"
    submission = as_text(facts.get("submission"))
    result = {"submission": submission} if submission else {}
    return session.finished("end", status, exit_status, result=result)


def _definition(whole: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    config = as_object(info.get("config"))
    facts = {
        "recorded_by": "mini-swe-agent",
        "trajectory_format": as_text(whole.get("trajectory_format")),
        "problem": as_text(whole.get("instance_id")),
        "model": as_text(as_object(config.get("model")).get("model_name")),
        "version": as_text(info.get("mini_version")),
    }
    return {key: value for key, value in facts.items() if value}


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    texts = [as_text(part) or as_text(as_object(part).get("text")) for part in as_list(content)]
    return "\n".join(text for text in texts if text)
