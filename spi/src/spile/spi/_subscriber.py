"""Reading in batches, for workers that keep up with the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from spile.spi._messages import ProtocolRecord

PartitionKey: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""

BatchHandler: TypeAlias = Callable[[Sequence[ProtocolRecord]], Awaitable[None]]
"""Handles records of one or more partitions, each partition's in order; must be idempotent."""


@runtime_checkable
class ProtocolSubscription(Protocol):
    """A running subscription in the hands of its owner."""

    @property
    def failure(self) -> BaseException | None:
        """Why it ended by itself; None while it runs and after a clean close."""
        ...

    async def pause(self, partitions: Sequence[PartitionKey] | None = None) -> None:
        """
        Stop handing out records and stay in the group.

        Args:
            partitions: Only read nothing more of these; what was read before may still come, and a
                new assignment of them begins unpaused. All by default, at once.
        """
        ...

    async def resume(self, partitions: Sequence[PartitionKey] | None = None) -> None:
        """Go on after `pause`; all by default."""
        ...

    def done(self, offsets: Mapping[PartitionKey, int]) -> None:
        """
        Say up to where records are done, with `manual_commit`; commits follow soon.

        Args:
            offsets: By partition the offset to read next; one that is not held any more is ignored.
        """
        ...

    def assignment(self, partition: PartitionKey) -> object | None:
        """
        Return what stands for the present assignment of a partition.

        It is the same object for as long as the partition is held, another one when it was taken
        away and came back, and None while it is not held. Who works on records after the handler
        has returned sees by it which of them are somebody else's now.
        """
        ...

    async def lag(self) -> Mapping[PartitionKey, int]:
        """Return, for each assigned partition, the records behind the end of the log."""
        ...

    async def close(self) -> None:
        """Stop intake, let what is in hand finish, commit, leave the group."""
        ...

    async def wait(self) -> None:
        """
        Wait until the subscription has ended.

        Raises:
            SpileError: What ended it, if it did not end by `close`.
        """
        ...


@runtime_checkable
class ProtocolOffsetStore(Protocol):
    """A sink that keeps its own offsets, in one transaction with what it stores."""

    async def next_offsets(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """Return the offset to read next; partitions left out start at the log's beginning."""
        ...


@runtime_checkable
class ProtocolBatchSubscriber(Protocol):
    """Hands out records in batches."""

    async def subscribe_batches(
        self,
        topics: Sequence[str],
        group_id: str,
        on_batch: BatchHandler,
        *,
        offsets: ProtocolOffsetStore | None = None,
        manual_commit: bool = False,
    ) -> ProtocolSubscription:
        """
        Hand every record of some topics to a handler, many at a time.

        Offsets are committed after the handler returns. When it raises a retriable error the same
        batch is tried again; another error ends the subscription with the offsets kept.

        Args:
            topics: Names, or one regular expression that starts with `^`.
            group_id: Consumers with one id share the partitions.
            on_batch: Must be idempotent.
            offsets: Where to start instead of the group's committed offsets.
            manual_commit: Offsets are committed as `ProtocolSubscription.done` says, not when the
                handler returns.

        Raises:
            UnknownTopicError: There is no such topic.
            UnauthorisedError: The broker refused the credentials or the group.
            BrokerUnavailableError: No broker answered.
            ClosedError: The bus is closed.
        """
        ...
