"""Concurrent single publishes, gathered into few sends."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from spile.adapters.delivery._ports import RecordSender, Settled
from spile.adapters.delivery._records import OutgoingRecord
from spile.adapters.delivery._tasks import Tasks
from spile.spi import BrokerUnavailableError, SpileError

_Waiting = list[tuple[OutgoingRecord, "asyncio.Future[None]"]]


class Gatherer:
    """
    Sends what is submitted within one turn of the event loop together, in order.

    A thousand tasks that publish at once become one `send`; a lone publish waits for nobody. Each
    future is resolved as soon as the fate of its own record is known.

    Args:
        sender: Writes the records.
    """

    def __init__(self, sender: RecordSender) -> None:
        self._sender = sender
        self._waiting: _Waiting = []
        self._tasks = Tasks(self._broken)
        self._sends: set[asyncio.Task[None]] = set()

    def submit(self, record: OutgoingRecord) -> asyncio.Future[None]:
        """Return a future that is done when the record is acknowledged, or holds the SpileError."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((record, future))
        return future

    async def settled(self, limit_s: float) -> bool:
        """Wait for the fate of what was handed over; say whether it was known in time."""
        if self._sends:
            await asyncio.wait(self._sends, timeout=limit_s)
        return not self._waiting and not self._sends

    async def hand_over(self) -> None:
        """Return when what was submitted is in the hands of the sender."""
        self._flush()
        await asyncio.sleep(0)

    async def close(self, limit_s: float) -> None:
        """Wait for what was submitted, at most `limit_s` seconds."""
        self._flush()
        if self._sends:
            await asyncio.wait(self._sends, timeout=limit_s)
        await self._tasks.close()

    def send(self, records: Sequence[OutgoingRecord], settled: Settled) -> None:
        """
        Begin to send records, in the order of the calls; `settled` hears of the fate of each.

        It may hear of one twice: the first time counts.
        """
        self.run(self._send(records, settled), "gathered send")

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Begin with something that `settled` and `close` wait for."""
        task = self._tasks.start(work, name)
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)

    def _flush(self) -> None:
        batch = [pair for pair in self._waiting if not pair[1].done()]
        self._waiting = []
        if batch:
            futures = [future for _, future in batch]
            self.send(
                [record for record, _ in batch],
                lambda indexes, error: _resolve(futures, indexes, error),
            )

    async def _send(self, records: Sequence[OutgoingRecord], settled: Settled) -> None:
        every = range(len(records))
        try:
            await self._sender.send(records, settled=settled)
        except SpileError as exc:
            settled(every, exc)
        finally:
            lost = BrokerUnavailableError(
                "the send ended without news; the record may or may not be written"
            )
            settled(every, lost)

    def _broken(self, error: BaseException) -> None:
        """A bug of ours ended a send; its futures were resolved on the way out."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "gathered send failed", "exception": error}
        )


def _resolve(
    futures: Sequence[asyncio.Future[None]], indexes: Sequence[int], error: SpileError | None
) -> None:
    for index in indexes:
        future = futures[index]
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
