"""One assignment of one partition, and the commits of what was done in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from spile.adapters.delivery._ports import RecordSource
from spile.adapters.delivery._tasks import Tasks
from spile.adapters.retrying import Window
from spile.spi import ClosedError, PartitionKey, RetriableError

log = structlog.get_logger(__name__)


class Holding:
    """
    A partition from its assignment to its revocation; the next assignment makes a new one.

    Attributes:
        partition: Which one.
        ending: True when the partition is revoked or the subscription closes: nothing new is handed
            out, waits are cut short, what is in hand may finish and still counts.
        stir: Set to end a wait between attempts.
        gone: True when others own the partition: results are dropped.
        paused: Whether the source was told to pause it because its buffer is full.
        stopped: Whether the owner of the subscription paused it.
        called_at: Loop time at which the handler that runs now was called.
        window: What is done of a partition whose records are done in any order.
    """

    __slots__ = ("called_at", "ending", "gone", "partition", "paused", "stir", "stopped", "window")

    def __init__(self, partition: PartitionKey) -> None:
        self.partition = partition
        self.ending = False
        self.stir = asyncio.Event()
        self.gone = False
        self.paused = False
        self.stopped = False
        self.called_at: float | None = None
        self.window: Window | None = None

    def end(self) -> None:
        """Hand out nothing more of it and cut its waits short."""
        self.ending = True
        self.stir.set()


class Committer:
    """
    Commits the offsets of what was handled, coalesced, one commit in flight.

    Args:
        source: Where to commit.
        interval_s: Seconds by which commits are coalesced.
    """

    def __init__(self, source: RecordSource, interval_s: float) -> None:
        self._source = source
        self._interval_s = interval_s
        self._pending: dict[Holding, int] = {}
        self._dirty = asyncio.Event()
        self._one = asyncio.Lock()

    def done(self, holding: Holding, next_offset: int) -> bool:
        """Note that everything below an offset is done; False when the partition is gone."""
        if holding.gone:
            return False
        self._pending[holding] = max(next_offset, self._pending.get(holding, 0))
        self._dirty.set()
        return True

    async def run(self) -> None:
        """Commit whenever something is done; ends by cancelling only."""
        while True:
            await self._dirty.wait()
            await asyncio.sleep(self._interval_s)
            await self.flush()

    async def flush(self) -> bool:
        """
        Commit now what is done.

        Returns:
            Whether nothing is left to commit.

        Raises:
            PermanentError: The group refuses commits.
        """
        async with self._one:
            taken, self._pending = self._pending, {}
            self._dirty.clear()
            offsets, notes = _to_commit(taken)
            if not offsets:
                return True
            try:
                await self._source.commit(offsets, notes)
            except ClosedError as exc:
                log.info("offsets dropped", reason=str(exc), partitions=len(offsets))
            except RetriableError as exc:
                self._take_back(taken)
                log.warning("commit failed", error=str(exc), partitions=len(offsets))
            except BaseException:
                self._take_back(taken)
                raise
        return not self._pending

    async def flush_within(self, limit_s: float) -> None:
        """Commit now what is done, repeating for at most `limit_s` seconds; raises as `flush`."""
        try:
            async with asyncio.timeout(limit_s):
                while not await self.flush():  # noqa: ASYNC110 - only time can help here
                    await asyncio.sleep(min(self._interval_s, 0.2))
        except TimeoutError:
            log.warning("offsets not committed in time", limit_s=limit_s)

    def _take_back(self, taken: dict[Holding, int]) -> None:
        for holding, offset in taken.items():
            self.done(holding, offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """
    What the lanes of a subscription share with it.

    Attributes:
        source: Where to read.
        committer: Hears which offsets are done.
        tasks: Owns the tasks.
        let_flow: Lets the source read a partition again, unless somebody else holds it up.
    """

    source: RecordSource
    committer: Committer
    tasks: Tasks
    let_flow: Callable[[PartitionKey], None]

    def hold_back(self, holding: Holding) -> None:
        """Pause a partition."""
        holding.paused = True
        self.source.pause([holding.partition])

    def open(self, holding: Holding) -> None:
        """End `hold_back`."""
        holding.paused = False
        self.let_flow(holding.partition)


def _to_commit(
    taken: Mapping[Holding, int],
) -> tuple[dict[PartitionKey, int], dict[PartitionKey, str]]:
    """Return offsets and notes as they are at this instant; they hold for each other."""
    offsets: dict[PartitionKey, int] = {}
    notes: dict[PartitionKey, str] = {}
    for held, offset in taken.items():
        if held.gone:
            continue
        window = held.window
        offsets[held.partition] = offset if window is None else window.position
        if window is not None and (note := window.note()):
            notes[held.partition] = note
    return offsets, notes
