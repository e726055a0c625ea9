"""`spile archive`: what is archived, whether it is whole, and giving it back."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from spile.adapters.delivery import Record
from spile.adapters.kafka import KafkaAdmin, KafkaSettings, load_settings
from spile.adapters.publishing import RedactionSettings
from spile.adapters.registry import RegistrySettings, SchemaFraming
from spile.adapters.wire import Opener
from spile.services.archiver import archived_topics
from spile.services.archiver.reading import (
    ArchiveIndex,
    LiveRange,
    Selection,
    Verification,
    compare_live,
    stretches,
    verify,
)
from spile.services.command._archive_options import (
    opened_archive,
    place_filters,
    progress_bar,
    record_filters,
    selection,
)
from spile.services.command._archive_replay import AS_JSON, replay_
from spile.services.command._archive_restore import restore
from spile.services.command._archive_show import RedactedView, line_of, moment_text, raw_fields
from spile.services.command._catalogue import chosen_catalogue
from spile.spi import PartitionKey
from spile.topics.redaction import default_redactor

_SHOWN = 20
_WIDE = 500


@click.group()
def archive() -> None:
    """Look at the archive of SPILE_ARCHIVE, prove it, and replay it."""


archive.add_command(replay_)
archive.add_command(restore)


@dataclass(slots=True, kw_only=True)
class _Summary:
    """What is archived of one partition."""

    topic: str
    partition: int
    first_offset: int
    next_position: int
    objects: int = 0
    records: int = 0
    size_bytes: int = 0
    earliest: int = 2**63 - 1
    latest: int = -(2**63)


@archive.command("ls")
@place_filters
@click.option("--objects", is_flag=True, help="A line per object instead of per partition.")
@AS_JSON
def ls(
    *, topics: tuple[str, ...], partitions: tuple[int, ...], objects: bool, as_json: bool
) -> None:
    """List what is archived: ranges of offsets, records, sizes, record times."""
    index = ArchiveIndex(opened_archive(), selection(topics=topics, partitions=partitions))
    summaries = list(_objects(index) if objects else _partitions(index))
    for problem in index.problems:
        click.echo(f"left out: {problem.what}", err=True)
    if as_json:
        for one in summaries:
            times = {"earliest": moment_text(one.earliest), "latest": moment_text(one.latest)}
            click.echo(line_of(asdict(one) | times))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("topic/partition", no_wrap=True)
    for title in ("offsets", "records", "objects", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("record time", no_wrap=True)
    for one in summaries:
        table.add_row(
            f"{one.topic}/{one.partition}",
            f"{one.first_offset}-{one.next_position - 1}",
            str(one.records),
            str(one.objects),
            decimal(one.size_bytes),
            _span(one.earliest, one.latest),
        )
    width = None if sys.stdout.isatty() else _WIDE
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    console.print(table, soft_wrap=True)


def _span(first: int, last: int) -> str:
    """Return a span of record times to the minute, the day once where it is one."""
    start, end = (moment_text(time)[:16].replace("T", " ") for time in (first, last))
    return f"{start} - {end[11:] if start[:10] == end[:10] else end}"


def _objects(index: ArchiveIndex) -> Iterator[_Summary]:
    for place in index.partitions:
        for one in index.usable(place):
            yield _Summary(
                topic=one.topic,
                partition=one.partition,
                first_offset=one.start_position,
                next_position=one.next_position,
                objects=1,
                records=one.count,
                size_bytes=one.size_bytes,
                earliest=one.earliest_timestamp,
                latest=one.latest_timestamp,
            )


def _partitions(index: ArchiveIndex) -> Iterator[_Summary]:
    whole: _Summary | None = None
    for one in _objects(index):
        if whole is None or (whole.topic, whole.partition) != (one.topic, one.partition):
            if whole is not None:
                yield whole
            whole = one
            continue
        whole.next_position = max(whole.next_position, one.next_position)
        whole.objects += 1
        whole.records += one.records
        whole.size_bytes += one.size_bytes
        whole.earliest = min(whole.earliest, one.earliest)
        whole.latest = max(whole.latest, one.latest)
    if whole is not None:
        yield whole


@archive.command("cat")
@record_filters
@click.option("--limit", type=click.IntRange(1), help="Most records.")
@click.option("--raw", is_flag=True, help="Byte for byte, secrets of foreign producers included.")
def cat(*, limit: int | None, raw: bool, **filters: Any) -> None:
    """Print records as JSON, one a line; without --raw secrets are replaced."""
    which = selection(**filters)
    index = ArchiveIndex(opened_archive(), which)
    asyncio.run(_cat(index, which, limit, raw=raw))


async def _cat(index: ArchiveIndex, which: Selection, limit: int | None, *, raw: bool) -> None:
    registry = None if raw else load_settings(RegistrySettings).open()
    if registry is None:
        await _print(index, which, limit, raw_fields if raw else _view(Opener()).fields, Opener())
        return
    async with registry:
        opener = Opener(SchemaFraming(registry))
        await _print(index, which, limit, _view(opener).fields, opener)


def _view(opener: Opener) -> RedactedView:
    redactor = load_settings(RedactionSettings).redactor() or default_redactor()
    return RedactedView(redactor, opener, chosen_catalogue())


async def _print(
    index: ArchiveIndex,
    which: Selection,
    limit: int | None,
    fields: Callable[[Record], dict[str, Any]],
    opener: Opener,
) -> None:
    for place in index.partitions:
        with closing(stretches(index, place, which)) as source:
            for stretch in source:
                records = stretch.records if limit is None else stretch.records[:limit]
                await opener.prepare(records)
                for record in records:
                    click.echo(line_of(fields(record)))
                if limit is not None and (limit := limit - len(records)) == 0:
                    return


@archive.command("verify")
@place_filters
@click.option("--live", is_flag=True, help="Compare with what the topics hold now.")
@click.option("--quick", is_flag=True, help="Compare ranges and sizes only; read no object.")
@AS_JSON
@click.pass_context
def verify_(
    context: click.Context,
    *,
    topics: tuple[str, ...],
    partitions: tuple[int, ...],
    live: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """
    Prove that each offset is archived once and each object is as it was written.

    Ranges must chain without gap or overlap, hashes and counts must match, nothing may be missing
    or added. Offsets that held no record (markers of transactions, compaction) are listed. Ends
    with 1 when something was found.
    """
    store = opened_archive()
    which = selection(topics=topics, partitions=partitions)

    def total() -> int:
        return sum(len(starts) for starts in ArchiveIndex(store, which).partitions.values())

    with progress_bar("verifying", total) as moved:
        result = verify(
            store,
            which,
            read_objects=not quick,
            on_object=lambda _: moved(1),
        )
    if live:
        compare_live(result, asyncio.run(_live_ranges(which)))
    _show_proof(result, as_json=as_json)
    context.exit(1 if result.findings else 0)


async def _live_ranges(which: Selection) -> dict[PartitionKey, LiveRange]:
    """Return what the event topics of this environment hold now, of what is selected."""
    settings = KafkaSettings.load()
    pattern = re.compile(archived_topics(settings.environment))
    async with KafkaAdmin(settings) as admin:
        names = [name for name in await admin.topics() if pattern.match(name)]
        places = [place for place in await admin.partitions(names) if which.takes_partition(*place)]
        first = await admin.beginning_offsets(places)
        end = await admin.end_offsets(places)
    return {place: LiveRange(first=first[place], end=end[place]) for place in places}


def _show_proof(result: Verification, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_proof_fields(result), ensure_ascii=False))
        return
    for (topic, partition), proof in result.partitions.items():
        holes = sum(last - first + 1 for first, last in proof.empty)
        facts = [
            f"{topic}/{partition}: offsets {proof.first_offset}-{proof.next_position - 1}",
            f"{proof.count} records in {proof.objects} objects, {decimal(proof.size_bytes)}",
        ]
        if holes:
            shown = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in proof.empty[:_SHOWN])
            more = ", ..." if len(proof.empty) > _SHOWN else ""
            facts.append(f"{holes} offsets held no record ({shown}{more})")
        if proof.behind is not None:
            facts.append(f"the topic has {proof.behind} offsets more")
        click.echo("; ".join(facts))
    for finding in result.findings:
        click.echo(f"FOUND {finding}")
    click.echo(f"{len(result.findings)} findings" if result.findings else "whole")


def _proof_fields(result: Verification) -> dict[str, Any]:
    return {
        "partitions": [
            {"topic": topic, "partition": partition, **asdict(proof)}
            for (topic, partition), proof in result.partitions.items()
        ],
        "findings": [asdict(finding) for finding in result.findings],
    }
