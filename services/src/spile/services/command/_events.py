"""`spile events`: what the store holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast, get_args

import click

from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._known import warn_types
from spile.services.command._options import Moment, event_type, plain
from spile.services.persistence import (
    EventFilter,
    GroupColumn,
    SqliteEventStore,
    StoredEvent,
    is_made,
    store_path,
)
from spile.services.runtime import store_location
from spile.topics import Catalogue

_FOLLOW_S = 0.25
_TAIL_BATCH = 1_000


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    moment = Moment()
    options = (
        click.option(
            "--type",
            "event_type",
            type=event_type,
            metavar="TYPE",
            help="Such as PRE_TOOL_USE; PreToolUse and plan.step_started are read too.",
        ),
        click.option("--service", help="Publishing service."),
        click.option("--session", "session_id", metavar="ID", help="Session id."),
        click.option("--tool", "tool_name", metavar="NAME", help="Tool name."),
        click.option("--correlation-id", type=click.UUID, help="Correlation id."),
        click.option(
            "--since", type=moment, help="Time (UTC unless it says), or age: 15m, 2h, 7d."
        ),
        click.option("--until", type=moment, help="The same; this moment is left out."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, one event per line."),
    )
    for option in reversed(options):  # the last one applied is listed first
        command = option(command)
    return command


@click.group()
def events() -> None:
    """Look at stored events; the store is that of SPILE_STORE, .spile/events.db by default."""


@events.command()
@_filters
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
def query(*, limit: int, as_json: bool, **filters: Any) -> None:
    """Print the newest events that fit, oldest first."""
    which = _which(limit=limit, **filters)

    async def read() -> Sequence[StoredEvent]:
        async with _store() as store:
            return await store.query(which)

    _print(asyncio.run(read()), as_json=as_json)


@events.command()
@_filters
@click.option("--by", type=click.Choice(get_args(GroupColumn)), help="Count per value.")
def count(*, by: str | None, as_json: bool, **filters: Any) -> None:
    """Count the events that fit."""
    which = _which(**filters)

    async def read() -> dict[str, int]:
        async with _store() as store:
            if by is None:
                return {"count": await store.count(which)}
            return dict(await store.count_by(which, cast("GroupColumn", by)))

    counts = asyncio.run(read())
    if as_json:
        click.echo(json.dumps(counts, ensure_ascii=False))
    elif by is None:
        click.echo(str(counts["count"]))
    else:
        width = max((len(str(number)) for number in counts.values()), default=0)
        for name, number in counts.items():
            click.echo(f"{number:>{width}}  {plain(name)}")


@events.command()
@_filters
@click.option(
    "--limit", type=click.IntRange(0), default=10, show_default=True, help="Events to begin with."
)
@click.option("--count", type=click.IntRange(min=1), help="End after this many events.")
@click.option("--follow/--no-follow", default=True, help="Wait for new events; the default.")
def tail(*, limit: int, count: int | None, follow: bool, as_json: bool, **filters: Any) -> None:
    """Print the events that were stored last, and new ones as they are stored; ends by Ctrl-C."""
    show = _Shown(count, as_json=as_json)
    asyncio.run(_tail(_which(**filters), limit, show, follow=follow))


def _which(**filters: Any) -> EventFilter:
    """Return what the options choose; warns of a type that the catalogue does not have."""
    which = EventFilter(**filters)
    if which.event_type is not None:
        warn_types([which.event_type])
    return which


class _Shown:
    """Prints events until there were enough."""

    def __init__(self, count: int | None, *, as_json: bool) -> None:
        self._left = count
        self._as_json = as_json

    @property
    def is_enough(self) -> bool:
        return self._left == 0

    def add(self, found: Sequence[StoredEvent]) -> None:
        if self._left is not None:
            found = found[: self._left]
            self._left -= len(found)
        _print(found, as_json=self._as_json)


async def _tail(which: EventFilter, limit: int, show: _Shown, *, follow: bool) -> None:
    if follow:
        await _appears(store_path(store_location()))
    async with _store() as store:
        last = await store.last_seq()
        if limit:
            # What fits may lie far back: the newest ones by time are what one expects to see.
            newest = await store.query(replace(which, limit=limit))
            show.add([event for event in newest if event.seq <= last])
        while follow and not show.is_enough:
            new = await store.query(replace(which, after_seq=last, limit=_TAIL_BATCH))
            if new:
                show.add(new)
                last = new[-1].seq
            else:
                await asyncio.sleep(_FOLLOW_S)


async def _appears(path: Path) -> None:
    """Wait for a store that a worker is about to make, so that the two may start side by side."""
    told = False
    while not await asyncio.to_thread(is_made, path):
        if not told:
            click.echo(f"waiting for {path}: `spile run persistence` makes it", err=True)
            told = True
        await asyncio.sleep(_FOLLOW_S)


def _store() -> SqliteEventStore:
    return SqliteEventStore(store_path(store_location()), read_only=True)


def _print(found: Sequence[StoredEvent], *, as_json: bool) -> None:
    for event in found:
        click.echo(_json(event) if as_json else _line(event))


def _line(event: StoredEvent) -> str:
    moment = event.happened_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    facts = [
        f"{name}={plain(value)}"
        for name, value in (("tool", event.tool_name), ("session", event.session_id))
        if value is not None
    ]
    service = plain(event.service)
    return "  ".join([moment, f"{event.event_type:<20}", service, str(event.event_id), *facts])


def _json(event: StoredEvent) -> str:
    return json.dumps(
        {
            "seq": event.seq,
            "topic": event.topic,
            "partition": event.partition,
            "offset": event.offset,
            "recorded_at": _iso(event.recorded_at),
            "key": None if event.key is None else event.key.decode(errors="replace"),
            "event": event.newest(_catalogue()),
        },
        ensure_ascii=False,
    )


@lru_cache(maxsize=1)
def _catalogue() -> Catalogue:
    return chosen_catalogue()


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
