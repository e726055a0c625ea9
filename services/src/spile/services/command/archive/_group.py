"""`spile archive`: what is archived, whether it is whole, and giving it back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.filesize import decimal

from spile.adapters.delivery import Record
from spile.adapters.kafka import KafkaAdmin, KafkaLogReader, KafkaSettings, load_settings
from spile.adapters.publishing import RedactionSettings
from spile.adapters.registry import RegistrySettings, SchemaFraming
from spile.adapters.wire import Opener
from spile.services.archiver import archived_topics
from spile.services.archiver.objects import CuttingRule
from spile.services.archiver.reading import (
    ArchiveIndex,
    LiveRange,
    Selection,
    Verification,
    compare_live,
    milliseconds,
    stretches,
    verify,
)
from spile.services.archiver.stores import ArchiveSettings, ArchiveStore
from spile.services.command._catalogue import chosen_catalogue
from spile.services.command._options import counted
from spile.services.command._tables import Column, print_table
from spile.services.command.archive._options import (
    opened_archive,
    place_filters,
    progress_bar,
    record_filters,
    require_topics,
    selection,
)
from spile.services.command.archive._replay import AS_JSON, replay_
from spile.services.command.archive._restore import restore
from spile.services.command.archive._show import (
    RedactedView,
    line_of,
    moment_text,
    raw_fields,
    span_text,
)
from spile.spi import PartitionKey
from spile.topics.redaction import default_redactor

_SHOWN = 20
_CLOSING = timedelta(minutes=1)
"""What the archiver may take to close an object whose time has come, tries of its tick included."""

_NUMBERS = ("partition", "offsets", "records", "objects", "size")
_COLUMNS = (
    Column(name="topic", heads=True),
    *(Column(name=name, is_number=True) for name in _NUMBERS),
    Column(name="record time", folds=True),
)


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
    if summaries:
        print_table(_COLUMNS, [_row(one) for one in summaries])
    else:
        click.echo(_nothing(index.store))
    click.echo(_pending(load_settings(ArchiveSettings).rule), err=True)


def _nothing(store: ArchiveStore) -> str:
    return f"archive {store.place} holds nothing of what is meant"


def _row(one: _Summary) -> tuple[str, ...]:
    return (
        one.topic,
        str(one.partition),
        f"{one.first_offset}-{one.next_position - 1}",
        str(one.records),
        str(one.objects),
        decimal(one.size_bytes),
        span_text(moment_text(one.earliest), moment_text(one.latest)),
    )


def _pending(rule: CuttingRule) -> str:
    """Say why what was published just now is not listed yet."""
    return (
        f"newer records follow when their object is closed: {rule.window_ms / 1000:g} s "
        f"(SPILE_ARCHIVE_WINDOW_S) after its first one, or with {rule.records:,} records or "
        f"{rule.size_bytes:,} bytes"
    )


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
    require_topics(index.store, which, index.partitions)
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
    ranges: Mapping[PartitionKey, LiveRange] = {}
    if live:
        ranges = asyncio.run(_live_ranges(which, load_settings(ArchiveSettings).rule))
        compare_live(result, ranges)
    if not result.findings:
        require_topics(store, which, [*result.partitions, *ranges])
    if not result.partitions and not as_json:
        click.echo(_nothing(store))
    _show_proof(result, as_json=as_json)
    context.exit(1 if result.findings else 0)


async def _live_ranges(which: Selection, rule: CuttingRule) -> dict[PartitionKey, LiveRange]:
    """Return what the event topics of this environment hold now, of what is selected."""
    settings = KafkaSettings.load()
    pattern = re.compile(archived_topics(settings.environment))
    reader = KafkaLogReader(settings)
    try:
        async with KafkaAdmin(settings) as admin:
            names = [name for name in await admin.topics() if pattern.match(name)]
            found = await admin.partitions(names)
            places = [place for place in found if which.takes_partition(*place)]
            first = await admin.beginning_offsets(places)
            end = await admin.end_offsets(places)
        open_since = datetime.now(UTC) - rule.window - _CLOSING
        young = await reader.since(places, milliseconds(open_since) or 0)
    finally:
        await reader.close()
    return {
        place: LiveRange(first=first[place], end=end[place], is_young=young[place] <= first[place])
        for place in places
    }


def _show_proof(result: Verification, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_proof_fields(result), ensure_ascii=False))
        return
    for (topic, partition), proof in result.partitions.items():
        if not proof.objects:
            click.echo(
                f"{topic}/{partition}: nothing archived yet; the topic has "
                f"{counted(proof.behind or 0, 'offset')}, younger than SPILE_ARCHIVE_WINDOW_S"
            )
            continue
        holes = sum(last - first + 1 for first, last in proof.empty)
        held = f"{counted(proof.count, 'record')} in {counted(proof.objects, 'object')}"
        facts = [
            f"{topic}/{partition}: offsets {proof.first_offset}-{proof.next_position - 1}",
            f"{held}, {decimal(proof.size_bytes)}",
        ]
        if holes:
            shown = ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in proof.empty[:_SHOWN])
            more = ", ..." if len(proof.empty) > _SHOWN else ""
            facts.append(f"{counted(holes, 'offset')} held no record ({shown}{more})")
        if proof.behind is not None:
            facts.append(f"the topic has {counted(proof.behind, 'offset')} more")
        click.echo("; ".join(facts))
    for finding in result.findings:
        click.echo(f"FOUND {finding}")
    click.echo(counted(len(result.findings), "finding") if result.findings else "whole")


def _proof_fields(result: Verification) -> dict[str, Any]:
    return {
        "partitions": [
            {"topic": topic, "partition": partition, **asdict(proof)}
            for (topic, partition), proof in result.partitions.items()
        ],
        "findings": [asdict(finding) for finding in result.findings],
    }
