"""Cutting an over-large tool result, honestly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pydantic import BaseModel

from spile.spi import MessageTooLargeError
from spile.topics._json import json_encoder
from spile.topics._limits import MAX_PAYLOAD_BYTES
from spile.topics.events import PostToolUseEvent

_HEADER_BYTES: Final = 8
"""Room for the length of a text, which grows with it."""


def truncated(
    event: BaseModel,
    encode: Callable[[PostToolUseEvent], bytes],
    limit: int,
    *,
    escapes: bool,
) -> bytes | None:
    """
    Return an event with so much of its tool result as fits, encoded.

    The result becomes text: its beginning, or that of its JSON when it is no text.
    `full_result_size` is the size of the whole, of its UTF-8 or its JSON, in bytes; an event that
    was cut before keeps the size it states.

    Args:
        event: The event.
        encode: Encodes it.
        limit: Most bytes when encoded.
        escapes: Whether texts are escaped as in JSON.

    Returns:
        None when the event has no result to cut, or is too large without it.

    Raises:
        MessageTooLargeError: As JSON it is too large for the bus even without the result.
    """
    if not isinstance(event, PostToolUseEvent) or event.result is None:
        return None
    result = event.result
    text = result if isinstance(result, str) else json_encoder.encode(result).decode()
    full = len(text.encode())
    if event.result_truncated and event.full_result_size is not None:
        full = event.full_result_size

    def cut(length: int) -> bytes:
        changes = {"result": text[:length], "result_truncated": True, "full_result_size": full}
        return encode(event.model_copy(update=changes))

    room = limit - len(cut(0))
    if room < 0:
        return None
    room -= _HEADER_BYTES
    try:
        return cut(_fitting(text, room, escapes=escapes))
    except MessageTooLargeError as exc:
        # It fits in this encoding, and not as JSON, whose limit holds for every encoding.
        over = exc.size_bytes - MAX_PAYLOAD_BYTES
        return cut(_fitting(text, room - over, escapes=True))


def _fitting(text: str, room: int, *, escapes: bool) -> int:
    """Return how many characters fit into so many bytes."""
    low, high = 0, max(0, min(len(text), room))
    while low < high:
        middle = (low + high + 1) // 2
        part = text[:middle]
        size = len(json_encoder.encode(part)) if escapes else len(part.encode())
        if size <= room:
            low = middle
        else:
            high = middle - 1
    return low
