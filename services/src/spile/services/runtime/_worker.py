"""Running workers until a signal or a failure ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import structlog

from spile.adapters.delivery import Backoff
from spile.services.runtime._health import GUARD_TRIPPED, Health, follow, watch_loop
from spile.services.runtime._http import side_app, side_server
from spile.services.runtime._settings import WorkerSettings
from spile.spi import (
    BatchHandler,
    ClosedError,
    HandlerStalledError,
    PartitionKey,
    ProtocolBatchSubscriber,
    ProtocolOffsetStore,
    ProtocolSubscription,
    RejectedError,
    RetriableError,
    SpileError,
    TooManyFailuresError,
)
from spile.topics.redaction import default_redactor

log = structlog.get_logger(__name__)

EXIT_FAILURE = 1
EXIT_STALLED = 70
_PROBE_S = 5.0
_REREADS = 5
_OFFSET_GONE = "OFFSET_OUT_OF_RANGE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """
    What makes one worker differ from the others.

    Attributes:
        name: For logs.
        group: Consumer group.
        topics: Full names, or one pattern that starts with `^`.
        handle: Gets the batches; must be idempotent.
        offsets: Where to start, when the sink keeps offsets itself.
        manual_commit: Offsets are committed as the worker says to the subscription it is bound to.
        bind: Called with each new subscription; its first batch may come a moment before.
        in_hand: Offsets that were read and are not done yet, by partition; they do not count as
            waiting for the worker.
        trouble: Says what it tries again by itself; then it is not ready, and does not count as
            stalled.
        patient: While bus or sink are away at the start, try again instead of ending.
        way_out: What an operator can do when the log no longer holds the offset to go on at.
    """

    name: str
    group: str
    topics: Sequence[str]
    handle: BatchHandler
    offsets: ProtocolOffsetStore | None = None
    manual_commit: bool = False
    bind: Callable[[ProtocolSubscription], None] | None = None
    in_hand: Callable[[], Mapping[PartitionKey, int]] | None = None
    trouble: Callable[[], str | None] | None = None
    patient: bool = False
    way_out: str = ""


async def run_worker(
    worker: Worker,
    subscriber: ProtocolBatchSubscriber,
    settings: WorkerSettings,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """Run one worker; see `run_workers`."""
    await run_workers([worker], subscriber, settings, stop=stop)


async def run_workers(
    workers: Sequence[Worker],
    subscriber: ProtocolBatchSubscriber,
    settings: WorkerSettings,
    *,
    stop: asyncio.Event | None = None,
) -> None:
    """
    Run workers side by side, with health and metrics over HTTP, until they are told to stop.

    SIGTERM, SIGINT or `stop` end the intake; what is in hand is finished and committed before this
    returns. When one worker fails the others are drained too.

    Args:
        workers: Those that this process hosts.
        subscriber: Where they read.
        settings: Of the process.
        stop: Set to stop them, as a signal does.

    Raises:
        HandlerStalledError: A handler did not finish in time.
        SpileError: What ended a worker.
        TooManyFailuresError: So many records failed that the worker stopped by itself; raised when
            the process is told to stop.
        ConfigurationError: The HTTP address cannot be used.
    """
    stop = stop or asyncio.Event()
    healths = [
        Health(
            worker.group,
            max_age_s=settings.ready_max_age_s,
            stall_after_s=settings.stall_after_s,
            in_hand=worker.in_hand,
            trouble=worker.trouble,
        )
        for worker in workers
    ]
    with _signals(stop), _unwrapped():
        app = side_app(healths)
        async with side_server(app, host=settings.http_host, port=settings.http_port) as port:
            log.info(
                "workers start",
                workers=[worker.name for worker in workers],
                http=f"http://{settings.http_host}:{port}",
            )
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch_loop(), name="loop lag")
                running = [
                    tasks.create_task(_run(worker, health, subscriber, stop), name=worker.name)
                    for worker, health in zip(workers, healths, strict=True)
                ]
                failures = await asyncio.gather(*running)
                watching.cancel()
            for failure in failures:
                if failure is not None:
                    raise failure
    log.info("workers stopped")


async def _run(
    worker: Worker, health: Health, subscriber: ProtocolBatchSubscriber, stop: asyncio.Event
) -> SpileError | None:
    """
    Run one worker to its end; its failure ends the others too.

    A worker that its guard stopped stays, unready, until the process is told to stop.
    """
    try:
        await _subscribe_and_wait(worker, health, subscriber, stop)
    except TooManyFailuresError as exc:
        # It stays up: what restarts dead processes would let it fail on, some records each time.
        health.failure = exc
        health.reasons()
        GUARD_TRIPPED.labels(worker.group).set(1)
        log.error("worker stopped by its guard", worker=worker.name, reason=str(exc))  # noqa: TRY400 - one line, no traceback
        await stop.wait()
        return exc
    except SpileError as exc:
        health.failure = exc
        log.error("worker failed", worker=worker.name, error_type=type(exc).__name__)  # noqa: TRY400 - one line, no traceback
        if worker.way_out and isinstance(exc, RejectedError) and exc.code == _OFFSET_GONE:
            return RejectedError(f"{exc}; {worker.way_out}", code=exc.code)
        return exc
    else:
        return None
    finally:
        stop.set()


async def _subscribe_and_wait(
    worker: Worker, health: Health, subscriber: ProtocolBatchSubscriber, stop: asyncio.Event
) -> None:
    backoff = Backoff()
    handle = health.watch(worker.handle)
    attempt = away = 0
    while not stop.is_set():
        finished = health.finished
        try:
            with _unwrapped():
                subscription = await _subscribed(worker, handle, subscriber, stop)
        except RetriableError as exc:
            if not worker.patient:
                raise
            away += 1
            log.warning("worker cannot start yet", worker=worker.name, reason=str(exc))
            await _wait(stop, backoff.delay(away))
            continue
        away = 0
        if subscription is None:
            return
        if worker.bind is not None:
            worker.bind(subscription)
        log.info("worker reads", worker=worker.name, group=worker.group)
        try:
            await _until_ended(health, subscription, stop)
        except ClosedError as exc:
            # The sink stands elsewhere than this reader thought: join anew and start from there.
            attempt = 1 if health.finished > finished else attempt + 1
            if attempt > _REREADS:
                raise
            log.warning("offsets are read anew", worker=worker.name, reason=str(exc))
            await _wait(stop, backoff.delay(attempt))


async def _wait(stop: asyncio.Event, limit_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            await stop.wait()


async def _subscribed(
    worker: Worker, handle: BatchHandler, subscriber: ProtocolBatchSubscriber, stop: asyncio.Event
) -> ProtocolSubscription | None:
    """Connect and subscribe; None when told to stop before that was done."""
    async with asyncio.TaskGroup() as tasks:
        subscribing = tasks.create_task(
            _subscribe(worker, handle, subscriber), name=f"subscribe {worker.name}"
        )
        stopping = tasks.create_task(stop.wait())
        await asyncio.wait([subscribing, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        subscribing.cancel()
    return None if subscribing.cancelled() else subscribing.result()


async def _subscribe(
    worker: Worker, handle: BatchHandler, subscriber: ProtocolBatchSubscriber
) -> ProtocolSubscription:
    return await subscriber.subscribe_batches(
        worker.topics,
        worker.group,
        handle,
        offsets=worker.offsets,
        manual_commit=worker.manual_commit,
    )


async def _until_ended(
    health: Health, subscription: ProtocolSubscription, stop: asyncio.Event
) -> None:
    """Wait until the subscription ends, or close it when told to stop or when it stands still."""
    stalled: HandlerStalledError | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(follow(health, subscription, every_s=_PROBE_S))
            stopping = tasks.create_task(stop.wait())
            ending = tasks.create_task(_ended(subscription))
            watched = [stopping, ending, following]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                stalled = following.result()
            await subscription.close()
            await ending
            following.cancel()
            stopping.cancel()
    finally:
        await subscription.close()
    if subscription.failure is not None:
        raise subscription.failure
    if stalled is not None:
        raise stalled


async def _ended(subscription: ProtocolSubscription) -> None:
    with contextlib.suppress(SpileError):
        await subscription.wait()


@contextlib.contextmanager
def _signals(stop: asyncio.Event) -> Generator[None]:
    """Turn SIGTERM and SIGINT into a stop while this lasts."""
    loop = asyncio.get_running_loop()
    names = (signal.SIGTERM, signal.SIGINT)

    def caught(name: signal.Signals) -> None:
        log.info("signal received, draining", signal=name.name)
        stop.set()

    for name in names:
        loop.add_signal_handler(name, caught, name)
    try:
        yield
    finally:
        for name in names:
            loop.remove_signal_handler(name)


@contextlib.contextmanager
def _unwrapped() -> Generator[None]:
    """Raise the first error that task groups wrap."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("tuple[BaseException, ...]", error.exceptions)[0]
    return error


def run_process(main: Callable[[], Coroutine[None, None, None]], *, debug: bool = False) -> int:
    """
    Run a coroutine as the whole process and return its exit code.

    0 after a clean end, 1 with one line for an error of ours. A stalled handler ends the process at
    once with code 70, since its thread may never return.

    Args:
        main: What to run.
        debug: Let errors of ours through, with their traceback.
    """
    try:
        asyncio.run(_guarded(main))
    except SpileError as exc:
        if debug:
            raise
        print(f"error: {_clean(exc)}", file=sys.stderr)  # noqa: T201 - the last line of the process
        return EXIT_FAILURE
    return 0


async def _guarded(main: Callable[[], Coroutine[None, None, None]]) -> None:
    try:
        await main()
    except HandlerStalledError as exc:
        print(f"error: {_clean(exc)}", file=sys.stderr, flush=True)  # noqa: T201 - the same
        sys.stdout.flush()
        os._exit(EXIT_STALLED)


def _clean(error: SpileError) -> str:
    """Return what an error says, without secrets: it may quote what a server answered."""
    return default_redactor().scrub(str(error))
