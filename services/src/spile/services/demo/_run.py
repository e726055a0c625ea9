"""The demonstration, step by step."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.markup import escape

from spile.adapters.kafka import KafkaSettings, create_publisher
from spile.adapters.publishing import EventPublisher
from spile.services.demo._archive import Archived, look
from spile.services.demo._parts import (
    ApplyTopics,
    log_to,
    make_topics,
    open_folder,
    open_kafka,
    open_worker,
)
from spile.services.demo._screen import Screen
from spile.services.demo._signals import cancelled_by_signals, ended_by_signals
from spile.services.demo._store import StoreWatch, audit
from spile.services.demo._summary import Places, Summary, spreads
from spile.services.demo._traffic import LANES, Stopwatch, past_traffic, play
from spile.services.demo._worker import WorkerProcess
from spile.services.importing import import_files, publish_through, recorded_session
from spile.services.runtime import load_process_settings
from spile.spi import BrokerUnavailableError
from spile.testkit.scenarios import GeneratedEvent, MockEventGenerator
from spile.topics import Catalogue

_SERVICE = "agent"
_CATCH_UP_LIMIT_S = 30.0
_POLL_S = 0.02
_ARCHIVE_POLL_S = 0.3
_REFRESH_S = 0.1
_SEEDS = 1_000_000


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
    settings = load_process_settings().kafka
    seed = random.SystemRandom().randrange(_SEEDS) if options.seed is None else options.seed
    screen = Screen()
    screen.say(f"[bold]spile demo[/]  [dim]seed {seed}[/]")
    try:
        with contextlib.ExitStack() as stack:
            good, places = _run(stack, screen, options, seed, settings, catalogue, apply_topics)
    except KeyboardInterrupt:
        gone = "processes are gone, data were kept" if options.keep_data else "all of it is gone"
        screen.say(f" stopped before the end; {gone}")
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
    stack.enter_context(ended_by_signals())
    folder = stack.enter_context(open_folder(keep=options.keep_data))
    log_to(stack, folder / "demo.log")
    bootstrap, own = open_kafka(stack, screen, folder, keep=options.keep_data)
    settings = settings.model_copy(update={"bootstrap_servers": bootstrap})
    make_topics(screen, settings, catalogue, apply_topics)
    worker = open_worker(stack, screen, folder, bootstrap, keep=options.keep_data)
    watch = stack.enter_context(StoreWatch(worker.store))
    places = Places(
        bootstrap_servers=bootstrap,
        store=str(worker.store),
        archive=str(worker.archive),
        worker=worker.url,
        folder=str(folder),
        kept=options.keep_data,
        own_broker=own,
    )

    async def work() -> bool:
        publisher = create_publisher(settings, catalogue, service=_SERVICE)
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
        with cancelled_by_signals(self._stop):
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
                f"recorded session of an agent imported: {report.published} events,"
                f" {sum(tool.count for tool in report.tools)} tool calls"
            )

    async def _generate(self) -> None:
        rate, seconds = self._options.rate, self._options.seconds
        count = max(1, round(rate * seconds))
        made = past_traffic(self._seed, count)
        loop = asyncio.get_running_loop()
        with self._screen.step("publishing made-up workflows") as say:
            async with asyncio.TaskGroup() as tasks:
                telling = tasks.create_task(self._tell(say, count))
                started = loop.time()
                await play(made, self._stopwatch, self._due)
                took_s = loop.time() - started
                telling.cancel()
            self._reached_rate = round(count / max(took_s, count / rate), 1)
            say(
                f"{count:,} events of {self._workflows} made-up workflows published,"
                f" {self._reached_rate:,.0f} a second"
            )

    def _due(self, number: int, made: GeneratedEvent) -> float:
        self._workflows += made.causation_id is None
        return number / self._options.rate

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
        with self._screen.step("waiting for the archive, which closes its files") as say:
            archived = await self._archived()
            say(
                "the archive has all of it, and proves it"
                if archived.is_whole
                else "the archive did not catch up within 30 s"
                if archived.missing
                else "the archive is not whole"
            )
        summary = await asyncio.to_thread(self._summary, archived)
        self._screen.show(summary)
        if summary.audit.lost and not self._places.own_broker:
            self._screen.say(
                " Another persistence worker on this Kafka shares the work and has a store of its"
                " own: is one running?"
            )
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
                    f"the workers' process ended; its log ends:\n{self._worker.log_tail()}"
                )
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _archived(self) -> Archived:
        """Look at the archive until every acknowledged event is there, or for too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _CATCH_UP_LIMIT_S
        wanted = self._stopwatch.acknowledged_ids()
        while True:
            found = await asyncio.to_thread(look, self._worker.archive, wanted)
            if not found.missing or not self._worker.alive or loop.time() > deadline:
                return found
            await asyncio.sleep(_ARCHIVE_POLL_S)

    def _summary(self, archived: Archived) -> Summary:
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
            archived=archived,
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
        traffic = MockEventGenerator(seed=self._seed + 1, start=start).generate_traffic(lanes=LANES)

        def due(_: int, made: GeneratedEvent) -> float:
            self._workflows += made.causation_id is None
            return (made.event.timestamp - start).total_seconds()

        with self._screen.console.status("") as status:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(play(traffic, self._stopwatch, due))
                while True:
                    status.update(
                        f"{LANES} agents at work: {self._stopwatch.acknowledged:,} events"
                        f" acknowledged, {len(self._watch.seen):,} persisted; Ctrl-C ends it"
                    )
                    await asyncio.sleep(_REFRESH_S)

    def _stop(self, task: asyncio.Task[Any]) -> None:
        """End what is going on: the staying, or all of it."""
        staying = self._staying
        (task if staying is None or staying.done() else staying).cancel()


def _say_where(screen: Screen, places: Places) -> None:
    screen.say()
    screen.say("[bold] Look at it[/] from another terminal:")
    kafka, spile = f"SPILE_BOOTSTRAP_SERVERS={places.bootstrap_servers}", spile_command()
    for line in (
        f"SPILE_STORE={places.store} {spile} events tail",
        f"SPILE_STORE={places.store} {spile} events count --by tool_name",
        f"SPILE_ARCHIVE={places.archive} {spile} archive ls",
        f"curl {places.worker}/metrics",
        f"{kafka} {spile} topics plan",
        f"{kafka} {spile} import FILE",
        f"{kafka} {spile} dlq list",
        f"{kafka} SPILE_STORE={places.store} SPILE_ARCHIVE={places.archive} {spile} audit",
    ):
        screen.say(f"   {escape(line)}")
    screen.say()


def _say_what_next(screen: Screen, places: Places, seed: int) -> None:
    spile = spile_command()
    screen.say()
    if places.kept:
        screen.say(escape(f" Kept in {places.folder}: events.db, archive, worker.log, demo.log"))
        screen.say(escape(f"   SPILE_STORE={places.store} {spile} events query --tool run_tests"))
    else:
        screen.say("[dim] Everything was cleaned up; --keep-data keeps the store and the logs.[/]")
    screen.say()
    screen.say("[bold] Next[/]")
    commands = {
        f"{spile} demo --stay": "keep agents at work, look around",
        f"{spile} demo --seed {seed} --rate 1000": "the same events, faster",
        f"{spile} import --dry-run ~/.claude/projects": "what your own agents left",
        f'eval "$({spile} up)"': "a Kafka that stays",
    }
    width = max(map(len, commands))
    for command, what in commands.items():
        screen.say(f"   {escape(command):<{width}} [dim]{what}[/]")


def spile_command() -> str:
    """Return how to call `spile` in this shell: by its path, where none is on PATH."""
    if shutil.which("spile") is not None:
        return "spile"
    beside = Path(sys.executable).parent / "spile"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))
