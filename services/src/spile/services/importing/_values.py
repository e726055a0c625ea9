"""Foreign JSON values: read defensively, bounded in size and depth, ids and times from them."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, TypeGuard, cast
from uuid import UUID, uuid5

# Names the events of all imports; changing it would make every import publish anew.
EVENT_NAMESPACE: Final = UUID("0f5a1c0e-6f0b-5d57-9a3b-2d0a5b0c7e11")
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
MAX_DOCUMENT_BYTES: Final = 512 * 1024 * 1024
# Payloads may hold 1,000,000 bytes; the rest is for the other fields of the event.
MAX_FIELD_BYTES: Final = 900_000
# Payloads may nest 32 levels; the fields of the event take the rest.
MAX_FIELD_DEPTH: Final = 24
_CUT_MARK: Final = " … [truncated]"
_INTEGER_BITS: Final = 63  # more is no number to most readers of JSON
_MILLISECONDS_FROM: Final = 1e11  # a number this large counts milliseconds: 1e11 s is the year 5138


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file; `data` is None when it is longer than `MAX_LINE_BYTES`."""

    number: int
    data: bytes | None


def read_lines(file: IO[bytes]) -> Iterator[Line]:
    """Give the lines that are not blank; memory stays below `MAX_LINE_BYTES` plus one block."""
    number = 0
    while data := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(data) > MAX_LINE_BYTES and not data.endswith(b"\n"):
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield Line(number=number, data=None)
            continue
        if number == 1:
            data = data.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is no JSON
        if data.strip():
            yield Line(number=number, data=data)


def parse_json(data: bytes) -> Any:
    """
    Parse UTF-8 JSON as recordings hold it.

    NaN and infinities, which Python agents write, become null; a lone surrogate, which a cut
    JavaScript string leaves behind, becomes U+FFFD, since UTF-8 cannot carry it.

    Raises:
        ValueError: not UTF-8, not JSON, or nested too deep to be read.
    """
    try:
        value = json.loads(data, parse_constant=_null)
    except UnicodeDecodeError as exc:
        raise ValueError(f"not UTF-8 at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno} column {exc.colno}" if exc.lineno > 1 else f"column {exc.colno}"
        raise ValueError(f"not JSON: {exc.msg.lower().removesuffix(' at')} at {place}") from exc
    except RecursionError as exc:
        raise ValueError("not readable: nested too deep") from exc
    return _without_surrogates(value) if b"\\ud" in data or b"\\uD" in data else value


def _null(_: str) -> None:
    return None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in cast("list[Any]", value)]
    if is_object(value):
        items = value.items()
        return {_without_surrogates(key): _without_surrogates(item) for key, item in items}
    return value


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Say whether a parsed JSON value is an object."""
    return isinstance(value, dict)


def as_object(value: object) -> dict[str, Any]:
    """Give the object that `value` is, else an empty one."""
    return value if is_object(value) else {}


def as_list(value: object) -> list[Any]:
    """Give the list that `value` is, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Give the text that `value` is, else an empty one."""
    return value if isinstance(value, str) else ""


def as_number(value: object) -> float | None:
    """Give the finite number that `value` is; a boolean is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def as_time(value: object) -> datetime | None:
    """
    Give the UTC time that `value` says, or None.

    ISO 8601 text without an offset counts as UTC; a number counts seconds since 1970, or
    milliseconds where it is too large for seconds.
    """
    try:
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        number = as_number(value)
        if number is None or number <= 0:
            return None
        return datetime.fromtimestamp(number / 1000 if number > _MILLISECONDS_FROM else number, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def digest(value: object) -> str:
    """Give the SHA-256 of the value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def content_id(*parts: str | int) -> UUID:
    """Give the UUIDv5 of content; the parts cannot run into one another."""
    return uuid5(EVENT_NAMESPACE, json.dumps(parts, ensure_ascii=True))


def encoded_size(value: object) -> int:
    """Give the bytes that `value` takes as JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8"))


def fit_text(text: str, limit: int = MAX_FIELD_BYTES) -> tuple[str, int | None]:
    """
    Cut `text` so that it takes at most `limit` bytes as JSON.

    Returns:
        the text, and its whole size in UTF-8 bytes when it was cut, else None.
    """
    if len(text) * 6 <= limit or encoded_size(text) <= limit:  # no character takes more than six
        return text, None
    whole = len(text.encode("utf-8"))
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        if encoded_size(text[:middle] + _CUT_MARK) <= limit:
            low = middle
        else:
            high = middle - 1
    return text[:low] + _CUT_MARK, whole


def fit_object(value: dict[str, Any], limit: int = MAX_FIELD_BYTES) -> dict[str, Any]:
    """
    Bound a foreign object in depth and size.

    What nests deeper than `MAX_FIELD_DEPTH` is kept as its JSON text. When the whole takes more
    than `limit` bytes, texts are cut, the bound halving until it fits, and `truncated_from_bytes`
    is added; an object that is large without large texts is kept as the cut text of its JSON.
    """
    shallow = as_object(_shallow(value, MAX_FIELD_DEPTH))
    size = encoded_size(shallow)
    if size <= limit:
        return shallow
    bound = limit // 2
    while bound >= 256:  # noqa: PLR2004 - below that it is not the texts that are large
        cut = as_object(_cut_texts(shallow, bound)) | {"truncated_from_bytes": size}
        if encoded_size(cut) <= limit:
            return cut
        bound //= 2
    text, _ = fit_text(json.dumps(shallow, ensure_ascii=False), limit // 2)
    return {"json": text, "truncated_from_bytes": size}


def _shallow(value: Any, depth: int) -> Any:
    if depth == 0 and _nests(value):
        return json.dumps(value, ensure_ascii=False)
    if is_object(value):
        return {key: _shallow(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_shallow(item, depth - 1) for item in cast("list[Any]", value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # too large for a double
    is_large = isinstance(value, int) and value.bit_length() > _INTEGER_BITS
    return str(value) if is_large else value


def _nests(value: object) -> bool:
    return isinstance(value, (dict, list))


def _cut_texts(value: Any, bound: int) -> Any:
    if isinstance(value, str):
        return fit_text(value, bound)[0]
    if isinstance(value, list):
        return [_cut_texts(item, bound) for item in cast("list[Any]", value)]
    if is_object(value):
        return {key: _cut_texts(item, bound) for key, item in value.items()}
    return value


def modified(path: Path) -> datetime:
    """Give the file's time of last change in whole seconds, UTC."""
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC)
