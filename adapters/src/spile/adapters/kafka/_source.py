"""A member of a consumer group on Kafka."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from spile.adapters.delivery._backoff import Backoff
from spile.adapters.delivery._ports import RebalanceListener, RecordSource, check_together
from spile.adapters.kafka._consumer_client import (
    ConsumerClient,
    ConsumerTimes,
    OffsetGoneError,
    UnreadableRecordError,
)
from spile.adapters.kafka._quarantine import Quarantine
from spile.adapters.kafka._settings import KafkaSettings
from spile.spi import (
    BrokerUnavailableError,
    ClosedError,
    PartitionKey,
    ProtocolRecord,
    RejectedError,
    RetriableError,
    SpileError,
    UnknownTopicError,
)

_log = structlog.get_logger(__name__)

_CLOSE_S = 5.0
"""Longest a client may take to leave; with brokers away it would take for ever."""

_OFFSET_ATTEMPTS = 5
_OFFSET_BACKOFF = Backoff(initial_s=0.02, factor=2.0, max_s=0.15, jitter=0.0)
_START_BACKOFF = Backoff(initial_s=0.1, factor=2.0, max_s=3.0)

QuarantineListener = Callable[[PartitionKey, int], None]
"""Hears of offsets that were passed over because their bytes cannot be read."""


class KafkaSource(RecordSource):
    """
    Reads topics as one member of a group.

    Nothing of a partition is handed out before the listener has returned from `assigned`. An offset
    that the log has lost ends the reading with a `RejectedError`; a record whose bytes are damaged
    is passed over, logged, and told to `on_quarantine`.

    Args:
        settings: How to connect.
        topics: Full names, or one pattern that starts with `^`.
        group_id: Members of one group share the partitions.
        together: As `SourceFactory`; the group then shares each topic's partitions in ranges.
        on_quarantine: Called for each offset that is passed over.

    Attributes:
        callback_failures: How often the listener failed; the client would only have logged it.
        passed_over: How many damaged records were passed over.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        group_id: str,
        *,
        together: Collection[Sequence[str]] = (),
        on_quarantine: QuarantineListener | None = None,
    ) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._together = together
        self._group_id = group_id
        self._on_quarantine = on_quarantine
        self._request_s = settings.request_timeout_ms / 1000
        self._listener: RebalanceListener | None = None
        self._client: ConsumerClient | None = None
        self._retiring: ConsumerClient | None = None
        self._settled = asyncio.Event()
        self._failure: Exception | None = None
        self._held: set[PartitionKey] = set()
        self._revoking: set[PartitionKey] = set()
        self._paused: set[PartitionKey] = set()
        self._next: dict[PartitionKey, int] = {}
        self._committed: dict[PartitionKey, int] = {}
        self._taken_over: dict[PartitionKey, tuple[int, str]] = {}
        self._unsettled_since: float | None = None
        self._quarantine = Quarantine(self._passed_over)
        self.callback_failures = 0
        self.passed_over = 0

    async def open(self, listener: RebalanceListener) -> None:
        self._listener = listener
        until = time.monotonic() + self._settings.start_timeout_ms / 1000
        client = await self._connect(until)
        try:
            await self._check_topics(client)
            self._client = client
            self._failure = None
            self._settled.clear()
            await self._join(client)
        except BaseException:
            self._client = None
            self._forget()
            await client.close(limit_s=_CLOSE_S)
            raise

    async def poll(
        self, *, timeout_s: float, max_records: int
    ) -> Mapping[PartitionKey, Sequence[ProtocolRecord]]:
        client = self._healthy_client()
        if self._quarantine.is_open:
            return await self._quarantine.poll(
                client, self._held, self._next, timeout_s=timeout_s, max_records=max_records
            )
        try:
            taken = await client.poll(timeout_s=timeout_s, max_records=max_records)
        except UnreadableRecordError as exc:
            # The client may have dropped records of other partitions that came before.
            self._rewind(client)
            self._quarantine.open()
            _log.warning("unreadable record met", group=self._group_id, reason=str(exc))
            return {}
        except OffsetGoneError as exc:
            raise await self._offset_gone(client, exc) from exc
        except ClosedError as exc:
            # The member lost its place; it is the client's to join again, or ours to reopen.
            raise RetriableError(str(exc)) from exc
        for key, records in taken.items():
            self._next[key] = records[-1].offset + 1
        return taken

    async def reopen(self) -> None:
        client, listener = self._client, self._listener
        if listener is None:
            raise ClosedError("the source was never opened")
        if client is not None:
            # While handlers finish, the old client may find its brokers again and join anew.
            self._retiring = client
            await self._tell_revoked(sorted(self._held))
            self._client = None
            self._forget()
            await client.close(limit_s=_CLOSE_S)
        _log.info("consumer rebuilt", group=self._group_id, topics=self._topics)
        await self.open(listener)

    def pause(self, partitions: Sequence[PartitionKey]) -> None:
        self._paused.update(partitions)
        if self._client is not None:
            self._client.pause(partitions)

    def resume(self, partitions: Sequence[PartitionKey]) -> None:
        self._paused.difference_update(partitions)
        if self._client is not None:
            self._client.resume([key for key in partitions if key in self._held])

    def seek(self, partition: PartitionKey, offset: int) -> None:
        if self._client is None or partition not in self._held:
            raise ClosedError(f"{partition[0]}[{partition[1]}] is not assigned")
        self._client.seek(partition, offset)
        self._next[partition] = offset

    async def beginnings(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        if self._client is None:
            raise BrokerUnavailableError("the consumer is not connected; open it anew")
        return await self._client.beginning_offsets(partitions, deadline_s=2 * self._request_s)

    async def ends(self, partitions: Sequence[PartitionKey]) -> Mapping[PartitionKey, int]:
        if self._client is None:
            raise BrokerUnavailableError("the consumer is not connected; open it anew")
        return await self._client.end_offsets(partitions, deadline_s=2 * self._request_s)

    def position(self, partition: PartitionKey) -> int:
        reached = None if self._client is None else self._client.position(partition)
        return -1 if reached is None else reached

    def taken_over(self, partition: PartitionKey) -> tuple[int, str]:
        if partition not in self._taken_over:
            raise ClosedError(f"{partition[0]}[{partition[1]}] is not assigned")
        return self._taken_over[partition]

    async def commit(
        self,
        offsets: Mapping[PartitionKey, int],
        notes: Mapping[PartitionKey, str] | None = None,
    ) -> None:
        if not offsets:
            return
        client = self._client
        foreign = [key for key in offsets if key not in self._held and key not in self._revoking]
        if client is None or foreign:
            names = ", ".join(f"{topic}[{number}]" for topic, number in foreign or offsets)
            raise ClosedError(f"not committed: {names} belong to somebody else by now")
        await client.commit(offsets, notes or {}, deadline_s=2 * self._request_s)
        self._committed.update(offsets)

    async def lag(self) -> Mapping[PartitionKey, int]:
        client, held = self._client, sorted(self._held)
        if client is None or not held:
            return {}
        ends = await client.end_offsets(held, deadline_s=2 * self._request_s)
        return {key: max(0, end - self._reached(client, key)) for key, end in ends.items()}

    async def close(self) -> None:
        client, self._client = self._client, None
        self._forget()
        if client is not None:
            await client.close(limit_s=min(_CLOSE_S, self._settings.close_timeout_ms / 1000))

    async def _connect(self, until: float) -> ConsumerClient:
        settings = self._settings
        times = ConsumerTimes(
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            rebalance_timeout_ms=settings.rebalance_timeout_ms,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            metadata_max_age_ms=settings.consumer_metadata_max_age_ms,
        )
        attempt = 0
        while True:
            # A client that failed to start cannot be started again.
            client = ConsumerClient(
                settings.connection(),
                group_id=self._group_id,
                times=times,
                in_ranges=bool(self._together),
            )
            try:
                await client.start(deadline_s=max(until - time.monotonic(), 0.1))
            except RetriableError as exc:
                attempt += 1
                left = until - time.monotonic()
                if left <= 0:
                    raise BrokerUnavailableError(
                        f"no broker answered at {settings.bootstrap_servers} within"
                        f" {settings.start_timeout_ms / 1000:g} s"
                    ) from exc
                await asyncio.sleep(min(_START_BACKOFF.delay(attempt), left))
            else:
                return client

    async def _check_topics(self, client: ConsumerClient) -> None:
        if self._topics[0].startswith("^"):
            return
        missing: list[str] = []
        for attempt in range(1, _OFFSET_ATTEMPTS + 1):
            # A topic made a moment ago may not have reached every broker.
            seen = await client.topics(deadline_s=2 * self._request_s)
            missing = sorted(set(self._topics) - seen.keys())
            if not missing:
                check_together(seen, self._together)
                return
            await asyncio.sleep(_OFFSET_BACKOFF.delay(attempt))
        raise UnknownTopicError(
            f"no such topic on the cluster, or hidden from these credentials: {', '.join(missing)};"
            " `spile topics apply` creates what the catalogue holds",
            topic=missing[0],
        )

    async def _join(self, client: ConsumerClient) -> None:
        settings = self._settings
        limit_s = (settings.start_timeout_ms + settings.rebalance_timeout_ms) / 1000

        async def assigned(partitions: Sequence[PartitionKey]) -> None:
            if client is self._client and client is not self._retiring:
                await self._take_over(client, partitions)

        async def revoked(partitions: Sequence[PartitionKey]) -> None:
            if client is self._client and client is not self._retiring:
                await self._tell_revoked([key for key in partitions if key in self._held])

        try:
            async with asyncio.timeout(limit_s):
                await client.join(
                    self._topics, assigned=assigned, revoked=revoked, deadline_s=limit_s
                )
                await self._settled.wait()
        except TimeoutError as exc:
            raise BrokerUnavailableError(
                f"group {self._group_id} did not settle within {limit_s:g} s"
            ) from exc
        self._raise_failure()

    async def _take_over(self, client: ConsumerClient, partitions: Sequence[PartitionKey]) -> None:
        # Paused, and with some position, the client neither fetches nor looks for offsets itself.
        client.pause(partitions)
        for key in partitions:
            client.seek(key, 0)
        try:
            starts = await self._starts(client, partitions)
            for key, (offset, _) in starts.items():
                client.seek(key, offset)
                self._next[key] = self._committed[key] = offset
            self._taken_over.update(starts)
            self._held.update(partitions)
            if partitions and self._listener is not None:
                await self._listener.assigned(partitions)
            client.resume([key for key in partitions if key not in self._paused])
        except ClosedError:
            # The group has moved on meanwhile; the next callback follows.
            _log.info("assignment outlived", group=self._group_id, partitions=len(partitions))
        except Exception as exc:  # noqa: BLE001 - the client would log it and read on from nowhere
            self.callback_failures += 1
            self._failure = exc
            _log.warning("assignment failed", group=self._group_id, error=repr(exc))
        finally:
            self._settled.set()

    async def _starts(
        self, client: ConsumerClient, partitions: Sequence[PartitionKey]
    ) -> Mapping[PartitionKey, tuple[int, str]]:
        limit_s = 2 * self._request_s
        starts: dict[PartitionKey, tuple[int, str]] = {}
        for attempt in range(1, _OFFSET_ATTEMPTS + 1):
            # A coordinator that has just moved may not know the offsets yet.
            missing = [key for key in partitions if key not in starts]
            starts.update(await client.committed(missing, deadline_s=limit_s))
            if len(starts) == len(partitions):
                return starts
            await asyncio.sleep(_OFFSET_BACKOFF.delay(attempt))
        missing = [key for key in partitions if key not in starts]
        first = await client.beginning_offsets(missing, deadline_s=limit_s)
        await client.commit(first, {}, deadline_s=limit_s)
        _log.info("group starts at the beginning", group=self._group_id, partitions=len(missing))
        return starts | {key: (offset, "") for key, offset in first.items()}

    async def _tell_revoked(self, partitions: Sequence[PartitionKey]) -> None:
        self._held.difference_update(partitions)
        self._revoking.update(partitions)
        self._unsettled_since = time.monotonic()
        try:
            if partitions and self._listener is not None:
                await self._listener.revoked(partitions)
        except Exception as exc:  # noqa: BLE001 - the client would only log it
            self.callback_failures += 1
            _log.warning("revocation failed", group=self._group_id, error=repr(exc))
        finally:
            for key in partitions:
                self._revoking.discard(key)
                self._paused.discard(key)
                self._next.pop(key, None)
                self._committed.pop(key, None)
                self._taken_over.pop(key, None)

    def _forget(self) -> None:
        for known in (self._held, self._revoking, self._paused, self._next, self._committed):
            known.clear()
        self._taken_over.clear()
        self._unsettled_since = None

    def _healthy_client(self) -> ConsumerClient:
        client = self._client
        if client is None:
            raise BrokerUnavailableError("the consumer is not connected; open it anew")
        self._raise_failure()
        if client.fetches_running():
            raise RetriableError("the client counts a fetch that nobody waits for; open it anew")
        silent_s = client.metadata_failing_s()
        if silent_s * 1000 > self._settings.session_timeout_ms:
            raise BrokerUnavailableError(f"no broker has answered for {silent_s:.0f} s")
        self._check_settled(client)
        return client

    def _check_settled(self, client: ConsumerClient) -> None:
        if not client.is_settling():
            self._unsettled_since = None
            return
        now = time.monotonic()
        self._unsettled_since = since = self._unsettled_since or now
        settings = self._settings
        if (now - since) * 500 > settings.rebalance_timeout_ms + settings.session_timeout_ms:
            raise BrokerUnavailableError(
                f"group {self._group_id} has not settled for {now - since:.0f} s"
            )

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        if isinstance(self._failure, SpileError):
            raise self._failure
        raise RetriableError("the listener failed to take its partitions over") from self._failure

    def _rewind(self, client: ConsumerClient) -> None:
        for key in self._held:
            with contextlib.suppress(ClosedError):
                client.seek(key, self._next[key])

    def _reached(self, client: ConsumerClient, key: PartitionKey) -> int:
        committed, delivered = self._committed.get(key, 0), self._next.get(key, 0)
        position = client.position(key)
        # Behind the last record there may be markers of transactions, which nobody can commit.
        return max(committed, position or 0) if committed >= delivered else committed

    async def _offset_gone(self, client: ConsumerClient, gone: OffsetGoneError) -> SpileError:
        key, offset = gone.partition, gone.offset
        first = (await client.beginning_offsets([key], deadline_s=2 * self._request_s))[key]
        end = (await client.end_offsets([key], deadline_s=2 * self._request_s))[key]
        if first <= offset <= end:
            return RetriableError(f"{key[0]}[{key[1]}] does not serve offset {offset} just now")
        return RejectedError(
            f"{key[0]}[{key[1]}] holds offsets {first} to {end}, but group {self._group_id} is to"
            f" go on at {offset}: the topic was made anew, or kept for too short a time",
            code="OFFSET_OUT_OF_RANGE",
        )

    def _passed_over(self, partition: PartitionKey, offset: int) -> None:
        self.passed_over += 1
        _log.error(
            "damaged record passed over",
            group=self._group_id,
            topic=partition[0],
            partition=partition[1],
            offset=offset,
        )
        if self._on_quarantine is not None:
            self._on_quarantine(partition, offset)
