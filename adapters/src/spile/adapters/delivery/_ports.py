"""What the engine needs from a transport; Kafka and memory implement these, and no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeAlias

from spile.adapters.delivery._records import OutgoingRecord, Receipt
from spile.spi import ConfigurationError, PartitionKey, ProtocolRecord, SpileError

Settled: TypeAlias = Callable[[Sequence[int], SpileError | None], None]
"""Hears of indexes that are acknowledged (None) or failed (the error)."""


class RecordSender(Protocol):
    """Writes records; those of one key in the order given."""

    async def send(
        self, records: Sequence[OutgoingRecord], *, settled: Settled | None = None
    ) -> Receipt:
        """
        Write records and wait until each is acknowledged, refused, or past its delivery deadline.

        Args:
            records: What to write.
            settled: Told of records as soon as their fate is known, before this returns, so that
                one slow partition does not hold up the news of the others. With it a record that
                is refused before sending takes nobody along: it is told its error, the others are
                sent.

        The deadline (30 s by default) bounds all attempts. Cancelling takes back what was not yet
        handed to the client; the rest may or may not be written.

        Raises:
            UnknownTopicError: There is no such topic; nothing was sent. Not with `settled`.
            MessageTooLargeError: A record is too large; nothing was sent. Not with `settled`.
            ClosedError: The sender is closed; nothing was sent.
        """
        ...

    async def close(self) -> None:
        """Flush within the close deadline, then let go; never raises."""
        ...


class RebalanceListener(Protocol):
    """Hears what the group decides; the transport waits for both before it goes on."""

    async def assigned(self, partitions: Sequence[PartitionKey]) -> None:
        """Take these partitions over; their positions may be changed by `seek` here."""
        ...

    async def revoked(self, partitions: Sequence[PartitionKey]) -> None:
        """Finish or drop what is in hand and commit; afterwards others own these partitions."""
        ...


class RecordSource(Protocol):
    """
    One member of a consumer group.

    The engine calls `poll` from one task and never cancels it; the listener is called while a poll
    runs or between polls. Nothing of a partition is handed out before `assigned` has returned.
    """

    async def open(self, listener: RebalanceListener) -> None:
        """
        Join the group.

        A partition without a committed offset starts at its beginning, and that is committed.

        Raises:
            UnknownTopicError: There is no such topic.
            UnauthorisedError: The credentials or the group are refused.
            BrokerUnavailableError: No broker answered within the start deadline.
        """
        ...

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        """
        Return records that came, in order per partition; empty after the timeout.

        Raises:
            RetriableError: Reading failed; poll again, or `reopen` after some failures.
            PermanentError: Reading will not work again.
        """
        ...

    async def reopen(self) -> None:
        """Throw the client away and join the group anew; revokes all and raises as `open`."""
        ...

    def pause(self, partitions: Sequence[PartitionKey]) -> None:
        """Hand out nothing of these until `resume`; the member stays in the group."""
        ...

    def resume(self, partitions: Sequence[PartitionKey]) -> None:
        """Go on after `pause`."""
        ...

    def seek(self, partition: PartitionKey, offset: int) -> None:
        """
        Read this offset next.

        Raises:
            ClosedError: The partition is not assigned.
        """
        ...

    async def beginnings(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """
        Return the first offset that the log still has, for each partition.

        Raises:
            RetriableError: No answer in time.
        """
        ...

    async def ends(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        """
        Return the offset after the last record that can be read, for each partition.

        Raises:
            RetriableError: No answer in time.
        """
        ...

    def position(self, partition: PartitionKey) -> int:
        """Return the offset to be handed out next, past what holds no record; -1 if unknown."""
        ...

    def taken_over(self, partition: PartitionKey) -> tuple[int, str]:
        """
        Return the offset and the note that stood committed when a partition was assigned.

        Raises:
            ClosedError: The partition is not assigned.
        """
        ...

    async def commit(
        self,
        offsets: Mapping[PartitionKey, int],
        notes: Mapping[PartitionKey, str] | None = None,
    ) -> None:
        """
        Commit the offsets to read next, all of them or none.

        Args:
            offsets: By partition.
            notes: What to keep beside some of them, at most 4,095 characters each; a commit
                without a note removes the one before.

        Raises:
            ClosedError: The partitions belong to somebody else by now; drop the offsets.
            RetriableError: Not committed now; commit again later.
        """
        ...

    async def lag(self) -> Mapping[PartitionKey, int]:
        """Return the records between the committed position and the end, per assigned partition."""
        ...

    async def close(self) -> None:
        """Leave the group within the close deadline; never raises."""
        ...


class SourceFactory(Protocol):
    """Makes sources for subscriptions."""

    def __call__(
        self,
        topics: Sequence[str],
        group_id: str,
        *,
        together: Collection[Sequence[str]] = (),
    ) -> RecordSource:
        """
        Return a source that is not open yet.

        Args:
            topics: Full names, or one `^` pattern.
            group_id: Members of one group share the partitions.
            together: Topics of which partitions of one number go to one member, as long as all
                members subscribe alike; opening raises `ConfigurationError` when their partitions
                are not equally many.
        """
        ...


def check_together(partitions: Mapping[str, int], together: Collection[Sequence[str]]) -> None:
    """
    Hold topics whose partitions are to have one owner to one number of partitions.

    Args:
        partitions: How many each topic has.
        together: As `SourceFactory`.

    Raises:
        ConfigurationError: They differ; names the topics.
    """
    for first, *others in together:
        wrong = [name for name in others if partitions[name] != partitions[first]]
        if wrong:
            raise ConfigurationError(
                f"topic {first} has {partitions[first]} partitions, but "
                + ", ".join(f"{name} has {partitions[name]}" for name in wrong)
                + "; they must be equally many: leave `partitions` of the group in the catalogue's "
                "`groups` away, and run `spile topics apply`"
            )
