"""`spile generate`: publish made-up workflows, or print them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import click

from spile.adapters.publishing import EventEncoder, EventPublisher
from spile.services.command._catalogue import CatalogueSettings, chosen_catalogue
from spile.services.command._publisher import open_publisher
from spile.spi import ConfigurationError, InvalidTopicError, SpileError, UnknownTopicError
from spile.testkit.scenarios import (
    GeneratedEvent,
    MockEventGenerator,
    RelatedEvent,
    WorkflowScenario,
    with_related,
)
from spile.topics import kebab

_ALL = "all"
_COUNT = 100
_MOST = 1_000_000_000
_SEEDS = 1_000_000
_LANES = 8
_UNHURRIED = 20_000.0  # events a second, when nothing sets a pace: more than a broker here takes
_EVENTS_PER_LANE_S = 0.3  # less than any scenario has, so that no event is in the future
_MARGIN_S = 600
_BETWEEN = timedelta(seconds=5)
_BATCH = 500
_BATCHES = 10
_TICK_S = 0.02
_NAMED = 5

_Made: TypeAlias = GeneratedEvent | RelatedEvent
_Send: TypeAlias = Callable[[Sequence[_Made]], Awaitable[Sequence[bool]]]


class _Positive(click.ParamType[float]):
    """A number above 0; infinity and NaN are none."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number above 0."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or number <= 0:
            self.fail(f"{value!r} is no number above 0", param, ctx)
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """
    What is asked for.

    Attributes:
        scenario: None for workflows of all kinds at once.
        count: How many events; None for as many as the time allows, or one whole workflow.
        duration_s: Seconds after which to stop; None when the count decides.
        rate: Events per second; None for as fast as they are acknowledged.
        start: When the first event happens; None ends the events a little before now.
        related: Whether the session, episode and telemetry of the workflows are there too.
    """

    scenario: WorkflowScenario | None
    count: int | None
    duration_s: float | None
    rate: float | None
    seed: int
    start: datetime | None
    related: bool

    def events(self) -> Iterator[_Made]:
        """Make the events, without end where only the time ends them."""
        start = self.start or self._past()
        generator = MockEventGenerator(seed=self.seed, start=start)
        made: Iterator[GeneratedEvent]
        if self.scenario is None:
            made = generator.generate_traffic(lanes=_LANES)
        elif self.count is None and self.duration_s is None:
            made = generator.generate_workflow(self.scenario)
        else:
            made = _repeated(generator, self.scenario, start)
        whole: Iterator[_Made] = with_related(made) if self.related else made
        return itertools.islice(whole, self.count)

    def _past(self) -> datetime:
        """Return a start from which all events are over by now."""
        expected = float(self.count or _COUNT)
        if self.count is None and self.duration_s is not None:
            expected = self.duration_s * (self.rate or _UNHURRIED)
        lanes = _LANES if self.scenario is None else 1
        age_s = expected / lanes / _EVENTS_PER_LANE_S + _MARGIN_S
        try:
            return datetime.now(UTC) - timedelta(seconds=age_s)
        except OverflowError:
            raise click.UsageError("that many events would begin before the year 1") from None


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the events."""

    published: int = 0
    acknowledged: int = 0
    failures: dict[str, str] = field(default_factory=dict[str, str])
    stopped: bool = False
    took_s: float = 0.0

    def fail(self, exc: SpileError) -> None:
        """Note why an event was not published; the first reason of each kind is kept."""
        self.failures.setdefault(type(exc).__name__, str(exc))


@click.command()
@click.option(
    "--scenario",
    type=click.Choice([*(one.value for one in WorkflowScenario), _ALL], case_sensitive=False),
    default=_ALL,
    show_default=True,
    help="Kind of work.",
)
@click.option(
    "--count",
    type=click.IntRange(1, _MOST),
    help=f"Events; default {_COUNT}, or one whole workflow of the one kind.",
)
@click.option("--duration", type=_Positive(), metavar="S", help="Seconds after which to stop.")
@click.option("--rate", type=_Positive(), metavar="N", help="Events per second.")
@click.option("--seed", type=click.IntRange(0), help="Makes the same events again.")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]),
    metavar="UTC",
    help="When the first event happens; by default, so that all is over by now.",
)
@click.option("--related", is_flag=True, help="Sessions, episodes and telemetry too.")
@click.option("--service", default="agent", show_default=True, help="Publish as this service.")
@click.option("--dry-run", is_flag=True, help="Print envelopes, one a line, and publish nothing.")
@click.pass_context
def generate(
    context: click.Context,
    *,
    scenario: str,
    start: datetime | None,
    seed: int | None,
    service: str,
    related: bool,
    dry_run: bool,
    **pace: Any,
) -> None:
    """
    Publish made-up workflows of agents to the Kafka of the SPILE_* settings.

    The topics must be there: `spile topics apply`. Without --rate as fast as they are acknowledged.
    The same seed gives events with the same ids, which a store keeps once; with --start they are
    the same to the byte. Ctrl-C stops once what is under way is acknowledged. Ends with 1 when an
    event was not acknowledged.
    """
    wish = _Wish(
        scenario=None if scenario == _ALL else WorkflowScenario(scenario),
        seed=random.SystemRandom().randrange(_SEEDS) if seed is None else seed,
        start=None if start is None else start.replace(tzinfo=UTC),
        count=_count(scenario, **pace),
        duration_s=pace["duration"],
        rate=pace["rate"],
        related=related,
    )
    tally = _Tally()
    try:
        asyncio.run(_print_all(wish, tally, service) if dry_run else _publish(wish, tally, service))
    except (ConfigurationError, InvalidTopicError) as exc:
        raise click.UsageError(str(exc)) from exc
    _report(wish, tally, dry_run=dry_run)
    if UnknownTopicError.__name__ in tally.failures and (advice := _advice(service)):
        click.echo(advice, err=True)
    context.exit(0 if tally.acknowledged == tally.published else 1)


def _count(
    scenario: str, *, count: int | None, duration: float | None, rate: float | None
) -> int | None:
    """Return how many events there are to be; None where only the time or the workflow ends."""
    if count is None and duration is not None and rate is not None and duration * rate <= _MOST:
        return max(1, round(duration * rate))
    if count is None and duration is None and scenario == _ALL:
        return _COUNT
    return count


def _repeated(
    generator: MockEventGenerator, scenario: WorkflowScenario, start: datetime
) -> Iterator[GeneratedEvent]:
    """Make one workflow after another."""
    while True:
        for made in generator.generate_workflow(scenario, start=start):
            yield made
            start = made.timestamp
        start += _BETWEEN


async def _publish(wish: _Wish, tally: _Tally, service: str) -> None:
    async with open_publisher(service) as publisher:

        async def send(events: Sequence[_Made]) -> Sequence[bool]:
            return await _send(publisher, events, tally)

        await _play(wish, tally, send)


async def _send(
    publisher: EventPublisher, events: Sequence[_Made], tally: _Tally
) -> Sequence[bool]:
    """Publish a batch; when it is refused as a whole, each of its events."""
    outgoing = [made.outgoing() for made in events]
    try:
        answers = await publisher.publish_many(outgoing)
    except SpileError as exc:
        tally.fail(exc)
        if len(outgoing) == 1:
            return [False]
    else:
        if not all(answers):
            tally.failures.setdefault("not confirmed", "publish returned False")
        return answers
    return [answer for made in events for answer in await _send(publisher, [made], tally)]


async def _print_all(wish: _Wish, tally: _Tally, service: str) -> None:
    encoder = EventEncoder(
        chosen_catalogue((service,)),
        environment=CatalogueSettings().environment,
        service=service,
    )

    async def send(events: Sequence[_Made]) -> Sequence[bool]:
        lines: list[bytes] = []
        for made in events:
            try:
                lines.append(encoder.encode(made.outgoing()).record.value or b"")
            except SpileError as exc:
                tally.fail(exc)
        click.echo(b"\n".join(lines), nl=bool(lines))
        return [True] * len(lines) + [False] * (len(events) - len(lines))

    try:
        await _play(wish, tally, send)
    except ExceptionGroup as group:
        # The reader of the pipe left; the command line knows what to do then.
        if group.subgroup(BrokenPipeError) is None:
            raise
        raise BrokenPipeError from None


async def _play(wish: _Wish, tally: _Tally, send: _Send) -> None:
    """Send events in batches at the wished pace, some batches under way at once."""
    room = asyncio.Semaphore(_BATCHES)
    events = wish.events()

    async def one(batch: Sequence[_Made]) -> None:
        try:
            answers = await send(batch)
        finally:
            room.release()
        tally.acknowledged += sum(answers)

    started = time.perf_counter()
    async with _stop_by_signals() as stop, asyncio.TaskGroup() as tasks:
        while not stop.is_set():
            elapsed_s = time.perf_counter() - started
            over = wish.duration_s is not None and elapsed_s >= wish.duration_s
            due = _BATCH
            if wish.rate is not None:
                # What was due before the time was over is still sent.
                due = min(_BATCH, 1 + math.floor(elapsed_s * wish.rate) - tally.published)
            if over and (wish.rate is None or due <= 0 or due == _BATCH):
                break
            if due <= 0:
                await _pause(stop, wish, tally.published, started)
                continue
            batch = list(itertools.islice(events, due))
            if not batch:
                break
            await room.acquire()
            tally.published += len(batch)
            tasks.create_task(one(batch))
            # Without a pace the events are made as fast as they are sent; others want a turn.
            await asyncio.sleep(0)
        tally.stopped = stop.is_set()
    tally.took_s = time.perf_counter() - started


async def _pause(stop: asyncio.Event, wish: _Wish, published: int, started: float) -> None:
    """Wait until the next event is due, or the end."""
    until = started + published / (wish.rate or math.inf)
    if wish.duration_s is not None:
        until = min(until, started + wish.duration_s)
    wait_s = max(until - time.perf_counter(), _TICK_S)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await stop.wait()


@contextlib.asynccontextmanager
async def _stop_by_signals() -> AsyncGenerator[asyncio.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; the second ends the process."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    names = (signal.SIGINT, signal.SIGTERM)
    with _restored(names):

        def on_signal() -> None:
            stop.set()
            for name in names:
                loop.remove_signal_handler(name)

        for name in names:
            loop.add_signal_handler(name, on_signal)
        try:
            yield stop
        finally:
            for name in names:
                loop.remove_signal_handler(name)


@contextlib.contextmanager
def _restored(names: Sequence[signal.Signals]) -> Generator[None]:
    handlers = {name: signal.getsignal(name) for name in names}
    try:
        yield
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)


def _advice(service: str) -> str:
    """Say which services have topics by the catalogue; empty when this one has."""
    services = chosen_catalogue().services
    if kebab(service) in map(kebab, services):
        return ""
    if not services:
        return f"the catalogue has no service {service}: add its services by `with_services`"
    return (
        f"the catalogue has no service {service}, so `spile topics apply` makes no topic for it:"
        f" say {' or '.join(f'--service {name}' for name in services[:_NAMED])}"
    )


def _report(wish: _Wish, tally: _Tally, *, dry_run: bool) -> None:
    """Say what was done: what repeats with the seed on stdout, the pace and failures on stderr."""
    if dry_run:
        click.echo(f"seed {wish.seed}: {tally.published:,} printed, none published", err=True)
    else:
        click.echo(
            f"seed {wish.seed}: {tally.published:,} published, {tally.acknowledged:,} acknowledged"
        )
    asked = "" if wish.rate is None else f", asked for {wish.rate:,.10g}"
    pace = tally.published / tally.took_s if tally.took_s else 0.0
    stopped = "stopped by a signal; " if tally.stopped else ""
    click.echo(f"{stopped}{pace:,.1f} events/s over {tally.took_s:,.2f} s{asked}", err=True)
    for kind, reason in tally.failures.items():
        click.echo(f"{kind}: {reason}", err=True)
