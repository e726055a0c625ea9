"""Requests between their arrival and their commit, partition by partition."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from spile.spi import PartitionKey, ProtocolRecord

_MARKS: Final = 3


class Progress:
    """
    Requests of one assignment of a partition, in the order of the log; they end in any order.

    Args:
        place: Topic and partition.
        assignment: What stands for it; see `ProtocolSubscription.assignment`.
    """

    __slots__ = ("_ended", "_last", "_marks", "_open", "assignment", "place")

    def __init__(self, place: PartitionKey, assignment: object) -> None:
        self.place = place
        self.assignment = assignment
        self._open: deque[int] = deque()
        self._ended: set[int] = set()
        self._last = -1
        self._marks: deque[tuple[int, float]] = deque(maxlen=_MARKS)

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

    def mark(self, behind: int, at: float) -> None:
        """
        Note where the log ended.

        Args:
            behind: Records between the committed offset and the end.
            at: Loop time before that was asked for.
        """
        if self._last >= 0:
            # What is committed is not past what is settled, so the end is not past this either.
            settled = self._open[0] if self._open else self._last + 1
            self._marks.append((settled + behind, at))
        elif not behind:
            self._marks.append((0, at))

    def written_after(self, offset: int) -> float:
        """Return a loop time when a record surely was not written yet; minus infinity if none."""
        return max((at for end, at in self._marks if offset >= end), default=float("-inf"))


class Arrival:
    """
    When some requests of a partition came.

    Attributes:
        progress: Of their partition.
        at: Loop time at which they were handed out.
        after: Loop time at which they surely were not written yet; minus infinity if unknown.
    """

    __slots__ = ("after", "at", "progress")

    def __init__(self, progress: Progress, at: float, after: float) -> None:
        self.progress = progress
        self.at = at
        self.after = after


class Line:
    """
    Requests that wait for their turn; those of a partition that was taken away are left out.

    Args:
        assignment: Returns what stands for the present assignment of a partition.
    """

    def __init__(self, assignment: Callable[[PartitionKey], object | None]) -> None:
        self._assignment = assignment
        self._waiting: deque[tuple[ProtocolRecord, Arrival]] = deque()
        self._progress: dict[PartitionKey, Progress] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, records: Sequence[ProtocolRecord]) -> None:
        """Take requests in line; those that others hold by now come to them."""
        now = asyncio.get_running_loop().time()
        place: PartitionKey | None = None
        arrival: Arrival | None = None
        for record in records:
            if place is None or record.partition != place[1] or record.topic != place[0]:
                place = (record.topic, record.partition)
                arrival = self._arrival(place, record.offset, now)
            if arrival is not None:
                arrival.progress.begin(record.offset)
                self._waiting.append((record, arrival))

    def next(self) -> tuple[ProtocolRecord, Arrival] | None:
        """Return the next request that is still ours to answer, and take it out."""
        while self._waiting:
            record, arrival = self._waiting.popleft()
            if self._is_held(arrival.progress):
                return record, arrival
        return None

    def clear(self) -> None:
        """Forget who waits."""
        self._waiting.clear()

    def end(self, record: ProtocolRecord, arrival: Arrival) -> Mapping[PartitionKey, int]:
        """Note that a request is settled; the offset that may be committed now, if any."""
        progress = arrival.progress
        done = progress.end(record.offset)
        if done is None or not self._is_held(progress):
            return {}
        return {progress.place: done}

    def mark(self, lag: Mapping[PartitionKey, int], at: float) -> None:
        """Note where the log ends: how far that is behind what is committed, asked from `at` on."""
        for place, behind in lag.items():
            progress = self._present(place)
            if progress is not None:
                progress.mark(behind, at)

    def _arrival(self, place: PartitionKey, offset: int, now: float) -> Arrival | None:
        progress = self._present(place)
        if progress is None:
            return None
        if not progress.follows(offset):
            progress = self._progress[place] = Progress(place, progress.assignment)
        return Arrival(progress, now, progress.written_after(offset))

    def _present(self, place: PartitionKey) -> Progress | None:
        """Return the progress of the present assignment, a new one if need be."""
        assignment = self._assignment(place)
        if assignment is None:
            self._progress.pop(place, None)
            return None
        progress = self._progress.get(place)
        if progress is None or progress.assignment is not assignment:
            progress = self._progress[place] = Progress(place, assignment)
        return progress

    def _is_held(self, progress: Progress) -> bool:
        place = progress.place
        return (
            self._progress.get(place) is progress and self._assignment(place) is progress.assignment
        )
