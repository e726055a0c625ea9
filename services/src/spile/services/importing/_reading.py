"""Which format a file has, told from its content, and the events that it holds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from spile.services.importing._claude_code import ClaudeCodeReader, is_claude_code
from spile.services.importing._envelopes import is_envelope, read_envelope
from spile.services.importing._mini_swe_agent import is_mini_swe_agent, read_mini_swe_agent
from spile.services.importing._records import Format, Malformed, Record
from spile.services.importing._swe_agent import is_swe_agent, read_swe_agent
from spile.services.importing._values import (
    MAX_DOCUMENT_BYTES,
    MAX_LINE_BYTES,
    as_object,
    is_object,
    parse_json,
    read_lines,
)

_LINES_TO_RECOGNISE = 200
_KNOWN = (
    "a Claude Code transcript, a SWE-agent or mini-swe-agent trajectory, or "
    "JSONL of spile envelopes"
)


def detect_format(path: Path) -> Format | None:
    """
    Tell the format of a file from its content; its name does not matter.

    Returns:
        None when it is none of the known ones.

    Raises:
        OSError: the file cannot be read.
        ValueError: a document of one JSON value is larger than 512 MiB, or is no JSON.
    """
    with path.open("rb") as file:
        by_line = _format_of_lines(file)
        return by_line or _format_of_document(_load(file))


def read_events(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> Iterator[Record]:
    """
    Read a recording, in its own order, without ever failing as a whole.

    JSONL is read line by line; a trajectory is one JSON value and is read whole. A line that
    cannot be read is a `Malformed` with its number, and reading goes on after it; a file that
    cannot be opened or recognised is one `Malformed`.

    Args:
        path: a transcript, trajectory or JSONL of envelopes; the content says which.
        on_bytes: told how many bytes of the file have been read, after each line.
    """
    try:
        with path.open("rb") as file:
            found = _format_of_lines(file)
            file.seek(0)
            if found is not None:
                yield from _read_lines(path, file, found, on_bytes)
            else:
                yield from _read_document(path, file)
                if on_bytes is not None:
                    on_bytes(file.tell())
    except OSError as exc:
        yield Malformed(file=path, line=0, reason=f"not readable: {exc.strerror or exc}")


def _format_of_lines(file: IO[bytes]) -> Format | None:
    for line in read_lines(file):
        if line.number > _LINES_TO_RECOGNISE:
            break
        try:
            value = as_object(parse_json(line.data)) if line.data is not None else {}
        except ValueError:
            continue
        if is_envelope(value):
            return "envelopes"
        if is_claude_code(value):
            return "claude-code"
    return None


def _format_of_document(value: object) -> Format | None:
    if is_swe_agent(as_object(value)):
        return "swe-agent"
    return "mini-swe-agent" if is_mini_swe_agent(value) else None


def _load(file: IO[bytes]) -> Any:
    file.seek(0)
    data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"a JSON document larger than {MAX_DOCUMENT_BYTES} bytes; trajectories are read whole"
        )
    return parse_json(data.removeprefix(b"\xef\xbb\xbf"))


def _read_lines(
    path: Path, file: IO[bytes], found: Format, on_bytes: Callable[[int], None] | None
) -> Iterator[Record]:
    transcript = ClaudeCodeReader(path)
    for line in read_lines(file):
        if line.data is None:
            reason = f"longer than {MAX_LINE_BYTES} bytes"
            yield Malformed(file=path, line=line.number, reason=reason)
        elif found == "envelopes":
            yield read_envelope(path, line.number, line.data)
        else:
            yield from _read_entry(transcript, path, line.number, line.data)
        if on_bytes is not None:
            on_bytes(file.tell())


def _read_entry(
    transcript: ClaudeCodeReader, path: Path, number: int, data: bytes
) -> Iterator[Record]:
    try:
        value = parse_json(data)
    except ValueError as exc:
        yield Malformed(file=path, line=number, reason=str(exc))
        return
    if is_object(value):
        yield from transcript.read(number, value)
    else:
        yield Malformed(file=path, line=number, reason="not a JSON object")


def _read_document(path: Path, file: IO[bytes]) -> Iterator[Record]:
    try:
        value = _load(file)
    except ValueError as exc:
        yield Malformed(file=path, line=1, reason=f"{exc}; expected {_KNOWN}")
        return
    found = _format_of_document(value)
    if found == "swe-agent":
        yield from read_swe_agent(path, as_object(value))
    elif found == "mini-swe-agent":
        yield from read_mini_swe_agent(path, value)
    else:
        yield Malformed(file=path, line=1, reason=f"format not recognised; expected {_KNOWN}")
