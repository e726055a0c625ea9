"""Which requests of a partition are settled, when they end in any order."""

from __future__ import annotations

from collections import deque


class Progress:
    """
    Requests of one partition between their arrival and their end, in the order of the log.

    A partition that is given up and assigned anew begins with an offset that was seen already; use
    another object then, so that the ends of the old requests count for nothing.
    """

    __slots__ = ("_ended", "_last", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._ended: set[int] = set()
        self._last = -1

    def follows(self, offset: int) -> bool:
        """Say whether an offset comes after all that began."""
        return offset > self._last

    def begin(self, offset: int) -> None:
        """Note that a request is in hand."""
        self._open.append(offset)
        self._last = offset

    def end(self, offset: int) -> int | None:
        """Note that a request is settled; the offset to read next, when that moved."""
        self._ended.add(offset)
        moved: int | None = None
        while self._open and self._open[0] in self._ended:
            moved = self._open.popleft()
            self._ended.discard(moved)
        return None if moved is None else moved + 1
