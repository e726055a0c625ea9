"""A running subscription: polls, feeds lanes, commits, follows rebalances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from spile.adapters.dead_letters._queue import DeadLetterQueue
from spile.adapters.delivery._ports import RecordSource
from spile.adapters.delivery._tasks import Tasks
from spile.adapters.subscribing._batch_lane import BatchLane
from spile.adapters.subscribing._boundary import MessageBoundary
from spile.adapters.subscribing._burial import Burier
from spile.adapters.subscribing._guard import FailureGuard
from spile.adapters.subscribing._holding import Committer, Holding, Wiring
from spile.adapters.subscribing._lanes import Lanes, MessageLanes
from spile.adapters.subscribing._observer import SilentObserver, SubscriptionObserver
from spile.adapters.subscribing._options import SubscriptionOptions
from spile.adapters.subscribing._retries import Parking, Retries, require_parking
from spile.adapters.subscribing.tiers import TieredBatches, Yards, tiered_lanes
from spile.spi import (
    BatchHandler,
    ConfigurationError,
    HandlerStalledError,
    MessageHandler,
    PartitionKey,
    ProtocolOffsetStore,
    ProtocolSubscription,
    RetriableError,
    SpileError,
    UnknownTopicError,
)

log = structlog.get_logger(__name__)

_COMMIT_LIMIT_S = 5.0
_POLL_AGAIN_S = 5.0


class Subscription(ProtocolSubscription):
    """
    One member of a consumer group with its handler; make it by `of_messages` or `of_batches`.

    Offsets are committed after handling only. Ends by `close`, by an error that no retry cures, by
    a handler error in batch mode, or by a stalled handler; `failure` then tells why.

    Args:
        source: Not open yet; the subscription opens and closes it.
        options: Limits and times.
        offsets: Where partitions start, instead of the committed offsets.
        on_end: Called once, when it has ended.
    """

    def __init__(
        self,
        source: RecordSource,
        *,
        options: SubscriptionOptions | None = None,
        offsets: ProtocolOffsetStore | None = None,
        on_end: Callable[[Subscription], None] | None = None,
    ) -> None:
        self._source = source
        self._options = options or SubscriptionOptions()
        self._offsets = offsets
        self._on_end = on_end
        self._tasks = Tasks(self._fail)
        self._committer = Committer(source, self._options.commit_interval_s)
        self._lanes: Lanes
        self._held: dict[PartitionKey, Holding] = {}
        self._failure: BaseException | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._begun = False
        self._user_paused = False
        self._reopening = False
        self._held_back = False
        self._parking: Parking | None = None
        self._wiring = Wiring(
            source=source,
            committer=self._committer,
            tasks=self._tasks,
            let_flow=self._let_flow,
        )

    @classmethod
    def of_messages(  # noqa: PLR0913 - wired in one place, all but three have defaults
        cls,
        source: RecordSource,
        handler: MessageHandler,
        *,
        group_id: str,
        dead_letters: DeadLetterQueue | None = None,
        retries: Retries | None = None,
        parking: Parking | None = None,
        manual_ack: bool = False,
        guard: FailureGuard | None = None,
        options: SubscriptionOptions | None = None,
        observer: SubscriptionObserver | None = None,
        on_end: Callable[[Subscription], None] | None = None,
    ) -> Subscription:
        """
        Return a subscription that hands out messages one at a time per partition.

        Args:
            source: Where to read.
            handler: Must be idempotent.
            group_id: Named in dead letters.
            dead_letters: Takes what fails; without it a failure ends the subscription.
            retries: Before a message becomes a dead letter.
            parking: Where messages wait, for retries with tiers.
            manual_ack: Returning without `ack()` means the same message again.
            guard: Ends the subscription when too much fails, before that is parked or buried.
            options: Limits and times.
            observer: Hears what happens.
            on_end: Called once, when it has ended.

        Raises:
            ConfigurationError: Tiers without parking.
        """
        retries, observer = retries or Retries(), observer or SilentObserver()
        self = cls(source, options=options, on_end=on_end)
        boundary = MessageBoundary(
            handler,
            dead_letters=dead_letters,
            group_id=group_id,
            retries=retries,
            manual_ack=manual_ack,
            observer=observer,
            guard=guard,
        )
        capacity = self._options.lane_capacity or 500
        if retries.tiers:
            self._parking = require_parking(retries, parking)
            self._lanes = tiered_lanes(
                boundary,
                Yards(self._wiring, self._parking, retries.tiers),
                self._wiring,
                retries=retries,
                sender=self._parking.sender,
                capacity=capacity,
                observer=observer,
            )
            return self
        self._lanes = MessageLanes(
            boundary,
            limit=retries.limit,
            wiring=self._wiring,
            capacity=capacity,
            observer=observer,
        )
        return self

    @classmethod
    def of_batches(  # noqa: PLR0913 - wired in one place, all but two have defaults
        cls,
        source: RecordSource,
        handler: BatchHandler,
        *,
        group_id: str = "unknown",
        offsets: ProtocolOffsetStore | None = None,
        manual_commit: bool = False,
        dead_letters: DeadLetterQueue | None = None,
        retries: Retries | None = None,
        parking: Parking | None = None,
        guard: FailureGuard | None = None,
        options: SubscriptionOptions | None = None,
        observer: SubscriptionObserver | None = None,
        on_end: Callable[[Subscription], None] | None = None,
    ) -> Subscription:
        """
        Return a subscription that hands out batches over all partitions; see `of_messages`.

        Without tiers a batch that fails retriably is handed out again for ever, and another error
        ends the subscription; nothing is parked or buried then, and a guard has nothing to do.

        Raises:
            ConfigurationError: Tiers without parking, or together with offsets or manual commits.
        """
        self = cls(source, options=options, offsets=offsets, on_end=on_end)
        chosen, observer = self._options, observer or SilentObserver()
        capacity = chosen.lane_capacity or 2 * chosen.max_batch_records
        if retries is None or not retries.tiers:
            self._lanes = BatchLane(
                handler,
                committer=self._committer,
                max_records=chosen.max_batch_records,
                capacity=capacity,
                backoff=chosen.backoff,
                observer=observer,
                manual_commit=manual_commit,
                skip_ticks=offsets is None and not manual_commit,
            )
            return self
        if offsets is not None or manual_commit:
            raise ConfigurationError(
                "retries with tiers need offsets that the group commits: neither an offset store "
                "nor manual commits"
            )
        self._parking = require_parking(retries, parking)
        stirred = asyncio.Event()
        self._lanes = TieredBatches(
            Yards(self._wiring, self._parking, retries.tiers, stirred=stirred),
            handler,
            stirred=stirred,
            retries=retries,
            sender=self._parking.sender,
            burier=Burier(dead_letters, group_id, retries.patience, observer),
            max_records=chosen.max_batch_records,
            capacity=capacity,
            observer=observer,
            guard=guard,
        )
        return self

    @property
    def failure(self) -> BaseException | None:
        """Why it ended by itself; None while it runs and after a clean close."""
        return self._failure

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    async def start(self) -> None:
        """
        Join the group and begin.

        Raises:
            SpileError: As `RecordSource.open`; nothing runs then.
        """
        self._begun = True
        try:
            await self._open_source()
            self._tasks.start(self._committer.run(), "commits")
            if isinstance(self._lanes, BatchLane | TieredBatches):
                self._tasks.start(self._lanes.run(), "batches")
            self._tasks.start(self._run(), "polls")
        except BaseException:
            await self._tasks.close()
            await self._source.close()
            self._ended.set()
            raise

    async def _open_source(self) -> None:
        try:
            await self._source.open(self)
        except UnknownTopicError as exc:
            topics = None if self._parking is None else self._parking.topics
            lack = None if topics is None or exc.topic is None else topics.lack_of(exc.topic)
            if lack is None:
                raise
            raise ConfigurationError(lack) from exc

    async def pause(self, partitions: Sequence[PartitionKey] | None = None) -> None:
        """Stop handing out records and stay in the group; see `ProtocolSubscription`."""
        if partitions is None:
            self._user_paused = True
            self._lanes.set_open(is_open=False)
        for holding in self._chosen(partitions):
            holding.stopped = partitions is not None or holding.stopped
            self._source.pause([holding.partition])

    async def resume(self, partitions: Sequence[PartitionKey] | None = None) -> None:
        """Go on after `pause`; after a close it is a no-op."""
        for holding in self._chosen(partitions):
            holding.stopped = False
        if partitions is None:
            self._user_paused = False
        if not self._stopping.is_set():
            if partitions is None:
                self._lanes.set_open(is_open=True)
            self._flow()

    def done(self, offsets: Mapping[PartitionKey, int]) -> None:
        """Commit these offsets soon; see `ProtocolSubscription`."""
        for partition, offset in offsets.items():
            holding = self._held.get(partition)
            if holding is not None and not self._is_outrun(partition, offset):
                self._committer.done(holding, offset)

    def _is_outrun(self, partition: PartitionKey, offset: int) -> bool:
        """Say whether another member had committed more, of what this one is late with."""
        return self._offsets is None and offset <= self._source.taken_over(partition)[0]

    def assignment(self, partition: PartitionKey) -> object | None:
        """Return what stands for the present assignment; see `ProtocolSubscription`."""
        return self._held.get(partition)

    async def lag(self) -> Mapping[PartitionKey, int]:
        """Return, for each assigned partition, the records behind the end of the log."""
        return await self._source.lag()

    async def close(self) -> None:
        """
        Stop intake, let what is in hand finish within the close limit, commit, leave the group.

        Called from the handler itself it only begins the close, which waits for the handler.
        """
        self._stop()
        if self._begun and not self._tasks.is_inside():
            await self._ended.wait()

    async def wait(self) -> None:
        """
        Wait until the subscription has ended.

        Raises:
            BaseException: What ended it, if it did not end by `close`.
        """
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def assigned(self, partitions: Sequence[PartitionKey]) -> None:
        """Begin with partitions, at the offset store's place when there is one."""
        if self._stopping.is_set():
            return
        if self._offsets is not None:
            await self._seek_to_stored(self._offsets, partitions)
        await self._lanes.prepare(partitions)
        for partition in partitions:
            holding = self._held[partition] = Holding(partition)
            self._lanes.take_on(holding)
        if self._user_paused or self._held_back:
            self._source.pause(partitions)

    async def revoked(self, partitions: Sequence[PartitionKey]) -> None:
        """Finish what is in hand within the drain limit, commit it, and forget the partitions."""
        ending = [self._held.pop(p) for p in partitions if p in self._held]
        if ending:
            await self._release(ending, self._options.drain_limit_s)

    async def _release(self, ending: Sequence[Holding], limit_s: float) -> None:
        self._lanes.let_go(ending)
        try:
            async with asyncio.timeout(limit_s):
                await self._lanes.drained(ending)
        except TimeoutError:
            log.warning("handler still runs, its result will be dropped", limit_s=limit_s)
        try:
            await self._committer.flush_within(_COMMIT_LIMIT_S)
        except SpileError as exc:
            self._fail(exc)
        finally:
            for holding in ending:
                holding.gone = True

    async def _seek_to_stored(
        self, store: ProtocolOffsetStore, partitions: Sequence[PartitionKey]
    ) -> None:
        """
        Go where the store says; what it does not know starts at the beginning of the log.

        The group's committed offsets are not asked: a store that was lost, or is new beside an old
        group, would skip what it does not have.
        """
        try:
            stored = dict(await store.next_offsets(partitions))
            unknown = [partition for partition in partitions if partition not in stored]
            if unknown:
                stored |= await self._source.beginnings(unknown)
        except (RetriableError, asyncio.CancelledError):
            raise  # the transport reopens, or gives this assignment up
        except BaseException as exc:
            self._fail(exc)
            raise
        for partition in partitions:
            self._source.seek(partition, stored[partition])

    async def _run(self) -> None:
        limit_s = self._options.close_limit_s
        try:
            await self._poll_until_stopped()
        except asyncio.CancelledError:
            limit_s = 0.0
            self._fail(RuntimeError("the subscription was cancelled from outside, not closed"))
            raise
        except SpileError as exc:
            self._fail(exc)
        except BaseException as exc:
            self._fail(exc)
            raise
        finally:
            self._stop()
            await self._shut(0.0 if isinstance(self._failure, HandlerStalledError) else limit_s)

    async def _shut(self, limit_s: float) -> None:
        try:
            await self._release(list(self._held.values()), limit_s)
        finally:
            self._held.clear()
            await self._leave()

    async def _leave(self) -> None:
        try:
            await self._tasks.close(1.0)
            await self._source.close()
        finally:
            self._ended.set()
            if self._on_end is not None:
                self._on_end(self)

    async def _poll_until_stopped(self) -> None:
        options, lanes, source = self._options, self._lanes, self._source
        failures = 0
        while not self._stopping.is_set():
            self._check_stalled()
            timeout_s = options.poll_timeout_s
            if lanes.full and not await self._room_comes():
                timeout_s = 0.0
            elif self._held_back:
                self._held_back = False
                self._flow()
            try:
                polled = await source.poll(timeout_s=timeout_s, max_records=lanes.wanted)
            except RetriableError as exc:
                failures += 1
                await self._recover(exc, failures)
                continue
            failures = 0
            if polled or lanes.is_scanning:
                lanes.accept(polled)

    async def _room_comes(self) -> bool:
        """Wait for room; without it hold all partitions back, so that a poll fetches nothing."""
        try:
            async with asyncio.timeout(self._options.keepalive_s):
                await self._lanes.room.wait()
        except TimeoutError:
            self._held_back = True
            self._source.pause(list(self._held))
            return False
        return True

    def _chosen(self, partitions: Sequence[PartitionKey] | None) -> list[Holding]:
        """Return what is held of these partitions, or all."""
        chosen = self._held if partitions is None else partitions
        return [self._held[partition] for partition in chosen if partition in self._held]

    def _flow(self) -> None:
        """Let the source read again what nobody holds up."""
        if not self._user_paused and not self._held_back:
            held = self._held.items()
            self._source.resume([p for p, one in held if not (one.paused or one.stopped)])

    def _let_flow(self, partition: PartitionKey) -> None:
        """Let the source read a partition again whose buffer has room."""
        held = self._held.get(partition)
        if not (self._user_paused or self._held_back or (held is not None and held.stopped)):
            self._source.resume([partition])

    async def _recover(self, error: RetriableError, failures: int) -> None:
        """Wait after a failed poll; after some in a row open the source anew."""
        delay_s = min(self._options.backoff.delay(failures), _POLL_AGAIN_S)
        log.warning(
            "poll failed", error=str(error), failures=failures, retry_in_s=round(delay_s, 2)
        )
        try:
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()
        except TimeoutError:
            if self._reopening or failures % self._options.reopen_after == 0:
                self._reopening = True
                try:
                    await self._source.reopen()
                    self._reopening = False
                except RetriableError as exc:
                    log.warning("source could not be opened anew", error=str(exc))

    def _check_stalled(self) -> None:
        called_at = self._lanes.called_at()
        if called_at is None:
            return
        age_s = asyncio.get_running_loop().time() - called_at
        if age_s > self._options.stall_after_s:
            raise HandlerStalledError(
                f"the handler runs for {age_s:.0f} s, longer than the stall limit of "
                f"{self._options.stall_after_s:.0f} s; its offsets are kept"
            )

    def _fail(self, error: BaseException) -> None:
        """End because of an error; the first one counts."""
        if self._failure is None and not self._ended.is_set():
            self._failure = error
            log.error("subscription failed", error_type=type(error).__name__)
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._lanes.set_open(is_open=False)
        self._lanes.room.set()
