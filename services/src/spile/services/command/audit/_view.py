"""The tables of an audit."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from spile.services.auditing import AuditReport, Difference, MinuteCounts
from spile.services.command._tables import Column, console, print_table

_MOST = 50
_TOPICS = (
    Column(name="topic", heads=True),
    *(Column(name=name, is_number=True) for name in ("published", "bus", "store", "dlq")),
    Column(name="archive", is_number=True),
    Column(name="behind"),
)
_DIFFERENCES = (
    *(Column(name=name) for name in ("minute", "tier", "state")),
    Column(name="what", folds=True),
)
_COLOUR = {"missing": "bold red", "not yet": "yellow", "unknown": "yellow"}


def print_report(report: AuditReport) -> None:
    """Print what an audit found: topics, then differences, then what was not compared."""
    out = console()
    since, until = report.window.since, report.window.until
    out.print(f"events of {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC")
    if report.counts:
        _print_topics(report, out)
    else:
        out.print("no events", style="dim")
    if report.differences:
        out.print()
        _print_differences(report.differences[:_MOST], out)
        if len(report.differences) > _MOST:
            out.print(f"and {len(report.differences) - _MOST} more: --json has them all")
    for note in report.notes:
        out.print(Text.assemble(("note", "dim"), " ", note))
    missing = sum(found.missing for found in report.missing)
    if missing:
        tiers = ", ".join(sorted({found.tier for found in report.missing}))
        out.print(Text.assemble((f"{missing:,} missing", "bold red"), f" in {tiers}"))
    if unknown := sum(found.missing for found in report.unknown):
        tiers = ", ".join(sorted({found.tier for found in report.unknown}))
        out.print(Text.assemble((f"{unknown:,} cannot be told", "bold yellow"), f" in {tiers}"))
    if not missing and not unknown:
        out.print("nothing is missing", style="green")


def _print_topics(report: AuditReport, out: Console) -> None:
    by_topic: dict[str, list[MinuteCounts]] = {}
    for line in report.counts:
        by_topic.setdefault(line.topic, []).append(line)
    bad = {found.topic for found in report.missing}
    rows: list[tuple[str, ...]] = []
    for topic, lines in by_topic.items():
        published = f"{sum(line.publish for line in lines):,}"
        if any(line.at_least for line in lines):
            published = f"≥ {published}"
        records, events = sum(line.records for line in lines), sum(line.bus for line in lines)
        rows.append(
            (
                topic,
                published,
                f"{events:,}" + (f" (+{records - events:,})" if records > events else ""),
                _sum([line.store for line in lines]),
                f"{sum(line.dlq for line in lines):,}",
                _sum([line.archive for line in lines]),
                _behind(lines),
            )
        )
    styles = [_COLOUR["missing"] if topic in bad else "" for topic in by_topic]
    print_table(_TOPICS, rows, styles=styles, out=out)


def _sum(counts: Sequence[int | None]) -> str:
    known = [count for count in counts if count is not None]
    return f"{sum(known):,}" if known else "-"


def _behind(lines: Sequence[MinuteCounts]) -> str:
    sums: dict[str, int] = {}
    for line in lines:
        for tier, count in line.behind.items():
            sums[tier] = sums.get(tier, 0) + count
    return " ".join(f"{tier} {count:,}" for tier, count in sums.items())


def _print_differences(differences: Sequence[Difference], out: Console) -> None:
    rows: list[tuple[str, ...]] = []
    for found in differences:
        where = f" ({', '.join(found.examples)})" if found.examples else ""
        minute = f"{found.minute[:10]} {found.minute[11:16]}"
        what = f"{found.topic}: {found.meaning}{where}"
        rows.append((minute, found.tier, found.state, what))
    styles = [_COLOUR[found.state] for found in differences]
    print_table(_DIFFERENCES, rows, styles=styles, out=out)
