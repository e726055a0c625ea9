"""`spile store`: looking after the event store."""

from __future__ import annotations

import asyncio

import click

from spile.services.persistence import SqliteEventStore, store_path
from spile.services.runtime import store_location


@click.group()
def store() -> None:
    """Look after the event store of SPILE_STORE."""


@store.command("reset-offsets")
@click.option("--topic", help="Full name; all topics when not given.")
def reset_offsets(topic: str | None) -> None:
    """
    Forget where reading goes on, after a topic was deleted and made anew.

    Stop the worker first. The events stay; a worker then starts at the beginning of the log, and
    what it reads again is known by its event id.
    """
    path = store_path(store_location())
    if not path.is_file():
        raise click.ClickException(f"there is no store {path}")

    async def reset() -> int:
        async with SqliteEventStore(path) as opened:
            return await opened.reset_offsets(topic)

    forgotten = asyncio.run(reset())
    if topic is not None and not forgotten:
        raise click.ClickException(f"the store has no offsets of {topic}")
    click.echo(f"forgot the offsets of {forgotten} partition{'' if forgotten == 1 else 's'}")
