"""The tables of an audit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spile.services.auditing import AuditReport, Difference, MinuteCounts

_MOST = 50
_COLOUR = {"missing": "bold red", "not yet": "yellow", "unknown": "yellow"}


def print_report(report: AuditReport) -> None:
    """Print what an audit found: topics, then differences, then what was not compared."""
    console = Console()
    since, until = report.window.since, report.window.until
    console.print(
        f"events of {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC", highlight=False
    )
    if report.counts:
        console.print(_topics(report))
    else:
        console.print("no events", style="dim")
    if report.differences:
        console.print(_differences(report.differences[:_MOST]))
        if len(report.differences) > _MOST:
            console.print(f"and {len(report.differences) - _MOST} more: --json has them all")
    for note in report.notes:
        console.print(f"[dim]note[/] {escape(note)}", highlight=False)
    missing = sum(found.missing for found in report.missing)
    if missing:
        tiers = ", ".join(sorted({found.tier for found in report.missing}))
        console.print(f"[bold red]{missing:,} missing[/] in {tiers}", highlight=False)
    else:
        console.print("[green]nothing is missing[/]", highlight=False)


def _topics(report: AuditReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("topic", overflow="fold")
    for name in ("published", "bus", "store", "dlq", "archive", "behind"):
        table.add_column(name, justify="right", no_wrap=True)
    by_topic: dict[str, list[MinuteCounts]] = {}
    for line in report.counts:
        by_topic.setdefault(line.topic, []).append(line)
    bad = {found.topic for found in report.missing}
    for topic, lines in by_topic.items():
        published = f"{sum(line.publish for line in lines):,}"
        if any(line.at_least for line in lines):
            published = f"≥ {published}"
        records, events = sum(line.records for line in lines), sum(line.bus for line in lines)
        table.add_row(
            escape(topic),
            published,
            f"{events:,}" + (f" (+{records - events:,})" if records > events else ""),
            _sum([line.store for line in lines]),
            f"{sum(line.dlq for line in lines):,}",
            _sum([line.archive for line in lines]),
            _behind(lines),
            style=_COLOUR["missing"] if topic in bad else "",
        )
    return table


def _sum(counts: Sequence[int | None]) -> str:
    known = [count for count in counts if count is not None]
    return f"{sum(known):,}" if known else "-"


def _behind(lines: Sequence[MinuteCounts]) -> str:
    sums: dict[str, int] = {}
    for line in lines:
        for tier, count in line.behind.items():
            sums[tier] = sums.get(tier, 0) + count
    return " ".join(f"{tier} {count:,}" for tier, count in sums.items())


def _differences(differences: Sequence[Difference]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("\nminute", no_wrap=True)
    table.add_column("\ntier", no_wrap=True)
    table.add_column("\nstate", no_wrap=True)
    table.add_column("\nwhat", overflow="fold")
    for found in differences:
        where = f" ({', '.join(found.examples)})" if found.examples else ""
        table.add_row(
            f"{found.minute[:10]} {found.minute[11:16]}",
            found.tier,
            f"[{_COLOUR[found.state]}]{found.state}[/]",
            escape(f"{found.topic}: {found.meaning}{where}"),
        )
    return table
