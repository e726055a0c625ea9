"""`spile dlq reprocess` and `purge`."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from spile.adapters.dead_letters import LetterFilter, Purged, Purger, Reprocessed, ReprocessWish
from spile.adapters.kafka import KafkaAdmin, KafkaSender
from spile.services.command.dlq._files import LetterFile
from spile.services.command.dlq._options import Desk, chosen, letter_filters, responsible, run
from spile.services.command.dlq._view import counted_letters, escaped
from spile.spi import PartitionKey

_PURGED = ".spile/purged"


@click.command()
@click.argument("topic")
@letter_filters
@click.option("--limit", type=click.IntRange(1), help="Most letters, the first ones.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Letters per second.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option(
    "--transactional",
    is_flag=True,
    help="Retry record and mark both or neither; stops another one who does this here.",
)
@responsible
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.pass_context
def reprocess(
    context: click.Context,
    *,
    topic: str,
    limit: int | None,
    rate: float | None,
    dry_run: bool,
    transactional: bool,
    operator: str,
    reason: str,
    as_json: bool,
    **filters: Any,
) -> None:
    """
    Send letters back to the group that failed, and to no other.

    They go to the group's first retry topic, byte for byte. A letter whose group the catalogue does
    not know, or that was reprocessed three times, stays and is reported. Without --transactional an
    interruption may send a letter twice, which handlers must bear; with it, none. Ends with 1 when
    a letter stays.
    """
    desk, which = Desk.open(), chosen(**filters)
    queue = desk.queue(topic)
    wish = ReprocessWish(
        which=which,
        limit=limit,
        rate=rate,
        dry_run=dry_run,
        transactional=transactional,
        operator=operator,
        reason=reason,
    )
    run(desk.look_for(queue, which))
    tally, unread = run(_reprocess(desk, queue, wish))
    report(tally, queue, dry_run=dry_run, as_json=as_json, unread=unread)
    context.exit(1 if tally.failed else 0)


@click.command()
@click.argument("topic")
@letter_filters
@click.option(
    "--archive",
    type=click.Path(file_okay=False, path_type=Path),
    default=_PURGED,
    show_default=True,
    help="Folder for the copy that is made first.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@responsible
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def purge(
    *,
    topic: str,
    archive: Path,
    yes: bool,
    operator: str,
    reason: str,
    as_json: bool,
    **filters: Any,
) -> None:
    """
    Take letters out of the queue for good, once a copy is safe in a file.

    The copy is byte for byte, one letter per line. Kafka frees the storage of a queue only from its
    beginning, up to the first letter that is neither purged nor reprocessed.
    """
    desk, which = Desk.open(), chosen(**filters)
    queue = desk.queue(topic)
    run(desk.look_for(queue, which))
    count, ends = run(_found(desk, queue, which))
    if count and not yes:
        click.confirm(
            f"purge {counted_letters(count)} of {queue}, with a copy in {archive}?",
            abort=True,
            err=True,
        )
    kept = LetterFile(archive, queue)
    # What comes while the question stands is not what the answer is about.
    purged = run(_purge(desk, queue, which, kept, ends=ends, operator=operator, reason=reason))
    freed = {str(number): offset for (_, number), offset in sorted(purged.freed.items())}
    path = None if kept.path is None else str(kept.path)
    if as_json:
        facts = {"queue": queue, "purged": purged.letters, "archive": path, "freed_below": freed}
        click.echo(json.dumps(facts))
        return
    copy = f", kept in {path}" if path else ""
    click.echo(f"{queue}: {counted_letters(purged.letters)} purged{copy}")
    for number, offset in freed.items():
        click.echo(f"  storage of partition {number} is freed below offset {offset}")


async def _reprocess(desk: Desk, queue: str, wish: ReprocessWish) -> tuple[Reprocessed, list[str]]:
    console = Console(stderr=True)
    total = None
    if console.is_terminal:
        total, _ = await _found(desk, queue, wish.which)
        total = total if wish.limit is None else min(total, wish.limit)
    sender = KafkaSender(desk.settings)
    try:
        with _bar(console, total, wish) as told:
            tally = await desk.reprocessor(sender).run(queue, wish, told=told)
        return tally, await desk.unread(tally.targets)
    finally:
        await sender.close()


async def _found(
    desk: Desk, queue: str, which: LetterFilter | None
) -> tuple[int, Mapping[PartitionKey, int]]:
    """Return how many letters are meant, and where the queue ends."""
    async with desk.browser(queue) as browser:
        state = await browser.look(need_marks=False)
        return len([None async for _ in browser.letters(state, which)]), state.ends


async def _purge(
    desk: Desk,
    queue: str,
    which: LetterFilter,
    kept: LetterFile,
    *,
    ends: Mapping[PartitionKey, int],
    operator: str,
    reason: str,
) -> Purged:
    sender = KafkaSender(desk.settings)
    try:
        async with KafkaAdmin(desk.settings) as admin:
            purger = Purger(desk.reader, sender, admin.delete_records)
            return await purger.run(
                queue, kept.keep, which, ends=ends, operator=operator, reason=reason
            )
    finally:
        await sender.close()


@contextmanager
def _bar(
    console: Console, total: int | None, wish: ReprocessWish
) -> Generator[Callable[[Reprocessed], None]]:
    """Show progress on a terminal, and nothing elsewhere."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        doing = "looking" if wish.dry_run else "reprocessing"
        task = progress.add_task(doing, total=total, failed="")

        def told(tally: Reprocessed) -> None:
            stay = f"{tally.failed} stay" if tally.failed else ""
            progress.update(task, completed=tally.processed, failed=stay)

        yield told


def report(
    tally: Reprocessed, queue: str, *, dry_run: bool, as_json: bool, unread: Sequence[str]
) -> None:
    """Print what became of the letters of a run."""
    counts = {
        "processed": tally.processed,
        "succeeded": tally.succeeded,
        "failed": tally.failed,
    }
    if as_json:
        facts = {
            "queue": queue,
            "dry_run": dry_run,
            **counts,
            "targets": dict(tally.targets),
            "unread": list(unread),
            "reasons": dict(tally.reasons),
        }
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    click.echo(f"{queue}: {listed}{' (dry run, nothing was written)' if dry_run else ''}")
    for topic, count in sorted(tally.targets.items()):
        click.echo(f"  {count} {'would go' if dry_run else 'went'} to {topic}")
    for topic in unread:
        click.echo(f"  nobody has read {topic} yet: does the group subscribe with tiers?")
    for reason, count in tally.reasons.most_common():
        click.echo(f"  {count} stay{'s' if count == 1 else ''}: {escaped(reason)}")
