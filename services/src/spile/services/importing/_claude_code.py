"""
Claude Code session transcripts: one JSON object per line, written while the session runs.

An `assistant` entry holds blocks of one model answer (thinking, text, tool_use), often one block
per entry; a `user` entry holds a prompt or tool results. Sub agents write entries of their own
(`isSidechain`, `agentId`), in the same file or beside it, under the session of their parent.

Source: transcripts in public repositories, versions 1.0 to 2.1; there is no official schema.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spile.services.importing._records import ImportedEvent, Malformed, Record, Skipped
from spile.services.importing._session import MAIN_AGENT, Outcome, Session
from spile.services.importing._values import (
    as_list,
    as_number,
    as_object,
    as_text,
    as_time,
    digest,
    is_object,
    modified,
)

_EXIT_COMMAND: Final = re.compile(r"<command-name>/?(?:exit|quit)</command-name>")
# Text that the program itself puts into the mouth of the user.
_NOT_A_PROMPT: Final = ("<command-", "<local-command-", "<bash-", "<system-reminder>")
_INTERRUPTED: Final = "[Request interrupted by user"
_EXIT_CODE: Final = re.compile(r"(?:Error: )?Exit code (\d+)")
_REJECTED: Final = ("The user doesn't want to proceed", "User rejected")
_ERROR_NAME: Final = re.compile(r"(?:<tool_use_error>)?\s*(\w*Error)\b")
_MILLISECOND_KEYS: Final = ("durationMs", "totalDurationMs")
_SERVER_FAULT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    line: int
    kind: str
    id: str
    agent: str
    data: dict[str, Any]

    @property
    def message(self) -> dict[str, Any]:
        return as_object(self.data.get("message"))

    @property
    def blocks(self) -> list[dict[str, Any]]:
        content = self.message.get("content")
        if isinstance(content, str):
            return [{"type": "text", "text": content}]
        return [as_object(block) for block in as_list(content)]


def is_claude_code(value: dict[str, Any]) -> bool:
    """Tell an entry of a transcript from other JSON objects."""
    if not isinstance(value.get("type"), str):
        return False
    if isinstance(value.get("sessionId"), str):
        return True
    marks = ("parentUuid", "leafUuid", "snapshot", "isSidechain")
    return any(mark in value for mark in marks)


class ClaudeCodeReader:
    """Turns the entries of one file into events; a file may hold several sessions."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._sessions: dict[str, Session] = {}
        self._last: str | None = None
        self._agents: set[tuple[str, str]] = set()

    def read(self, line: int, value: dict[str, Any]) -> Iterator[Record]:
        """Give what one entry holds: events, or why there are none."""
        kind = as_text(value.get("type"))
        if not kind:
            yield self._malformed(line, "an entry without the text 'type'")
            return
        ends = kind == "progress" and as_object(value.get("data")).get("hookEvent") == "SessionEnd"
        attached = as_object(value.get("attachment"))
        queued = kind == "attachment" and attached.get("type") == "queued_command"
        if kind not in ("user", "assistant", "system") and not (ends or queued):
            yield Skipped(file=self._file, line=line, kind=kind)
            return
        key = as_text(value.get("sessionId")) or as_text(value.get("session_id")) or self._last
        if key is None:
            yield self._malformed(line, f"an entry of type {kind!r} without sessionId")
            return
        if kind in ("user", "assistant") and not isinstance(
            as_object(value.get("message")).get("content"), (str, list)
        ):
            yield self._malformed(line, f"an entry of type {kind!r} without message.content")
            return
        yield from self._read(line, kind, key, value)

    def _read(self, line: int, kind: str, key: str, value: dict[str, Any]) -> Iterator[Record]:
        session = self._session(key)
        session.at(line, as_time(value.get("timestamp")))
        entry = _Entry(
            line=line,
            kind=kind,
            id=as_text(value.get("uuid")) or digest(value),
            agent=_agent(value),
            data=value,
        )
        if kind == "progress":
            yield from self._end(session, entry, "SessionEnd hook")
        elif kind == "system":
            yield from self._system(session, entry)
        elif kind == "attachment":
            queued = as_object(value.get("attachment")).get("prompt")
            yield from self._said(session, entry, 0, _result_text(queued))
        else:
            yield from self._opening(session, entry)
            read = self._assistant if kind == "assistant" else self._user
            yield from read(session, entry)

    def _session(self, key: str) -> Session:
        self._last = key
        if key not in self._sessions:
            self._sessions[key] = Session(
                key=key, recorded="claude-code", file=self._file, start=modified(self._file)
            )
        return self._sessions[key]

    def _opening(self, session: Session, entry: _Entry) -> Iterator[Record]:
        who = (session.key, entry.agent)
        if who in self._agents:
            return
        self._agents.add(who)
        if entry.agent != MAIN_AGENT:
            yield session.agent_started(f"agent {entry.agent}", entry.agent, "sub-agent")
            return
        names = {"version": "version", "cwd": "cwd", "gitBranch": "git_branch"}
        context = {ours: entry.data[key] for key, ours in names.items() if key in entry.data}
        yield session.started("claude-code session", {"recorded_by": "claude-code"}, context)

    def _end(self, session: Session, entry: _Entry, reason: str) -> Iterator[Record]:
        if session.ended:
            yield self._skipped(entry, "end of an ended session")
        else:
            yield session.finished(entry.id, "completed", reason)

    def _assistant(self, session: Session, entry: _Entry) -> Iterator[Record]:
        if entry.data.get("isApiErrorMessage") is True:
            yield self._api_error(session, entry)
            return
        for part, block in enumerate(entry.blocks):
            yield self._answer(session, entry, part, block)

    def _answer(self, session: Session, entry: _Entry, part: int, block: dict[str, Any]) -> Record:
        kind = as_text(block.get("type"))
        text = as_text(block.get("thinking")) or as_text(block.get("text"))
        if kind in ("thinking", "text"):
            if not text.strip():
                return self._skipped(entry, f"assistant {kind} (empty)")
            spoken = kind == "text"
            return session.thought(entry.id, part, text, agent=entry.agent, spoken=spoken)
        if kind in ("tool_use", "server_tool_use"):
            return session.call(
                entry.id,
                part,
                as_text(block.get("id")),
                tool_name=as_text(block.get("name")),
                parameters=_parameters(block.get("input")),
                agent=entry.agent,
            )
        if kind.endswith("tool_result"):
            return self._result(session, entry, part, block)
        return self._skipped(entry, f"assistant {kind or 'block'}")

    def _api_error(self, session: Session, entry: _Entry) -> ImportedEvent:
        status = as_number(entry.data.get("apiErrorStatus"))
        error = entry.data.get("error")
        kind = error if isinstance(error, str) else as_text(as_object(error).get("type"))
        text = "\n".join(as_text(block.get("text")) for block in entry.blocks)
        return session.failure(
            entry.id,
            0,
            kind=kind or "api_error",
            text=text or "the model's API answered with an error",
            component="model",
            severity="medium" if status is not None and status >= _SERVER_FAULT else "high",
            details={} if status is None else {"status": int(status)},
            agent=entry.agent,
        )

    def _user(self, session: Session, entry: _Entry) -> Iterator[Record]:
        if entry.data.get("isCompactSummary") is True:
            yield self._skipped(entry, "user (compact summary)")
            return
        for part, block in enumerate(entry.blocks):
            kind = as_text(block.get("type"))
            if kind == "tool_result":
                yield self._result(session, entry, part, block)
            elif kind == "text":
                yield from self._said(session, entry, part, as_text(block.get("text")))
            else:
                yield self._skipped(entry, f"user {kind or 'block'}")

    def _said(self, session: Session, entry: _Entry, part: int, text: str) -> Iterator[Record]:
        if text.startswith(_INTERRUPTED):
            yield session.failure(
                entry.id,
                part,
                kind="interrupted",
                text=text,
                component="agent",
                severity="low",
                agent=entry.agent,
            )
        elif _EXIT_COMMAND.search(text):
            yield from self._end(session, entry, "exit command")
        elif entry.data.get("isMeta") is True or text.lstrip().startswith(_NOT_A_PROMPT):
            yield self._skipped(entry, "user (written by the program)")
        elif not text.strip():
            yield self._skipped(entry, "user text (empty)")
        else:
            session.ended = False
            side = entry.agent != MAIN_AGENT
            sender = str(session.agent(MAIN_AGENT)) if side else "user"
            yield session.prompt(entry.id, part, text, sender=sender, agent=entry.agent)

    def _result(
        self, session: Session, entry: _Entry, part: int, block: dict[str, Any]
    ) -> ImportedEvent:
        structured = as_object(entry.data.get("toolUseResult"))
        text = _result_text(block.get("content"))
        interrupted = structured.get("interrupted") is True
        failed = block.get("is_error") is True
        error_type = _error_type(text) if failed else "Interrupted" if interrupted else None
        outcome = Outcome(
            text=text or ("interrupted" if interrupted else ""),
            success=error_type is None,
            error_type=error_type,
            duration_ms=_stated_duration(structured),
        )
        call_id = as_text(block.get("tool_use_id"))
        return session.result(entry.id, part, call_id, outcome, agent=entry.agent)

    def _system(self, session: Session, entry: _Entry) -> Iterator[Record]:
        subtype = as_text(entry.data.get("subtype"))
        if subtype in ("compact_boundary", "microcompact_boundary"):
            facts = as_object(entry.data.get("compactMetadata"))
            yield session.compacted(entry.id, facts or {"subtype": subtype})
        elif subtype == "api_error" or as_text(entry.data.get("level")) == "error":
            error = as_object(entry.data.get("error"))
            keys = ("retryAttempt", "maxRetries", "retryInMs")
            retry = {key: entry.data[key] for key in keys if key in entry.data}
            yield session.failure(
                entry.id,
                0,
                kind=subtype or "error",
                text=_first_text(entry.data.get("content"), error, retry),
                component="model" if subtype == "api_error" else "agent",
                severity="low" if retry else "medium",
                details={"error": error, **retry},
                agent=entry.agent,
            )
        elif _EXIT_COMMAND.search(as_text(entry.data.get("content"))):
            yield from self._end(session, entry, "exit command")
        else:
            yield self._skipped(entry, f"system {subtype}".rstrip())

    def _skipped(self, entry: _Entry, kind: str) -> Skipped:
        return Skipped(file=self._file, line=entry.line, kind=kind)

    def _malformed(self, line: int, reason: str) -> Malformed:
        return Malformed(file=self._file, line=line, reason=reason)


def _agent(value: dict[str, Any]) -> str:
    name = as_text(value.get("agentId"))
    if value.get("isSidechain") is True:
        return name or "sidechain"
    return MAIN_AGENT


def _parameters(value: object) -> dict[str, Any]:
    return as_object(value) if is_object(value) or value is None else {"input": value}


def _result_text(content: object) -> str:
    if isinstance(content, str):
        return content
    if is_object(content):
        return as_text(content.get("text")) or json.dumps(content, ensure_ascii=False)
    return "\n".join(_block_text(item) for item in as_list(content))


def _block_text(item: object) -> str:
    if isinstance(item, str):
        return item
    block = as_object(item)
    if isinstance(block.get("text"), str):
        return block["text"]
    source = as_object(block.get("source"))
    size = len(as_text(source.get("data")))
    media = as_text(source.get("media_type")) or as_text(block.get("type")) or "block"
    return f"[{media}, {size} characters]" if size else f"[{media}]"


def _error_type(text: str) -> str:
    if (code := _EXIT_CODE.match(text)) is not None:
        return f"ExitCode{code[1]}"
    if text.startswith(_REJECTED):
        return "Rejected"
    name = _ERROR_NAME.match(text)
    return name[1] if name is not None else "ToolError"


def _stated_duration(structured: dict[str, Any]) -> float | None:
    for key in _MILLISECOND_KEYS:
        if (stated := as_number(structured.get(key))) is not None and stated >= 0:
            return stated
    seconds = as_number(structured.get("durationSeconds"))
    return seconds * 1000 if seconds is not None and seconds >= 0 else None


def _first_text(content: object, error: dict[str, Any], retry: dict[str, Any]) -> str:
    nested = as_object(error.get("error"))
    inner = as_object(nested.get("error"))
    cause = as_object(error.get("cause"))
    places = (content, error.get("message"), nested.get("message"), inner.get("message"))
    for text in (*places, cause.get("message"), cause.get("code")):
        if isinstance(text, str) and text:
            return text
    return f"retry {retry['retryAttempt']}" if "retryAttempt" in retry else "an error"
