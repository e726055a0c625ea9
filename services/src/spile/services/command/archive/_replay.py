"""`spile archive replay` and `restore`: records of an archive on their way back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import click

from spile.adapters.kafka import KafkaAdmin, KafkaSender, KafkaSettings, load_settings
from spile.adapters.registry import RegistrySettings, SchemaFraming
from spile.adapters.wire import Opener
from spile.services.archiver.reading import (
    ArchiveIndex,
    Pace,
    Progress,
    Replay,
    ReplayTarget,
    Selection,
    TopicTarget,
    replay,
)
from spile.services.archiver.stores import ArchiveStore
from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._options import plain
from spile.services.command.archive._options import (
    environment,
    full_name,
    opened_archive,
    progress_bar,
    record_filters,
    require_topics,
    selection,
)
from spile.services.command.archive._store import StoreTarget
from spile.services.persistence import Decoder, SqliteEventStore, is_stored, store_path
from spile.services.runtime import configure_logging

_SHOWN = 20
_REASONS = 10

OpenTarget: TypeAlias = AbstractAsyncContextManager[ReplayTarget | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayJob:
    """
    What is replayed, and how.

    Attributes:
        archive: From where.
        which: Which records.
        where: Names the target.
        into_store: Whether that is an event store, which takes the topics that the persistence
            worker reads and no others.
        rate: Most records a second.
        limit: Most records.
        resume: File to remember in what was sent.
    """

    archive: ArchiveStore
    which: Selection
    where: str
    into_store: bool = False
    rate: float | None = None
    limit: int | None = None
    resume: Path | None = None

    def description(self, servers: str) -> str:
        """
        Return what makes two runs the same job, in the same words every time.

        Args:
            servers: Of the cluster, separated by commas: what one cluster has another one lacks.
        """
        which = self.which
        facts = {
            "topics": sorted(which.topics),
            "partitions": sorted(which.partitions),
            "since": which.since_ms,
            "until": which.until_ms,
            "types": sorted(which.event_types),
            "keys": sorted(key.hex() for key in which.keys),
        }
        chosen = {name: value for name, value in facts.items() if value not in (None, [])}
        cluster = ",".join(sorted(one.strip() for one in servers.split(",")))
        return f"{json.dumps(chosen)} of {self.archive.place} to {self.where} at {cluster}"


RESUME = click.option(
    "--resume",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Remember here what was sent, and go on from it; for topics.",
)
RATE = click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Most records a second."
)
WORKER = "the persistence worker"
LIVE_READER = "a reader of the live topic"
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.command("replay")
@record_filters
@click.option("--to", "to_topic", metavar="TOPIC", help="Into this topic; default: their own.")
@click.option("--store", "location", metavar="FILE", help="Into an event store instead.")
@click.option("--backfill", is_flag=True, help="With --store: by event id, offsets stay.")
@RATE
@click.option("--limit", type=click.IntRange(1), help="Most records.")
@RESUME
@click.option("--dry-run", is_flag=True, help="Only read and count.")
@click.option("--yes", is_flag=True, help="Do not ask before publishing.")
@AS_JSON
@click.pass_context
def replay_(
    context: click.Context,
    *,
    to_topic: str | None,
    location: str | None,
    backfill: bool,
    rate: float | None,
    limit: int | None,
    resume: Path | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """
    Give archived records to their topics, another topic, or an event store again.

    Each event id once. Into a topic records keep key, value, headers, id and event time, and get
    the header x-spile-replay, so that nobody is alerted.

    Into a store the offsets follow: the persistence worker goes on at the first offset that is not
    archived. When --since, --until, --type or --key leave records out, or with --backfill, rows are
    added by their event id alone and the offsets stay.

    Ends with 1 when a topic's record was refused.
    """
    if to_topic is not None and location is not None:
        raise click.UsageError("--to and --store exclude each other")
    if location is None and backfill:
        raise click.UsageError("--backfill is for --store")
    if location is not None and resume is not None:
        raise click.UsageError("--resume is for topics: a store knows itself what it has")
    which = selection(**filters)
    topic = None if to_topic is None else full_name(to_topic)
    into_store = location is not None
    where = f"store {location}" if into_store else f"topic {topic or '(their own)'}"
    place = opened_archive()
    require_topics(place, which)
    job = ReplayJob(
        archive=place,
        which=which,
        where=where,
        into_store=into_store,
        rate=rate,
        limit=limit,
        resume=resume,
    )
    moves = location is not None and not which.filters_records and not backfill
    if dry_run:
        target: OpenTarget = contextlib.nullcontext()
    elif location is not None:
        target = open_store_target(store_path(location), moves_offsets=moves)
    else:
        if not yes:
            into = "their own topics" if topic is None else where
            click.confirm(f"publish records of {place.place} to {into}?", abort=True)
        target = open_topic_target(topic)
    result = asyncio.run(run_replay(job, target))
    reader = WORKER if moves else LIVE_READER if location is None else None
    show_replay(result, as_json=as_json, dry_run=dry_run, hand_over=reader)
    context.exit(1 if result.written.refused and location is None else 0)


async def run_replay(job: ReplayJob, target: OpenTarget) -> Replay:
    """
    Replay, with a bar on a terminal.

    Raises:
        SpileError: As `replay` and the opening of the target.
    """
    index = await asyncio.to_thread(ArchiveIndex, job.archive, job.which)
    if job.into_store:
        for topic in sorted(index.leave_out(lambda topic: not is_stored(topic))):
            click.echo(f"left out: {topic}, which the persistence worker does not store", err=True)
    for problem in index.problems[:_SHOWN]:
        click.echo(f"left out: {problem.what}", err=True)

    def total() -> int:
        return sum(one.count for place in index.partitions for one in index.usable(place))

    async with contextlib.AsyncExitStack() as stack:
        opened = await stack.enter_async_context(target)
        progress = None
        if isinstance(opened, TopicTarget):
            job_text = job.description(KafkaSettings.load().bootstrap_servers)
            progress = stack.enter_context(Progress(job.resume, job_text))
        on_read = stack.enter_context(progress_bar("replaying", total))
        return await replay(
            index,
            job.which,
            opened,
            progress=progress,
            pace=Pace(job.rate),
            limit=job.limit,
            on_read=on_read,
        )


@contextlib.asynccontextmanager
async def open_store_target(path: Path, *, moves_offsets: bool) -> AsyncGenerator[ReplayTarget]:
    """
    Open an event store to replay into; it is made when there is none.

    Raises:
        StoreUnavailableError: It is locked.
        StoreDamagedError: It is corrupt, or no event store.
        ConfigurationError: It cannot be written, or a setting of the registry is wrong.
    """
    configure_logging("error")
    async with contextlib.AsyncExitStack() as stack:
        store = await stack.enter_async_context(SqliteEventStore(path))
        registry = load_settings(RegistrySettings).open()
        if registry is not None:
            await stack.enter_async_context(registry)
        opener = Opener(registry and SchemaFraming(registry))
        decoder = Decoder(chosen_catalogue(), environment(), opener)
        yield StoreTarget(store, decoder, moves_offsets=moves_offsets)


@contextlib.asynccontextmanager
async def open_topic_target(topic: str | None) -> AsyncGenerator[ReplayTarget]:
    """
    Open topics to replay into: one for all records, or each record's own.

    Raises:
        ConfigurationError: A setting is wrong.
        UnknownTopicError: The catalogue does not have the topic.
        BrokerUnavailableError: Nobody answers; said at once rather than after a deadline.
    """
    configure_logging("error")
    settings = KafkaSettings.load()
    sender = KafkaSender(settings)
    try:
        target = TopicTarget(
            sender,
            catalogue=chosen_catalogue(),
            environment=settings.environment,
            topic=topic,
        )
        async with KafkaAdmin(settings):
            pass
        yield target
    finally:
        await sender.close()


def show_replay(
    result: Replay, *, as_json: bool, dry_run: bool = False, hand_over: str | None = None
) -> None:
    """
    Print what a replay did.

    Args:
        result: Of the replay.
        as_json: As one JSON object.
        dry_run: It only counted.
        hand_over: Who goes on at the first offset that was not replayed; None does not say it.
    """
    written = result.written
    if as_json:
        click.echo(json.dumps(_fields(result), ensure_ascii=False))
        return
    if dry_run:
        click.echo(f"dry run: {result.read} records read, {result.selected} would be replayed")
        return
    for reason in written.reasons[:_REASONS]:
        click.echo(f"refused: {plain(reason)}", err=True)
    if written.refused > _REASONS:
        click.echo(f"... and {written.refused - _REASONS} more", err=True)
    click.echo(
        f"{result.read} records read, {result.selected} meant: {written.written} written, "
        f"{written.repeats} there already, {written.ignored} without an event, "
        f"{written.refused} refused"
    )
    if hand_over is not None:
        for (topic, partition), offset in list(result.next_offsets.items())[:_SHOWN]:
            click.echo(f"{topic}/{partition}: {hand_over} goes on at offset {offset}")
        if (more := len(result.next_offsets) - _SHOWN) > 0:
            click.echo(f"... and {more} more partitions: --json has all")
    if not result.is_complete:
        click.echo("stopped at the limit; the archive has more")


def _fields(result: Replay) -> dict[str, Any]:
    written = result.written
    return {
        "read": result.read,
        "selected": result.selected,
        "written": written.written,
        "repeats": written.repeats,
        "ignored": written.ignored,
        "refused": written.refused,
        "reasons": written.reasons,
        "complete": result.is_complete,
        "next_offsets": [
            {"topic": topic, "partition": partition, "offset": offset}
            for (topic, partition), offset in result.next_offsets.items()
        ],
    }
