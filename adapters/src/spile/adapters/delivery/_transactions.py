"""Writing records all or nothing, one owner at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from spile.adapters.delivery._records import OutgoingRecord
from spile.spi import ClosedError


class FencedError(ClosedError):
    """Raised when somebody else has claimed the same transactions; nothing was written."""


class RecordTransactions(Protocol):
    """
    Transactions under one name, which one owner holds at a time: the last one who claimed it.

    After a `RetriableError` the fate of the last write is open: `claim` again settles it, then
    read what stands in the log before writing anything twice.
    """

    async def claim(self) -> None:
        """
        Take the name over and settle what its last owner left: all of it is written, or nothing.

        What was written before is readable when this returns.

        Raises:
            RetriableError: No broker answered in time.
            UnauthorisedError: The credentials may not use this name.
        """
        ...

    async def write(self, records: Sequence[OutgoingRecord]) -> None:
        """
        Write records, all or none; acknowledged by all in-sync replicas on return.

        Raises:
            FencedError: Somebody else has claimed the name since.
            RetriableError: Written or not; see above.
            PermanentError: A record was refused; none was written.
            ClosedError: Not claimed.
        """
        ...

    async def close(self) -> None:
        """Let go; what is open is dropped. Never raises."""
        ...


class TransactionsFactory(Protocol):
    """Makes transactions."""

    def __call__(self, name: str) -> RecordTransactions:
        """Return the transactions of a name, not claimed yet."""
        ...
