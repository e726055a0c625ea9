"""`spile archive restore`: a store or the topics rebuilt whole."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import click

from spile.adapters.kafka import KafkaAdmin, KafkaSettings
from spile.services.archiver.reading import ArchiveIndex, Replay, verify
from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._options import counted
from spile.services.command.archive._options import opened_archive, place_filters, selection
from spile.services.command.archive._replay import (
    AS_JSON,
    RATE,
    RESUME,
    WORKER,
    OpenTarget,
    ReplayJob,
    open_store_target,
    open_topic_target,
    run_replay,
    show_replay,
)
from spile.services.persistence import SqliteEventStore, store_path
from spile.services.runtime import configure_logging
from spile.spi import PermanentError, UnknownTopicError
from spile.topics import TopicName, plan

_SHOWN = 10


@click.command()
@place_filters
@click.option("--store", "location", metavar="FILE", help="Rebuild this event store.")
@click.option("--into-topics", is_flag=True, help="Rebuild the topics on the cluster.")
@click.option("--into-existing", is_flag=True, help="Also when it holds something already.")
@RATE
@RESUME
@AS_JSON
@click.pass_context
def restore(
    context: click.Context,
    *,
    topics: tuple[str, ...],
    partitions: tuple[int, ...],
    location: str | None,
    into_topics: bool,
    into_existing: bool,
    rate: float | None,
    resume: Path | None,
    as_json: bool,
) -> None:
    """
    Rebuild an event store, or topics, from all that is archived.

    First the archive's ranges are proven to chain without gap or overlap, and each object is
    compared with its hash before any of it is used. A store gets the rows that the persistence
    worker would have made, and the worker goes on where the archive ends. Missing topics are made
    as the catalogue has them; their records get new offsets. Interrupted, run it again with
    --into-existing; into topics with --resume from the start, or records are there twice.
    """
    if (location is None) == (not into_topics):
        raise click.UsageError("give either --store or --into-topics")
    if location is not None and resume is not None:
        raise click.UsageError("--resume is for topics: a store knows itself what it has")
    which = selection(topics=topics, partitions=partitions)
    where = "topics" if location is None else f"store {location}"
    job = ReplayJob(
        archive=opened_archive(),
        which=which,
        where=where,
        into_store=location is not None,
        rate=rate,
        resume=resume,
    )
    result = asyncio.run(_restore(job, location, into_existing=into_existing))
    # Topics that were made anew count from 0 again: the archive's offsets say nothing about them.
    show_replay(result, as_json=as_json, hand_over=None if location is None else WORKER)
    context.exit(1 if result.written.refused and location is None else 0)


async def _restore(job: ReplayJob, location: str | None, *, into_existing: bool) -> Replay:
    configure_logging("error")
    await _require_chain(job)
    target: OpenTarget
    if location is None:
        index = await asyncio.to_thread(ArchiveIndex, job.archive, job.which)
        names = {topic for topic, _ in index.partitions}
        await _ready_topics(names, into_existing=into_existing or _is_begun(job.resume))
        target = open_topic_target(None)
    else:
        path = store_path(location)
        if not into_existing:
            await _require_empty(path)
        target = open_store_target(path, moves_offsets=True)
    return await run_replay(job, target)


async def _require_chain(job: ReplayJob) -> None:
    """Refuse an archive that lacks or doubles offsets, before anything is written."""
    proof = await asyncio.to_thread(verify, job.archive, job.which, read_objects=False)
    if not proof.partitions:
        raise click.ClickException(f"archive {job.archive.place} holds nothing of what is meant")
    for finding in proof.findings[:_SHOWN]:
        click.echo(f"left out: {finding}" if finding.is_stray else f"FOUND {finding}", err=True)
    if count := sum(not finding.is_stray for finding in proof.findings):
        raise click.ClickException(
            f"archive {job.archive.place} is not whole ({counted(count, 'finding')} in its ranges; "
            "`spile archive verify` also reads the objects), nothing was restored; "
            "`spile archive replay` takes what is there up to the first gap"
        )


async def _require_empty(path: Path) -> None:
    if not await asyncio.to_thread(path.is_file):
        return
    async with SqliteEventStore(path) as store:
        if await store.last_seq() or await store.stored_offsets():
            raise click.ClickException(
                f"store {path} is not empty: restore another file, or say --into-existing, which "
                "goes on where its offsets are"
            )


def _is_begun(resume: Path | None) -> bool:
    return resume is not None and resume.is_file() and resume.stat().st_size > 0


async def _ready_topics(names: Collection[str], *, into_existing: bool) -> None:
    """Make the topics that are missing, and refuse those that hold records."""
    settings = KafkaSettings.load()
    known = chosen_catalogue().topics(settings.environment)
    if unknown := sorted(set(names) - set(known)):
        raise UnknownTopicError(
            f"the archive holds {', '.join(unknown[:_SHOWN])}, which the catalogue does not have "
            f"in {settings.environment}: choose others by --topic",
            topic=unknown[0],
        )
    wanted = {name: spec for name, spec in known.items() if _event_topic(name, settings) in names}
    async with KafkaAdmin(settings) as admin:
        states = await admin.describe()
        there = [name for name in names if name in states]
        places = await admin.partitions(there)
        first, end = await admin.beginning_offsets(places), await admin.end_offsets(places)
        full = sorted({place[0] for place in places if end[place] > first[place]})
        if full and not into_existing:
            raise PermanentError(
                f"{', '.join(full[:_SHOWN])} hold records already: delete them first, or say "
                "--into-existing"
            )
        brokers = await admin.broker_count()
        missing = plan(wanted, states, environment=settings.environment, brokers=brokers).missing
        for setup in missing:
            await admin.create(setup)


def _event_topic(name: str, settings: KafkaSettings) -> str:
    """Return the topic that a dead letter, marker or retry topic stands beside."""
    return str(TopicName.parse(name, environments={settings.environment}).topic)
