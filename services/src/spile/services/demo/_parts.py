"""The real parts of the demonstration: Kafka, topics, worker, folder."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Generator, Mapping
from pathlib import Path
from typing import Any

from spile.adapters.kafka import KafkaSettings
from spile.services.demo._screen import Screen
from spile.services.demo._worker import WorkerProcess
from spile.services.runtime import configure_logging
from spile.testkit.broker import KAFKA_VERSION, BrokerSettings, EmbeddedBroker
from spile.topics import Catalogue, TopicSpec

ApplyTopics = Callable[[KafkaSettings, Mapping[str, TopicSpec]], Awaitable[tuple[list[str], Any]]]


def open_kafka(
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


def make_topics(
    screen: Screen, settings: KafkaSettings, catalogue: Catalogue, apply_topics: ApplyTopics
) -> None:
    wanted = catalogue.topics(settings.environment)
    with screen.step("making the topics of the catalogue") as say:
        done, _ = asyncio.run(_awaited(apply_topics(settings, wanted)))
        say(f"{len(wanted)} topics as the catalogue says, {len(done)} of them made or changed")


async def _awaited(result: Awaitable[tuple[list[str], Any]]) -> tuple[list[str], Any]:
    return await result


def open_worker(
    stack: contextlib.ExitStack, screen: Screen, folder: Path, bootstrap: str, *, keep: bool
) -> WorkerProcess:
    with screen.step("starting the workers") as say:
        worker = stack.enter_context(WorkerProcess(folder, bootstrap, scratch=not keep))
        worker.wait_until_ready()
        say(f"persistence and archiver ready, process {worker.pid}")
    return worker


def log_to(stack: contextlib.ExitStack, path: Path) -> None:
    """Keep the screen free of logs while this lasts."""
    stack.callback(configure_logging, "warning")
    stream = stack.enter_context(path.open("w", encoding="utf-8"))
    configure_logging("info", "json", stream=stream)


@contextlib.contextmanager
def open_folder(*, keep: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="spile-demo-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
