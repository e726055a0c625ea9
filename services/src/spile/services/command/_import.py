"""`spile import`: publish what agents left behind."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spile.adapters.delivery import OutgoingEvent
from spile.services.command._publisher import open_publisher
from spile.services.importing import ImportReport, import_files, publish_through
from spile.spi import ConfigurationError, InvalidTopicError, ProtocolBatchPublisher, SpileError

_FILES_SHOWN = 20
_FAILURES_SHOWN = 20
_PATTERNS = ("*.jsonl", "*.traj", "*.traj.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherSource:
    """
    Where events go instead of Kafka: the click context's object, for programs that embed this.

    Attributes:
        open: opens the publisher; leaving the context flushes and closes it.
    """

    open: Callable[[], AbstractAsyncContextManager[ProtocolBatchPublisher[OutgoingEvent]]]


@click.command("import")
@click.argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option("--dry-run", is_flag=True, help="Only read and count; needs no broker.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "--service",
    default="agent",
    show_default=True,
    help="Publish as this service of the catalogue.",
)
@click.pass_context
def import_(
    context: click.Context, paths: tuple[Path, ...], *, dry_run: bool, as_json: bool, service: str
) -> None:
    """
    Publish recordings of agents as events, to the Kafka of the SPILE_* settings.

    FILE is a Claude Code transcript, a SWE-agent or mini-swe-agent trajectory, or JSONL of spile
    envelopes, told by its content; or a folder, searched for *.jsonl, *.traj and *.traj.json.
    Importing again adds nothing: event ids derive from content. Unreadable lines are reported and
    skipped. Ends with 0 when all that could be read was published, 1 when something was not, 2
    when the arguments are wrong or no file holds a known format.
    """
    files = list(_files(paths))
    if not files:
        raise click.UsageError(
            f"no file to import: a folder is searched for {', '.join(_PATTERNS)}"
        )
    source = context.find_object(PublisherSource)
    if source is None:
        source = PublisherSource(open=lambda: open_publisher(service))
    try:
        report = asyncio.run(_run(files, None if dry_run else source))
    except (ConfigurationError, InvalidTopicError) as exc:
        raise click.UsageError(str(exc)) from exc
    except SpileError as exc:
        raise click.ClickException(str(exc)) from exc
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        _show(report, dry_run=dry_run)
    unknown = not any(report.formats.values())
    context.exit(2 if unknown else 1 if report.failed else 0)


async def _run(files: Sequence[Path], source: PublisherSource | None) -> ImportReport:
    with _progress(files) as on_bytes:
        if source is None:
            return await import_files(files, None, on_bytes=on_bytes)
        async with source.open() as publisher:
            return await import_files(files, publish_through(publisher), on_bytes=on_bytes)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted({file for pattern in _PATTERNS for file in path.rglob(pattern)})
        for file in found:
            if file not in seen and file.is_file():
                seen.add(file)
                yield file


@contextmanager
def _progress(files: Sequence[Path]) -> Generator[Callable[[Path, int], None] | None]:
    """Show a bar on a terminal; on anything else nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    sizes = {file: file.stat().st_size for file in files}
    done: dict[Path, int] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("importing", total=sum(sizes.values()))

        def moved(file: Path, count: int) -> None:
            bar.update(task, advance=count - done.get(file, 0), description=file.name[:40])
            done[file] = count

        yield moved


def _show(report: ImportReport, *, dry_run: bool) -> None:
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    _show_files(console, report)
    _show_counts(console, "event", report.events)
    _show_tools(console, report)
    _show_counts(console, "skipped", report.skipped)
    for bad in report.malformed:
        click.echo(f"{bad.file}:{bad.line}: {bad.reason}")
    for failure in report.failures[:_FAILURES_SHOWN]:
        click.echo(failure)
    if report.stopped is not None:
        click.echo(f"stopped: {report.stopped}; import again to continue")
    found = f"{report.events.total()} events in {len(report.sessions)} sessions"
    left_out = f"{report.malformed_count} malformed, {report.skipped.total()} skipped"
    sent = "dry run" if dry_run else f"{report.published} published, {report.failed} failed"
    click.echo(f"{found}; {left_out}; {sent}")


def _show_files(console: Console, report: ImportReport) -> None:
    if len(report.formats) > _FILES_SHOWN:
        _show_counts(console, "files", Counter(kind or "?" for kind in report.formats.values()))
        return
    table = Table("file", "format", box=None)
    for file, kind in report.formats.items():
        table.add_row(str(file), kind or "not recognised")
    console.print(table)


def _show_counts(console: Console, title: str, counts: Counter[str]) -> None:
    if not counts:
        return
    table = Table(box=None)
    table.add_column(title)
    table.add_column("count", justify="right")
    for name, count in counts.most_common():
        table.add_row(name, str(count))
    console.print(table)


def _show_tools(console: Console, report: ImportReport) -> None:
    if not report.tools:
        return
    table = Table(box=None)
    table.add_column("tool")
    for title in ("count", "errors", "mean ms", "p95 ms"):
        table.add_column(title, justify="right")
    for tool in report.tools:
        durations = ("-" if ms is None else f"{ms:.1f}" for ms in (tool.mean_ms, tool.p95_ms))
        table.add_row(tool.tool_name, str(tool.count), str(tool.errors), *durations)
    console.print(table)
