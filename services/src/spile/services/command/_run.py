"""`spile run`: the workers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import click

from spile.adapters.bus import BusAdapter
from spile.adapters.kafka import load_settings
from spile.adapters.registry import SchemaFraming
from spile.adapters.wire import Opener
from spile.services.archiver import archiver_worker
from spile.services.archiver.stores import ArchiveSettings
from spile.services.command._catalogue import chosen_catalogue
from spile.services.persistence import persistence_worker
from spile.services.runtime import (
    Worker,
    WorkerSettings,
    configure_logging,
    load_process_settings,
    open_kafka,
    run_process,
    run_workers,
)
from spile.topics import Catalogue
from spile.topics.redaction import default_redactor

Factory: TypeAlias = Callable[
    [WorkerSettings, Catalogue, BusAdapter, Opener], AbstractAsyncContextManager[Worker]
]


def _persistence(
    settings: WorkerSettings, catalogue: Catalogue, bus: BusAdapter, opener: Opener
) -> AbstractAsyncContextManager[Worker]:
    return persistence_worker(
        settings,
        catalogue=catalogue,
        environment=bus.environment,
        dead_letters=bus.dead_letters,
        opener=opener,
    )


def _archiver(
    _settings: WorkerSettings, _catalogue: Catalogue, bus: BusAdapter, _opener: Opener
) -> AbstractAsyncContextManager[Worker]:
    return archiver_worker(
        load_settings(ArchiveSettings), environment=bus.environment, publish=bus.publish_record
    )


_WORKERS: dict[str, Factory] = {"archiver": _archiver, "persistence": _persistence}


@click.command()
@click.argument("names", metavar="WORKER...", nargs=-1, required=True)
@click.pass_context
def run(context: click.Context, names: tuple[str, ...]) -> None:
    """
    Run workers in this process: archiver, persistence, or all.

    Ends at SIGTERM or Ctrl-C after finishing and committing what is in hand: 0. Ends with 1 when a
    worker fails, with 70 when a handler is stuck.
    """
    if unknown := sorted(set(names) - {*_WORKERS, "all"}):
        raise click.UsageError(
            f"no worker {', '.join(unknown)}: there are {', '.join(_WORKERS)} and all"
        )
    chosen = list(_WORKERS) if "all" in names else list(dict.fromkeys(names))
    process = load_process_settings()
    settings = process.worker
    redactor = process.redaction.redactor() or default_redactor()
    configure_logging(settings.log_level, settings.log_format, redactor=redactor)
    catalogue = chosen_catalogue()

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            bus = await stack.enter_async_context(
                open_kafka(process.kafka, settings, group=chosen[0], scrub=redactor.scrub)
            )
            registry = process.registry.open()
            if registry is not None:
                await stack.enter_async_context(registry)
            opener = Opener(registry and SchemaFraming(registry))
            workers = [
                await stack.enter_async_context(_WORKERS[name](settings, catalogue, bus, opener))
                for name in chosen
            ]
            await run_workers(workers, bus, settings)

    context.exit(run_process(work, debug=settings.debug))
