"""The demonstration, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from spile.adapters.delivery import EventPublisher
from spile.adapters.kafka import KafkaSettings, create_publisher
from spile.services.demo._screen import Screen
from spile.services.demo._store import StoreWatch, audit
from spile.services.demo._summary import Places, Summary, spreads
from spile.services.demo._traffic import Stopwatch, play
from spile.services.demo._worker import WorkerProcess
from spile.services.importing import import_files, publish_through, recorded_session
from spile.services.runtime import configure_logging, load_worker_settings
from spile.spi import BrokerUnavailableError
from spile.testkit.broker import KAFKA_VERSION, BrokerSettings, EmbeddedBroker
from spile.testkit.scenarios import GeneratedEvent, MockEventGenerator
from spile.topics import Catalogue, TopicSpec

SERVICE = "agent"
_CATCH_UP_LIMIT_S = 30.0
_POLL_S = 0.02
_REFRESH_S = 0.1
_LANES = 8
_SEEDS = 1_000_000

ApplyTopics = Callable[[KafkaSettings, Mapping[str, TopicSpec]], Awaitable[tuple[list[str], Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """
    What a person chose.

    Attributes:
        rate: Made-up events per second.
        seconds: For how long.
        seed: Of the made-up events; None takes one by chance and tells it.
        json_file: Where to write the summary as JSON.
        stay: Go on slowly afterwards, until Ctrl-C.
        keep_data: Leave store, logs and the broker's data.
    """

    rate: float = 200.0
    seconds: float = 8.0
    seed: int | None = None
    json_file: Path | None = None
    stay: bool = False
    keep_data: bool = False


def run_demo(options: DemoOptions, catalogue: Catalogue, apply_topics: ApplyTopics) -> bool:
    """
    Run the demonstration; processes and folders are gone when this returns, however it ends.

    Args:
        options: What a person chose.
        catalogue: Topics and contracts, of the worker too.
        apply_topics: Makes the cluster's topics those of the catalogue.

    Returns:
        Whether all was acknowledged, nothing lost and nothing doubled.

    Raises:
        SpileError: A part could not be started, or failed.
        KeyboardInterrupt: It was stopped before the summary.
    """
    _, settings = load_worker_settings()
    seed = random.SystemRandom().randrange(_SEEDS) if options.seed is None else options.seed
    screen = Screen()
    screen.say(f"[bold]spile demo[/]  [dim]seed {seed}[/]")
    try:
        with contextlib.ExitStack() as stack:
            good, places = _run(stack, screen, options, seed, settings, catalogue, apply_topics)
    except KeyboardInterrupt:
        screen.say(" stopped; processes and temporary folders are gone")
        raise
    _say_what_next(screen, places, seed)
    return good


def _run(
    stack: contextlib.ExitStack,
    screen: Screen,
    options: DemoOptions,
    seed: int,
    settings: KafkaSettings,
    catalogue: Catalogue,
    apply_topics: ApplyTopics,
) -> tuple[bool, Places]:
    stack.enter_context(_ended_by_signals())
    folder = stack.enter_context(_folder(keep=options.keep_data))
    _log_to(stack, folder / "demo.log")
    bootstrap, own = _kafka(stack, screen, folder, keep=options.keep_data)
    settings = settings.model_copy(update={"bootstrap_servers": bootstrap})
    _topics(screen, settings, catalogue, apply_topics)
    worker = _worker(stack, screen, folder, bootstrap, keep=options.keep_data)
    watch = stack.enter_context(StoreWatch(worker.store))
    places = Places(
        bootstrap_servers=bootstrap,
        store=str(worker.store),
        worker=worker.url,
        folder=str(folder),
        kept=options.keep_data,
        own_broker=own,
    )

    async def work() -> bool:
        publisher = create_publisher(settings, catalogue, service=SERVICE)
        return await _Demo(options, seed, screen, places, worker, watch, publisher).run()

    try:
        return asyncio.run(work()), places
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _Demo:
    def __init__(
        self,
        options: DemoOptions,
        seed: int,
        screen: Screen,
        places: Places,
        worker: WorkerProcess,
        watch: StoreWatch,
        publisher: EventPublisher,
    ) -> None:
        self._options = options
        self._seed = seed
        self._screen = screen
        self._places = places
        self._worker = worker
        self._watch = watch
        self._stopwatch = Stopwatch(publisher=publisher)
        self._workflows = 0
        self._imported: frozenset[str] = frozenset()
        self._reached_rate = 0.0
        self._staying: asyncio.Task[None] | None = None

    async def run(self) -> bool:
        """Import, generate, wait, and tell; then stay, if that was asked for."""
        with _cancelled_by_signals(self._stop):
            async with self._stopwatch.publisher:
                await self._import()
                await self._generate()
                good = await self._conclude()
                if self._options.stay:
                    good = await self._stay()
        return good

    async def _import(self) -> None:
        with self._screen.step("importing a recorded session of a coding agent") as say:
            report = await import_files([recorded_session()], publish_through(self._stopwatch))
            if report.stopped is not None:
                raise BrokerUnavailableError(f"the import stopped: {report.stopped}")
            self._imported = frozenset(self._stopwatch.flights)
            say(
                f"recorded session of a coding agent imported: {report.published} events,"
                f" {sum(tool.count for tool in report.tools)} tool calls"
            )

    async def _generate(self) -> None:
        rate, seconds = self._options.rate, self._options.seconds
        count = max(1, round(rate * seconds))
        made = _past_events(self._seed, count)
        loop = asyncio.get_running_loop()
        with self._screen.step("publishing made-up workflows") as say:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(say, count))
                started = loop.time()
                await play(self._counted(made), self._stopwatch, lambda number, _: number / rate)
                took_s = loop.time() - started
                telling.cancel()
            self._reached_rate = round(count / max(took_s, count / rate), 1)
            say(
                f"{count:,} events of {self._workflows} made-up workflows published,"
                f" {self._reached_rate:,.0f} a second"
            )

    def _counted(self, events: list[GeneratedEvent]) -> list[GeneratedEvent]:
        self._workflows += sum(made.causation_id is None for made in events)
        return events

    async def _tell(self, say: Callable[[str], None], count: int) -> None:
        """Show how far it is, again and again; ends by cancelling only."""
        while True:
            before = len(self._imported)
            say(
                f"{len(self._stopwatch.flights) - before:,} of {count:,} published,"
                f" {self._stopwatch.acknowledged - before:,} acknowledged,"
                f" {max(0, len(self._watch.seen) - before):,} persisted"
            )
            await asyncio.sleep(_REFRESH_S)

    async def _conclude(self) -> bool:
        """Wait for the store, judge, print and write the summary."""
        with self._screen.step("waiting for the store") as say:
            done = await self._caught_up()
            say("the store has all of it" if done else "the store did not catch up within 30 s")
        summary = await asyncio.to_thread(self._summary)
        self._screen.show(summary)
        if self._options.json_file is not None:
            text = json.dumps(summary.as_json(), indent=2, ensure_ascii=False)
            self._options.json_file.write_text(f"{text}\n", encoding="utf-8")
        return summary.is_good

    async def _caught_up(self) -> bool:
        """
        Wait until every acknowledged event was seen in the store; False when it takes too long.

        Raises:
            BrokerUnavailableError: The worker ended, or the store cannot be read.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CATCH_UP_LIMIT_S
        wanted = set(self._stopwatch.acknowledged_ids())
        while not wanted <= self._watch.seen.keys():
            if self._watch.failure is not None:
                raise BrokerUnavailableError(f"the store cannot be read: {self._watch.failure}")
            if not self._worker.alive:
                raise BrokerUnavailableError(
                    f"the persistence worker ended; its log ends:\n{self._worker.log_tail()}"
                )
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _summary(self) -> Summary:
        watched = self._stopwatch
        acknowledged = watched.acknowledged_ids()
        to_acknowledged, to_persisted = spreads(
            watched.flights, self._watch.seen, skip=self._imported
        )
        return Summary(
            seed=self._seed,
            rate=self._options.rate,
            seconds=self._options.seconds,
            reached_rate=self._reached_rate,
            workflows=self._workflows,
            imported=len(self._imported),
            published=len(watched.flights),
            acknowledged=len(acknowledged),
            audit=audit(self._worker.store, acknowledged),
            to_acknowledged=to_acknowledged,
            to_persisted=to_persisted,
            failures=watched.failures,
            steps=tuple(self._screen.steps),
            places=self._places,
        )

    async def _stay(self) -> bool:
        """Play agents in real time until a signal; then judge once more."""
        _say_where(self._screen, self._places)
        async with asyncio.TaskGroup() as tasks:
            self._staying = tasks.create_task(self._play_on())
        self._screen.say()
        return await self._conclude()

    async def _play_on(self) -> None:
        start = datetime.now(UTC)
        traffic = MockEventGenerator(seed=self._seed + 1, start=start).generate_traffic(
            lanes=_LANES
        )

        def due(_: int, made: GeneratedEvent) -> float:
            self._workflows += made.causation_id is None
            return (made.event.timestamp - start).total_seconds()

        with self._screen.console.status("") as status:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(play(traffic, self._stopwatch, due))
                while True:
                    status.update(
                        f"{_LANES} agents at work: {self._stopwatch.acknowledged:,} events"
                        f" acknowledged, {len(self._watch.seen):,} persisted; Ctrl-C ends it"
                    )
                    await asyncio.sleep(_REFRESH_S)

    def _stop(self, task: asyncio.Task[Any]) -> None:
        """End what is going on: the staying, or all of it."""
        staying = self._staying
        (task if staying is None or staying.done() else staying).cancel()


def _past_events(seed: int, count: int) -> list[GeneratedEvent]:
    """
    Make events whose own times end about now.

    They are published faster than agents live, so they must have begun in the past.
    """

    def made(start: datetime) -> list[GeneratedEvent]:
        traffic = MockEventGenerator(seed=seed, start=start).generate_traffic(lanes=_LANES)
        return list(itertools.islice(traffic, count))

    now = datetime.now(UTC)
    return made(now - (made(now)[-1].event.timestamp - now))


def _kafka(
    stack: contextlib.ExitStack, screen: Screen, folder: Path, *, keep: bool
) -> tuple[str, bool]:
    """Return where Kafka is, and whether it was started here."""
    if given := BrokerSettings().bootstrap_servers:
        with screen.step("") as say:
            say(f"using the Kafka of SPILE_BOOTSTRAP_SERVERS at {given}")
        return given, False
    with screen.step("starting Kafka (the first time it is downloaded)") as say:
        broker = stack.enter_context(EmbeddedBroker(data=folder / "kafka" if keep else None))
        say(f"Kafka {KAFKA_VERSION} started at {broker.bootstrap_servers}")
    return broker.bootstrap_servers, True


def _topics(
    screen: Screen, settings: KafkaSettings, catalogue: Catalogue, apply_topics: ApplyTopics
) -> None:
    wanted = catalogue.topics(settings.environment)
    with screen.step("making the topics of the catalogue") as say:
        done, _ = asyncio.run(_awaited(apply_topics(settings, wanted)))
        say(f"{len(wanted)} topics as the catalogue says, {len(done)} of them made or changed")


async def _awaited(result: Awaitable[tuple[list[str], Any]]) -> tuple[list[str], Any]:
    return await result


def _worker(
    stack: contextlib.ExitStack, screen: Screen, folder: Path, bootstrap: str, *, keep: bool
) -> WorkerProcess:
    with screen.step("starting the persistence worker") as say:
        worker = stack.enter_context(WorkerProcess(folder, bootstrap, scratch=not keep))
        worker.wait_until_ready()
        say(f"persistence worker ready, process {worker.pid}")
    return worker


def _say_where(screen: Screen, places: Places) -> None:
    screen.say()
    screen.say("[bold] Look at it[/] from another terminal:")
    for line in (
        f"SPILE_STORE={places.store} spile events tail",
        f"SPILE_STORE={places.store} spile events count --by tool_name",
        f"curl {places.worker}/metrics",
        f"SPILE_BOOTSTRAP_SERVERS={places.bootstrap_servers} spile topics plan",
        f"SPILE_BOOTSTRAP_SERVERS={places.bootstrap_servers} spile import FILE",
    ):
        screen.say(f"   {escape(line)}")
    screen.say()


def _say_what_next(screen: Screen, places: Places, seed: int) -> None:
    screen.say()
    if places.kept:
        screen.say(escape(f" Kept in {places.folder}: events.db, worker.log, demo.log"))
        screen.say(escape(f"   SPILE_STORE={places.store} spile events query --tool run_tests"))
    else:
        screen.say("[dim] Everything was cleaned up; --keep-data keeps the store and the logs.[/]")
    screen.say()
    screen.say("[bold] Next[/]")
    for command, what in (
        ("spile demo --stay", "keep agents at work, look around"),
        (f"spile demo --seed {seed} --rate 1000", "the same events, faster"),
        ("spile import --dry-run ~/.claude/projects", "what your own agents left"),
        ('eval "$(spile up)"', "a Kafka that stays"),
    ):
        screen.say(f"   {command:<43}[dim]{what}[/]")


def _log_to(stack: contextlib.ExitStack, path: Path) -> None:
    """Keep the screen free of logs while this lasts."""
    stack.callback(configure_logging, "warning")
    stream = stack.enter_context(path.open("w", encoding="utf-8"))
    configure_logging("info", "json", stream=stream)


@contextlib.contextmanager
def _folder(*, keep: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="spile-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ended_by_signals() -> Generator[None]:
    """Make SIGTERM and SIGHUP end this as Ctrl-C does, so that everything is cleaned up."""

    def interrupt(number: int, frame: object) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = {name: signal.signal(name, interrupt) for name in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextlib.contextmanager
def _cancelled_by_signals(stop: Callable[[asyncio.Task[Any]], None]) -> Generator[None]:
    """Call `stop` with the running task on SIGINT, SIGTERM and SIGHUP while this lasts."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - this runs inside a coroutine
    names = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {name: signal.getsignal(name) for name in names}
    for name in names:
        loop.add_signal_handler(name, stop, task)
    try:
        yield
    finally:
        for name in names:
            loop.remove_signal_handler(name)
            signal.signal(name, handlers[name])
