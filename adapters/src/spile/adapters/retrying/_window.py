"""Which offsets of a partition are done, where they are not done in order."""

from __future__ import annotations

import base64
import binascii
from collections import deque

MAX_SPAN = 20_000
"""
Most offsets from the lowest open one to the end of the window. Their bitmap is 2,500 bytes or 3,336
characters in base64: below the 4,096 that a broker takes (`offset.metadata.max.bytes`).
"""

MOST_AT_ONCE = MAX_SPAN // 2
"""Most records to read at once: reading stops at half the window, and a note must hold all."""

_FORM = "spile1:"


class Window:
    """
    Open and done offsets of one partition from the lowest open one on.

    Offsets are opened in rising order. Those between two opened ones hold no record (markers of
    transactions, compaction) and count as done.

    Args:
        start: Offset to read next, as it was committed.
        note: The note that was committed beside it; one that cannot be read counts as none, and
            what was done above the offset is then handed out again.
    """

    __slots__ = ("_done", "_open", "_order", "next", "start")

    def __init__(self, start: int, note: str = "") -> None:
        self.start = start
        self.next = start
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._done = done_offsets(start, note)

    def open(self, offset: int) -> bool:
        """Take an offset in; False when it was done already, or is in the window by now."""
        if offset < self.next:
            return False
        self.next = offset + 1
        if offset in self._done:
            self._done.discard(offset)
            return False
        self._order.append(offset)
        self._open.add(offset)
        return True

    def is_done(self, offset: int) -> bool:
        """Say whether an offset that was not opened yet is done already."""
        return offset in self._done

    def close(self, offset: int) -> None:
        """Note that an offset is done; again is a no-op."""
        self._open.discard(offset)
        while self._order and self._order[0] not in self._open:
            self._order.popleft()

    @property
    def position(self) -> int:
        """The lowest offset that is not done."""
        if self._order:
            return self._order[0]
        while self.next in self._done:
            self._done.discard(self.next)
            self.next += 1
        return self.next

    @property
    def span(self) -> int:
        """How many offsets lie between the lowest open one and the end."""
        return self.next - self.position

    @property
    def idle(self) -> bool:
        """Whether nothing is open."""
        return not self._order

    def note(self) -> str:
        """
        Return what to commit beside the position: which offsets above it are done.

        Source: Confluent's parallel consumer keeps its incomplete offsets in the same place.
        """
        first = self.position + 1
        end = min(self.next, first + MAX_SPAN)
        done = [offset for offset in range(first, end) if offset not in self._open]
        done += [offset for offset in self._done if self.next <= offset < first + MAX_SPAN]
        if not done:
            return ""
        bits = bytearray((max(done) - first) // 8 + 1)
        for offset in done:
            index = offset - first
            bits[index >> 3] |= 1 << (index & 7)
        return f"{_FORM}{first - 1}:{base64.b64encode(bits).decode()}"


def done_offsets(start: int, note: str) -> set[int]:
    """
    Read a note: the offsets above `start` that are done; empty when it says nothing.

    It names its offset, and says nothing beside another one: tools that move a group, to another
    cluster or back in time, may keep the note.
    """
    form = f"{_FORM}{start}:"
    if not note.startswith(form):
        return set()
    try:
        raw = base64.b64decode(note[len(form) :], validate=True)
    except (binascii.Error, ValueError):
        return set()
    return {
        start + 1 + index
        for index in range(min(len(raw) * 8, MAX_SPAN))
        if raw[index >> 3] >> (index & 7) & 1
    }
