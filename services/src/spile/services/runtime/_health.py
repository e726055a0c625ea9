"""Whether a worker lives, and whether it gets on with its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import Counter, Gauge, Histogram

from spile.spi import (
    BatchHandler,
    HandlerStalledError,
    PartitionKey,
    ProtocolRecord,
    ProtocolSubscription,
    SpileError,
    TooManyFailuresError,
)

LAG_RECORDS = Gauge(
    "spile_consumer_lag_messages",
    "Records between the committed offset and the end of the log",
    ["group", "topic", "partition"],
)
LAG_SECONDS = Gauge(
    "spile_consumer_lag_seconds",
    "Age of the record that was handled last, while more are waiting; else 0",
    ["group"],
)
HANDLED = Counter("spile_handled_messages", "Records that the handler finished", ["group"])
HANDLE_SECONDS = Histogram(
    "spile_handle_seconds",
    "Time of one call of the handler",
    ["group"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
HANDLE_ERRORS = Counter(
    "spile_handle_errors", "Calls of the handler that failed", ["group", "error"]
)
LOOP_LAG = Gauge(
    "spile_event_loop_lag_seconds",
    "How late the event loop woke up at worst within the last minute; alert above 0.5",
)
READY = Gauge("spile_ready", "Whether the worker gets on with its work", ["group"])
GUARD_TRIPPED = Gauge(
    "spile_guard_tripped", "Whether the worker stopped because too many records failed", ["group"]
)


class Health:
    """
    What one worker knows about itself.

    Args:
        group: Consumer group, the label of its metrics.
        max_age_s: Age at which a sign of life of the bus, or of progress, no longer counts.
        stall_after_s: Age of a handler call at which it counts as stalled.
        in_hand: Offsets that the worker has read and not done yet, by partition.
        trouble: What the worker tries again by itself.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        group: str,
        *,
        max_age_s: float = 30.0,
        stall_after_s: float = 300.0,
        in_hand: Callable[[], Mapping[PartitionKey, int]] | None = None,
        trouble: Callable[[], str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.group = group
        GUARD_TRIPPED.labels(group).set(0)
        self.failure: BaseException | None = None
        self._max_age_s = max_age_s
        self._stall_after_s = stall_after_s
        self._in_hand = in_hand
        self._trouble = trouble
        self._clock = clock
        self._heard: float | None = None
        self._called: float | None = None
        self._waiting = 0
        self._moved: float | None = None
        self._lag: Mapping[PartitionKey, int] = {}
        self._finished = 0
        self._seen_finished = 0
        self._last_error: str | None = None
        self._last_record_ms: int | None = None

    @property
    def finished(self) -> int:
        """Calls of the handler that returned."""
        return self._finished

    def watch(self, handler: BatchHandler) -> BatchHandler:
        """Return a handler that does the same and tells here when it runs."""

        async def watched(records: Sequence[ProtocolRecord]) -> None:
            self._called = self._heard = self._clock()
            try:
                await handler(records)
            except SpileError as exc:
                self._last_error = str(exc)
                HANDLE_ERRORS.labels(self.group, type(exc).__name__).inc()
                raise
            else:
                self._last_error = None
                self._finished += 1
                self._last_record_ms = records[-1].timestamp
                HANDLED.labels(self.group).inc(len(records))
                HANDLE_SECONDS.labels(self.group).observe(self._clock() - self._called)
            finally:
                self._called = None

        return watched

    def heard(self, lag: Mapping[PartitionKey, int]) -> None:
        """Note what the bus answered: the records that wait, by partition."""
        now = self._clock()
        self._heard = now
        if self._in_hand is not None:
            taken = self._in_hand()
            lag = {key: max(0, records - taken.get(key, 0)) for key, records in lag.items()}
        behind = {partition for partition, records in lag.items() if records}
        caught_up = any(records > lag.get(p, 0) for p, records in self._lag.items())
        if not behind or caught_up or self._moved is None or self._finished > self._seen_finished:
            self._moved = now
        self._seen_finished = self._finished
        for topic, partition in self._lag.keys() - lag.keys():
            LAG_RECORDS.remove(self.group, topic, str(partition))
        for (topic, partition), records in lag.items():
            LAG_RECORDS.labels(self.group, topic, str(partition)).set(records)
        self._lag = dict(lag)
        self._waiting = sum(lag.values())
        age_s = 0.0
        if behind and self._last_record_ms is not None:
            age_s = max(0.0, time.time() - self._last_record_ms / 1000)
        LAG_SECONDS.labels(self.group).set(age_s)

    def stalled(self) -> HandlerStalledError | None:
        """
        Return the error of a worker that stands still although records wait.

        A batch that fails and is tried again does not count: its error is known and told.
        """
        if not self._waiting or self._moved is None or self._last_error is not None:
            return None
        if self._trouble is not None and self._trouble() is not None:
            return None
        still_s = self._clock() - self._moved
        if still_s <= self._stall_after_s:
            return None
        return HandlerStalledError(
            f"{self._waiting} records wait for group {self.group} and nothing moved for "
            f"{still_s:.0f} s; their offsets are kept"
        )

    def reasons(self) -> list[str]:
        """Say why the worker is not ready; nothing when it is."""
        now = self._clock()
        found: list[str] = []
        if isinstance(self.failure, TooManyFailuresError):
            found.append(f"stopped by itself: {self.failure}")
        elif self.failure is not None:
            found.append(f"ended: {type(self.failure).__name__}")
        if self._heard is None:
            found.append("the bus has not answered yet")
        elif now - self._heard > self._max_age_s:
            found.append(f"no answer of the bus for {now - self._heard:.0f} s")
        if self._called is not None and now - self._called > self._stall_after_s:
            found.append(f"the handler runs for {now - self._called:.0f} s")
        trouble = None if self._trouble is None else self._trouble()
        if trouble is not None:
            found.append(trouble)
        if self._last_error is not None:
            found.append(f"the last batch failed: {self._last_error}")
        elif self._waiting and self._moved is not None and now - self._moved > self._max_age_s:
            found.append(
                f"{self._waiting} records wait and nothing was committed "
                f"for {now - self._moved:.0f} s"
            )
        READY.labels(self.group).set(not found)
        return found


async def follow(
    health: Health, subscription: ProtocolSubscription, *, every_s: float
) -> HandlerStalledError:
    """Ask the bus for the lag again and again; return when the worker stands still for too long."""
    while True:
        if (error := health.stalled()) is not None:
            return error
        try:
            async with asyncio.timeout(max(every_s, 5.0)):
                health.heard(await subscription.lag())
        except (SpileError, TimeoutError):
            pass  # `reasons` says so when it lasts
        await asyncio.sleep(every_s)


async def watch_loop(every_s: float = 0.5, *, hold_s: float = 60.0) -> None:
    """
    Measure how late the event loop wakes up; ends by cancelling only.

    Args:
        every_s: Time between two looks.
        hold_s: How long the worst is told, so that a scrape now and then sees a short block too.
    """
    loop = asyncio.get_running_loop()
    worst_s, until = 0.0, 0.0
    while True:
        due = loop.time() + every_s
        await asyncio.sleep(every_s)
        now = loop.time()
        if now - due >= worst_s or now >= until:
            worst_s, until = max(0.0, now - due), now + hold_s
        LOOP_LAG.set(worst_s)
